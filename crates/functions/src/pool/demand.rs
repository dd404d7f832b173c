//! How many instances a version's calls are worth, from how many were in flight of late.
//!
//! As Knative's autoscaler does: the average over a stable window says how many instances there should be; a
//! much shorter window that asks for a multiple of what is ready means panic, in which nothing shrinks until
//! a stable window has passed without it. Samples are taken once a second by the shared tick, never by a call.
//! A call that finds no place starts an instance itself: the windows decide what there is beyond that.

use std::collections::VecDeque;

use crate::service::Scaling;

/// Samples of one version.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Calls in flight and waiting, one a second, the newest last.
    samples: VecDeque<u32>,
    sum: u64,
    /// Seconds that panic lasts yet.
    panic_left: usize,
}

/// What the windows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Instances that there should be.
    pub(super) instances: u32,
    /// Instances below which none is stopped.
    pub(super) floor: u32,
}

impl Demand {
    /// Takes a sample and says what is wanted, where `ready` instances are up and each should have `soft` calls.
    pub(super) fn sample(&mut self, busy: u32, soft: u32, ready: u32, scaling: &Scaling) -> Wanted {
        let (stable, panic) = (seconds(scaling.stable_window), seconds(scaling.panic_window));
        self.samples.push_back(busy);
        self.sum += u64::from(busy);
        while self.samples.len() > stable {
            self.sum -= u64::from(self.samples.pop_front().unwrap_or_default());
        }
        let average = self.sum as f64 / self.samples.len() as f64 / f64::from(soft);
        let recent = self.samples.iter().rev().take(panic);
        let short =
            recent.clone().copied().map(f64::from).sum::<f64>() / recent.len() as f64 / f64::from(soft);
        if short.ceil() >= scaling.panic_threshold * f64::from(ready.max(1)) {
            self.panic_left = stable;
        } else {
            self.panic_left = self.panic_left.saturating_sub(1);
        }
        // Counts of calls that are in flight, far below what a u32 holds.
        let wanted = average.ceil() as u32;
        if self.panic_left > 0 {
            Wanted { instances: wanted.max(short.ceil() as u32), floor: ready }
        } else {
            Wanted { instances: wanted, floor: average as u32 }
        }
    }
}

fn seconds(window: std::time::Duration) -> usize {
    usize::try_from(window.as_secs()).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(demand: &mut Demand, seconds: usize, busy: u32, ready: u32) -> Wanted {
        let mut last = Wanted { instances: 0, floor: 0 };
        for _ in 0..seconds {
            last = demand.sample(busy, 10, ready, &Scaling::default());
        }
        last
    }

    #[test]
    fn a_steady_load_is_its_average() {
        let mut demand = Demand::default();
        assert_eq!(run(&mut demand, 60, 35, 3), Wanted { instances: 4, floor: 3 });
        assert_eq!(run(&mut demand, 30, 0, 3), Wanted { instances: 2, floor: 1 }, "it fades with the window");
        assert_eq!(run(&mut demand, 30, 0, 3), Wanted { instances: 0, floor: 0 });
    }

    #[test]
    fn a_burst_is_answered_by_the_short_window_and_nothing_shrinks_for_a_while() {
        let mut demand = Demand::default();
        run(&mut demand, 60, 10, 1);
        let burst = run(&mut demand, 6, 80, 1);
        assert_eq!(burst, Wanted { instances: 8, floor: 1 });
        let calm = run(&mut demand, 50, 0, 8);
        assert_eq!(calm.floor, 8, "still within a stable window of the panic");
        assert_eq!(run(&mut demand, 60, 0, 8).floor, 0);
    }
}
