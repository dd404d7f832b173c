//! One version's pool: how calls get in, wait, and go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use observe::FunctionMeter;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::fair::Standing;
use super::lease::{Lease, Slot};
use super::line::{Line, Shape, Waiter};
use super::past::Past;
use super::share::{CONCURRENT, Share};
use super::target::{Plan, Refusal, Stream};
use super::upkeep::Pace;
use super::{Host, start};
use crate::{Error, limits};

/// The instances of one version and the calls that wait for one.
pub(crate) struct Pool {
    pub(super) me: Weak<Pool>,
    pub(super) host: Arc<Host>,
    pub(super) plan: Arc<Plan>,
    pub(super) meter: FunctionMeter,
    pub(super) shape: Shape,
    pub(super) share: Arc<Share>,
    pub(super) line: Mutex<Line>,
    pub(super) streams: Mutex<Vec<Weak<dyn Stream>>>,
    /// When calls come.
    pub(super) past: Arc<Past>,
    /// How fast calls go and how dear starts are.
    pub(super) pace: Pace,
    /// The host's count of turns when it last had one.
    pub(super) last_turn: AtomicU64,
    /// Instances came or went.
    pub(super) changed: Notify,
}

/// A call that waits: leaves the line when its caller does.
struct Place<'a> {
    pool: &'a Pool,
    ticket: u64,
    bytes: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.pool.line.lock().leave(self.ticket) {
            self.pool.meter.queued(-1);
        }
        self.pool.host.waiting.leave(self.bytes);
        self.pool.host.somebody_left();
    }
}

/// A call that counts in its function's concurrency.
struct Admitted<'a>(&'a Share);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

enum Attempt<'a> {
    Leased(Lease),
    Queued(Place<'a>, oneshot::Receiver<Result<Lease, Refusal>>),
}

impl Pool {
    pub(super) fn new(host: Arc<Host>, plan: Arc<Plan>, past: Arc<Past>) -> Arc<Self> {
        let meter = host.metrics.meter(&plan.labels());
        let settings = &plan.configuration.settings;
        let most = if plan.one_at_a_time() { 1 } else { settings.hard_concurrency };
        let shape = Shape { soft: settings.soft_concurrency.min(most), hard: most, single: plan.shared };
        let share = host.share(&plan.arn);
        let pace = Pace::new(&meter);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            host,
            plan,
            meter,
            shape,
            share,
            line: Mutex::default(),
            streams: Mutex::default(),
            past,
            pace,
            last_turn: AtomicU64::new(0),
            changed: Notify::new(),
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

    pub(super) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// Has the reaper look after a stream.
    pub(crate) fn look_after(&self, stream: Weak<dyn Stream>) {
        self.streams.lock().push(stream);
    }

    pub(super) fn standing(&self) -> Standing {
        let caps = &self.host.caps;
        Standing {
            account: caps.part_of(&self.share.account.held),
            function: caps.part_of(&self.share.held),
            instance: caps.part(1, self.plan.configuration.memory_bytes()),
        }
    }

    /// A place on an instance: at once, or when it is this call's turn.
    pub(super) async fn acquire(self: &Arc<Self>, bytes: usize) -> Result<Lease, Refusal> {
        if self.host.is_stopping() {
            return Err(self.closed());
        }
        let full = |reason| {
            let why = "as many calls are in flight as the function or its account may have";
            self.throttled(reason, why, self.pace.next_end())
        };
        self.share.take().map_err(full)?;
        let admitted = Admitted(&self.share);
        let mut lease = match self.attempt(bytes)? {
            Attempt::Leased(lease) => lease,
            Attempt::Queued(place, receiver) => self.wait(place, receiver).await?,
        };
        lease.admitted = true;
        std::mem::forget(admitted);
        Ok(lease)
    }

    fn attempt(self: &Arc<Self>, bytes: usize) -> Result<Attempt<'_>, Refusal> {
        let mut line = self.line.lock();
        if line.closed {
            return Err(self.closed());
        }
        self.somebody_came(&mut line);
        if line.waiters.is_empty()
            && let Some(slot) = line.take_place(self.shape)
        {
            let grow = slot.in_flight.load(Ordering::Relaxed) > self.shape.soft && line.crowded(self.shape);
            if grow && self.host.caps.fits(self.plan.configuration.memory_bytes(), &self.share) {
                self.begin(line, 1);
            } else {
                drop(line);
            }
            return Ok(Attempt::Leased(Lease::new(Arc::clone(self), slot)));
        }
        self.may_wait(&line, bytes)?;
        let (sender, receiver) = oneshot::channel();
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        let deadline = Instant::now() + self.host.bounds.queue_timeout;
        line.waiters.push_back(Waiter { ticket, deadline, extended: false, sender });
        self.meter.queued(1);
        self.pump(line);
        Ok(Attempt::Queued(Place { pool: self, ticket, bytes }, receiver))
    }

