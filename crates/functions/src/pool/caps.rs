//! How much of the host all instances may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::share::{Held, Share};

/// Counts of what is taken, against what there is.
#[derive(Debug)]
pub(crate) struct Caps {
    instances: AtomicUsize,
    memory: AtomicU64,
    /// Instances of functions that have none reserved.
    rest: AtomicUsize,
    /// Instances that are reserved, whether or not they are there.
    reserved: AtomicUsize,
    max_instances: usize,
    max_memory: u64,
}

/// Room for one instance; given back when dropped.
pub(crate) struct Room {
    caps: Arc<Caps>,
    memory: u64,
    /// Whether it is of what is not reserved.
    of_rest: bool,
    /// Whose share it counts to.
    share: Option<Arc<Share>>,
}

impl Caps {
    pub(crate) fn new(max_instances: usize, max_memory: u64) -> Arc<Self> {
        Arc::new(Self {
            instances: AtomicUsize::new(0),
            memory: AtomicU64::new(0),
            rest: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            max_instances,
            max_memory,
        })
    }

    /// Whether an instance of this size could ever have room.
    pub(crate) fn possible(&self, memory: u64) -> bool {
        self.max_instances > 0 && memory <= self.max_memory
    }

    /// Whether there is room now for a function; [`Caps::take`] decides.
    pub(crate) fn fits(&self, memory: u64, share: &Share) -> bool {
        self.instances.load(Ordering::Relaxed) < self.max_instances
            && self.memory.load(Ordering::Relaxed).saturating_add(memory) <= self.max_memory
            && !self.rest_is_full(share)
    }

    /// Whether a function finds no room because what is left is reserved for others.
    pub(super) fn rest_is_full(&self, share: &Share) -> bool {
        !share.is_reserved() && self.rest.load(Ordering::Relaxed) >= self.most_of_rest()
    }

    fn most_of_rest(&self) -> usize {
        self.max_instances.saturating_sub(self.reserved.load(Ordering::Relaxed))
    }

    /// So many instances more, or fewer, are reserved.
    pub(super) fn reserve(&self, before: usize, now: usize) {
        self.reserved.fetch_add(now, Ordering::Relaxed);
        self.reserved.fetch_sub(before, Ordering::Relaxed);
    }

    /// Takes room for one instance of a function.
    pub(crate) fn take(self: &Arc<Self>, memory: u64, share: &Arc<Share>) -> Option<Room> {
        let below = |most: usize| move |taken: usize| (taken < most).then_some(taken + 1);
        self.instances.fetch_update(Ordering::AcqRel, Ordering::Acquire, below(self.max_instances)).ok()?;
        // From here on what is taken is given back when it is dropped.
        let mut room = Room { caps: Arc::clone(self), memory: 0, of_rest: false, share: None };
        if !share.is_reserved() {
            let most = self.most_of_rest();
            self.rest.fetch_update(Ordering::AcqRel, Ordering::Acquire, below(most)).ok()?;
            room.of_rest = true;
        }
        let more = |taken: u64| taken.checked_add(memory).filter(|sum| *sum <= self.max_memory);
        self.memory.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        room.memory = memory;
        Some(room.held_by(share))
    }

    /// What holding so much is, as a part of the host.
    pub(super) fn part(&self, instances: usize, memory: u64) -> f64 {
        let of = |held: f64, all: f64| if all > 0.0 { held / all } else { 1.0 };
        // Both are far below what a double counts exactly.
        of(instances as f64, self.max_instances as f64).max(of(memory as f64, self.max_memory as f64))
    }

    /// The same of a function or account.
    pub(super) fn part_of(&self, held: &Held) -> f64 {
        self.part(held.instances.load(Ordering::Relaxed), held.bytes.load(Ordering::Relaxed))
    }

    /// Bytes by which instances and what else is kept in memory pass what there is.
    pub(super) fn excess(&self, residents: u64) -> u64 {
        self.memory.load(Ordering::Relaxed).saturating_add(residents).saturating_sub(self.max_memory)
    }
}

impl Room {
    /// Counts it to a function and its account.
    fn held_by(mut self, share: &Arc<Share>) -> Self {
        for held in [&share.held, &share.account.held] {
            held.instances.fetch_add(1, Ordering::Relaxed);
            held.bytes.fetch_add(self.memory, Ordering::Relaxed);
        }
        self.share = Some(Arc::clone(share));
        self
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for held in self.share.iter().flat_map(|share| [&share.held, &share.account.held]) {
            held.instances.fetch_sub(1, Ordering::Relaxed);
            held.bytes.fetch_sub(self.memory, Ordering::Relaxed);
        }
        if self.of_rest {
            self.caps.rest.fetch_sub(1, Ordering::AcqRel);
        }
        self.caps.memory.fetch_sub(self.memory, Ordering::AcqRel);
        self.caps.instances.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::super::share::Account;
    use super::Caps;

    #[test]
    fn neither_bound_is_passed_and_everything_comes_back() {
        let (caps, share) = (Caps::new(2, 100), Account::new(10).share());
        let first = caps.take(60, &share).unwrap();
        assert!(caps.take(50, &share).is_none(), "memory");
        let second = caps.take(40, &share).unwrap();
        assert!(!caps.fits(0, &share));
        assert!(caps.take(0, &share).is_none(), "instances");
        assert_eq!(caps.part_of(&share.held), 1.0);
        drop((first, second));
        assert!(caps.fits(100, &share) && caps.possible(100) && !caps.possible(101));
        assert!(caps.take(100, &share).is_some());
        assert_eq!(caps.part_of(&share.held), 0.0);
    }

    #[test]
    fn what_is_reserved_is_left_for_its_function() {
        let (caps, account) = (Caps::new(3, 100), Account::new(10));
        let (own, other) = (account.share(), account.share());
        own.reserve(Some(2));
        caps.reserve(0, 2);
        let held = caps.take(1, &other).unwrap();
        assert!(caps.take(1, &other).is_none() && caps.rest_is_full(&other));
        let both = (caps.take(1, &own).unwrap(), caps.take(1, &own).unwrap());
        assert!(caps.take(1, &own).is_none());
        drop((held, both));
        own.reserve(None);
        caps.reserve(2, 0);
        let all: Vec<_> = (0..3).map(|_| caps.take(1, &other).unwrap()).collect();
        assert_eq!(all.len(), 3);
    }
}
