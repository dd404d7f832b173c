//! A message in somebody's hand. Dropped, it is given back.
//!
//! What becomes of it is ordered before its lease ends, without a wait between: who is gone meanwhile leaves a message that
//! is either still leased, and given back, or on its way to the disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::content::{Body, Content, gone, read};
use crate::core::window::{Entry, Millis};
use crate::service::{QueueName, due};
use crate::state::{Leased, Shared};
use crate::tables::Key;
use crate::writing::{Change, Order};
use crate::{Draft, Error, Queues, Receipt};

/// See the module.
#[must_use]
pub struct Delivery {
    shared: Arc<Shared>,
    queue: u32,
    name: Arc<QueueName>,
    token: u64,
    number: u64,
    sent: Millis,
    attempts: u32,
    first: Millis,
    content: Option<Content>,
    /// What makes the bytes count against what memory keeps.
    _held: crate::content::Held,
    settled: bool,
}

impl Delivery {
    pub(crate) fn new(shared: Arc<Shared>, leased: Leased) -> Self {
        let Leased { queue, name, token, entry } = leased;
        let Entry { number, sent, attempts, first, content: held, .. } = entry;
        let content = held.as_ref().map(|held| held.content.clone());
        Self {
            shared,
            queue,
            name,
            token,
            number,
            sent,
            attempts,
            first,
            content,
            _held: held,
            settled: false,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.content.is_some()
    }

    pub(crate) fn complete(&mut self, content: Content) {
        self.content = Some(content);
    }

    /// The disk does not have it any more.
    pub(crate) fn is_gone(&mut self) {
        self.take();
    }

    /// Which queue it is of.
    pub fn queue(&self) -> &QueueName {
        &self.name
    }

    /// When it was sent, milliseconds since the Unix epoch.
    pub fn sent_ms(&self) -> i64 {
        self.sent
    }

    /// When it was first received, as far as is known, milliseconds since the Unix epoch.
    pub fn first_ms(&self) -> i64 {
        self.first
    }

    /// Leaves it in the hand of whoever has the receipt, until the lease ends.
    pub fn hold(mut self) -> Receipt {
        self.settled = true;
        Receipt {
            number: self.number,
            token: self.token,
            sent_ms: self.sent,
            life: self.shared.life,
            in_file: self.file().is_some(),
        }
    }

    /// How often [`Delivery::retry`] sent it back; of a message that was received by its queue's name, how often that was.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What is small of it.
    pub fn head(&self) -> Bytes {
        self.content.as_ref().map(|content| content.head.clone()).unwrap_or_default()
    }

    /// The rest of it.
    pub async fn body(&self) -> Result<Bytes, Error> {
        match self.content.as_ref().map(|content| &content.body) {
            Some(Body::Inline(bytes)) => Ok(bytes.clone()),
            Some(Body::File(name)) => read(&self.shared.files, name).await,
            Some(Body::Gone) => Err(gone()),
            None => Ok(Bytes::new()),
        }
    }

    /// Has the lease last so long from now; whether it was still held.
    pub fn extend(&self, visibility: Duration) -> bool {
        let until = due(self.shared.now(), visibility);
        self.shared
            .state
            .lock()
            .change(self.queue, |queue| queue.window.extend(self.number, self.token, until))
    }

    /// Gives it back without a word: it is the next of its queue.
    pub fn release(mut self) {
        self.give_back();
    }

    /// It is done with: removed, and what follows from it sent, in one transaction. Answers when that is on the disk;
    /// `false` if the lease was lost, and then nothing was done.
    pub async fn finish(mut self, follow: Vec<Draft>) -> Result<bool, Error> {
        let shared = Arc::clone(&self.shared);
        let room = room(&shared).await?;
        if !self.take() {
            return Ok(false);
        }
        let file = self.file();
        let queue = self.queue;
        let gone = move |shared: &Shared| {
            shared.state.lock().change(queue, |queue| queue.messages = queue.messages.saturating_sub(1));
            file.into_iter().for_each(|file| shared.forget_file(file));
        };
        write(room, Change::Delete(self.key()), follow, gone).await
    }

    /// It becomes a message of another queue with another head, in one transaction with what else is sent: a dead
    /// letter, for example. Answers when that is on the disk; `false` if the lease was lost, and then nothing was done.
    pub async fn transfer(mut self, to: &QueueName, head: Bytes, follow: Vec<Draft>) -> Result<bool, Error> {
        let shared = Arc::clone(&self.shared);
        let id = Queues { shared: Arc::clone(&shared) }.id(to).await?;
        let room = room(&shared).await?;
        if !self.take() {
            return Ok(false);
        }
        let (from, now) = (self.queue, shared.now());
        let number = shared.state.lock().change(id, |queue| queue.window.number());
        let to = Key { queue: id, number };
        let change = Change::Transfer { from: self.key(), to, sent: now, head: Arc::new(head.to_vec()) };
        let content = self.content.take().map(|content| Content { head, ..content });
        let moved = move |shared: &Shared| moved(shared, from, to, now, content);
        write(room, change, follow, moved).await
    }

    /// Sends it back, to be received after a delay with one attempt more. Answers when that is on the disk; `false` if the
    /// lease was lost, and then nothing was done.
    pub async fn retry(mut self, delay: Duration) -> Result<bool, Error> {
        let shared = Arc::clone(&self.shared);
        let room = room(&shared).await?;
        if !self.take() {
            return Ok(false);
        }
        let (key, due) = (self.key(), due(self.shared.now(), delay.max(Duration::from_millis(1))));
        let attempts = self.attempts.saturating_add(1);
        self.shared.state.lock().change(self.queue, |queue| queue.window.rewrite(key.number, attempts));
        let entry =
            Entry { number: self.number, sent: self.sent, attempts, due, first: 0, group: None, content: () };
        let content = self.content.take();
        let written = move |shared: &Shared| shared.arrived(key.queue, entry, content);
        write(room, Change::Delay { key, due, attempts }, Vec::new(), written).await
    }

    /// Ends the lease; whether it was still held.
    fn take(&mut self) -> bool {
        self.settled = true;
        let taken = |queue: &mut crate::state::Queue| queue.window.settle(self.number, self.token).is_some();
        self.shared.state.lock().change(self.queue, taken)
    }

    fn give_back(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            let release = |queue: &mut crate::state::Queue| queue.window.release(self.number, self.token);
            self.shared.state.lock().change(self.queue, release);
        }
    }

