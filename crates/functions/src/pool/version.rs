//! One version's pool.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use base::FunctionArn;
use futures_util::future::join_all;
use observe::{FunctionLabels, FunctionMeter};
use parking_lot::{Mutex, MutexGuard};
use sandbox::{Artifact, Prepared};
use tokio::sync::{Notify, oneshot};

use super::lease::{Lease, Slot};
use super::line::{Line, Shape, Waiter};
use super::start::FailedStart;
use super::{Host, start};
use crate::model::Configuration;
use crate::{Error, limits};

/// What instances of a version are made from.
pub(crate) struct Plan {
    /// Qualified.
    pub(crate) arn: FunctionArn,
    /// What is in force for calls.
    pub(crate) configuration: Arc<Configuration>,
    /// The code.
    pub(crate) artifact: Artifact,
    /// What preparing it came to.
    pub(crate) prepared: Prepared,
    /// One instance serves every call of the version (WebAssembly).
    pub(crate) shared: bool,
}

impl Plan {
    /// Whether an instance takes one call at a time: what speaks events does, unless it was asked to multiplex.
    pub(crate) fn one_at_a_time(&self) -> bool {
        self.prepared.one_at_a_time && self.configuration.settings.hard_concurrency == 1
    }

    /// What its metrics are labelled with.
    pub(crate) fn labels(&self) -> FunctionLabels {
        FunctionLabels {
            account: self.arn.account.to_string(),
            function: self.arn.name.clone(),
            version: self.configuration.version.clone(),
        }
    }
}

/// What calls of a version get.
pub(crate) struct Target {
    plan: Arc<Plan>,
    /// `None` once retired before the first call.
    pool: OnceLock<Option<Arc<Pool>>>,
}

impl Target {
    pub(crate) fn from_plan(plan: Plan) -> Self {
        Self { plan: Arc::new(plan), pool: OnceLock::new() }
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// A place on an instance of the pool, which the first call makes.
    pub(crate) async fn acquire(&self, host: &Arc<Host>) -> Result<Lease, Refusal> {
        let pool = self.pool.get_or_init(|| Some(Pool::new(Arc::clone(host), Arc::clone(&self.plan))));
        pool.as_ref().ok_or(Refusal::Retired)?.acquire().await
    }

    /// No call gets in any more; returns when its last instance is gone.
    pub(crate) async fn retire(&self) {
        // Whoever comes first, a call or this, decides whether there is a pool: none escapes being closed.
        if let Some(pool) = self.pool.get_or_init(|| None) {
            pool.close();
            pool.emptied().await;
        }
    }
}

/// Why a call gets no instance.
pub(crate) enum Refusal {
    /// The version's target was replaced: look it up again.
    Retired,
    /// The instance that was started for it did not come up.
    Failed(FailedStart),
    /// Anything else.
    Error(Error),
}

/// The instances of one version and the calls that wait for one.
pub(crate) struct Pool {
    me: Weak<Pool>,
    host: Arc<Host>,
    plan: Arc<Plan>,
    meter: FunctionMeter,
    shape: Shape,
    line: Mutex<Line>,
    streams: Mutex<Vec<Weak<dyn Stream>>>,
    emptied: Notify,
}

/// An answer that is being streamed. Its own timer ends it on time while somebody reads; the reaper ends it where
/// nobody does.
pub(crate) trait Stream: Send + Sync {
    /// Ends it if its time is up; whether it is still under way.
    fn is_under_way(&self, now: Instant) -> bool;
}

/// Leaves the line when the caller does.
struct Place<'a> {
    pool: &'a Pool,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.pool.line.lock().leave(self.ticket) {
            self.pool.meter.queued(-1);
        }
    }
}

enum Attempt {
    Leased(Lease),
    Queued(u64, oneshot::Receiver<Result<Lease, Refusal>>),
}

