//! Places of the server that all instances draw from, so that nobody takes the last ones.
//!
//! An instance may hold as many as are left over, and no more: the fewer are free, the less may those have who have
//! much (a dynamic threshold, as switches share their buffers by). Instances that take all they can get at the same
//! time leave as many to whoever comes next as each of them has. Left out: accounts, whose instances count each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places of one kind.
#[derive(Debug)]
pub(super) struct Places(Arc<Semaphore>);

/// What one instance holds of them.
#[derive(Debug, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

/// One place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    held: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))))
    }

    /// One more for an instance that has these. `None`: none is free, or too few for somebody who has so many.
    pub(super) fn take(&self, held: &Held) -> Option<Place> {
        // Several at once may pass where one would: they differ by no more than how many they are.
        if held.0.load(Ordering::Relaxed) >= self.0.available_permits() {
            return None;
        }
        let permit = Arc::clone(&self.0).try_acquire_owned().ok()?;
        held.0.fetch_add(1, Ordering::Relaxed);
        Some(Place { held: Arc::clone(&held.0), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greedy_leave_as_much_as_each_of_them_has() {
        let places = Places::new(100);
        let greedy: Vec<_> = (0..4).map(|_| Held::default()).collect();
        let mut taken = Vec::new();
        loop {
            let before = taken.len();
            taken.extend(greedy.iter().filter_map(|held| places.take(held)));
            if taken.len() == before {
                break;
            }
        }
        assert_eq!(taken.len(), 80);
        let next = Held::default();
        let few: Vec<_> = std::iter::from_fn(|| places.take(&next)).collect();
        assert_eq!(few.len(), 10, "whoever has none gets some");
        assert!(places.take(&greedy[0]).is_none(), "who has much gets no more");
        drop((taken, few));
        let all: Vec<_> = std::iter::from_fn(|| places.take(&next)).collect();
        assert_eq!(all.len(), 50, "all were given back");
    }
}
