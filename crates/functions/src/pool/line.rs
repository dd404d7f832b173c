//! What a pool holds, and its decisions. No I/O, no clock of its own: the rules can be read in one place.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Refusal;
use super::lease::{Lease, Slot};

/// A call that waits.
pub(super) struct Waiter {
    /// Names it; ascending along the line.
    pub(super) ticket: u64,
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
    /// No call gets in any more.
    pub(super) closed: bool,
    /// Waits for room on the host.
    pub(super) hungry: bool,
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
        Some(slot)
    }

    /// Gives a place back. The instance can take calls again unless it is retired.
    pub(super) fn give_back(&mut self, slot: &Arc<Slot>, shape: Shape) {
        let before = slot.in_flight.fetch_sub(1, Ordering::Relaxed);
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

    /// Starts that must be made now for those who wait, beyond the ones under way.
    pub(super) fn missing(&self, shape: Shape) -> usize {
        if self.closed || self.hungry {
            return 0;
        }
        if shape.single {
            // A retired instance that still has calls takes no more: it must not keep the next one away.
            let served = self.members.iter().any(|slot| !slot.retired.load(Ordering::Relaxed));
            return usize::from(!self.waiters.is_empty() && !served && self.starting == 0);
        }
        self.waiters.len().div_ceil(shape.soft as usize).saturating_sub(self.starting)
    }

    /// Whether every instance is at what scaling aims at, and no start is under way.
    pub(super) fn crowded(&self, shape: Shape) -> bool {
        !shape.single
            && !self.closed
            && self.starting == 0
            && self.ready.iter().all(|slot| slot.in_flight.load(Ordering::Relaxed) >= shape.soft)
    }

    /// Whether a start under way will serve this waiter, as far as one can tell.
    pub(super) fn is_covered(&self, ticket: u64, shape: Shape) -> bool {
        let position = self.waiters.partition_point(|waiter| waiter.ticket < ticket);
        position < self.starting.saturating_mul(shape.hard as usize)
    }

    /// Takes a waiter out of the line; `false` if it has left already.
    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        let found = self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket);
        found.map(|index| self.waiters.remove(index)).is_ok()
    }

    /// Whether nothing is left of the pool's instances.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.starting == 0 && self.stopping == 0
    }
}
