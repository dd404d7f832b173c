//! What all handles share: the queues in memory, under one lock that is held for a few steps at a time.
//!
//! After every change of a queue, [`State::touch`] brings in line what follows from it: whether the queue is listed for
//! its turn, when it has to be looked at again, what is to be loaded, and who is woken.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use base::{AccountId, Clock};
use parking_lot::Mutex;
use store::{Blobs, Store};
use tokio::sync::{Notify, mpsc};

use crate::content::{Content, Held, keep};
use crate::core::turns::Turns;
use crate::core::window::{Entry, Load, Millis, Window};
use crate::limits::{LOAD, WINDOW, WINDOW_BY_NAME, WINDOW_IN_ORDER};
use crate::named::group_of;
use crate::service::QueueName;
use crate::tables::{Found, LAST_ID};
use crate::writing::Order;

/// What all handles share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    /// Tells receipts of this run from those of earlier ones.
    pub(crate) life: Millis,
    pub(crate) files: Blobs,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Mutex<State>,
    pub(crate) orders: mpsc::Sender<Order>,
    /// Held while a queue is named.
    pub(crate) naming: tokio::sync::Mutex<()>,
    /// Bytes of contents that memory keeps.
    pub(crate) kept: Arc<AtomicUsize>,
}

impl Shared {
    pub(crate) fn now(&self) -> Millis {
        self.clock.now().as_millis()
    }

    /// A message is on the disk.
    pub(crate) fn arrived(&self, queue: u32, entry: Entry<()>, content: Option<Content>) {
        let head = content.as_ref().map(|content| content.head.clone());
        let content = content.and_then(|content| keep(content, &self.kept));
        let Entry { number, sent, attempts, due, first, .. } = entry;
        self.state.lock().change(queue, |queue| {
            let group = queue.in_order.then(|| head.as_deref().map(group_of).unwrap_or_default());
            queue.window.arrived(Entry { number, sent, attempts, due, first, group, content });
        });
    }

    /// A body's file is not needed any more. One that is left by a crash goes at the next start.
    pub(crate) fn forget_file(&self, name: String) {
        let files = self.files.clone();
        tokio::spawn(async move {
            if let Err(error) = files.remove(&name).await {
                tracing::warn!(%error, "a message's body was not removed");
            }
        });
    }
}

/// One queue.
pub(crate) struct Queue {
    pub(crate) name: Arc<QueueName>,
    pub(crate) window: Window<Held>,
    /// Messages on the disk.
    pub(crate) messages: u64,
    /// Messages sent since the start.
    pub(crate) sent: u64,
    /// Leases at once.
    pub(crate) limit: usize,
    /// Nothing is handed out before.
    pub(crate) paused_until: Millis,
    /// Messages that were sent with a delay, in whose window [`Window::came_due`] says how many of them are due.
    pub(crate) delayed: u64,
    /// In order within groups.
    pub(crate) in_order: bool,
    /// Wakes who waits for messages of this queue.
    pub(crate) wake: Arc<Notify>,
    by_name: bool,
    listed: bool,
    alarm: Option<Millis>,
}

impl Queue {
    fn new(name: Arc<QueueName>, found: Option<&Found>, kind: &Kind) -> Self {
        let size = match (kind.consumed, kind.by_name, kind.in_order) {
            (_, true, true) => WINDOW_IN_ORDER,
            (_, true, false) => WINDOW_BY_NAME,
            (true, ..) => WINDOW,
            _ => 0,
        };
        let window = Window::new(size, found.map_or(0, |found| found.last));
        Self {
            name,
            window: if kind.in_order { window.in_groups(LOAD) } else { window },
            messages: found.map_or(0, |found| found.messages),
            sent: 0,
            limit: kind.limit,
            paused_until: 0,
            delayed: found.map_or(0, |found| found.delayed),
            in_order: kind.in_order,
            wake: Arc::default(),
            by_name: kind.by_name,
            listed: false,
            alarm: None,
        }
    }

    /// Messages whose delay is not over.
    pub(crate) fn still_delayed(&self) -> u64 {
        self.delayed.saturating_sub(self.window.came_due())
    }

    /// Wakes one who waits if there is something to wait for.
    pub(crate) fn pass_on(&self) {
        if self.window.has_ready() || self.window.next_change().is_some() {
            self.wake.notify_one();
        }
    }

    /// What follows from a change for those who wait.
    fn look_up(&mut self) -> Option<Load> {
        let alarm = self.window.next_change();
        let sooner = alarm.is_some_and(|new| self.alarm.is_none_or(|old| new < old));
        self.alarm = alarm;
        if sooner || (self.window.has_ready() && self.window.leases() < self.limit) {
            self.wake.notify_one();
        }
        self.window.load()
    }

    fn may_hand_out(&self, now: Millis) -> bool {
        self.window.has_ready() && self.window.leases() < self.limit && self.paused_until <= now
    }
}

/// All queues of a kind.
#[derive(Default)]
pub(crate) struct Kind {
    consumed: bool,
    by_name: bool,
    in_order: bool,
    limit: usize,
    turns: Turns<AccountId, u32>,
    alarms: BTreeSet<(Millis, u32)>,
    loads: Vec<(u32, Load)>,
    pub(crate) wake: Arc<Notify>,
}

/// All queues.
#[derive(Default)]
pub(crate) struct State {
    queues: HashMap<u32, Queue>,
    names: HashMap<Arc<QueueName>, u32>,
    kinds: HashMap<&'static str, Kind>,
    next_id: u32,
    /// The time as it was when last asked: what is paused is judged by it.
    now: Millis,
}

