//! How much of the host all instances may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts of what is taken, against what there is.
#[derive(Debug)]
pub(crate) struct Caps {
    instances: AtomicUsize,
    memory: AtomicU64,
    max_instances: usize,
    max_memory: u64,
}

/// Room for one instance; given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    caps: Arc<Caps>,
    memory: u64,
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
        Some(Room { caps: Arc::clone(self), memory })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
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
