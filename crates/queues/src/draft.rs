//! A message that has its number and is not on the disk yet.
//!
//! ```text
//! let draft = queues.draft(&queue, message).await?;
//! let row = draft.to_row();
//! store.write(move |tx| { change(tx)?; row.insert(tx) }).await?;
//! draft.sent();
//! ```
//!
//! A caller that is dropped before it knows what became of its transaction leaves a draft whose fate is looked up: the
//! message is received if it was written after all.

use std::sync::Arc;

use store::Tx;

use crate::Error;
use crate::content::{Body, Content, write};
use crate::core::window::Entry;
use crate::limits::{BODY_BYTES, HEAD_BYTES, INLINE_BYTES};
use crate::service::{Message, due};
use crate::state::Shared;
use crate::tables::{self, Key, Stored};

/// See the module.
#[must_use]
pub struct Draft {
    shared: Arc<Shared>,
    queue: u32,
    row: Arc<Stored>,
    content: Option<Content>,
    known: bool,
}

/// What a transaction writes of a [`Draft`].
#[derive(Debug, Clone)]
pub struct Row {
    queue: u32,
    row: Arc<Stored>,
}

impl Row {
    /// Writes the message, in a transaction that may run more than once.
    pub fn insert(&self, tx: &mut dyn Tx) -> Result<(), store::Error> {
        tables::insert(tx, self.queue, &self.row)
    }
}

impl Draft {
    pub(crate) async fn new(shared: &Arc<Shared>, queue: u32, message: Message) -> Result<Self, Error> {
        let Message { head, body, delay } = message;
        for (what, bytes, limit) in [("head", head.len(), HEAD_BYTES), ("body", body.len(), BODY_BYTES)] {
            if bytes > limit {
                return Err(Error::TooLarge { what, limit });
            }
        }
        let inline = body.len() <= INLINE_BYTES;
        let file = if inline { None } else { Some(write(&shared.files, &body).await?) };
        let now = shared.now();
        let number = shared.state.lock().change(queue, |queue| queue.window.number());
        let row = Stored {
            number,
            sent: now,
            due: due(now, delay),
            attempts: 0,
            head: head.to_vec(),
            body: inline.then(|| body.to_vec()),
            file: file.clone(),
        };
        let content = Content { head, body: file.map_or(Body::Inline(body), Body::File) };
        Ok(Self {
            shared: Arc::clone(shared),
            queue,
            row: Arc::new(row),
            content: Some(content),
            known: false,
        })
    }

    /// What the transaction writes.
    pub fn to_row(&self) -> Row {
        Row { queue: self.queue, row: Arc::clone(&self.row) }
    }

    /// The transaction was committed: the message may be received.
    pub fn sent(self) {
        self.settle(true);
    }

    pub(crate) fn queue(&self) -> u32 {
        self.queue
    }

    pub(crate) fn row(&self) -> Arc<Stored> {
        Arc::clone(&self.row)
    }

    /// It is known whether it was written.
    pub(crate) fn settle(mut self, written: bool) {
        self.known = true;
        let content = self.content.take();
        settle(&self.shared, self.queue, &self.row, content, written);
    }
}

fn settle(shared: &Shared, queue: u32, row: &Stored, content: Option<Content>, written: bool) {
    if !written {
        shared.state.lock().change(queue, |queue| queue.window.not_written(row.number));
        if let Some(file) = &row.file {
            shared.forget_file(file.clone());
        }
        return;
    }
    shared.state.lock().change(queue, |queue| {
        queue.messages += 1;
        queue.sent += 1;
        queue.delayed += u64::from(row.due > 0);
    });
    let entry = Entry {
        number: row.number,
        sent: row.sent,
        attempts: row.attempts,
        due: row.due,
        first: 0,
        group: None,
        content: (),
    };
    shared.arrived(queue, entry, content);
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.known {
            return;
        }
        // Without a runtime the server has ended, and the next start reads what there is.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, queue, row) = (Arc::clone(&self.shared), self.queue, Arc::clone(&self.row));
        let content = self.content.take();
        runtime.spawn(async move {
            let key = Key { queue, number: row.number };
            // A write, which comes after whatever the caller still had with the writer.
            let there = shared.store.write(move |tx| tables::one(tx, key)).await;
            match there {
                Ok(there) => settle(&shared, queue, &row, content, there.is_some()),
                Err(error) => tracing::error!(%error, "it is not known whether a message was written"),
            }
        });
    }
}
