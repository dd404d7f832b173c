//! An instance's end: who waits for it and what it takes along.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::stream::Slot;

/// Whether the instance lives, and its calls under way.
#[derive(Default)]
pub(crate) struct Life {
    stopped: AtomicBool,
    ended: Notify,
    active: AtomicUsize,
    idle: Notify,
    streams: Mutex<Vec<Weak<Slot>>>,
}

/// While this lives a call is under way.
pub(crate) struct Active<'a>(&'a Life);

impl Life {
    pub(crate) fn enter(&self) -> Active<'_> {
        self.active.fetch_add(1, SeqCst);
        Active(self)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    /// Resolves when the instance is stopped.
    pub(crate) async fn over(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_over() {
                return;
            }
            ended.await;
        }
    }

    /// Notes a guest that goes on after its call has returned.
    pub(crate) fn watch(&self, slot: Weak<Slot>) {
        let mut streams = self.streams.lock();
        if streams.len() == streams.capacity() {
            streams.retain(|slot| slot.strong_count() > 0);
        }
        streams.push(slot.clone());
        drop(streams);
        // Either `end` found it in the list or it is found ended here.
        if self.is_over()
            && let Some(slot) = slot.upgrade()
        {
            slot.stop();
        }
    }

    /// Ends guests that stream and tells calls under way to end.
    pub(crate) fn end(&self) {
        self.stopped.store(true, SeqCst);
        self.ended.notify_waiters();
        let streams = std::mem::take(&mut *self.streams.lock());
        for slot in streams.iter().filter_map(Weak::upgrade) {
            slot.stop();
        }
    }

    /// Resolves when no call is under way.
    pub(crate) async fn quiet(&self) {
        loop {
            let idle = self.idle.notified();
            if self.active.load(SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, SeqCst) == 1 && self.0.is_over() {
            self.0.idle.notify_waiters();
        }
    }
}
