//! The handle: opening, naming queues, sending, and what there is to be seen of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use base::{AccountId, Clock};
use bytes::Bytes;
use parking_lot::Mutex;
use store::{Blobs, Store};
use tokio::sync::{mpsc, oneshot};

use crate::core::window::Millis;
use crate::limits::CHANGES_WAITING;
use crate::state::{Shared, State};
use crate::tables;
use crate::writing::{Change, Order, writer};
use crate::{ByName, Consumer, Draft, Error};

/// What the queues are built from.
pub struct Deps {
    /// Truth.
    pub store: Store,
    /// Bodies too large for a row. Nobody else may write there.
    pub files: Blobs,
    /// Wall-clock time: delays outlive a restart.
    pub clock: Arc<dyn Clock>,
}

/// Which queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueName {
    /// Who consumes it.
    pub kind: &'static str,
    /// Whose it is: tenants get turns.
    pub account: AccountId,
    /// Its name among those.
    pub name: String,
}

/// What is sent.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// What is small and always at hand; at most [`HEAD_BYTES`](crate::HEAD_BYTES).
    pub head: Bytes,
    /// The rest; at most [`BODY_BYTES`](crate::BODY_BYTES).
    pub body: Bytes,
    /// For how long it cannot be received.
    pub delay: Duration,
}

/// What there is to be seen of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Which.
    pub name: Arc<QueueName>,
    /// Messages in it, those in somebody's hand among them.
    pub messages: u64,
    /// Those in somebody's hand.
    pub leased: usize,
    /// When the oldest that memory knows was sent, milliseconds since the Unix epoch.
    pub oldest_ms: Option<i64>,
    /// Messages sent to it since the start.
    pub sent: u64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Queues {
    pub(crate) shared: Arc<Shared>,
}

impl Queues {
    /// Reads which queues there are and removes bodies that no message has. `consumed` are the kinds that have a
    /// consumer, each with how many messages of one queue may be in its hands at once; `others` those that are only
    /// browsed. A queue of any other kind is an error: a newer server wrote it. Needs a tokio runtime.
    pub async fn open(
        deps: Deps,
        consumed: &[(&'static str, usize)],
        others: &[&'static str],
    ) -> Result<Self, Error> {
        Self::open_with(deps, consumed, others, &[]).await
    }

    /// The same with kinds whose messages are received by their queues' names.
    pub async fn open_with(
        deps: Deps,
        consumed: &[(&'static str, usize)],
        others: &[&'static str],
        by_name: &[ByName],
    ) -> Result<Self, Error> {
        let found = deps.store.write(tables::open).await?;
        let mut state = State::default();
        consumed.iter().for_each(|(kind, limit)| state.consume(kind, *limit));
        by_name.iter().for_each(|each| state.by_name(each.kind, each.leases, each.in_order));
        let others: Vec<&'static str> =
            others.iter().copied().chain(by_name.iter().map(|each| each.kind)).collect();
        for each in &found {
            let mut kinds = consumed.iter().map(|(kind, _)| kind).chain(&others);
            let kind = kinds.find(|kind| **kind == each.kind).copied();
            let kind =
                kind.ok_or_else(|| Error::Damaged(format!("nobody knows queues of kind {}", each.kind)))?;
            let account = AccountId::parse(&each.account);
            let account = account.ok_or_else(|| Error::Damaged(format!("{} is no account", each.account)))?;
            state.add(each.id, QueueName { kind, account, name: each.name.clone() }, Some(each));
        }
        let used: HashSet<String> = deps.store.read(tables::files).await?.into_iter().collect();
        for file in deps.files.list().await?.into_iter().filter(|file| !used.contains(file)) {
            deps.files.remove(&file).await?;
        }
        let (orders, waiting) = mpsc::channel(CHANGES_WAITING);
        let shared = Arc::new(Shared {
            life: deps.clock.now().as_millis(),
            store: deps.store.clone(),
            files: deps.files,
            clock: deps.clock,
            state: Mutex::new(state),
            orders,
            naming: tokio::sync::Mutex::default(),
            kept: Arc::default(),
        });
        tokio::spawn(writer(Arc::downgrade(&shared), deps.store, waiting));
        let queues = Self { shared };
        // Until then what arrives is set aside.
        by_name.iter().for_each(|each| queues.load(each.kind));
        Ok(queues)
    }

    /// Sends a message: `Ok` means that it is on the disk. It is sent or not sent whether or not the caller waits.
    pub async fn send(&self, queue: &QueueName, message: Message) -> Result<(), Error> {
        let draft = self.draft(queue, message).await?;
        let (reply, answer) = oneshot::channel();
        let order = Order {
            changes: vec![Change::Insert(draft.queue(), draft.row())],
            insist: false,
            then: Box::new(move |_, written| {
                draft.settle(written.is_ok());
                // A caller that has gone away no longer wants to know.
                let _ = reply.send(written.map(drop));
            }),
        };
        self.order(order).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Makes a message ready to be written in a transaction of the caller's own; see [`Draft`].
    pub async fn draft(&self, queue: &QueueName, message: Message) -> Result<Draft, Error> {
        let id = self.id(queue).await?;
        Draft::new(&self.shared, id, message).await
    }

    /// The one who receives messages of a kind that was opened as consumed.
    pub fn consumer(&self, kind: &'static str) -> Consumer {
        Consumer::new(Arc::clone(&self.shared), kind)
    }

    /// Waits until everything that was ordered before is written.
    pub async fn flush(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let then = Box::new(move |_: &Shared, _| {
            // A caller that has gone away no longer wants to know.
            let _ = reply.send(());
        });
        self.order(Order { changes: Vec::new(), insist: false, then }).await?;
        answer.await.map_err(|_| Error::Closed)
    }

    /// Every queue that had a message since the start.
    pub fn stats(&self) -> Vec<Stats> {
        let state = self.shared.state.lock();
        let stats = state.all().map(|(_, queue)| Stats {
            name: Arc::clone(&queue.name),
            messages: queue.messages,
            leased: queue.window.leases(),
            oldest_ms: queue.window.oldest(),
            sent: queue.sent,
        });
        stats.collect()
    }

    pub(crate) async fn order(&self, order: Order) -> Result<(), Error> {
        self.shared.orders.send(order).await.map_err(|_| Error::Closed)
    }

    /// The queue's id; the first to ask has it named on the disk.
    pub(crate) async fn id(&self, name: &QueueName) -> Result<u32, Error> {
        if let Some(id) = self.known(name) {
            return Ok(id);
        }
        let _naming = self.shared.naming.lock().await;
        if let Some(id) = self.known(name) {
            return Ok(id);
        }
        let id = self.shared.state.lock().new_id().ok_or(Error::TooMany)?;
        let row = name.clone();
        let write =
            move |tx: &mut dyn store::Tx| tables::name(tx, id, row.kind, row.account.as_str(), &row.name);
        let named: Result<u32, store::Error> = self.shared.store.write(write).await;
        let id = named?;
        self.shared.state.lock().add(id, name.clone(), None);
        Ok(id)
    }

    pub(crate) fn known(&self, name: &QueueName) -> Option<u32> {
        self.shared.state.lock().id(name)
    }
}

/// The time after a delay; 0 where there is none.
pub(crate) fn due(now: Millis, delay: Duration) -> Millis {
    if delay.is_zero() {
        return 0;
    }
    now.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)).max(1)
}

impl std::fmt::Display for QueueName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.account, self.name)
    }
}
