//! How often an instance may ask the server for something: a loop of calls must not cost others their turn.

use std::time::Duration;

use tokio::time::Instant;

/// So many in each stretch of time.
pub(super) struct Pace {
    most: u32,
    each: Duration,
    since: Option<Instant>,
    taken: u32,
}

impl Pace {
    /// `most` in `each`.
    pub(super) fn new(most: u32, each: Duration) -> Self {
        Self { most, each, since: None, taken: 0 }
    }

    /// When the next one may be taken, if not now.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        let end = self.since? + self.each;
        (self.taken >= self.most && now < end).then_some(end)
    }

    /// Takes one.
    pub(super) fn take(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now >= since + self.each) {
            (self.since, self.taken) = (Some(now), 0);
        }
        self.taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_has_so_many() {
        let (mut pace, start) = (Pace::new(2, Duration::from_secs(1)), Instant::now());
        assert_eq!(pace.wait_until(start), None);
        pace.take(start);
        assert_eq!(pace.wait_until(start), None);
        pace.take(start);
        let end = start + Duration::from_secs(1);
        assert_eq!(pace.wait_until(start + Duration::from_millis(999)), Some(end));
        assert_eq!(pace.wait_until(end), None);
        pace.take(end);
        assert_eq!(pace.wait_until(end), None);
    }
}