    /// An idle time is over: it says something about the next one.
    fn somebody_came(&self, line: &mut Line) {
        let Some(since) = line.idle_from.take() else { return };
        (line.forecast, line.warm_until) = (None, None);
        let idle = since.elapsed();
        let shortest = self.host.bounds.scaling.keep_at_least;
        if idle >= shortest {
            self.host.news.record(&self.plan, &self.past, idle, shortest);
        }
    }

    /// Refuses a call at once that would wait in vain, or where too much waits already.
    fn may_wait(&self, line: &Line, bytes: usize) -> Result<(), Refusal> {
        let waiting = line.waiters.len();
        let places = (line.members.len() + line.starting).saturating_mul(self.shape.hard as usize);
        let wait = self.pace.wait(waiting, places);
        let bounds = &self.host.bounds;
        let why = if waiting >= bounds.max_queue {
            "as many calls are waiting for an instance as may"
        } else if wait.is_some_and(|wait| wait > bounds.queue_timeout) {
            "the calls that wait already take longer than one may wait"
        } else if !self.host.waiting.enter(bytes, waiting == 0) {
            "as many calls are waiting on this server as may"
        } else {
            return Ok(());
        };
        Err(self.throttled(CONCURRENT, why, wait))
    }

    async fn wait(
        &self,
        place: Place<'_>,
        mut receiver: oneshot::Receiver<Result<Lease, Refusal>>,
    ) -> Result<Lease, Refusal> {
        let began = Instant::now();
        // The host's tick sends those away whose time is up.
        let outcome = (&mut receiver).await;
        drop(place);
        self.meter.waited(began.elapsed());
        outcome.unwrap_or_else(|_| Err(self.closed()))
    }

    pub(super) fn closed(&self) -> Refusal {
        if self.host.is_stopping() {
            return Refusal::Error(Error::Unavailable("The server is stopping.".into()));
        }
        Refusal::Retired
    }

    /// `wait` is how long it will be until there is a place, as far as one can tell.
    pub(super) fn throttled(&self, code: &'static str, why: &str, wait: Option<Duration>) -> Refusal {
        self.meter.throttled(code);
        let wait =
            wait.map_or(limits::RETRY_AFTER, |wait| wait.clamp(limits::RETRY_SOONEST, limits::RETRY_LATEST));
        Refusal::Error(Error::Throttled {
            code,
            reason: format!("Rate Exceeded: {why}."),
            // At most half a minute.
            retry_after_ms: wait.as_millis() as u64,
        })
    }

    /// Serves those who wait with what is free, and starts what is missing. Every path that may have freed a
    /// place or lost an instance ends here.
    pub(super) fn pump(&self, mut line: MutexGuard<'_, Line>) {
        let mut served = Vec::new();
        while !line.waiters.is_empty() && !line.closed {
            let Some(slot) = line.take_place(self.shape) else { break };
            served.extend(line.waiters.pop_front().map(|waiter| (waiter, slot)));
        }
        let missing = line.missing(self.shape);
        let short = if line.standby.requested > 0 { line.short(self.shape, Instant::now()) } else { 0 };
        self.begin(line, missing.max(short));
        for (waiter, slot) in served {
            self.meter.queued(-1);
            if let Some(me) = self.me.upgrade() {
                // A receiver that is gone gives the lease back, which drops it, which pumps again.
                drop(waiter.sender.send(Ok(Lease::new(me, slot))));
            }
        }
    }

