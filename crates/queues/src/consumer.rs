//! Receiving: by turns, in batches, without writing anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::content::{Content, keep};
use crate::core::window::{Entry, Load, Millis};
use crate::limits::{LOOK, WINDOW};
use crate::named::group_of;
use crate::service::{QueueName, due};
use crate::state::{Leased, Shared};
use crate::tables::{self, Key, Stored};
use crate::{Delivery, Error};

/// Receives the messages of a kind.
pub struct Consumer {
    shared: Arc<Shared>,
    kind: &'static str,
    wake: Arc<Notify>,
}

impl Consumer {
    pub(crate) fn new(shared: Arc<Shared>, kind: &'static str) -> Self {
        let wake = shared.state.lock().wake(kind).unwrap_or_default();
        Self { shared, kind, wake }
    }

    /// Waits for messages and leases at most so many, each for so long. Nothing is lost if the future is dropped.
    pub async fn receive(&self, most: usize, visibility: Duration) -> Result<Vec<Delivery>, Error> {
        loop {
            let now = self.shared.now();
            let (leased, loads, alarm) = self.take(most, now, due(now, visibility));
            for (queue, load) in loads {
                tokio::spawn(fill(Arc::clone(&self.shared), queue, load, WINDOW));
            }
            if !leased.is_empty() {
                return deliver(&self.shared, leased).await;
            }
            let pause = alarm
                .map_or(LOOK, |at| Duration::from_millis(at.saturating_sub(now).try_into().unwrap_or(0)));
            // A permit of the notification is kept: whatever happened since the look is seen at once.
            let _ = tokio::time::timeout(pause.min(LOOK), self.wake.notified()).await;
        }
    }

    fn take(
        &self,
        most: usize,
        now: Millis,
        until: Millis,
    ) -> (Vec<Leased>, Vec<(u32, Load)>, Option<Millis>) {
        let mut state = self.shared.state.lock();
        state.pass(self.kind, now);
        let leased: Vec<_> = std::iter::from_fn(|| state.next(self.kind, until)).take(most).collect();
        let loads = state.loads(self.kind);
        // Whoever asks next need not be woken for what is left.
        (leased, loads, state.next_alarm(self.kind))
    }

    /// Hands out nothing of a queue until then, milliseconds since the Unix epoch; what is in somebody's hand stays there.
    pub fn pause(&self, queue: &QueueName, until_ms: i64) {
        self.with(queue, |queue| queue.paused_until = until_ms);
    }

    /// Hands out at most so many messages of a queue at once.
    pub fn limit(&self, queue: &QueueName, leases: usize) {
        self.with(queue, |queue| queue.limit = leases);
    }

    fn with(&self, name: &QueueName, change: impl FnOnce(&mut crate::state::Queue)) {
        let mut state = self.shared.state.lock();
        if let Some(id) = state.id(name) {
            state.change(id, change);
        }
    }

    /// Has [`Consumer::receive`] look at the clock: for clocks that are set by hand.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Reads what memory does not hold.
pub(crate) async fn deliver(shared: &Arc<Shared>, leased: Vec<Leased>) -> Result<Vec<Delivery>, Error> {
    let missing: Vec<Key> = leased
        .iter()
        .filter(|one| one.entry.content.is_none())
        .map(|one| Key { queue: one.queue, number: one.entry.number })
        .collect();
    // From here on a message that is not delivered is given back.
    let mut deliveries: Vec<Delivery> =
        leased.into_iter().map(|leased| Delivery::new(Arc::clone(shared), leased)).collect();
    if missing.is_empty() {
        return Ok(deliveries);
    }
    let read = move |tx: &mut dyn store::Tx| missing.iter().map(|key| tables::one(tx, *key)).collect();
    let rows: Vec<Option<Stored>> = shared.store.read(read).await?;
    let mut rows = rows.into_iter();
    for delivery in deliveries.iter_mut().filter(|delivery| !delivery.is_complete()) {
        match rows.next().flatten().map(Content::of) {
            Some(content) => delivery.complete(content),
            // It was removed where it lies.
            None => delivery.is_gone(),
        }
    }
    deliveries.retain(Delivery::is_complete);
    Ok(deliveries)
}

/// Reads a part of a queue into its window.
pub(crate) async fn fill(shared: Arc<Shared>, queue: u32, load: Load, most: usize) {
    let read = move |tx: &mut dyn store::Tx| match load {
        Load::Ready(above) => tables::ready(tx, queue, above, most),
        Load::Delayed(due, number) => tables::delayed(tx, queue, (due, number), most),
    };
    let found: Result<Vec<Stored>, store::Error> = shared.store.read(read).await;
    let found = found.inspect_err(|error| tracing::error!(%error, "a queue cannot be read")).ok();
    let failed = found.is_none();
    let in_order = shared.state.lock().get(queue).is_some_and(|queue| queue.in_order);
    let entries = found.map(|rows| {
        let entry = |row: Stored| {
            let Stored { number, sent, due, attempts, .. } = row;
            let group = in_order.then(|| group_of(&row.head));
            let content = keep(Content::of(row), &shared.kept);
            Entry { number, sent, due, attempts, first: 0, group, content }
        };
        rows.into_iter().map(entry).collect()
    });
    if failed {
        // Tried again, but not at once.
        tokio::time::sleep(crate::limits::AGAIN).await;
    }
    let mut state = shared.state.lock();
    state.change(queue, |queue| queue.window.loaded(entries, most));
    if let Some(queue) = state.get(queue) {
        // Who waits for the disk sees what it had, or that it had nothing.
        queue.wake.notify_waiters();
    }
}
