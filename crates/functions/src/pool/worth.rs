//! Which idle instance goes when room is short: greedy-dual (GDSF, and FaasCache's use of it for functions).
//!
//! An instance is worth what starting it again would cost, times how often it is asked for, over its size; to that
//! comes the clock as it was when the instance was last used. The clock moves to the worth of what was evicted,
//! so that what is not used any more ages however dear it once was.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a version's instances are judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Worth {
    /// Milliseconds that a start takes.
    pub(super) restart_ms: f64,
    /// Calls of late, each worth less as it recedes, for each instance.
    pub(super) frequency: f64,
    /// Megabytes of an instance's memory limit.
    pub(super) size_mb: f64,
}

/// The priority of an instance that was last used when the clock stood so: the lowest goes first.
pub(super) fn priority(clock: f64, worth: Worth) -> f64 {
    clock + worth.restart_ms.max(1.0) * worth.frequency / worth.size_mb.max(1.0)
}

/// The host's clock; only ever moves on.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    pub(super) fn now(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Something of this priority was evicted.
    pub(super) fn evicted(&self, priority: f64) {
        let on = |bits| (f64::from_bits(bits) < priority).then_some(priority.to_bits());
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, on);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Worth = Worth { restart_ms: 100.0, frequency: 1.0, size_mb: 100.0 };

    #[test]
    fn dear_frequent_and_small_stays() {
        let plain = priority(0.0, PLAIN);
        assert!(priority(0.0, Worth { restart_ms: 2000.0, ..PLAIN }) > plain);
        assert!(priority(0.0, Worth { frequency: 5.0, ..PLAIN }) > plain);
        assert!(priority(0.0, Worth { size_mb: 1000.0, ..PLAIN }) < plain);
    }

    #[test]
    fn the_clock_ages_what_is_not_used() {
        let clock = Clock::default();
        let dear = priority(clock.now(), Worth { restart_ms: 1000.0, ..PLAIN });
        let mut evictions = 0;
        loop {
            let cheap = priority(clock.now(), PLAIN);
            if cheap > dear {
                break;
            }
            clock.evicted(cheap);
            evictions += 1;
        }
        assert_eq!(evictions, 10, "ten starts of the cheap one cost as much");
        clock.evicted(1.0);
        assert!(clock.now() > 1.0, "never back");
    }
}
