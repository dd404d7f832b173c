//! Sandboxes made ahead, and runtimes booted in them before their function is known.
//!
//! Two kinds of pool. *Sandboxes* wait for any function. *Booted runtimes* wait with
//! an interpreter and Virga's client; they are kept for those runtimes alone that functions have used lately, and for
//! each size of function apart where that is the interpreter's to know as it starts. Each serves one instance, once:
//! nothing is ever put back.
//!
//! One task refills both. It never competes with a start: it makes one at a time, and only when no start is under
//! way and none was for [`REST`]. What dies while it waits is replaced; what is not used for [`LATELY`] is let go of,
//! and so is everything when memory is short, after which nothing is made for a while ([`PAUSE`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::instance::Tasks;
use super::jail::{BootJob, Launcher, Waiting};
use crate::{Resident, Runtime, StartError};

/// How long it has to be quiet before something is made: the first call of an instance comes before the next one's
/// sandbox.
const REST: Duration = Duration::from_millis(50);
/// For how long a runtime that was used counts as in use.
const LATELY: Duration = Duration::from_secs(600);
/// For how long nothing is made once memory was short.
const PAUSE: Duration = Duration::from_secs(60);
/// How long to leave a host alone that failed to make something.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How many to keep; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Sandboxes.
    pub(crate) sandboxes: usize,
    /// Booted runtimes, of each interpreter in use.
    pub(crate) runtimes: usize,
}

/// The pools.
pub(crate) struct Ahead {
    shared: Arc<Shared>,
    _refilling: Tasks,
}

struct Shared {
    launcher: Launcher,
    sizes: Sizes,
    pools: Mutex<Pools>,
    /// Something may be wanted.
    wake: Arc<Notify>,
    /// Starts under way.
    busy: AtomicUsize,
    /// The last of them is over.
    quiet: Notify,
}

#[derive(Default)]
struct Pools {
    sandboxes: Vec<Entry>,
    runtimes: Vec<Booted>,
    paused_until: Option<Instant>,
}

/// The booted instances of one runtime, started alike.
struct Booted {
    runtime: Runtime,
    boot: BootJob,
    used: Instant,
    entries: Vec<Entry>,
}

impl Booted {
    fn is_of(&self, runtime: &Runtime, boot: &BootJob) -> bool {
        self.runtime == *runtime && self.boot.argv == boot.argv
    }
}

/// A jail that waits, and the task that sees it die.
struct Entry {
    waiting: Waiting,
    _watch: Tasks,
}

/// What to make next.
#[derive(Debug)]
enum Wanted {
    Sandbox,
    Runtime(Runtime, BootJob),
    /// Nothing before this moment, or before something happens.
    Nothing(Option<Instant>),
}

/// A start is under way for as long as this is held.
pub(crate) struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.notify_one();
        }
    }
}

impl Ahead {
    /// Inside an async runtime, begins to fill the pools; without one they stay empty.
    pub(crate) fn new(launcher: Launcher, sizes: Sizes) -> Self {
        let shared = Arc::new(Shared {
            launcher,
            sizes,
            pools: Mutex::default(),
            wake: Arc::default(),
            busy: AtomicUsize::new(0),
            quiet: Notify::new(),
        });
        let mut refilling = Tasks::default();
        let wanted = sizes.sandboxes > 0 || sizes.runtimes > 0;
        if wanted && tokio::runtime::Handle::try_current().is_ok() {
            refilling.spawn(refill(Arc::clone(&shared)));
        }
        Self { shared, _refilling: refilling }
    }

