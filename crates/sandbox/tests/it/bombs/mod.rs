//! Functions that take more than their share. Each is stopped at its limit or refused by it, with a clear outcome,
//! while a neighbour goes on answering; and nothing of it is left.
//!
//! `bombs.py` is the function. It speaks to nothing but the [`Backend`](sandbox::Backend) seam, so any back end that
//! runs processes can be put through it. Here is the caller's part too: it gives a call its time-out and stops an
//! instance that is over it, as the pool does. How soon a bomb is gone is printed; how much slower the neighbour
//! gets is a benchmark's to say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sandbox::{Exit, Fault, Output};
use serde_json::{Value, json};

use crate::engine::{ANSWER_BYTES, Engines, LOG_BYTES_PER_S, Running};
use crate::world::{Case, PATIENCE, World, children, groups_named, until};

const SOURCE: &str = include_str!("bombs.py");
/// The time-out of a call that has no answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What an instance's log takes at once: twice the bucket after a silence, and a full pipe at the end.
const LOG_BURST: usize = 3 << 20;

/// What comes of a bomb.
enum Outcome {
    /// Its call has no answer at its time-out.
    NeverAnswers,
    /// The system refuses it more, with one of these errors, before it has so many; then it answers.
    Refused(&'static [&'static str], u64),
    /// It dies of its memory, or the interpreter sees the limit first.
    OutOfMemory,
    /// Its answer is cut off.
    AnswerTooLarge,
}

macro_rules! bombs {
    ($($name:ident => $outcome:expr;)*) => {
        pub(crate) const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            needs_root: false,
            run: |world| Box::pin(explode(world, stringify!($name), $outcome)),
        }),*];
    };
}

bombs! {
    cpu => Outcome::NeverAnswers;
    memory => Outcome::OutOfMemory;
    fork => Outcome::NeverAnswers;
    threads => Outcome::Refused(&["RuntimeError"], 64);
    files => Outcome::Refused(&["EMFILE"], 1024);
    disk => Outcome::Refused(&["ENOSPC"], 17);
    inodes => Outcome::Refused(&["ENOSPC"], 4096);
    log_flood => Outcome::NeverAnswers;
    endless_answer => Outcome::AnswerTooLarge;
    sockets => Outcome::Refused(&["EMFILE"], 1024);
    zombies => Outcome::Refused(&["EAGAIN"], 64);
    deaf => Outcome::NeverAnswers;
}

async fn explode(world: World, name: &str, outcome: Outcome) {
    let engines = Engines::new(&world);
    let runtime = engines.runtime("python").await;
    let function = || engines.function(runtime.clone(), "bombs.handler", &[("bombs.py", 0o644, SOURCE)]);
    let neighbour = engines.start(function()).await;
    let jails = children(world.launcher_pid()).len();
    let mut bomb = function();
    bomb.spec.limits.cpu_hundredths = world.has_groups().then_some(100);
    let bomb = engines.start(bomb).await;

    let begun = Instant::now();
    let event = json!(name).to_string();
    let timeout = if matches!(outcome, Outcome::NeverAnswers) { TIMEOUT } else { PATIENCE };
    let call = tokio::time::timeout(timeout, bomb.event(&event));
    let result = while_a_neighbour_answers(&neighbour, call).await;
    check(&world, name, outcome, result.ok(), &bomb);
    let limit = Instant::now();
    tokio::time::timeout(PATIENCE, bomb.instance.stop()).await.expect("it is stopped");
    // For people: the goal is a second, which a test on a busy host cannot hold anybody to.
    println!("bombs::{name}: gone {:?} after its limit", limit.elapsed());

    assert_eq!(groups_named(bomb.id.as_str()).len(), 0, "{name}: a control group is left");
    until(PATIENCE, || children(world.launcher_pid()).len() <= jails).await;
    let most = LOG_BURST + (begun.elapsed().as_secs_f64() * LOG_BYTES_PER_S as f64) as usize;
    assert!(bomb.log.len() <= most, "{name} printed {} bytes", bomb.log.len());
    pong(&neighbour).await;
    // And another starts.
    pong(&engines.start(function()).await).await;
}

/// Calls a neighbour until something has come to its end, and once at least.
async fn while_a_neighbour_answers<T>(neighbour: &Running, call: impl Future<Output = T>) -> T {
    let ended = AtomicBool::new(false);
    let call = async {
        let result = call.await;
        ended.store(true, Ordering::Relaxed);
        result
    };
    // None of its calls is given up: it would have to be stopped.
    let answers = async {
        pong(neighbour).await;
        while !ended.load(Ordering::Relaxed) {
            pong(neighbour).await;
        }
    };
    tokio::join!(call, answers).0
}

async fn pong(running: &Running) {
    assert_eq!(running.result("\"ping\"").await, "pong");
}

fn check(world: &World, name: &str, expect: Outcome, result: Option<Result<Output, Fault>>, bomb: &Running) {
    match (expect, result) {
        (Outcome::NeverAnswers, None) => {}
        // A watch counts what copies share once for each.
        (Outcome::NeverAnswers, Some(Err(Fault::Exited(Exit::OutOfMemory)))) if !world.has_groups() => {}
        (Outcome::Refused(errors, most), Some(Ok(Output::Event(answer)))) => {
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            let refused = answer["refused"].as_str().unwrap_or_default();
            assert!(errors.contains(&refused), "{name}: {answer}");
            assert!(answer["made"].as_u64().is_some_and(|made| made < most), "{name}: {answer}");
            // Where there is more than one thing that could run out.
            assert_eq!(
                answer.get("orphans").map_or(0, |left| left.as_array().map_or(1, Vec::len)),
                0,
                "{answer}"
            );
            assert!(answer.get("shared").is_none_or(|shared| shared["refused"] == "ENOSPC"), "{answer}");
        }
        (Outcome::OutOfMemory, Some(Err(Fault::Exited(Exit::OutOfMemory)))) => {}
        // Where RLIMIT_DATA is the nearer wall.
        (Outcome::OutOfMemory, Some(Ok(Output::FunctionError(error)))) => {
            assert_eq!(error.error_type.as_deref(), Some("MemoryError"), "{name}");
        }
        (Outcome::AnswerTooLarge, Some(Err(Fault::AnswerTooLarge { limit, .. }))) => {
            assert_eq!(limit, ANSWER_BYTES);
        }
        (_, None) => panic!("{name} did not answer in time\n{}", bomb.log.tail()),
        (_, Some(Err(fault))) => panic!("{name}: {fault:?}\n{}", bomb.log.tail()),
        (_, Some(Ok(Output::Event(answer)))) => panic!("{name}: {answer:?}"),
        (_, Some(Ok(Output::FunctionError(error)))) => panic!("{name}: {error:?}\n{}", bomb.log.tail()),
        (_, Some(Ok(Output::Http(_) | Output::NotTaken(..)))) => panic!("{name}: a response to an event"),
    }
}
