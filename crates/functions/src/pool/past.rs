//! When a version is called, as its pools learn it; and whose has changed since it was last written down.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Plan;
use crate::keep_alive::{Forecast, Habits};

/// When a version is called: it outlives instances and changes of the code, and by what is written down, the server.
#[derive(Default)]
pub(crate) struct Past(Mutex<Known>);

#[derive(Default)]
struct Known {
    habits: Option<Habits>,
    /// Whether it is in the list of what is to be written.
    listed: bool,
}

impl Past {
    /// A call came after this long without any. Whether this is the first since it was written down.
    fn record(&self, idle: Duration, shortest: Duration) -> bool {
        let mut known = self.0.lock();
        known.habits.get_or_insert_with(|| Habits::new(shortest)).record(idle);
        !std::mem::replace(&mut known.listed, true)
    }

    /// What it says about an idle time that has begun.
    pub(super) fn forecast(&self, fixed: Duration) -> Forecast {
        let known = self.0.lock();
        known.habits.as_ref().map_or(Forecast { keep: fixed, window: None }, |habits| habits.forecast(fixed))
    }

    /// What an earlier server knew.
    pub(crate) fn recall(&self, habits: Habits) {
        self.0.lock().habits = Some(habits);
    }
}

/// Versions whose past has changed since it was written down: few, whatever number there are.
#[derive(Default)]
pub(crate) struct News(Mutex<Vec<(Arc<Plan>, Arc<Past>)>>);

impl News {
    /// A call came after this long without any.
    pub(super) fn record(&self, plan: &Arc<Plan>, past: &Arc<Past>, idle: Duration, shortest: Duration) {
        if past.record(idle, shortest) {
            self.0.lock().push((Arc::clone(plan), Arc::clone(past)));
        }
    }

    /// All there are, to be written as they are now.
    pub(crate) fn take(&self) -> Vec<(Arc<Plan>, Habits)> {
        let all = std::mem::take(&mut *self.0.lock());
        let written = |(plan, past): (Arc<Plan>, Arc<Past>)| {
            let mut known = past.0.lock();
            known.listed = false;
            known.habits.clone().map(|habits| (plan, habits))
        };
        all.into_iter().filter_map(written).collect()
    }
}
