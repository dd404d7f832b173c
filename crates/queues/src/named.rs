//! Queues whose messages are received by the queue's name, and held by receipt: what users' own queues are made of.
//!
//! Whoever receives leaves the message leased and keeps a [`Receipt`]; who has it may finish the message or change how long
//! it is held. How often a message was received is known in memory, and written down when it is received again: a crash
//! forgets one attempt at most. Nobody polls: who waits is woken by a message, or when one becomes due. Only one is woken
//! for each, and passes it on if it leaves without having taken it.
//!
//! In a kind that is in order, a message's head begins with its group ([`in_group`]), and `core::ready` has the rule.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::consumer::{deliver, fill};
use crate::content::{Body, Held};
use crate::core::window::{Entry, Load, Millis};
use crate::limits::{LOAD, LOOK, PURGED_AT_ONCE};
use crate::service::{QueueName, due};
use crate::state::{Leased, Queue, Shared};
use crate::tables::{self, Key, Stored};
use crate::writing::{Change, Order};
use crate::{Delivery, Error, Queues};

/// A kind of such queues.
#[derive(Debug, Clone, Copy)]
pub struct ByName {
    /// Its name.
    pub kind: &'static str,
    /// Messages of one queue that may be in somebody's hand at once.
    pub leases: usize,
    /// Whether messages are in order within their groups.
    pub in_order: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Messages at most.
    pub most: usize,
    /// How long they are held.
    pub visibility: Duration,
    /// How long to wait for the first.
    pub wait: Duration,
    /// What was sent before is too old, milliseconds since the Unix epoch.
    pub sent_from_ms: i64,
}

/// What the holder of a message has in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) number: u64,
    pub(crate) token: u64,
    pub(crate) sent_ms: i64,
    pub(crate) life: i64,
    pub(crate) in_file: bool,
}

/// Bytes of a receipt.
const RECEIPT: usize = 33;

impl Receipt {
    /// As bytes; they are no secret and prove nothing.
    pub fn to_bytes(self) -> [u8; RECEIPT] {
        let mut bytes = [0; RECEIPT];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.token.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sent_ms.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.life.to_be_bytes());
        bytes[32] = u8::from(self.in_file);
        bytes
    }

    /// Reads them back.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECEIPT] = bytes.try_into().ok()?;
        let part = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        Some(Self {
            number: part(0)?,
            token: part(8)?,
            sent_ms: part(16)? as i64,
            life: part(24)? as i64,
            in_file: bytes[32] != 0,
        })
    }
}

/// What became of a message that was to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is removed.
    Done,
    /// It was not there any more.
    Gone,
    /// The receipt is of a lease that is over, and the message was not removed.
    Over,
}

/// How many messages there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// That can be received.
    pub ready: u64,
    /// In somebody's hand.
    pub leased: u64,
    /// That are not due yet.
    pub delayed: u64,
}

/// The head of a message of a group, in a kind that is in order. A group's name has at most 255 bytes.
pub fn in_group(group: &str, head: &[u8]) -> Bytes {
    let group = &group[..group.floor_char_boundary(usize::from(u8::MAX))];
    [&[group.len() as u8], group.as_bytes(), head].concat().into()
}

/// What [`in_group`] put together.
pub fn of_group(head: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = head.split_first()?;
    let (group, head) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(group).ok()?, head))
}

pub(crate) fn group_of(head: &[u8]) -> Arc<str> {
    of_group(head).map(|(group, _)| group.into()).unwrap_or_default()
}

/// What a look at a queue came to.
#[derive(Default)]
struct Look {
    leased: Vec<Leased>,
    alarm: Option<Millis>,
    loading: bool,
}

/// Passes on what it was woken for, whichever way it leaves.
struct Baton<'a>(&'a Shared, u32);

impl Drop for Baton<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.0.state.lock().get(self.1) {
            queue.pass_on();
        }
    }
}

