//! hyper's timer for heads, on one alarm for the whole connection.
//!
//! hyper makes a timer for each head and drops it when the head is there. Here that takes a small allocation; the
//! alarm behind it is only moved.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use functions::Alarm;
use hyper::rt::{Sleep, Timer};

/// One connection's: hyper waits for one head at a time.
#[derive(Clone, Default)]
pub(crate) struct HeadTimer(Arc<Alarm>);

impl HeadTimer {
    /// Whether hyper waits for a head now. True of the connection's own handle, beside which hyper has one.
    pub(crate) fn is_waiting(&self) -> bool {
        Arc::strong_count(&self.0) > 2
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait { alarm: Arc::clone(&self.0), deadline })
    }
}

struct Wait {
    alarm: Arc<Alarm>,
    deadline: Instant,
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(self.deadline, cx)
    }
}

impl Sleep for Wait {}
