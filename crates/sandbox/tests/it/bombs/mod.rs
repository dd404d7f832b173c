//! Functions that take more than their share. Each comes to one of the ends that are its own, at its limit or by it,
//! while a neighbour goes on answering; and nothing of it is left.
//!
//! `bombs.py` is the function. It speaks to nothing but the [`Backend`](sandbox::Backend) seam, so any back end that
//! runs processes can be put through it. Here is the caller's part too: it gives a call its time-out and stops an
//! instance that is over it, as the pool does.
//!
//! Which ends are a bomb's own depends on who holds the limits: control groups, or limits of each process and a watch.
//! The table says it, and why there is more than one. Times have bounds that a busy host keeps too; how long things
//! took is printed, and how much slower the neighbour gets is a benchmark's to say.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sandbox::{Exit, Fault, Output};
use serde_json::{Value, json};

use crate::engine::{ANSWER_BYTES, Engines, LOG_BYTES_PER_S, Running};
use crate::world::{Case, PATIENCE, World, children, groups_named, until};

const SOURCE: &str = include_str!("bombs.py");
/// The time-out of a call that has no answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Within this it is gone once it is to be. The goal is a second, of an idle host.
const GONE: Duration = Duration::from_secs(5);
/// Within this a neighbour answers each call. Alone it takes a millisecond.
const ANSWERED: Duration = Duration::from_secs(5);
/// What an instance's log takes at once: twice the bucket after a silence, and a full pipe at the end.
const LOG_BURST: usize = 3 << 20;
/// What a flood prints at least: it is slowed, not silenced.
const FLOOD: usize = 1 << 20;

/// What comes of a bomb's call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// There is no answer at its time-out, and its caller stops the instance.
    TimedOut,
    /// The instance dies of its memory.
    OutOfMemory,
    /// The function sees the limit first and fails of it, as its language has it.
    Failed(&'static str),
    /// The system refuses it one more, with this error, when it has so many; then it answers.
    Refused(&'static str, Range<u64>),
    /// Its answer is cut off.
    CutOff,
}

use End::{CutOff, Failed, OutOfMemory, Refused, TimedOut};

/// A bomb's own ends.
struct Ends {
    /// Where control groups hold the limits.
    groups: &'static [End],
    /// Where they do not: these.
    watch: &'static [End],
}

macro_rules! bombs {
    ($($name:ident => $groups:expr, else $watch:expr;)*) => {
        pub(crate) const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            needs_root: false,
            run: |world| {
                Box::pin(explode(world, stringify!($name), Ends { groups: &$groups, watch: &$watch }))
            },
        }),*];
    };
}

bombs! {
    cpu => [TimedOut], else [TimedOut];
    // A process's own limit (RLIMIT_DATA) is the nearer wall, unless the watch looks first.
    memory => [OutOfMemory], else [OutOfMemory, Failed("MemoryError")];
    // The watch counts what copies share once for each: how many there may be depends on the interpreter's size.
    fork => [TimedOut], else [TimedOut, OutOfMemory];
    threads => [Refused("RuntimeError", 16..64)], else [Refused("RuntimeError", 16..64)];
    files => [Refused("EMFILE", 512..1024)], else [Refused("EMFILE", 512..1024)];
    disk => [Refused("ENOSPC", 15..17)], else [Refused("ENOSPC", 15..17)];
    inodes => [Refused("ENOSPC", 2048..4096)], else [Refused("ENOSPC", 2048..4096)];
    log_flood => [TimedOut], else [TimedOut];
    endless_answer => [CutOff], else [CutOff];
    // Every second one is a pair.
    sockets => [Refused("EMFILE", 512..1024)], else [Refused("EMFILE", 512..1024)];
    zombies => [Refused("EAGAIN", 16..64)], else [Refused("EAGAIN", 16..64)];
    // Sixteen copies: as with `fork`.
    deaf => [TimedOut], else [TimedOut, OutOfMemory];
}

impl Ends {
    fn own(&self, world: &World) -> &[End] {
        if world.has_groups() { self.groups } else { self.watch }
    }
}

