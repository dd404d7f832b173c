//! Asynchronous invokes: accepted durably, delivered later, given up never without a record.
//!
//! `accept` puts an event on its function's queue and answers once it is on the disk. `dispatch` hands events to the pool, a
//! bounded number of each function's at once and functions by turns; `deliver` runs one and does what `decide` says of the
//! outcome: done, again later, or given up. What is given up goes to the destination that the owner named (`record`), or
//! else to the function's list of failed events (`failed`), in the transaction that takes it off the queue. `lineage`
//! finds functions that call each other in circles.
//!
//! What an event holds is sealed while it waits (`envelope`).
//!
//! A refusal for want of capacity is no attempt: it pauses the function's queue as a whole (`backoff`), in memory, so that
//! a million events behind it cost nothing.
//!
//! A queue belongs to one life of a function: deleted and made again under the same name, a function does not get its
//! predecessor's events; they are given up.

mod accept;
mod backoff;
mod decide;
mod deliver;
mod dispatch;
mod envelope;
pub(crate) mod failed;
mod head;
pub(crate) mod lineage;
mod policy;
mod record;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use queues::{QueueName, Queues};
use tokio::sync::{Semaphore, watch};

use crate::registry::Key;
use crate::version::Function;

pub(crate) use accept::{Accepted, check_size};
pub(crate) use dispatch::{dispatcher, sweeper};
pub use failed::FailedEvent;
pub use policy::{Backlog, EventConfig, EventConfigChange};
pub(crate) use policy::{Destination, Events, check_destination};

/// The kind of queues that events wait in.
pub const EVENTS: &str = "lambda-events";

/// The kind of queues that failed events are kept in.
pub const FAILED_EVENTS: &str = "lambda-failed-events";

/// What bounds asynchronous invokes, and how fast they are tried again.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Events of all functions that run or wait for an instance at once.
    pub at_once: usize,
    /// Events of one function.
    pub per_function: usize,
    /// After how long an event is tried again whose function failed; all later tries wait twice that.
    pub retry_after: Duration,
    /// How long a function's queue is paused first that was refused for want of capacity.
    pub pause: Duration,
    /// How long failed events are kept.
    pub keep_failed: Duration,
}

impl Default for Pace {
    /// Lambda's delays (Lambda: error handling for asynchronous invocation); SQS' longest retention.
    fn default() -> Self {
        Self {
            at_once: 500,
            per_function: 50,
            retry_after: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            keep_failed: Duration::from_secs(14 * 24 * 3600),
        }
    }
}

/// What the service has for it.
pub(crate) struct Asynchronous {
    pub(crate) queues: Queues,
    pub(crate) consumer: Arc<queues::Consumer>,
    at_once: usize,
    places: Arc<Semaphore>,
    pub(crate) stop: watch::Sender<bool>,
    tempers: Mutex<HashMap<QueueName, backoff::Temper>>,
    counts: Mutex<HashMap<Key, Counts>>,
}

/// What has happened to a function's events since the start.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    retries: u64,
    throttles: u64,
    failed: u64,
    dropped: u64,
}

impl Asynchronous {
    pub(crate) fn new(queues: Queues, pace: &Pace) -> Self {
        let consumer = Arc::new(queues.consumer(EVENTS));
        Self {
            queues,
            consumer,
            at_once: pace.at_once,
            places: Arc::new(Semaphore::new(pace.at_once)),
            stop: watch::Sender::new(false),
            tempers: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Waits until what became of the events that were in hand is on the disk. Their calls have ended.
    pub(crate) async fn settled(&self) -> Result<(), queues::Error> {
        let all = u32::try_from(self.at_once).unwrap_or(u32::MAX);
        // A task that is stuck does not keep the server from stopping.
        let _ = tokio::time::timeout(SETTLE, self.places.acquire_many(all)).await;
        self.queues.flush().await
    }

    /// Gives what has happened to each function's events, to be added to its backlog.
    pub(crate) fn add_counts(&self, mut give: impl FnMut(&Key, &dyn Fn(&mut Backlog))) {
        for (key, counts) in self.counts.lock().iter() {
            give(key, &|backlog| {
                backlog.retries = counts.retries;
                backlog.throttles = counts.throttles;
                backlog.failed = counts.failed;
                backlog.dropped = counts.dropped;
            });
        }
    }

    fn count(&self, key: &Key, count: impl FnOnce(&mut Counts)) {
        count(self.counts.lock().entry(key.clone()).or_default());
    }
}

/// How long a stop waits for what is to be written once calls have ended.
const SETTLE: Duration = Duration::from_secs(5);

/// Separates a function's name, which never has one, from the life it is in.
const OF_LIFE: char = ':';

/// The queue of a function's events.
pub(crate) fn events_of(function: &Function) -> QueueName {
    let name = format!("{}{OF_LIFE}{}", function.arn.name, function.events.life);
    QueueName { kind: EVENTS, account: function.arn.account.clone(), name }
}

/// The queue of a function's failed events, in whatever life.
pub(crate) fn failed_of((account, name): &Key) -> QueueName {
    QueueName { kind: FAILED_EVENTS, account: account.clone(), name: name.clone() }
}

/// The function and the life of it whose events are in this queue.
fn owner(queue: &QueueName) -> (Key, &str) {
    let (name, life) = queue.name.split_once(OF_LIFE).unwrap_or((&queue.name, ""));
    ((queue.account.clone(), name.to_owned()), life)
}