    /// Nothing is made while this is held.
    pub(crate) fn busy(&self) -> Busy {
        self.shared.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.shared))
    }

    /// A sandbox, if one is there.
    pub(crate) fn take_sandbox(&self) -> Option<Waiting> {
        let taken = self.shared.pools.lock().sandboxes.take_living(|_| true);
        self.shared.wake.notify_one();
        taken
    }

    /// A booted runtime that holds no more than `memory_bytes` allow, if one is there. Either way the runtime counts
    /// as used: there will be one.
    pub(crate) fn take_runtime(
        &self,
        runtime: &Runtime,
        boot: BootJob,
        memory_bytes: u64,
    ) -> Option<Waiting> {
        let taken = self.used(runtime, boot).entries.take_living(|waiting| fits(waiting, memory_bytes));
        self.shared.wake.notify_one();
        taken
    }

    /// A function with this runtime is about to be used.
    pub(crate) fn expect(&self, runtime: &Runtime, boot: BootJob) {
        drop(self.used(runtime, boot));
        self.shared.wake.notify_one();
    }

    fn used(&self, runtime: &Runtime, boot: BootJob) -> parking_lot::MappedMutexGuard<'_, Booted> {
        parking_lot::MutexGuard::map(self.shared.pools.lock(), |pools| {
            let place = pools.runtimes.iter().position(|booted| booted.is_of(runtime, &boot));
            let place = place.unwrap_or_else(|| {
                let runtime = runtime.clone();
                pools.runtimes.push(Booted { runtime, boot, used: Instant::now(), entries: Vec::new() });
                pools.runtimes.len() - 1
            });
            let booted = &mut pools.runtimes[place];
            booted.used = Instant::now();
            booted
        })
    }

    /// What is kept.
    pub(crate) fn residents(&self) -> Vec<Resident> {
        let pools = self.shared.pools.lock();
        let sandboxes = ("sandboxes".to_owned(), &pools.sandboxes);
        let runtimes = pools.runtimes.iter().map(|b| (format!("runtime {}", b.runtime), &b.entries));
        let mut kept: Vec<Resident> = Vec::new();
        for (name, entries) in
            [sandboxes].into_iter().chain(runtimes).filter(|(_, entries)| !entries.is_empty())
        {
            let (count, bytes) = (entries.len() as u32, memory(entries));
            match kept.iter_mut().find(|resident| resident.name == name) {
                // The same runtime for functions of another size.
                Some(resident) => {
                    resident.count += count;
                    resident.bytes += bytes;
                }
                None => kept.push(Resident { name, count, bytes }),
            }
        }
        kept
    }

    /// Gives up at least so many bytes, or everything.
    pub(crate) fn shrink(&self, bytes: u64) -> u64 {
        self.shared.pools.lock().shrink(bytes, Instant::now())
    }
}

/// Room for what it does besides having booted.
fn fits(waiting: &Waiting, memory_bytes: u64) -> bool {
    waiting.memory().saturating_mul(5) / 4 < memory_bytes
}

fn memory(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.waiting.memory()).sum()
}

trait TakeLiving {
    /// Takes one that still waits and pleases; those found dead are dropped.
    fn take_living(&mut self, pleases: impl Fn(&Waiting) -> bool) -> Option<Waiting>;
}

impl TakeLiving for Vec<Entry> {
    fn take_living(&mut self, pleases: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        self.retain(|entry| entry.waiting.is_alive());
        let place = self.iter().position(|entry| pleases(&entry.waiting))?;
        Some(self.remove(place).waiting)
    }
}

impl Pools {
    /// What to make at this moment. Lets go of what is dead or no longer used.
    fn wanted(&mut self, sizes: Sizes, now: Instant) -> Wanted {
        let Self { sandboxes, runtimes, paused_until } = self;
        sandboxes.retain(|entry| entry.waiting.is_alive());
        runtimes.retain(|booted| now.duration_since(booted.used) < LATELY);
        for booted in runtimes.iter_mut() {
            booted.entries.retain(|entry| entry.waiting.is_alive());
        }
        let expires = runtimes.iter().map(|booted| booted.used + LATELY).min();
        if let Some(until) = paused_until.filter(|until| *until > now) {
            return Wanted::Nothing(Some(expires.map_or(until, |expires| expires.min(until))));
        }
        *paused_until = None;
        if sandboxes.len() < sizes.sandboxes {
            return Wanted::Sandbox;
        }
        match runtimes.iter().find(|booted| booted.entries.len() < sizes.runtimes) {
            Some(booted) => Wanted::Runtime(booted.runtime.clone(), booted.boot.clone()),
            None => Wanted::Nothing(expires),
        }
    }

    /// Gives up at least so many bytes, or everything: booted runtimes first.
    fn shrink(&mut self, bytes: u64, now: Instant) -> u64 {
        self.paused_until = Some(now + PAUSE);
        let mut freed = 0;
        while freed < bytes {
            let runtime = self.runtimes.iter_mut().find_map(|booted| booted.entries.pop());
            let Some(entry) = runtime.or_else(|| self.sandboxes.pop()) else { break };
            freed += entry.waiting.memory();
        }
        freed
    }
}