/// A message that was handed out.
pub(crate) struct Leased {
    pub(crate) queue: u32,
    pub(crate) name: Arc<QueueName>,
    pub(crate) token: u64,
    pub(crate) entry: Entry<Held>,
}

impl State {
    /// Declares a kind that is consumed, before any queue of it is added; `limit`: leases of one queue at once.
    pub(crate) fn consume(&mut self, kind: &'static str, limit: usize) {
        let kind = self.kinds.entry(kind).or_default();
        (kind.consumed, kind.limit) = (true, limit);
    }

    /// Declares a kind whose messages are received by their queue's name.
    pub(crate) fn by_name(&mut self, kind: &'static str, limit: usize, in_order: bool) {
        let kind = self.kinds.entry(kind).or_default();
        (kind.by_name, kind.limit, kind.in_order) = (true, limit, in_order);
    }

    /// Forgets a queue that is empty, and that nobody is writing to.
    pub(crate) fn forget(&mut self, id: u32) {
        if let Some(queue) = self.queues.remove(&id) {
            self.names.remove(&queue.name);
            queue.wake.notify_waiters();
        }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Queue> {
        self.queues.get(&id)
    }

    pub(crate) fn id(&self, name: &QueueName) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// An id for a queue that is going to be named, if there is one left.
    pub(crate) fn new_id(&mut self) -> Option<u32> {
        self.next_id = (self.next_id < LAST_ID).then_some(self.next_id + 1)?;
        Some(self.next_id)
    }

    /// Adds a queue; `found`: what the disk had of it at the start.
    pub(crate) fn add(&mut self, id: u32, name: QueueName, found: Option<&Found>) {
        let name = Arc::new(name);
        let kind = self.kinds.entry(name.kind).or_default();
        let queue = Queue::new(Arc::clone(&name), found, kind);
        self.next_id = self.next_id.max(id);
        self.queues.insert(id, queue);
        self.names.insert(name, id);
        self.touch(id);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Queue)> {
        self.queues.iter().map(|(id, queue)| (*id, queue))
    }

    /// Changes a queue and what follows from it.
    pub(crate) fn change<T: Default>(&mut self, id: u32, change: impl FnOnce(&mut Queue) -> T) -> T {
        let Some(queue) = self.queues.get_mut(&id) else { return T::default() };
        let answer = change(queue);
        self.touch(id);
        answer
    }

    fn touch(&mut self, id: u32) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if queue.by_name {
            let load = queue.look_up();
            if let Some((kind, load)) = self.kinds.get_mut(queue.name.kind).zip(load) {
                kind.loads.push((id, load));
            }
            return;
        }
        let Some(kind) = self.kinds.get_mut(queue.name.kind).filter(|kind| kind.consumed) else { return };
        let mut news = false;
        if !queue.listed && queue.may_hand_out(self.now) {
            kind.turns.list(&queue.name.account, id);
            queue.listed = true;
            news = true;
        }
        let pause = (queue.paused_until > self.now).then_some(queue.paused_until);
        let alarm = queue.window.next_change().into_iter().chain(pause).min();
        if alarm != queue.alarm {
            if let Some(old) = queue.alarm.take() {
                kind.alarms.remove(&(old, id));
            }
            news |= alarm.is_some_and(|new| kind.alarms.first().is_none_or(|(first, _)| new < *first));
            kind.alarms.extend(alarm.map(|alarm| (alarm, id)));
            queue.alarm = alarm;
        }
        if let Some(load) = queue.window.load() {
            kind.loads.push((id, load));
            news = true;
        }
        if news {
            kind.wake.notify_one();
        }
    }

    pub(crate) fn wake(&self, kind: &'static str) -> Option<Arc<Notify>> {
        self.kinds.get(kind).map(|kind| Arc::clone(&kind.wake))
    }

    /// Lets time pass for queues of a kind.
    pub(crate) fn pass(&mut self, kind: &'static str, now: Millis) {
        self.now = now;
        while let Some((at, id)) = self.kinds.get_mut(kind).and_then(|kind| kind.alarms.first().copied()) {
            if at > now {
                return;
            }
            if let Some(kind) = self.kinds.get_mut(kind) {
                kind.alarms.pop_first();
            }
            self.change(id, |queue| {
                queue.alarm = None;
                let lost = queue.window.pass(now);
                if lost > 0 {
                    tracing::warn!(queue = %queue.name.name, lost, "leases are over; the messages are received again");
                }
            });
        }
    }

    /// When something of a kind has to be looked at.
    pub(crate) fn next_alarm(&self, kind: &'static str) -> Option<Millis> {
        self.kinds.get(kind)?.alarms.first().map(|(at, _)| *at)
    }

    /// What is to be loaded of a kind.
    pub(crate) fn loads(&mut self, kind: &'static str) -> Vec<(u32, Load)> {
        self.kinds.get_mut(kind).map(|kind| std::mem::take(&mut kind.loads)).unwrap_or_default()
    }

    /// Leases a message of the queue whose turn it is.
    pub(crate) fn next(&mut self, kind: &'static str, until: Millis) -> Option<Leased> {
        loop {
            let id = self.kinds.get_mut(kind)?.turns.next()?;
            let now = self.now;
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.listed = false;
            let leased = queue.may_hand_out(now).then(|| queue.window.lease(until)).flatten();
            let name = Arc::clone(&queue.name);
            self.touch(id);
            if let Some((token, entry)) = leased {
                return Some(Leased { queue: id, name, token, entry });
            }
        }
    }
}
