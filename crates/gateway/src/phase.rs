//! How far the server's end has come.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What every connection watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    Open,
    /// What runs may finish; what is new is refused.
    Draining,
    /// Over.
    Closed,
}

/// The phase, to look at without waiting and to wait for.
pub(crate) struct Phases {
    changes: watch::Sender<Phase>,
    /// The same as a flag: a request looks at it, and must not touch a lock.
    draining: AtomicBool,
}

impl Phases {
    pub(crate) fn new() -> Self {
        Self { changes: watch::Sender::new(Phase::Open), draining: AtomicBool::new(false) }
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.draining.store(phase != Phase::Open, Ordering::Relaxed);
        self.changes.send_replace(phase);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.changes.subscribe()
    }
}

/// Returns once the phase is at least this far. A gateway that is gone is closed.
pub(crate) async fn reached(watch: &mut watch::Receiver<Phase>, phase: Phase) {
    // An error means that the sender is gone.
    let _ = watch.wait_for(|now| *now >= phase).await;
}