    fn key(&self) -> Key {
        Key { queue: self.queue, number: self.number }
    }

    fn file(&self) -> Option<String> {
        match self.content.as_ref().map(|content| &content.body) {
            Some(Body::File(name)) => Some(name.clone()),
            _ => None,
        }
    }
}

/// Room for one order.
async fn room(shared: &Shared) -> Result<mpsc::Permit<'_, Order>, Error> {
    shared.orders.reserve().await.map_err(|_| Error::Closed)
}

/// Orders a change and what follows from it; ordered it is when this is first polled.
async fn write(
    room: mpsc::Permit<'_, Order>,
    first: Change,
    follow: Vec<Draft>,
    done: impl FnOnce(&Shared) + Send + 'static,
) -> Result<bool, Error> {
    let inserts = follow.iter().map(|draft| Change::Insert(draft.queue(), draft.row()));
    let changes = std::iter::once(first).chain(inserts).collect();
    let (reply, answer) = oneshot::channel();
    let then = Box::new(move |shared: &Shared, written: Result<bool, Error>| {
        let there = matches!(written, Ok(true));
        if there {
            done(shared);
        }
        follow.into_iter().for_each(|draft| draft.settle(there));
        // Who has gone away no longer wants to know.
        let _ = reply.send(written);
    });
    room.send(Order { changes, insist: true, then });
    answer.await.unwrap_or(Err(Error::Closed))
}

/// A message is in another queue now.
pub(crate) fn moved(shared: &Shared, from: u32, to: Key, sent: Millis, content: Option<Content>) {
    let mut state = shared.state.lock();
    state.change(from, |queue| queue.messages = queue.messages.saturating_sub(1));
    state.change(to.queue, |queue| {
        queue.messages += 1;
        queue.sent += 1;
    });
    drop(state);
    let entry = Entry { number: to.number, sent, attempts: 0, due: 0, first: 0, group: None, content: () };
    shared.arrived(to.queue, entry, content);
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.give_back();
    }
}
