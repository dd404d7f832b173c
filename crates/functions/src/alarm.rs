//! A timer that is made once and set again and again.
//!
//! A timer for each request costs two turns under the runtime's lock, to put it up and to take it down. One that
//! is only ever moved later costs none. The price: after its last use it wakes its task once for nothing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::time::Sleep;

/// A timer of one task, for one wait at a time. Made by the first wait.
#[derive(Debug, Default)]
pub struct Alarm(Mutex<Option<Pin<Box<Sleep>>>>);

impl Alarm {
    /// Whether the time has come; if not, the task is woken then.
    pub fn poll(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleep = self.0.lock();
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if sleep.deadline() != deadline.into() {
            sleep.as_mut().reset(deadline.into());
        }
        sleep.as_mut().poll(cx)
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

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