impl Queues {
    /// Receives messages of one queue: as many as there are and were asked for, or none in time. What a dropped future had
    /// in hand is given back.
    pub async fn receive(&self, queue: &QueueName, ask: Ask) -> Result<Vec<Delivery>, Error> {
        let id = self.id(queue).await?;
        let until = Instant::now() + ask.wait;
        let Some(wake) = self.waker(id) else { return Ok(Vec::new()) };
        let _baton = Baton(&self.shared, id);
        loop {
            // From here on whatever happens to the queue is noticed.
            let news = wake.notified();
            let now = self.shared.now();
            let look = self.look(id, &ask, now);
            self.load(queue.kind);
            if !look.leased.is_empty() {
                self.count_again(&look.leased);
                let delivered = deliver(&self.shared, look.leased).await?;
                if !delivered.is_empty() {
                    return Ok(delivered);
                }
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && !look.loading {
                return Ok(Vec::new());
            }
            // What the disk has is waited for even by who does not want to wait.
            let left = if look.loading { left.max(LOOK) } else { left };
            let alarm =
                look.alarm.map_or(LOOK, |at| Duration::from_millis(at.saturating_sub(now).max(1) as u64));
            let _ = tokio::time::timeout(left.min(alarm).min(LOOK), news).await;
        }
    }

    fn waker(&self, id: u32) -> Option<Arc<Notify>> {
        self.shared.state.lock().get(id).map(|queue| Arc::clone(&queue.wake))
    }

    fn look(&self, id: u32, ask: &Ask, now: Millis) -> Look {
        let until = due(now, ask.visibility);
        self.shared.state.lock().change(id, |queue| {
            queue.window.pass(now);
            let leased = lease(id, queue, ask, (now, until));
            Look { leased, alarm: queue.window.next_change(), loading: queue.window.wants_load() }
        })
    }

    /// Reads what is to be read of a kind.
    pub(crate) fn load(&self, kind: &'static str) {
        let loads: Vec<(u32, Load)> = self.shared.state.lock().loads(kind);
        for (queue, load) in loads {
            tokio::spawn(fill(Arc::clone(&self.shared), queue, load, LOAD));
        }
    }

    /// Notes how often messages were received that came back. It is not waited for: a crash forgets what is not written.
    fn count_again(&self, leased: &[Leased]) {
        for one in leased.iter().filter(|one| one.entry.attempts > 1) {
            let key = Key { queue: one.queue, number: one.entry.number };
            let changes = vec![Change::Count { key, attempts: one.entry.attempts }];
            // Where too much waits to be written a count is not worth waiting for.
            let _ = self.shared.orders.try_send(Order { changes, insist: false, then: Box::new(|_, _| ()) });
        }
    }

    /// Removes a message by its receipt. One whose lease is over is removed too if it is in nobody's hand, unless `strict`.
    /// Answers when that is on the disk.
    pub async fn finish(&self, queue: &QueueName, receipt: Receipt, strict: bool) -> Result<Finished, Error> {
        let Some(id) = self.known(queue) else { return Ok(Finished::Gone) };
        let Receipt { number, token, life, sent_ms, in_file } = receipt;
        let ours = life == self.shared.life;
        let (key, now) = (Key { queue: id, number }, self.shared.now());
        // Whether it was free to be removed, and what it holds.
        let taken: Option<Option<Held>> = self.shared.state.lock().change(id, |queue| {
            let window = &mut queue.window;
            window.pass(now);
            if let Some(entry) = ours.then(|| window.settle(number, token)).flatten() {
                return Some(Some(entry.content));
            }
            let free = !strict && !window.is_leased(number);
            free.then(|| window.remove_sent(number, sent_ms).map(|entry| entry.content))
        });
        let Some(content) = taken else {
            let there = self.row(key).await?.is_some_and(|row| row.sent == sent_ms);
            return Ok(if there { Finished::Over } else { Finished::Gone });
        };
        let file = match content.flatten().map(|held| held.content.body.clone()) {
            Some(Body::File(name)) => Some(name),
            Some(Body::Inline(_) | Body::Gone) => None,
            None if in_file => self.row(key).await?.and_then(|row| row.file),
            None => None,
        };
        let gone = move |shared: &Shared| {
            shared.state.lock().change(id, |queue| queue.messages = queue.messages.saturating_sub(1));
            file.into_iter().for_each(|file| shared.forget_file(file));
        };
        let there = self.change(Change::DeleteSent(key, sent_ms), true, gone).await?;
        Ok(if there { Finished::Done } else { Finished::Gone })
    }

    async fn row(&self, key: Key) -> Result<Option<Stored>, Error> {
        let row: Result<_, store::Error> = self.shared.store.read(move |tx| tables::one(tx, key)).await;
        Ok(row?)
    }

    /// Has a lease last so long from now; nothing gives the message back. Whether the lease was still held.
    pub fn hold_for(&self, queue: &QueueName, receipt: Receipt, visibility: Duration) -> bool {
        let Some(id) = self.known(queue).filter(|_| receipt.life == self.shared.life) else { return false };
        let now = self.shared.now();
        let Receipt { number, token, .. } = receipt;
        self.shared.state.lock().change(id, |queue| {
            queue.window.pass(now);
            match visibility.is_zero() {
                true => queue.window.release(number, token),
                false => queue.window.extend(number, token, due(now, visibility)),
            }
        })
    }

    /// How many messages there are.
    pub fn counts(&self, queue: &QueueName) -> Counts {
        let Some(id) = self.known(queue) else { return Counts::default() };
        let now = self.shared.now();
        let counts = self.shared.state.lock().change(id, |queue| {
            queue.window.pass(now);
            let (leased, delayed) = (queue.window.leases() as u64, queue.still_delayed());
            Counts { ready: queue.messages.saturating_sub(leased + delayed), leased, delayed }
        });
        self.load(queue.kind);
        counts
    }

    /// Removes all messages that were sent before this was called, those in somebody's hand too. Answers when they are gone
    /// from the disk.
    pub async fn purge(&self, queue: &QueueName) -> Result<(), Error> {
        let Some(id) = self.known(queue) else { return Ok(()) };
        let last = self.shared.state.lock().change(id, |queue| {
            queue.delayed = queue.window.came_due();
            queue.window.clear()
        });
        // What was ordered before is written first, and then removed.
        self.flush().await?;
        self.remove_upto(Key { queue: id, number: last }, Millis::MAX).await.map(drop)
    }

    /// Removes what was sent before; how many messages that were.
    pub async fn expire(&self, queue: &QueueName, before_ms: i64) -> Result<u64, Error> {
        let Some(id) = self.known(queue) else { return Ok(0) };
        if self.shared.state.lock().get(id).is_none_or(|queue| queue.messages == 0) {
            return Ok(0);
        }
        self.remove_upto(Key::last_of(id), before_ms).await
    }

    async fn remove_upto(&self, upto: Key, before: Millis) -> Result<u64, Error> {
        let mut all = 0;
        loop {
            let remove = move |tx: &mut dyn store::Tx| tables::remove_first(tx, upto, before, PURGED_AT_ONCE);
            let gone: Result<_, store::Error> = self.shared.store.write(remove).await;
            let (keys, files) = gone?;
            self.shared.state.lock().change(upto.queue, |queue| {
                queue.messages = queue.messages.saturating_sub(keys.len() as u64);
                keys.iter().for_each(|key| drop(queue.window.remove(key.number)));
            });
            files.into_iter().for_each(|file| self.shared.forget_file(file));
            all += keys.len() as u64;
            if keys.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Removes a queue with all its messages. Who waits for one is woken.
    pub async fn forget(&self, queue: &QueueName) -> Result<(), Error> {
        let Some(id) = self.known(queue) else { return Ok(()) };
        self.purge(queue).await?;
        self.shared.store.write(move |tx| tables::forget_claims_of(tx, id)).await?;
        let mut state = self.shared.state.lock();
        // A message that is being written keeps the queue until the next start.
        if state.get(id).is_some_and(|queue| queue.messages == 0 && queue.window.is_quiet()) {
            state.forget(id);
        }
        Ok(())
    }

    /// The queues of a kind that have or had messages.
    pub fn names(&self, kind: &str) -> Vec<Arc<QueueName>> {
        let state = self.shared.state.lock();
        let names = state.all().filter(|(_, queue)| queue.name.kind == kind);
        names.map(|(_, queue)| Arc::clone(&queue.name)).collect()
    }

    /// Forgets claims that are over; see [`Queues::post`].
    pub async fn forget_claims(&self) -> Result<(), Error> {
        let now = self.shared.now();
        let forget = move |tx: &mut dyn store::Tx| tables::forget_claims(tx, now);
        Ok(self.shared.store.write(forget).await?)
    }
}

/// Leases what was asked for, as far as there is any; what is too old is left to the sweep.
fn lease(id: u32, queue: &mut Queue, ask: &Ask, (now, until): (Millis, Millis)) -> Vec<Leased> {
    let mut leased = Vec::new();
    let mut held: Option<Entry<Held>> = None;
    while leased.len() < ask.most && queue.window.leases() < queue.limit {
        let Some((token, entry)) = queue.window.lease_next(held.as_ref(), until) else { break };
        if entry.sent < ask.sent_from_ms {
            queue.window.settle(entry.number, token);
            continue;
        }
        let Some(entry) = queue.window.count(entry.number, now) else { continue };
        held = queue.in_order.then(|| entry.clone());
        leased.push(Leased { queue: id, name: Arc::clone(&queue.name), token, entry });
    }
    leased
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_its_bytes() {
        let receipt = Receipt { number: 7, token: 9, sent_ms: 1 << 41, life: -3, in_file: true };
        assert_eq!(Receipt::from_bytes(&receipt.to_bytes()), Some(receipt));
        assert_eq!(Receipt::from_bytes(&[0; 32]), None);
    }

    #[test]
    fn a_group_stands_before_the_head() {
        assert_eq!(of_group(&in_group("g", b"head")), Some(("g", &b"head"[..])));
        assert_eq!(of_group(&in_group("", b"")), Some(("", &b""[..])));
        assert_eq!(of_group(&[5, b'a']), None);
        let long = "ä".repeat(200);
        assert_eq!(of_group(&in_group(&long, b"x")).map(|(group, _)| group.len()), Some(254));
    }
}
