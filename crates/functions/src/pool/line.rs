//! What a pool holds, and its decisions. No I/O, no clock of its own: the rules can be read in one place.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Refusal;
use super::demand::Demand;
use super::lease::{Lease, Slot};
use crate::keep_alive::Forecast;

/// A call that waits.
pub(super) struct Waiter {
    /// Names it; ascending along the line.
    pub(super) ticket: u64,
    /// When it is sent away.
    pub(super) deadline: Instant,
    /// Whether it was given more time, since an instance was on its way.
    pub(super) extended: bool,
    /// Where what it gets is sent.
    pub(super) sender: oneshot::Sender<Result<Lease, Refusal>>,
}

/// How many calls an instance takes, and how many instances there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Calls in flight that scaling aims at.
    pub(super) soft: u32,
    /// Calls in flight never exceeded.
    pub(super) hard: u32,
    /// One instance takes all calls of the version.
    pub(super) single: bool,
}

/// Instances that are kept ready.
#[derive(Debug, Default)]
pub(super) struct Standby {
    /// How many are asked for.
    pub(super) requested: u32,
    /// Why there are not as many, and when that is tried again.
    pub(super) trouble: Option<(String, Instant)>,
}

/// The contents of a pool.
#[derive(Default)]
pub(super) struct Line {
    /// Every instance that is up and not being stopped.
    pub(super) members: Vec<Arc<Slot>>,
    /// Those of them that can take another call; the one used last is last.
    pub(super) ready: Vec<Arc<Slot>>,
    /// Instances being started.
    pub(super) starting: usize,
    /// Instances being stopped.
    pub(super) stopping: usize,
    /// Calls that wait, the oldest first.
    pub(super) waiters: VecDeque<Waiter>,
    /// The ticket of the next waiter.
    pub(super) next_ticket: u64,
    /// Calls under way on all instances.
    pub(super) busy: u32,
    /// Since when no call is under way, if there ever was one.
    pub(super) idle_from: Option<Instant>,
    /// What the past says about this idle time; asked once it is long enough to matter.
    pub(super) forecast: Option<Forecast>,
    /// Until when an instance that was started ahead of a call is kept.
    pub(super) warm_until: Option<Instant>,
    /// How many calls there were of late.
    pub(super) demand: Demand,
    /// Instances that are kept ready.
    pub(super) standby: Standby,
    /// Instances that others on this host are owed: the next ones without a call go.
    pub(super) owed: usize,
    /// No call gets in any more.
    pub(super) closed: bool,
    /// Waits for room on the host.
    pub(super) hungry: bool,
    /// When others were last asked to give way for it, since it last got room.
    pub(super) asked: Option<Instant>,
    /// The host's list of pools with instances holds this one.
    pub(super) listed: bool,
}

impl Line {
    /// Takes a place on an instance: the one used last that is below its soft limit, else the least busy one
    /// below its hard limit.
    pub(super) fn take_place(&mut self, shape: Shape) -> Option<Arc<Slot>> {
        let busy = |slot: &Arc<Slot>| slot.in_flight.load(Ordering::Relaxed);
        let below_soft = self.ready.iter().rposition(|slot| busy(slot) < shape.soft);
        let index =
            below_soft.or_else(|| (0..self.ready.len()).min_by_key(|index| busy(&self.ready[*index])))?;
        let slot = Arc::clone(&self.ready[index]);
        if slot.in_flight.fetch_add(1, Ordering::Relaxed) + 1 >= shape.hard {
            self.ready.remove(index);
        }
        self.busy += 1;
        Some(slot)
    }

    /// Gives a place back. The instance can take calls again unless it is retired.
    pub(super) fn give_back(&mut self, slot: &Arc<Slot>, shape: Shape) {
        let before = slot.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.busy -= 1;
        if before >= shape.hard && !slot.retired.load(Ordering::Relaxed) {
            self.ready.push(Arc::clone(slot));
        }
    }

    /// Takes an instance out of use: it gets no new call.
    pub(super) fn retire(&mut self, slot: &Arc<Slot>) {
        slot.retired.store(true, Ordering::Relaxed);
        self.ready.retain(|other| !Arc::ptr_eq(other, slot));
    }

    /// Takes an instance out of the pool, to be stopped; `false` if somebody else does that already.
    pub(super) fn remove(&mut self, slot: &Arc<Slot>) -> bool {
        self.retire(slot);
        let before = self.members.len();
        self.members.retain(|other| !Arc::ptr_eq(other, slot));
        let removed = self.members.len() < before;
        self.stopping += usize::from(removed);
        removed
    }

    /// Instances that take calls.
    pub(super) fn serving(&self) -> usize {
        self.members.iter().filter(|slot| !slot.retired.load(Ordering::Relaxed)).count()
    }

    /// Starts that must be made now for those who wait, beyond the ones under way.
    pub(super) fn missing(&self, shape: Shape) -> usize {
        if self.closed || self.hungry {
            return 0;
        }
        if shape.single {
            // A retired instance that still has calls takes no more: it must not keep the next one away.
            return usize::from(!self.waiters.is_empty() && self.serving() == 0 && self.starting == 0);
        }
        self.waiters.len().div_ceil(shape.soft as usize).saturating_sub(self.starting)
    }

    /// How many of the instances asked for are to be kept ready.
    pub(super) fn standing_by(&self, shape: Shape) -> usize {
        let requested = self.standby.requested as usize;
        if shape.single { requested.min(1) } else { requested }
    }

    /// Starts that must be made so that as many are ready as were asked for.
    pub(super) fn short(&self, shape: Shape, now: Instant) -> usize {
        let waits = self.standby.trouble.as_ref().is_some_and(|(_, again)| now < *again);
        if self.closed || waits {
            return 0;
        }
        self.standing_by(shape).saturating_sub(self.serving() + self.starting)
    }

    /// Whether one more instance may go without there being fewer than are to be kept ready.
    pub(super) fn can_spare(&self, shape: Shape) -> bool {
        self.serving() > self.standing_by(shape)
    }

    /// Whether every instance is at what scaling aims at, and no start is under way.
    pub(super) fn crowded(&self, shape: Shape) -> bool {
        !shape.single
            && !self.closed
            && self.starting == 0
            && self.ready.iter().all(|slot| slot.in_flight.load(Ordering::Relaxed) >= shape.soft)
    }

    /// Takes those out of the line whose time is up. One that a start under way will serve, as far as one can tell,
    /// gets more time, once: initialisation has its own time-out.
    pub(super) fn expire(&mut self, shape: Shape, now: Instant, more: Duration) -> Vec<Waiter> {
        let covered = self.starting.saturating_mul(shape.hard as usize);
        let (mut kept, mut gone) = (VecDeque::with_capacity(self.waiters.len()), Vec::new());
        for mut waiter in self.waiters.drain(..) {
            if now >= waiter.deadline && kept.len() < covered && !waiter.extended {
                (waiter.extended, waiter.deadline) = (true, now + more);
            }
            if now < waiter.deadline {
                kept.push_back(waiter);
            } else {
                gone.push(waiter);
            }
        }
        self.waiters = kept;
        gone
    }

    /// Takes a waiter out of the line; `false` if it has left already.
    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        let found = self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket);
        found.map(|index| self.waiters.remove(index)).is_ok()
    }

    /// Whether no call is under way or waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.busy == 0 && self.waiters.is_empty()
    }

    /// Whether nothing is left of the pool's instances.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.starting == 0 && self.stopping == 0
    }
}
