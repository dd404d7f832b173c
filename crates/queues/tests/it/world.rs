//! A data directory with queues on it, and a clock that is set by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base::{AccountId, Clock, Timestamp};
use queues::{ByName, Consumer, Delivery, Deps, MIGRATIONS, Message, QueueName, Queues};
use store::Migration;

pub(crate) const WORK: &str = "work";
pub(crate) const DEAD: &str = "dead";
pub(crate) const BY_NAME: &str = "by-name";
pub(crate) const IN_ORDER: &str = "in-order";
pub(crate) const LEASE: Duration = Duration::from_secs(60);
pub(crate) const LIMIT: usize = 1000;
const WAIT: Duration = Duration::from_secs(20);

/// A noun whose changes messages go with.
const NOUN: &[Migration] = &[Migration { name: "noun-1", sql: "CREATE TABLE noun (id INTEGER PRIMARY KEY)" }];

#[derive(Debug)]
pub(crate) struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct World {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) store: store::Store,
    pub(crate) files: store::Blobs,
    pub(crate) queues: Queues,
    pub(crate) consumer: Consumer,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::open(Arc::new(tempfile::tempdir().unwrap()), Arc::new(HandClock(AtomicI64::new(1_000_000))))
            .await
    }

    async fn open(dir: Arc<tempfile::TempDir>, clock: Arc<HandClock>) -> Self {
        let store = store::Store::open(&dir.path().join("db"), &[MIGRATIONS, NOUN]).unwrap();
        let files = store::Blobs::open(&dir.path().join("files")).unwrap();
        let deps =
            Deps { store: store.clone(), files: files.clone(), clock: Arc::clone(&clock) as Arc<dyn Clock> };
        let by_name = [(BY_NAME, false), (IN_ORDER, true)];
        let by_name = by_name.map(|(kind, in_order)| ByName { kind, leases: LIMIT, in_order });
        let queues = Queues::open_with(deps, &[(WORK, LIMIT)], &[DEAD], &by_name).await.unwrap();
        let consumer = queues.consumer(WORK);
        Self { dir, clock, store, files, queues, consumer }
    }

    /// As after kill -9: what memory knew is gone. What was handed to the writer is waited for, since another process
    /// would not write any more.
    pub(crate) async fn crash(self) -> Self {
        self.queues.flush().await.unwrap();
        let Self { dir, clock, .. } = self;
        Self::open(dir, clock).await
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
        self.consumer.wake();
    }

    pub(crate) async fn send(&self, queue: &QueueName, body: &str) {
        self.queues.send(queue, message(body)).await.unwrap();
    }

    /// What is received next, at most so many.
    pub(crate) async fn receive(&self, most: usize) -> Vec<Delivery> {
        let received = tokio::time::timeout(WAIT, self.consumer.receive(most, LEASE)).await;
        received.expect("messages in time").unwrap()
    }

    pub(crate) async fn one(&self) -> Delivery {
        self.receive(1).await.pop().unwrap()
    }

    /// Nothing can be received: the future is polled until everything that runs beside it has settled.
    pub(crate) async fn nothing(&self) {
        for _ in 0..3 {
            self.queues.flush().await.unwrap();
            let received =
                tokio::time::timeout(Duration::from_millis(20), self.consumer.receive(1, LEASE)).await;
            assert!(received.is_err(), "something was received");
        }
    }

    /// All bodies, received and finished, until there are so many.
    pub(crate) async fn drain(&self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            for delivery in self.receive(100).await {
                bodies.push(body(&delivery).await);
                assert!(delivery.finish(Vec::new()).await.unwrap());
            }
        }
        bodies
    }

    pub(crate) fn depth(&self, queue: &QueueName) -> u64 {
        let stats = self.queues.stats().into_iter().find(|stats| *stats.name == *queue);
        stats.map_or(0, |stats| stats.messages)
    }
}

pub(crate) fn queue(account: u8, name: &str) -> QueueName {
    of_kind(WORK, account, name)
}

pub(crate) fn of_kind(kind: &'static str, account: u8, name: &str) -> QueueName {
    let account = AccountId::parse(&format!("{account:012}")).unwrap();
    QueueName { kind, account, name: name.to_owned() }
}

pub(crate) fn message(body: &str) -> Message {
    Message { head: "head".into(), body: body.to_owned().into(), delay: Duration::ZERO }
}

pub(crate) async fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body().await.unwrap().to_vec()).unwrap()
}
