//! Sending in two steps, at most once in a while, and several at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::service::{Message, QueueName, due};
use crate::state::Shared;
use crate::tables;
use crate::writing::{Change, Order};
use crate::{Draft, Error, Queues};

/// That a message is sent once only within some time: of all that come with one key.
#[derive(Debug, Clone)]
pub struct Once {
    /// What makes messages the same.
    pub key: Vec<u8>,
    /// For how long, from the first.
    pub lasts: Duration,
    /// What those are told that come later.
    pub answer: Vec<u8>,
}

/// A message on its way to the disk.
#[must_use]
pub struct Posted {
    shared: Arc<Shared>,
    written: oneshot::Receiver<Result<bool, Error>>,
    queue: u32,
    key: Option<Vec<u8>>,
}

impl Posted {
    /// Waits until it is on the disk. `Some`: it was not sent, since one with the same key was; what that one left.
    pub async fn written(self) -> Result<Option<Vec<u8>>, Error> {
        let written = self.written.await.unwrap_or(Err(Error::Closed))?;
        let Some(key) = self.key.filter(|_| !written) else { return Ok(None) };
        let queue = self.queue;
        let read = move |tx: &mut dyn store::Tx| tables::claimed(tx, queue, &key);
        let answer: Result<Option<Vec<u8>>, store::Error> = self.shared.store.read(read).await;
        answer?
            .map(Some)
            .ok_or_else(|| Error::NotWritten("another one with its key was just forgotten".into()))
    }
}

impl Queues {
    /// Gives a message its place in the queue: what is posted later comes later, also within a queue in order. It is sent or
    /// not sent whether or not the caller waits.
    pub async fn post(
        &self,
        queue: &QueueName,
        message: Message,
        once: Option<Once>,
    ) -> Result<Posted, Error> {
        let id = self.id(queue).await?;
        let draft = Draft::new(&self.shared, id, message).await?;
        let key = once.as_ref().map(|once| once.key.clone());
        let now = self.shared.now();
        let claim = once.map(|once| Change::Claim {
            queue: id,
            key: once.key,
            now,
            until: due(now, once.lasts),
            answer: once.answer,
        });
        let changes = claim.into_iter().chain([Change::Insert(id, draft.row())]).collect();
        let (reply, written) = oneshot::channel();
        let then = Box::new(move |_: &Shared, outcome: Result<bool, Error>| {
            draft.settle(matches!(outcome, Ok(true)));
            // A caller that has gone away no longer wants to know.
            let _ = reply.send(outcome);
        });
        self.order(Order { changes, insist: false, then }).await?;
        Ok(Posted { shared: Arc::clone(&self.shared), written, queue: id, key })
    }

    /// Sends all of them or none.
    pub async fn send_all(&self, queue: &QueueName, messages: Vec<Message>) -> Result<(), Error> {
        let id = self.id(queue).await?;
        let mut drafts = Vec::with_capacity(messages.len());
        for message in messages {
            drafts.push(Draft::new(&self.shared, id, message).await?);
        }
        let changes = drafts.iter().map(|draft| Change::Insert(id, draft.row())).collect();
        let (reply, written) = oneshot::channel();
        let then = Box::new(move |_: &Shared, outcome: Result<bool, Error>| {
            drafts.into_iter().for_each(|draft| draft.settle(outcome.is_ok()));
            // As above.
            let _ = reply.send(outcome);
        });
        self.order(Order { changes, insist: false, then }).await?;
        written.await.unwrap_or(Err(Error::Closed)).map(drop)
    }
}
