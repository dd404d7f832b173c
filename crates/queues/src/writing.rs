//! The one task through which all changes go: what waits is written in one transaction and synced once.
//!
//! While the disk syncs, the next orders gather by themselves; and whoever is ready to order when the first one comes is
//! let do so before it is written, since a commit costs as much as some orders. An order is kept whole or not at all. Memory learns of a
//! change after the disk has it, and before who asked for it.

use std::sync::{Arc, Weak};

use store::{Store, Tx};
use tokio::sync::mpsc;

use crate::Error;
use crate::core::window::Millis;
use crate::limits::{AGAIN, CHANGE_BYTES_AT_ONCE, CHANGES_AT_ONCE};
use crate::state::Shared;
use crate::tables::{self, Key, Stored};

/// A change of one row.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Insert(u32, Arc<Stored>),
    Delete(Key),
    /// If it is the one that was sent then.
    DeleteSent(Key, Millis),
    Delay {
        key: Key,
        due: Millis,
        attempts: u32,
    },
    Count {
        key: Key,
        attempts: u32,
    },
    /// Nothing else of the order is done where somebody has it.
    Claim {
        queue: u32,
        key: Vec<u8>,
        now: Millis,
        until: Millis,
        answer: Vec<u8>,
    },
    Transfer {
        from: Key,
        to: Key,
        sent: Millis,
        head: Arc<Vec<u8>>,
    },
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Insert(_, row) => row.head.len() + row.body.as_ref().map_or(64, Vec::len),
            Self::Transfer { head, .. } => head.len(),
            Self::Claim { key, answer, .. } => key.len() + answer.len(),
            Self::Delete(_) | Self::DeleteSent(..) | Self::Delay { .. } | Self::Count { .. } => 32,
        }
    }

    /// Whether there was a row to change.
    fn apply(&self, tx: &mut dyn Tx) -> Result<bool, store::Error> {
        match self {
            Self::Insert(queue, row) => tables::insert(tx, *queue, row).map(|()| true),
            Self::Delete(key) => tables::delete(tx, *key),
            Self::DeleteSent(key, sent) => tables::delete_sent(tx, *key, *sent),
            Self::Count { key, attempts } => tables::count_attempts(tx, *key, *attempts),
            Self::Claim { queue, key, now, until, answer } => {
                tables::claim(tx, (*queue, key), (*now, *until), answer)
            }
            Self::Delay { key, due, attempts } => tables::delay(tx, *key, *due, *attempts).map(|()| true),
            Self::Transfer { from, to, sent, head } => tables::transfer(tx, *from, *to, *sent, head),
        }
    }
}

/// What is to happen once it is known what became of an order: whether its first change found its row.
pub(crate) type Then = Box<dyn FnOnce(&Shared, Result<bool, Error>) + Send>;

/// Changes that belong together.
pub(crate) struct Order {
    pub(crate) changes: Vec<Change>,
    /// Whether it is tried again where nothing was written for want of room; else that is an error.
    pub(crate) insist: bool,
    pub(crate) then: Then,
}

/// Writes until nobody can order any more.
pub(crate) async fn writer(shared: Weak<Shared>, store: Store, mut orders: mpsc::Receiver<Order>) {
    let mut waiting: Vec<Order> = Vec::new();
    loop {
        if waiting.is_empty() && orders.recv_many(&mut waiting, CHANGES_AT_ONCE).await == 0 {
            return;
        }
        // What comes meanwhile goes with what is left or tried again: where the disk is full it is told so, too. Not for a time: for one turn of everybody who could run by now.
        tokio::task::yield_now().await;
        while waiting.len() < CHANGES_AT_ONCE
            && let Ok(order) = orders.try_recv()
        {
            waiting.push(order);
        }
        let rest = waiting.split_off(fitting(&waiting));
        let batch = std::mem::replace(&mut waiting, rest);
        let again = write(&shared, &store, batch).await;
        if !again.is_empty() {
            waiting.splice(0..0, again);
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// How many of them one transaction takes; one at least.
fn fitting(orders: &[Order]) -> usize {
    let mut bytes = 0;
    let fit = orders.iter().take_while(|order| {
        let before = bytes;
        bytes += order.changes.iter().map(Change::bytes).sum::<usize>();
        before < CHANGE_BYTES_AT_ONCE
    });
    fit.count().max(1).min(orders.len())
}

/// Writes them; what is to be tried again.
async fn write(shared: &Weak<Shared>, store: &Store, batch: Vec<Order>) -> Vec<Order> {
    let (changes, rest): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|order| (order.changes, (order.insist, order.then))).unzip();
    let changes = Arc::new(changes);
    let written = Arc::clone(&changes);
    let outcome =
        store.write(move |tx| written.iter().map(|order| all(tx, order)).collect::<Result<Vec<_>, _>>());
    let outcome: Result<Vec<bool>, store::Error> = outcome.await;
    let Some(shared) = shared.upgrade() else { return Vec::new() };
    let error = match outcome {
        Ok(found) => {
            for ((_, then), found) in rest.into_iter().zip(found) {
                then(&shared, Ok(found));
            }
            return Vec::new();
        }
        Err(error) => error,
    };
    tracing::error!(error = %error, "messages were not written");
    let over = matches!(error, store::Error::Stopped(_));
    // The closure may still be about to be dropped on the writer's thread.
    let changes = Arc::unwrap_or_clone(changes);
    let mut again = Vec::new();
    for (changes, (insist, then)) in changes.into_iter().zip(rest) {
        if insist && !over {
            again.push(Order { changes, insist, then });
        } else {
            then(&shared, Err(Error::NotWritten(error.to_string())));
        }
    }
    again
}

/// Applies an order; whether its first change found its row. If it did not, nothing else of the order is done.
fn all(tx: &mut dyn Tx, changes: &[Change]) -> Result<bool, store::Error> {
    for (index, change) in changes.iter().enumerate() {
        let found = change.apply(tx)?;
        if index == 0 && !found {
            return Ok(false);
        }
    }
    Ok(true)
}
