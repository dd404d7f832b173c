//! An instance in a pool, and a call's place on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use observe::LogStream;
use parking_lot::Mutex;
use sandbox::Instance;
use tokio::task::AbortHandle;

use super::Pool;
use super::caps::Room;
use crate::startup::Startup;

/// An instance. Counts are changed under the pool's lock only; they are atomics so that the lock need not own
/// every slot.
pub(crate) struct Slot {
    pub(super) instance: Arc<dyn Instance>,
    pub(super) log: Arc<LogStream>,
    /// Calls under way.
    pub(super) in_flight: AtomicU32,
    /// Gets no new call, and is stopped after its last one.
    pub(super) retired: AtomicBool,
    /// When it came up.
    pub(super) born: Instant,
    /// When it was last left without a call.
    pub(super) last_used: Mutex<Instant>,
    /// Whether it was suspended since.
    pub(super) frozen: AtomicBool,
    /// The clock of evictions when it was last used, as the bits of a double.
    pub(super) valued: AtomicU64,
    /// How it came up, until its first call has reported that.
    pub(super) init: Mutex<Option<Startup>>,
    /// Its share of the host's caps.
    pub(super) room: Mutex<Option<Room>>,
    /// Waits for it to end by itself.
    pub(super) watcher: Mutex<Option<AbortHandle>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get_mut().take() {
            watcher.abort();
        }
    }
}

/// A place on an instance for one call. Dropping it gives the place back.
pub(crate) struct Lease {
    pub(super) pool: Arc<Pool>,
    pub(super) slot: Arc<Slot>,
    /// Whether it gives back its call's place in the function's concurrency too.
    pub(super) admitted: bool,
}

impl Lease {
    pub(super) fn new(pool: Arc<Pool>, slot: Arc<Slot>) -> Self {
        pool.meter().running(1);
        pool.thawed(&slot);
        Self { pool, slot, admitted: false }
    }

    /// Whether other calls run on the instance.
    pub(crate) fn is_shared(&self) -> bool {
        self.slot.in_flight.load(Ordering::Relaxed) > 1
    }

    /// The instance.
    pub(crate) fn instance(&self) -> &Arc<dyn Instance> {
        &self.slot.instance
    }

    /// Its log.
    pub(crate) fn log(&self) -> &LogStream {
        &self.slot.log
    }

    /// The pool it is in.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// How the instance came up, for the first call that asks.
    pub(crate) fn take_init(&self) -> Option<Startup> {
        self.slot.init.lock().take()
    }

    /// The instance gets no new call from now on; it is stopped when its last call has given its place back.
    pub(crate) fn retire(&self) {
        self.pool.retire(&self.slot);
    }

    /// Retires the instance and stops it now, whatever else runs on it.
    pub(crate) async fn kill(&self) {
        self.retire();
        self.slot.instance.stop().await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.meter().running(-1);
        self.pool.give_back(&self.slot);
        if self.admitted {
            self.pool.share().give_back();
        }
    }
}

impl Slot {
    /// Whether it has nothing to do since `moment`.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.in_flight.load(Ordering::Relaxed) == 0).then(|| *self.last_used.lock())
    }
}
