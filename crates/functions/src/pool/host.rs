//! What all pools share: the back ends, the caps on the whole, who wants room, and the reaper.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use base::{Clock, Region};
use observe::{FunctionMetrics, Logs};
use parking_lot::Mutex;
use sandbox::{Backend, Isolation};
use tokio::sync::{Notify, watch};

use super::Pool;
use super::caps::Caps;
use super::lease::Slot;
use crate::limits;
use crate::service::{Bounds, Deps};

/// Shared by every pool.
pub(crate) struct Host {
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    pub(crate) logs: Logs,
    pub(crate) metrics: Arc<FunctionMetrics>,
    pub(crate) iam: iam::Iam,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) region: Region,
    pub(crate) bounds: Bounds,
    pub(super) caps: Arc<Caps>,
    /// Pools with instances or starts.
    live: Mutex<Vec<Weak<Pool>>>,
    /// Pools whose calls wait for room on the host.
    hungry: Mutex<VecDeque<Weak<Pool>>>,
    hungry_count: AtomicUsize,
    stopping: AtomicBool,
    pub(super) stopped: watch::Sender<bool>,
    calls: AtomicUsize,
    no_calls: Notify,
}

impl Host {
    /// Takes what pools need of the service's parts.
    pub(crate) fn new(deps: Deps) -> Arc<Self> {
        let Deps { backends, logs, metrics, iam, clock, region, bounds, .. } = deps;
        let caps = Caps::new(bounds.max_instances, bounds.max_memory_bytes);
        Arc::new(Self {
            backends,
            logs,
            metrics,
            iam,
            clock,
            region,
            bounds,
            caps,
            live: Mutex::default(),
            hungry: Mutex::default(),
            hungry_count: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            stopped: watch::Sender::new(false),
            calls: AtomicUsize::new(0),
            no_calls: Notify::new(),
        })
    }

    /// The back end of an isolation.
    pub(crate) fn backend(&self, isolation: Isolation) -> Option<&Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.isolation() == isolation)
    }

    /// Whether the server is going down.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn call_began(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn call_ended(&self) {
        if self.calls.fetch_sub(1, Ordering::Release) == 1 && self.is_stopping() {
            self.no_calls.notify_waiters();
        }
    }

    pub(super) fn list(&self, pool: &Arc<Pool>) {
        self.live.lock().push(Arc::downgrade(pool));
    }

    pub(super) fn queue_for_room(&self, pool: &Arc<Pool>) {
        self.hungry.lock().push_back(Arc::downgrade(pool));
        self.hungry_count.fetch_add(1, Ordering::SeqCst);
    }

    /// Room may have come up: lets the pool that has waited longest try again.
    pub(super) fn feed(&self) {
        while self.hungry_count.load(Ordering::SeqCst) > 0 {
            let Some(next) = self.hungry.lock().pop_front() else { return };
            self.hungry_count.fetch_sub(1, Ordering::SeqCst);
            if next.upgrade().is_some_and(|pool| pool.try_again()) {
                return;
            }
        }
    }

    /// Takes the instance that has been idle for longest out of another pool than `asking`, to be stopped.
    pub(super) fn pick_victim(&self, asking: &Pool) -> Option<(Arc<Pool>, Arc<Slot>)> {
        let pools = self.pools();
        let others = pools.iter().filter(|pool| !std::ptr::eq(Arc::as_ptr(pool), asking));
        let mut idle: Vec<_> = others.filter_map(|pool| Some((pool.idle_since()?, pool))).collect();
        idle.sort_by_key(|(since, _)| *since);
        idle.into_iter().find_map(|(_, pool)| Some((Arc::clone(pool), pool.take_idle()?)))
    }

    /// Stops what has been idle for too long and forgets pools without instances.
    pub(crate) fn reap(&self, now: Instant) {
        for pool in self.pools() {
            pool.reap(now);
        }
        self.live.lock().retain(|pool| pool.upgrade().is_some_and(|pool| !pool.unlist_if_empty()));
        self.feed();
    }

    /// Refuses new calls, waits for those under way at most `grace`, stops every instance.
    pub(crate) async fn shut_down(&self, grace: Duration) {
        self.stopping.store(true, Ordering::Release);
        self.close_all();
        let _ = tokio::time::timeout(grace, self.calls_ended()).await;
        self.stopped.send_replace(true);
        // Again, for a pool whose first call got in while the first look was taken.
        let pools = self.close_all();
        futures_util::future::join_all(pools.iter().map(|pool| pool.stop_all())).await;
    }

    fn close_all(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools();
        pools.iter().for_each(|pool| pool.close());
        pools
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.live.lock().iter().filter_map(Weak::upgrade).collect()
    }

    async fn calls_ended(&self) {
        loop {
            let ended = self.no_calls.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.calls.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Looks for idle instances until the host is gone or stopping.
pub(crate) async fn reaper(host: Weak<Host>) {
    let mut ticks = tokio::time::interval(limits::REAP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match host.upgrade() {
            Some(host) if !host.is_stopping() => host.reap(Instant::now()),
            _ => return,
        }
    }
}
