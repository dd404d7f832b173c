//! Looking into queues that nobody consumes, dead letters above all, and taking out of them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::content::{Body, Content, gone, read};
use crate::delivery::moved;
use crate::limits::SWEPT_AT_ONCE;
use crate::service::QueueName;
use crate::state::Shared;
use crate::tables::{self, Key, Stored};
use crate::writing::{Change, Order};
use crate::{Error, Queues};

/// Where a message is in its queue: messages are in the order in which they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark(pub u64);

/// A message that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where.
    pub mark: Mark,
    /// When it was sent there, milliseconds since the Unix epoch.
    pub sent_ms: i64,
    /// What is small of it.
    pub head: Bytes,
    body: Body,
}

impl Queues {
    /// Messages of a queue behind a place, at most so many, in order.
    pub async fn browse(&self, queue: &QueueName, after: Mark, most: usize) -> Result<Vec<Found>, Error> {
        let Some(queue) = self.known(queue) else { return Ok(Vec::new()) };
        let read = move |tx: &mut dyn store::Tx| tables::browse(tx, queue, after.0, most);
        let rows: Result<Vec<Stored>, store::Error> = self.shared.store.read(read).await;
        Ok(rows?.into_iter().map(found).collect())
    }

    /// One message of a queue.
    pub async fn find(&self, queue: &QueueName, mark: Mark) -> Result<Option<Found>, Error> {
        let Some(queue) = self.known(queue) else { return Ok(None) };
        let key = Key { queue, number: mark.0 };
        let row: Result<Option<Stored>, store::Error> =
            self.shared.store.read(move |tx| tables::one(tx, key)).await;
        Ok(row?.map(found))
    }

    /// The body of a message that was found.
    pub async fn body(&self, found: &Found) -> Result<Bytes, Error> {
        match &found.body {
            Body::Inline(bytes) => Ok(bytes.clone()),
            Body::File(name) => read(&self.shared.files, name).await,
            Body::Gone => Err(gone()),
        }
    }

    /// Removes a message from a queue that nobody consumes; whether it was there.
    pub async fn remove(&self, queue: &QueueName, found: &Found) -> Result<bool, Error> {
        let Some(queue) = self.known(queue) else { return Ok(false) };
        let key = Key { queue, number: found.mark.0 };
        let file = found.file();
        let removed = move |shared: &Shared| {
            shared.state.lock().change(queue, |queue| queue.messages = queue.messages.saturating_sub(1));
            file.into_iter().for_each(|file| shared.forget_file(file));
        };
        self.change(Change::Delete(key), false, removed).await
    }

    /// Moves a message from a queue that nobody consumes to another, with another head, in one transaction; whether it
    /// was there.
    pub async fn redrive(
        &self,
        from: &QueueName,
        found: &Found,
        to: &QueueName,
        head: Bytes,
    ) -> Result<bool, Error> {
        let Some(from) = self.known(from) else { return Ok(false) };
        let to = self.id(to).await?;
        let now = self.shared.now();
        let number = self.shared.state.lock().change(to, |queue| queue.window.number());
        let to = Key { queue: to, number };
        let key = Key { queue: from, number: found.mark.0 };
        let change = Change::Transfer { from: key, to, sent: now, head: Arc::new(head.to_vec()) };
        let content = Content { head, body: found.body.clone() };
        let moved = move |shared: &Shared| moved(shared, from, to, now, Some(content));
        let moved = self.change(change, false, moved).await;
        if !matches!(moved, Ok(true)) {
            self.shared.state.lock().change(to.queue, |queue| queue.window.not_written(to.number));
        }
        moved
    }

    /// Removes what was sent before from all queues of a kind that nobody consumes; how many messages that were.
    pub async fn sweep(&self, kind: &'static str, before_ms: i64) -> Result<u64, Error> {
        let queues: Vec<u32> = {
            let state = self.shared.state.lock();
            state
                .all()
                .filter(|(_, queue)| queue.name.kind == kind && queue.messages > 0)
                .map(|(id, _)| id)
                .collect()
        };
        let mut swept = 0;
        for queue in queues {
            loop {
                let remove =
                    move |tx: &mut dyn store::Tx| tables::remove_old(tx, queue, before_ms, SWEPT_AT_ONCE);
                let gone: Result<(u64, Vec<String>), store::Error> = self.shared.store.write(remove).await;
                let (count, files) = gone?;
                let less =
                    |queue: &mut crate::state::Queue| queue.messages = queue.messages.saturating_sub(count);
                self.shared.state.lock().change(queue, less);
                files.into_iter().for_each(|file| self.shared.forget_file(file));
                swept += count;
                if i64::try_from(count).is_ok_and(|count| count < SWEPT_AT_ONCE) {
                    break;
                }
            }
        }
        Ok(swept)
    }

    pub(crate) async fn change(
        &self,
        change: Change,
        insist: bool,
        done: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<bool, Error> {
        let (reply, answer) = oneshot::channel();
        let then = Box::new(move |shared: &Shared, written: Result<bool, Error>| {
            if matches!(written, Ok(true)) {
                done(shared);
            }
            let _ = reply.send(written);
        });
        self.order(Order { changes: vec![change], insist, then }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

impl Found {
    fn file(&self) -> Option<String> {
        match &self.body {
            Body::File(name) => Some(name.clone()),
            Body::Inline(_) | Body::Gone => None,
        }
    }
}

fn found(row: Stored) -> Found {
    let (mark, sent_ms) = (Mark(row.number), row.sent);
    let Content { head, body } = Content::of(row);
    Found { mark, sent_ms, head, body }
}