impl Pool {
    fn new(host: Arc<Host>, plan: Arc<Plan>) -> Arc<Self> {
        let meter = host.metrics.meter(&plan.labels());
        let settings = &plan.configuration.settings;
        let most = if plan.one_at_a_time() { 1 } else { settings.hard_concurrency };
        let shape = Shape { soft: settings.soft_concurrency.min(most), hard: most, single: plan.shared };
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            host,
            plan,
            meter,
            shape,
            line: Mutex::default(),
            streams: Mutex::default(),
            emptied: Notify::new(),
        })
    }

    pub(crate) fn meter(&self) -> &FunctionMeter {
        &self.meter
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Has the reaper look after a stream.
    pub(crate) fn look_after(&self, stream: Weak<dyn Stream>) {
        self.streams.lock().push(stream);
    }

    /// A place on an instance: at once, or when it is this call's turn.
    async fn acquire(self: &Arc<Self>) -> Result<Lease, Refusal> {
        match self.attempt()? {
            Attempt::Leased(lease) => Ok(lease),
            Attempt::Queued(ticket, receiver) => self.wait(ticket, receiver).await,
        }
    }

    fn attempt(self: &Arc<Self>) -> Result<Attempt, Refusal> {
        let mut line = self.line.lock();
        if line.closed || self.host.is_stopping() {
            return Err(self.closed());
        }
        if line.waiters.is_empty()
            && let Some(slot) = line.take_place(self.shape)
        {
            let grow = slot.in_flight.load(Ordering::Relaxed) > self.shape.soft && line.crowded(self.shape);
            if grow && self.host.caps.fits(self.plan.configuration.memory_bytes()) {
                line.starting += 1;
                drop(line);
                self.launch();
            }
            return Ok(Attempt::Leased(Lease::new(Arc::clone(self), slot)));
        }
        if line.waiters.len() >= self.host.bounds.max_queue {
            self.meter.throttled();
            return Err(Refusal::Error(self.throttled("as many calls are waiting for an instance as may")));
        }
        let (sender, receiver) = oneshot::channel();
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        line.waiters.push_back(Waiter { ticket, sender });
        self.meter.queued(1);
        self.pump(line);
        Ok(Attempt::Queued(ticket, receiver))
    }

    async fn wait(
        &self,
        ticket: u64,
        mut receiver: oneshot::Receiver<Result<Lease, Refusal>>,
    ) -> Result<Lease, Refusal> {
        let place = Place { pool: self, ticket };
        let began = tokio::time::Instant::now();
        let bounds = &self.host.bounds;
        let mut outcome = tokio::time::timeout(bounds.queue_timeout, &mut receiver).await;
        // An instance is on its way for this call: initialisation has its own time-out.
        if outcome.is_err() && self.line.lock().is_covered(ticket, self.shape) {
            outcome = tokio::time::timeout(bounds.init_timeout, &mut receiver).await;
        }
        drop(place);
        self.meter.waited(began.elapsed());
        match outcome {
            Ok(sent) => sent.unwrap_or_else(|_| Err(self.closed())),
            // What was sent after the time was up and before the line was left is not lost.
            Err(_) => receiver.try_recv().unwrap_or_else(|_| {
                self.meter.throttled();
                Err(Refusal::Error(self.throttled("no instance became free in time")))
            }),
        }
    }

    fn closed(&self) -> Refusal {
        if self.host.is_stopping() {
            return Refusal::Error(Error::Unavailable("The server is stopping.".into()));
        }
        Refusal::Retired
    }

    fn throttled(&self, why: &str) -> Error {
        Error::Throttled {
            code: "ConcurrentInvocationLimitExceeded",
            reason: format!("Rate Exceeded: {why}."),
            retry_after_ms: limits::RETRY_AFTER_MS,
        }
    }

    /// Serves those who wait with what is free, and starts what is missing. Every path that may have freed a
    /// place or lost an instance ends here.
    fn pump(&self, mut line: MutexGuard<'_, Line>) {
        let mut served = Vec::new();
        while !line.waiters.is_empty() && !line.closed {
            let Some(slot) = line.take_place(self.shape) else { break };
            served.extend(line.waiters.pop_front().map(|waiter| (waiter, slot)));
        }
        let missing = line.missing(self.shape);
        line.starting += missing;
        // The host's list is locked outside the line, never the other way round.
        let list = missing > 0 && !std::mem::replace(&mut line.listed, true);
        drop(line);
        if list && let Some(me) = self.me.upgrade() {
            self.host.list(&me);
        }
        for (waiter, slot) in served {
            self.meter.queued(-1);
            if let Some(me) = self.me.upgrade() {
                // A receiver that is gone gives the lease back, which drops it, which pumps again.
                drop(waiter.sender.send(Ok(Lease::new(me, slot))));
            }
        }
        for _ in 0..missing {
            self.launch();
        }
    }

    /// Starts an instance that `starting` counts already.
    fn launch(&self) {
        if let Some(me) = self.me.upgrade() {
            tokio::spawn(start::bring_up(me));
        }
    }

    /// An instance is up.
    pub(super) fn arrived(self: &Arc<Self>, slot: Arc<Slot>) {
        let mut line = self.line.lock();
        line.starting -= 1;
        self.meter.instances(1);
        line.members.push(Arc::clone(&slot));
        if line.closed {
            line.remove(&slot);
            drop(line);
            self.stop(slot);
            return;
        }
        line.ready.push(Arc::clone(&slot));
        self.pump(line);
        self.watch(&slot);
        self.offer_room();
    }

    /// Takes the instance out of use the moment it ends by itself.
    fn watch(self: &Arc<Self>, slot: &Arc<Slot>) {
        let pool = Arc::downgrade(self);
        let weak = Arc::downgrade(slot);
        let instance = Arc::clone(&slot.instance);
        let task = tokio::spawn(async move {
            let exit = instance.exited().await;
            drop(instance);
            if let (Some(pool), Some(slot)) = (pool.upgrade(), weak.upgrade()) {
                tracing::debug!(function = %pool.plan.arn, ?exit, "an instance ended");
                pool.retire(&slot);
            }
        });
        *slot.watcher.lock() = Some(task.abort_handle());
    }

    /// A start came to nothing: the oldest waiter hears why.
    pub(super) fn start_failed(&self, failure: FailedStart) {
        let mut line = self.line.lock();
        line.starting -= 1;
        let waiter = line.waiters.pop_front();
        self.emptied.notify_waiters();
        self.pump(line);
        if let Some(waiter) = waiter {
            self.meter.queued(-1);
            let _ = waiter.sender.send(Err(Refusal::Failed(failure)));
        }
    }

    /// The host cannot start instances of this version: everybody who waits hears it.
    pub(super) fn cannot_start(&self, why: &str) {
        let waiters = {
            let mut line = self.line.lock();
            line.starting -= 1;
            std::mem::take(&mut line.waiters)
        };
        self.emptied.notify_waiters();
        self.meter.queued(-i64::try_from(waiters.len()).unwrap_or(i64::MAX));
        for waiter in waiters {
            let _ = waiter.sender.send(Err(Refusal::Error(Error::Unavailable(why.to_owned()))));
        }
    }

    /// There was no room for a start: it is tried again when there may be.
    pub(super) fn starve(self: &Arc<Self>) {
        let mut line = self.line.lock();
        line.starting -= 1;
        if !line.waiters.is_empty() && !line.closed && !std::mem::replace(&mut line.hungry, true) {
            drop(line);
            self.host.queue_for_room(self);
            // What became free between the refusal and here woke nobody.
            if self.host.caps.fits(self.plan.configuration.memory_bytes()) {
                self.host.feed();
            }
        }
        self.emptied.notify_waiters();
    }

    /// Called when it is this pool's turn for room; whether it still wants any.
    pub(super) fn try_again(&self) -> bool {
        let mut line = self.line.lock();
        line.hungry = false;
        let wanted = line.missing(self.shape) > 0;
        self.pump(line);
        wanted
    }

    /// Whether calls wait for an instance.
    pub(super) fn is_wanted(&self) -> bool {
        !self.line.lock().waiters.is_empty()
    }

    pub(super) fn retire(&self, slot: &Arc<Slot>) {
        let mut line = self.line.lock();
        line.retire(slot);
        let stop = slot.in_flight.load(Ordering::Relaxed) == 0 && line.remove(slot);
        self.pump(line);
        if stop {
            self.stop(Arc::clone(slot));
        }
    }

    pub(super) fn give_back(&self, slot: &Arc<Slot>) {
        let mut line = self.line.lock();
        if slot.in_flight.load(Ordering::Relaxed) == 1 {
            // Before anybody can see it idle.
            *slot.last_used.lock() = Instant::now();
        }
        line.give_back(slot, self.shape);
        let free = slot.in_flight.load(Ordering::Relaxed) == 0;
        let done = free && (line.closed || slot.retired.load(Ordering::Relaxed)) && line.remove(slot);
        if line.waiters.is_empty() {
            drop(line);
        } else {
            self.pump(line);
        }
        if done {
            self.stop(Arc::clone(slot));
        } else if free {
            self.offer_room();
        }
    }

    /// An idle instance is room for others who have none.
    fn offer_room(&self) {
        self.host.feed();
    }

    /// Stops an instance that was removed from the line.
    fn stop(&self, slot: Arc<Slot>) {
        if let Some(me) = self.me.upgrade() {
            tokio::spawn(async move { me.stop_now(&slot).await });
        }
    }

    pub(super) async fn stop_now(&self, slot: &Slot) {
        self.meter.memory(slot.instance.peak_memory());
        slot.instance.stop().await;
        slot.log.flush();
        slot.room.lock().take();
        self.line.lock().stopping -= 1;
        self.meter.instances(-1);
        self.emptied.notify_waiters();
        self.host.feed();
    }

    /// Since when the instance that was used longest ago is idle.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.line.lock().ready.iter().filter_map(|slot| slot.idle_since()).min()
    }

    /// Takes that instance out, to be stopped by the caller.
    pub(super) fn take_idle(&self) -> Option<Arc<Slot>> {
        let mut line = self.line.lock();
        let idle = line.ready.iter().filter_map(|slot| Some((slot.idle_since()?, slot)));
        let slot = idle.min_by_key(|(since, _)| *since).map(|(_, slot)| Arc::clone(slot))?;
        line.remove(&slot).then_some(slot)
    }

    pub(super) fn reap(&self, now: Instant) {
        let idle_timeout =
            std::time::Duration::from_secs(self.plan.configuration.settings.idle_timeout_s.into());
        self.streams.lock().retain(|stream| stream.upgrade().is_some_and(|stream| stream.is_under_way(now)));
        let mut line = self.line.lock();
        let for_long = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        for old in line.members.clone().iter().filter(|slot| for_long(slot.born, limits::INSTANCE_AGE)) {
            line.retire(old);
        }
        let over = |slot: &&Arc<Slot>| {
            let retired = slot.retired.load(Ordering::Relaxed);
            slot.idle_since().is_some_and(|since| retired || for_long(since, idle_timeout))
        };
        let over: Vec<Arc<Slot>> = line.members.iter().filter(over).map(Arc::clone).collect();
        let removed: Vec<Arc<Slot>> = over.into_iter().filter(|slot| line.remove(slot)).collect();
        self.pump(line);
        for slot in removed {
            self.stop(slot);
        }
    }

    /// Whether the pool has nothing left; it is then off the host's list.
    pub(super) fn unlist_if_empty(&self) -> bool {
        let mut line = self.line.lock();
        let empty = line.is_empty() && line.waiters.is_empty();
        line.listed &= !empty;
        empty
    }

    /// Lets no call in any more; those that wait are sent away, idle instances are stopped.
    pub(super) fn close(&self) {
        let mut line = self.line.lock();
        if std::mem::replace(&mut line.closed, true) {
            return;
        }
        let waiters = std::mem::take(&mut line.waiters);
        let idle: Vec<Arc<Slot>> =
            line.members.iter().filter(|slot| slot.idle_since().is_some()).map(Arc::clone).collect();
        let removed: Vec<Arc<Slot>> = idle.into_iter().filter(|slot| line.remove(slot)).collect();
        drop(line);
        self.meter.queued(-i64::try_from(waiters.len()).unwrap_or(i64::MAX));
        for waiter in waiters {
            let _ = waiter.sender.send(Err(self.closed()));
        }
        for slot in removed {
            self.stop(slot);
        }
    }

    /// Stops every instance whatever runs on it. The pool is closed.
    pub(super) async fn stop_all(&self) {
        let left: Vec<Arc<Slot>> = {
            let mut line = self.line.lock();
            let members = line.members.clone();
            members.into_iter().filter(|slot| line.remove(slot)).collect()
        };
        join_all(left.iter().map(|slot| self.stop_now(slot))).await;
        self.emptied().await;
    }

    /// Returns when no instance is left.
    pub(super) async fn emptied(&self) {
        loop {
            let changed = self.emptied.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.line.lock().is_empty() {
                return;
            }
            changed.await;
        }
    }
}