async fn explode(world: World, name: &str, ends: Ends) {
    let own = ends.own(&world);
    let engines = Engines::new(&world);
    let runtime = engines.runtime("python").await;
    let function = || engines.function(runtime.clone(), "bombs.handler", &[("bombs.py", 0o644, SOURCE)]);
    let mut neighbour = Neighbour::new(engines.start(function()).await);
    let jails = children(world.launcher_pid()).len();
    let mut bomb = function();
    bomb.spec.limits.cpu_hundredths = world.has_groups().then_some(100);
    if name == "fork" {
        // As many as a function may have, and so much memory that they all come to be.
        bomb.spec.limits.pids = 1024;
        bomb.spec.limits.memory_bytes = 768 << 20;
    }
    let bomb = engines.start(bomb).await;

    let begun = Instant::now();
    let event = json!(name).to_string();
    let timeout = if own.contains(&TimedOut) { TIMEOUT } else { PATIENCE };
    let call = tokio::time::timeout(timeout, bomb.event(&event));
    let result = neighbour.answers_while(call).await;
    let end = end_of(name, result.ok(), own, &bomb);
    let limit = Instant::now();
    tokio::time::timeout(GONE, bomb.instance.stop()).await.expect("it is gone in time");
    println!(
        "bombs::{name}: {end:?}; gone {:?} after its limit; the neighbour answered {} times, within {:?}",
        limit.elapsed(),
        neighbour.answered,
        neighbour.longest
    );
    let exit = tokio::time::timeout(GONE, bomb.instance.exited()).await.expect("its end is told");
    match end {
        OutOfMemory => assert_eq!(exit, Exit::OutOfMemory, "{name}"),
        // The watch may have been as quick as the caller.
        _ if own.contains(&OutOfMemory) => {
            assert!(matches!(exit, Exit::Stopped | Exit::OutOfMemory), "{exit:?}")
        }
        _ => assert_eq!(exit, Exit::Stopped, "{name}"),
    }

    assert_eq!(groups_named(bomb.id.as_str()).len(), 0, "{name}: a control group is left");
    until(PATIENCE, || children(world.launcher_pid()).len() <= jails).await;
    let most = LOG_BURST + (begun.elapsed().as_secs_f64() * LOG_BYTES_PER_S as f64) as usize;
    let least = if name == "log_flood" { FLOOD } else { 0 };
    assert!((least..=most).contains(&bomb.log.len()), "{name} printed {} bytes", bomb.log.len());
    neighbour.answer().await;
    // And another starts.
    Neighbour::new(engines.start(function()).await).answer().await;
}

/// Another instance, which counts its calls: one that was lost, or an instance that is not the same, would show.
struct Neighbour {
    running: Running,
    answered: u64,
    longest: Duration,
}

impl Neighbour {
    fn new(running: Running) -> Self {
        Self { running, answered: 0, longest: Duration::ZERO }
    }

    /// Calls it until something has come to its end, and once at least.
    async fn answers_while<T>(&mut self, call: impl Future<Output = T>) -> T {
        let ended = AtomicBool::new(false);
        let call = async {
            let result = call.await;
            ended.store(true, Ordering::Relaxed);
            result
        };
        // None of its calls is given up: it would have to be stopped.
        let answers = async {
            self.answer().await;
            while !ended.load(Ordering::Relaxed) {
                self.answer().await;
            }
        };
        tokio::join!(call, answers).0
    }

    async fn answer(&mut self) {
        let asked = Instant::now();
        assert_eq!(self.running.result("\"ping\"").await, self.answered + 1);
        self.answered += 1;
        self.longest = self.longest.max(asked.elapsed());
        assert!(self.longest <= ANSWERED, "the neighbour took {:?}", self.longest);
        assert!(self.running.instance.exited().now_or_never().is_none(), "the neighbour has ended");
    }
}

/// Which of its own ends a bomb has come to.
fn end_of(name: &str, result: Option<Result<Output, Fault>>, own: &[End], bomb: &Running) -> End {
    let is = |end: &End| match (end, &result) {
        (TimedOut, None) | (OutOfMemory, Some(Err(Fault::Exited(Exit::OutOfMemory)))) => true,
        (Failed(error), Some(Ok(Output::FunctionError(seen)))) => seen.error_type.as_deref() == Some(error),
        (Refused(error, so_many), Some(Ok(Output::Event(answer)))) => is_refused(answer, error, so_many),
        (CutOff, Some(Err(Fault::AnswerTooLarge { limit, .. }))) => *limit == ANSWER_BYTES,
        _ => false,
    };
    let end = own.iter().find(|end| is(end)).cloned();
    let seen = match result {
        None => "no answer".to_owned(),
        Some(Err(fault)) => format!("{fault:?}"),
        Some(Ok(Output::Event(answer))) => format!("{answer:?}"),
        Some(Ok(Output::FunctionError(error))) => format!("{error:?}"),
        Some(Ok(Output::Stream(_) | Output::Http(_) | Output::NotTaken(..))) => {
            "a response to an event".to_owned()
        }
    };
    end.unwrap_or_else(|| panic!("{name}: {seen} is none of {own:?}\n{}", bomb.log.tail()))
}

fn is_refused(answer: &[u8], error: &str, so_many: &Range<u64>) -> bool {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let seen =
        answer["refused"] == error && answer["made"].as_u64().is_some_and(|made| so_many.contains(&made));
    // Where there is more than one thing that could run out, or be left over.
    let shared = answer.get("shared").is_none_or(|shared| shared["refused"] == error);
    let orphans = answer.get("orphans").is_none_or(|left| left.as_array().is_some_and(Vec::is_empty));
    seen && shared && orphans
}