impl Shared {
    /// Resolves once no start is under way and none was for a little while.
    async fn rest(&self) {
        loop {
            while self.busy.load(Ordering::Acquire) > 0 {
                self.quiet.notified().await;
            }
            tokio::time::sleep(REST).await;
            if self.busy.load(Ordering::Acquire) == 0 {
                return;
            }
        }
    }

    fn entry(&self, waiting: Waiting) -> Entry {
        let mut watch = Tasks::default();
        let (ended, wake) = (waiting.ended(), Arc::clone(&self.wake));
        watch.spawn(async move {
            ended.await;
            wake.notify_one();
        });
        Entry { waiting, _watch: watch }
    }

    async fn make(&self, wanted: Wanted) -> Result<(), StartError> {
        match wanted {
            Wanted::Nothing(_) => {}
            Wanted::Sandbox => {
                let entry = self.entry(self.launcher.prepare().await?);
                self.pools.lock().sandboxes.push(entry);
            }
            Wanted::Runtime(runtime, boot) => {
                let mut waiting = self.launcher.prepare().await?;
                waiting.boot(boot.clone()).await?;
                let entry = self.entry(waiting);
                let mut pools = self.pools.lock();
                if let Some(booted) = pools.runtimes.iter_mut().find(|booted| booted.is_of(&runtime, &boot)) {
                    booted.entries.push(entry);
                }
            }
        }
        Ok(())
    }
}

/// Keeps the pools as large as they should be, for ever.
async fn refill(shared: Arc<Shared>) {
    loop {
        let wanted = shared.pools.lock().wanted(shared.sizes, Instant::now());
        if let Wanted::Nothing(until) = wanted {
            match until {
                Some(until) => drop(tokio::time::timeout_at(until, shared.wake.notified()).await),
                None => shared.wake.notified().await,
            }
            continue;
        }
        shared.rest().await;
        if let Err(error) = shared.make(wanted).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "nothing can be made ahead");
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { sandboxes: 0, runtimes: 1 };

    fn with_node(used: Instant) -> Pools {
        let boot = BootJob { argv: Vec::new(), env: Vec::new(), mounts: Vec::new(), way_out: false };
        let booted = Booted { runtime: Runtime::Node { major: 20 }, boot, used, entries: Vec::new() };
        Pools { runtimes: vec![booted], ..Pools::default() }
    }

    #[test]
    fn runtimes_are_wanted_while_they_are_used() {
        let now = Instant::now();
        let node = Runtime::Node { major: 20 };
        assert!(matches!(with_node(now).wanted(SIZES, now), Wanted::Runtime(runtime, _) if runtime == node));
        assert!(matches!(with_node(now).wanted(SIZES, now + LATELY), Wanted::Nothing(None)));
        let none = Sizes { sandboxes: 0, runtimes: 0 };
        assert!(
            matches!(with_node(now).wanted(none, now), Wanted::Nothing(Some(until)) if until == now + LATELY)
        );
        let both = Sizes { sandboxes: 1, runtimes: 1 };
        assert!(matches!(with_node(now).wanted(both, now), Wanted::Sandbox), "the cheaper first");
    }

    #[test]
    fn those_started_otherwise_are_kept_apart() {
        let booted = &with_node(Instant::now()).runtimes[0];
        let node = Runtime::Node { major: 20 };
        assert!(booted.is_of(&node, &booted.boot));
        assert!(!booted.is_of(&Runtime::Node { major: 18 }, &booted.boot));
        assert!(!booted.is_of(&node, &BootJob { argv: vec!["x".to_owned()], ..booted.boot.clone() }));
    }

    #[test]
    fn nothing_is_made_for_a_while_once_memory_was_short() {
        let now = Instant::now();
        let mut pools = with_node(now);
        assert_eq!(pools.shrink(1, now), 0);
        assert!(matches!(pools.wanted(SIZES, now), Wanted::Nothing(Some(until)) if until == now + PAUSE));
        assert!(matches!(pools.wanted(SIZES, now + PAUSE), Wanted::Runtime(..)));
    }
}
