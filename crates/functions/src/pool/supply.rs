//! How a pool's instances come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::future::join_all;

use super::Pool;
use super::lease::Slot;
use super::share::CONCURRENT;
use super::start::FailedStart;
use super::target::Refusal;
use crate::concurrency::{Provisioned, ProvisionedStatus};
use crate::{Error, limits};

impl Pool {
    /// An instance is up.
    pub(super) fn arrived(self: &Arc<Self>, slot: Arc<Slot>) {
        let mut line = self.line.lock();
        line.starting -= 1;
        line.standby.trouble = None;
        line.asked = None;
        self.meter.instances(1);
        line.members.push(Arc::clone(&slot));
        if line.closed {
            line.remove(&slot);
            drop(line);
            self.stop(slot);
            return;
        }
        line.ready.push(Arc::clone(&slot));
        self.meter.provisioned(line.serving().min(line.standing_by(self.shape)));
        self.pump(line);
        self.changed.notify_waiters();
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
        let again = Instant::now() + limits::STANDBY_AGAIN;
        line.standby.trouble = Some((failure.error.to_string(), again));
        let waiter = line.waiters.pop_front();
        self.changed.notify_waiters();
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
            line.standby.trouble = Some((why.to_owned(), Instant::now() + limits::STANDBY_AGAIN));
            std::mem::take(&mut line.waiters)
        };
        self.changed.notify_waiters();
        self.meter.queued(-i64::try_from(waiters.len()).unwrap_or(i64::MAX));
        for waiter in waiters {
            let _ = waiter.sender.send(Err(Refusal::Error(Error::Unavailable(why.to_owned()))));
        }
    }

    /// There was no room for a start: it is tried again when there may be.
    pub(super) fn starve(self: &Arc<Self>) {
        let mut line = self.line.lock();
        line.starting -= 1;
        if line.standby.requested > 0 {
            let again = Instant::now() + limits::STANDBY_AGAIN;
            line.standby.trouble = Some(("There is no room on the host.".into(), again));
        }
        if !line.waiters.is_empty() && !line.closed && !std::mem::replace(&mut line.hungry, true) {
            let first = line.asked.is_none();
            line.asked.get_or_insert_with(Instant::now);
            drop(line);
            self.host.queue_for_room(self);
            if first {
                self.host.collect_for(self, false);
            }
            // What became free between the refusal and here woke nobody.
            if self.host.caps.fits(self.plan.configuration.memory_bytes(), &self.share) {
                self.host.feed();
            }
        }
        self.changed.notify_waiters();
    }

    /// Called when it is this pool's turn for room; whether it still wants any.
    pub(super) fn try_again(&self) -> bool {
        let mut line = self.line.lock();
        line.hungry = false;
        let wanted = line.missing(self.shape) > 0;
        self.pump(line);
        wanted
    }

    /// It got room, or gave it up: others come first among equals.
    pub(super) fn has_had_a_turn(&self) {
        let turn = self.host.turns.fetch_add(1, Ordering::Relaxed) + 1;
        self.last_turn.store(turn, Ordering::Relaxed);
    }

    /// Whether calls have waited in vain for room for a turn, since others were last asked to give way.
    pub(super) fn has_starved(&self, now: Instant) -> bool {
        let mut line = self.line.lock();
        let due = !line.waiters.is_empty()
            && line.asked.is_some_and(|asked| now.saturating_duration_since(asked) >= limits::TURN);
        if due {
            line.asked = Some(now);
        }
        due
    }

    /// Gives an instance up for somebody who holds less; whether there is one to give.
    pub(super) fn give_up_one(&self) -> bool {
        let mut line = self.line.lock();
        if line.closed || line.serving() <= line.standing_by(self.shape) + line.owed {
            return false;
        }
        let serving = line.members.iter().filter(|slot| !slot.retired.load(Ordering::Relaxed));
        let Some(slot) = serving.min_by_key(|slot| slot.in_flight.load(Ordering::Relaxed)).map(Arc::clone)
        else {
            return false;
        };
        if slot.in_flight.load(Ordering::Relaxed) == 0 {
            let removed = line.remove(&slot);
            drop(line);
            if removed {
                self.stop(slot);
            }
        } else if self.shape.hard == 1 {
            // Whichever is free first.
            line.owed += 1;
        } else {
            line.retire(&slot);
            self.pump(line);
        }
        true
    }

    pub(super) fn retire(&self, slot: &Arc<Slot>) {
        let mut line = self.line.lock();
        line.retire(slot);
        let stop = slot.in_flight.load(Ordering::Relaxed) == 0 && line.remove(slot);
        self.meter.provisioned(line.serving().min(line.standing_by(self.shape)));
        self.pump(line);
        if stop {
            self.stop(Arc::clone(slot));
        }
    }

    /// An idle instance is room for others who have none.
    pub(super) fn offer_room(&self) {
        self.host.feed();
    }

    /// Stops an instance that was removed from the line.
    pub(super) fn stop(&self, slot: Arc<Slot>) {
        if let Some(me) = self.me.upgrade() {
            tokio::spawn(async move { me.stop_now(&slot).await });
        }
    }

    pub(super) async fn stop_now(&self, slot: &Slot) {
        self.meter.memory(slot.instance.peak_memory());
        self.thawed(slot);
        slot.instance.stop().await;
        slot.log.flush();
        slot.room.lock().take();
        self.line.lock().stopping -= 1;
        self.meter.instances(-1);
        self.changed.notify_waiters();
        self.host.feed();
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
        self.until(|pool| pool.line.lock().is_empty()).await;
    }

    /// Waits until this is so of the instances.
    async fn until(&self, so: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if so(self) {
                return;
            }
            changed.await;
        }
    }

    /// Whether there are instances, or will be.
    pub(super) fn is_in_use(&self) -> bool {
        let line = self.line.lock();
        !line.members.is_empty() || line.starting > 0
    }

    /// Starts an instance if there is none, and returns when it is up or the start has come to nothing.
    pub(super) async fn warm(&self) {
        {
            let line = self.line.lock();
            let missing = !line.closed && line.members.is_empty() && line.starting == 0;
            self.begin(line, usize::from(missing));
        }
        self.until(|pool| {
            let line = pool.line.lock();
            line.starting == 0 || !line.members.is_empty()
        })
        .await;
    }

    /// Keeps so many instances ready from now on.
    pub(super) fn provision(&self, requested: u32) {
        let mut line = self.line.lock();
        if line.standby.requested != requested {
            line.standby.requested = requested;
            line.standby.trouble = None;
            self.meter.provisioned(line.serving().min(line.standing_by(self.shape)));
            self.pump(line);
        }
    }

    /// Whether fewer instances serve than are to be kept ready.
    pub(super) fn is_short(&self) -> bool {
        let line = self.line.lock();
        !line.closed && line.serving() < line.standing_by(self.shape)
    }

    /// What has become of that.
    pub(super) fn provisioned(&self) -> Provisioned {
        let line = self.line.lock();
        let requested = line.standby.requested;
        let wanted = line.standing_by(self.shape);
        // A component's one instance takes as many calls as were asked for.
        let count = |up: usize| {
            if up >= wanted { requested } else { u32::try_from(up).unwrap_or(requested).min(requested) }
        };
        let available = count(line.serving());
        let trouble = line.standby.trouble.as_ref().filter(|_| available < requested);
        let status = match trouble {
            _ if available >= requested => ProvisionedStatus::Ready,
            Some(_) => ProvisionedStatus::Failed,
            None => ProvisionedStatus::InProgress,
        };
        let allocated = count(line.serving() + line.starting);
        Provisioned { requested, allocated, available, status, reason: trouble.map(|(why, _)| why.clone()) }
    }

    /// Sends those away whose time is up.
    pub(super) fn expire(&self, now: Instant) {
        let mut line = self.line.lock();
        if !line.waiters.iter().any(|waiter| now >= waiter.deadline) {
            return;
        }
        let gone = line.expire(self.shape, now, self.host.bounds.init_timeout);
        let places = line.members.len().saturating_mul(self.shape.hard as usize);
        let wait = self.pace.wait(line.waiters.len(), places);
        drop(line);
        for waiter in gone {
            self.meter.queued(-1);
            let refusal = self.throttled(CONCURRENT, "no instance became free in time", wait);
            let _ = waiter.sender.send(Err(refusal));
        }
    }
}
