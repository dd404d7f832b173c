//! Holds an instance to its share of the processor (`virga:cpu`), all of its calls together.
//!
//! A budget fills with time, up to what 100 ms are worth, and guests draw on it by the processor time that running
//! them took, what the host did for them included. A busy guest gives way at every tick (`ticker`); one whose
//! instance is in debt is not run on before the debt is paid. So nothing is interrupted, no thread waits, and a
//! function without a share pays nothing. A tick's overdraft is made good by a longer pause.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in which an instance that has been idle may use its share at once.
const PERIOD_NS: i64 = 100_000_000;

/// The budget of one instance.
pub(crate) struct Share {
    hundredths: i64,
    state: Mutex<State>,
}

struct State {
    /// Nanoseconds of processor time; below zero it is a debt.
    level: i64,
    filled: Instant,
}

impl Share {
    pub(crate) fn new(hundredths: u32, now: Instant) -> Self {
        let hundredths = i64::from(hundredths.max(1));
        Self { hundredths, state: Mutex::new(State { level: PERIOD_NS / 100 * hundredths, filled: now }) }
    }

    /// How long to pause before a guest may run on.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock();
        let passed = now.saturating_duration_since(state.filled).as_nanos();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let full = PERIOD_NS / 100 * self.hundredths;
        state.level = state.level.saturating_add(passed.saturating_mul(self.hundredths) / 100).min(full);
        state.filled = now;
        let debt = u64::try_from(-state.level).ok()?;
        Some(Duration::from_nanos(debt.saturating_mul(100) / self.hundredths.unsigned_abs() + 1))
    }

    fn charge(&self, spent: Duration) {
        let spent = i64::try_from(spent.as_nanos()).unwrap_or(i64::MAX);
        let mut state = self.state.lock();
        state.level = state.level.saturating_sub(spent);
    }
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs a guest within its share, if it has one.
pub(crate) async fn held<F: Future>(share: Option<Arc<Share>>, mut guest: Pin<&mut F>) -> F::Output {
    let Some(share) = share else { return guest.await };
    loop {
        while let Some(pause) = share.pause(Instant::now()) {
            tokio::time::sleep(pause).await;
        }
        let polled = std::future::poll_fn(|cx| {
            let before = processor_time();
            let polled = guest.as_mut().poll(cx);
            share.charge(processor_time().saturating_sub(before));
            Poll::Ready(polled)
        })
        .await;
        if let Poll::Ready(output) = polled {
            return output;
        }
        woken().await;
    }
}

/// Gives way once: what was polled before it has left its waker and brings the task back.
async fn woken() {
    let mut left = false;
    std::future::poll_fn(
        |_| {
            if std::mem::replace(&mut left, true) { Poll::Ready(()) } else { Poll::Pending }
        },
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_debt_is_paid_at_the_rate_of_the_share() {
        let start = Instant::now();
        let share = Share::new(10, start);
        assert_eq!(share.pause(start), None);
        // What 100 ms are worth, and 2 ms more: they take 20 ms to come in.
        share.charge(12 * MS);
        let pause = share.pause(start).unwrap();
        assert!(pause >= 20 * MS && pause < 21 * MS, "{pause:?}");
        assert!(share.pause(start + 19 * MS).is_some());
        assert_eq!(share.pause(start + 21 * MS), None);
    }

    #[test]
    fn idleness_is_not_saved_up() {
        let start = Instant::now();
        let share = Share::new(50, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(share.pause(later), None);
        share.charge(60 * MS);
        assert!(share.pause(later).is_some());
    }
}