    /// Starts so many instances.
    pub(super) fn begin(&self, mut line: MutexGuard<'_, Line>, starts: usize) {
        line.starting += starts;
        // The host's list is locked outside the line, never the other way round.
        let list = starts > 0 && !std::mem::replace(&mut line.listed, true);
        drop(line);
        let Some(me) = self.me.upgrade() else { return };
        if list {
            self.host.list(&me);
        }
        for _ in 0..starts {
            tokio::spawn(start::bring_up(Arc::clone(&me)));
        }
    }

    pub(super) fn give_back(&self, slot: &Arc<Slot>) {
        let mut line = self.line.lock();
        let now = (slot.in_flight.load(Ordering::Relaxed) == 1).then(Instant::now);
        if let Some(now) = now {
            // Before anybody can see it idle.
            *slot.last_used.lock() = now;
            slot.valued.store(self.host.clock_of_evictions.now().to_bits(), Ordering::Relaxed);
        }
        line.give_back(slot, self.shape);
        let quiet = line.is_quiet();
        if quiet {
            line.idle_from = now;
        }
        let pays = now.is_some() && line.owed > 0 && line.can_spare(self.shape);
        line.owed -= usize::from(pays);
        let over = pays || line.closed || slot.retired.load(Ordering::Relaxed);
        let done = now.is_some() && over && line.remove(slot);
        if line.waiters.is_empty() && line.standby.requested == 0 {
            drop(line);
        } else {
            self.pump(line);
        }
        if done {
            self.stop(Arc::clone(slot));
        } else if slot.in_flight.load(Ordering::Relaxed) == 0 {
            self.offer_room();
        }
        if quiet {
            self.host.somebody_left();
        }
    }

    /// The instance has a call.
    pub(super) fn thawed(&self, slot: &Slot) {
        if slot.frozen.load(Ordering::Relaxed) && slot.frozen.swap(false, Ordering::Relaxed) {
            self.meter.frozen(-1);
        }
    }

    /// Whether calls wait for an instance.
    pub(super) fn is_wanted(&self) -> bool {
        !self.line.lock().waiters.is_empty()
    }

    /// Whether nobody is being served or waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.line.lock().is_quiet()
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
        self.meter.provisioned(0);
        self.meter.queued(-i64::try_from(waiters.len()).unwrap_or(i64::MAX));
        for waiter in waiters {
            let _ = waiter.sender.send(Err(self.closed()));
        }
        for slot in removed {
            self.stop(slot);
        }
    }
}

/// Calls that wait on this host, all functions together, and what they hold in memory.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    calls: AtomicU64,
    bytes: AtomicU64,
    most_calls: u64,
    most_bytes: u64,
}

impl Waiting {
    pub(super) fn new(most_calls: usize, most_bytes: u64) -> Self {
        Self { most_calls: most_calls as u64, most_bytes, ..Self::default() }
    }

    /// Whether one more may wait. The last eighth is for functions of which nobody waits yet.
    fn enter(&self, bytes: usize, first: bool) -> bool {
        let room = |most: u64| if first { most } else { most - most / 8 };
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = bytes as u64;
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = calls <= room(self.most_calls) && all <= room(self.most_bytes);
        if !fits {
            self.calls.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn leave(&self, bytes: usize) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Waiting;

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes_and_newcomers_get_the_last_eighth() {
        let waiting = Waiting::new(8, 800);
        assert!((0..7).all(|_| waiting.enter(10, false)));
        assert!(!waiting.enter(10, false));
        assert!(waiting.enter(10, true));
        assert!(!waiting.enter(10, true));
        (0..8).for_each(|_| waiting.leave(10));
        assert!(waiting.enter(700, false) && !waiting.enter(101, true) && waiting.enter(100, true));
    }
}
