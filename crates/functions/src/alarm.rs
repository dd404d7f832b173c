//! A timer that is made once and set again and again.
//!
//! A timer for each request costs two turns under the runtime's lock, to put it up and to take it down, and moving one
//! costs what a request at low load has least of, code in the caches. So this one stays where it is as long as what
//! is waited for comes later: it is moved when it goes off. The price: it wakes its task now and then for nothing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::time::Sleep;

/// A timer of one task, for one wait at a time. Made by the first wait.
#[derive(Debug, Default)]
pub struct Alarm(Mutex<Option<Armed>>);

/// When it goes off next, which is never later than what is waited for, and whom it wakes then.
#[derive(Debug)]
struct Armed {
    sleep: Pin<Box<Sleep>>,
    waker: Option<Waker>,
}

impl Alarm {
    /// Whether the time has come; if not, the task is woken then.
    pub fn poll(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut armed = self.0.lock();
        let armed = armed.get_or_insert_with(|| Armed {
            sleep: Box::pin(tokio::time::sleep_until(deadline.into())),
            waker: None,
        });
        armed.poll(deadline, cx)
    }

    /// Waits for a future until the deadline.
    pub(crate) async fn bound<F: Future>(&self, deadline: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(deadline, cx).map(|()| None),
        })
        .await
    }
}

impl Armed {
    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let (set, elapsed) = (self.sleep.deadline().into_std(), self.sleep.is_elapsed());
        if elapsed && set == deadline {
            return Poll::Ready(());
        }
        let knows = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !elapsed && set <= deadline && knows {
            return Poll::Pending;
        }
        if elapsed || set > deadline {
            self.sleep.as_mut().reset(deadline.into());
        }
        if !knows {
            self.waker = Some(cx.waker().clone());
        }
        // Past the task's budget a timer would not remember whom to wake.
        match pin!(tokio::task::unconstrained(self.sleep.as_mut())).poll(cx) {
            // It went off just now, for an earlier wait.
            Poll::Ready(()) if self.sleep.deadline().into_std() != deadline => self.poll(deadline, cx),
            polled => polled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    /// It goes off for the first wait while the second one, which is over later, is on.
    #[tokio::test]
    async fn a_later_wait_is_not_over_early() {
        let alarm = Alarm::default();
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        assert_eq!(alarm.bound(at(20), std::future::ready(1)).await, Some(1));
        assert_eq!(alarm.bound(at(20), tokio::task::yield_now()).await, Some(()));
        assert_eq!(alarm.bound(at(60), pending::<()>()).await, None);
        assert!(Instant::now() >= at(60));
        // Another task waits on.
        let alarm = std::sync::Arc::new(alarm);
        let begun = Instant::now();
        let other = alarm.clone();
        let until = begun + Duration::from_millis(30);
        let waiting = async move { other.bound(until, pending::<()>()).await };
        assert_eq!(tokio::spawn(waiting).await.ok(), Some(None));
        assert!(Instant::now() >= until);
    }

    #[tokio::test]
    async fn one_alarm_bounds_one_wait_after_another() {
        let alarm = Alarm::default();
        for wait in [30, 5, 0, 20] {
            let began = Instant::now();
            let deadline = began + Duration::from_millis(wait);
            assert_eq!(alarm.bound(deadline, pending::<()>()).await, None);
            let took = began.elapsed().as_millis();
            assert!((u128::from(wait)..u128::from(wait) + 500).contains(&took), "{wait}: {took}");
            let far = began + Duration::from_secs(3600);
            assert_eq!(alarm.bound(far, std::future::ready(wait)).await, Some(wait));
            let answer = alarm.bound(far, async {
                tokio::task::yield_now().await;
                wait
            });
            assert_eq!(answer.await, Some(wait));
        }
    }
}
