//! How much of the host all instances may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::share::{Held, Share};

/// Counts of what is taken, against what there is.
#[derive(Debug)]
pub(crate) struct Caps {
    instances: AtomicUsize,
    memory: AtomicU64,
    max_instances: usize,
    max_memory: u64,
}

/// Room for one instance; given back when dropped.
pub(crate) struct Room {
    caps: Arc<Caps>,
    memory: u64,
    /// Whose share it counts to.
    share: Option<Arc<Share>>,
}

impl Caps {
    pub(crate) fn new(max_instances: usize, max_memory: u64) -> Arc<Self> {
        Arc::new(Self {
            instances: AtomicUsize::new(0),
            memory: AtomicU64::new(0),
            max_instances,
            max_memory,
        })
    }

    /// Whether an instance of this size could ever have room.
    pub(crate) fn possible(&self, memory: u64) -> bool {
        self.max_instances > 0 && memory <= self.max_memory
    }

    /// Whether there is room now; [`Caps::take`] decides.
    pub(crate) fn fits(&self, memory: u64) -> bool {
        self.instances.load(Ordering::Relaxed) < self.max_instances
            && self.memory.load(Ordering::Relaxed).saturating_add(memory) <= self.max_memory
    }

    /// Takes room for one instance.
    pub(crate) fn take(self: &Arc<Self>, memory: u64) -> Option<Room> {
        let more = |taken: usize| (taken < self.max_instances).then_some(taken + 1);
        self.instances.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        let more = |taken: u64| taken.checked_add(memory).filter(|sum| *sum <= self.max_memory);
        if self.memory.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_err() {
            self.instances.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Room { caps: Arc::clone(self), memory, share: None })
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
    pub(super) fn held_by(mut self, share: &Arc<Share>) -> Self {
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
        self.caps.memory.fetch_sub(self.memory, Ordering::AcqRel);
        self.caps.instances.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::Caps;

    #[test]
    fn neither_bound_is_passed_and_everything_comes_back() {
        let caps = Caps::new(2, 100);
        let first = caps.take(60).unwrap();
        assert!(caps.take(50).is_none(), "memory");
        let second = caps.take(40).unwrap();
        assert!(!caps.fits(0));
        assert!(caps.take(0).is_none(), "instances");
        drop((first, second));
        assert!(caps.fits(100) && caps.possible(100) && !caps.possible(101));
        assert!(caps.take(100).is_some());
    }
}
