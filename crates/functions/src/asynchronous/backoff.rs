//! How a function's queue is slowed that finds no capacity, and sped up again. Pure.

use std::time::Duration;

/// The longest pause (Lambda: error handling for asynchronous invocation).
pub(crate) const LONGEST: Duration = Duration::from_secs(300);

/// How a queue is treated at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Temper {
    /// Events in flight.
    pub(crate) limit: usize,
    /// The last pause; zero after a success.
    pause: Duration,
    /// When it ends, milliseconds since the Unix epoch.
    until_ms: i64,
}

impl Temper {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, pause: Duration::ZERO, until_ms: 0 }
    }

    /// An event was refused: until when the queue is to be paused. Those in flight are refused together, which counts
    /// once.
    pub(crate) fn refused(&mut self, now_ms: i64, first: Duration) -> i64 {
        if now_ms < self.until_ms {
            return self.until_ms;
        }
        self.pause = (self.pause * 2).clamp(first, LONGEST.max(first));
        self.limit = (self.limit / 2).max(1);
        self.until_ms = now_ms.saturating_add(i64::try_from(self.pause.as_millis()).unwrap_or(i64::MAX));
        self.until_ms
    }

    /// An event ran.
    pub(crate) fn ran(&mut self, most: usize) {
        self.limit = (self.limit + 1).min(most);
        self.pause = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_and_one_probe_is_left() {
        let mut temper = Temper::new(50);
        let (mut now, mut pauses) = (1_000_i64, Vec::new());
        for _ in 0..11 {
            let until = temper.refused(now, Duration::from_secs(1));
            assert_eq!(temper.refused(now, Duration::from_secs(1)), until, "refused together counts once");
            pauses.push((until - now) / 1000);
            now = until;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(temper.limit, 1);
        (0..100).for_each(|_| temper.ran(50));
        assert_eq!(temper.limit, 50);
        assert_eq!(temper.refused(now, Duration::from_secs(1)) - now, 1000);
    }
}
