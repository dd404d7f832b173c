//! When something may be made behind everybody's back.
//!
//! What Virga makes so that later starts are fast (templates, compiled code) takes a processor from those who wait
//! for an answer: one thing is made at a time, and only once no start has been for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// How long it has to be quiet before something is made.
const REST: Duration = Duration::from_millis(200);
/// How often it may not have been quiet before it is made nevertheless.
const PATIENCE: u32 = 50;

/// Gives out turns. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Shared>);

struct Shared {
    /// Counts starts.
    starts: AtomicU64,
    turn: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Shared { starts: AtomicU64::new(0), turn: Semaphore::new(1) }))
    }
}

impl Turns {
    /// An instance is started.
    pub(crate) fn start(&self) {
        self.0.starts.fetch_add(1, Ordering::Relaxed);
    }

    /// The next turn, once it is quiet. It ends when it is dropped.
    pub(crate) async fn next(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.0.turn.acquire().await.ok()?;
        let mut before = self.0.starts.load(Ordering::Relaxed);
        for _ in 0..PATIENCE {
            tokio::time::sleep(REST).await;
            let now = self.0.starts.load(Ordering::Relaxed);
            if now == before {
                break;
            }
            before = now;
        }
        Some(turn)
    }
}
