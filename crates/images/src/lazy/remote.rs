//! Where an image's parts come from, and how that went.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::reference::Name;
use crate::registry::{Access, Connector, Credentials, Ranged, Session};
use crate::{Digest, Error, limits};

/// Whether somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    Now,
    Whenever,
}

/// Whoever is to hear of what went wrong, for people.
pub(crate) type Complaint = Arc<dyn Fn(&str) + Send + Sync>;

/// One image's registry.
pub(crate) struct Remote {
    connector: Connector,
    name: Name,
    credentials: Option<PathBuf>,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    now: Semaphore,
    whenever: Semaphore,
    /// Bytes that came.
    fetched: AtomicU64,
    waiting: Waiting,
    complain: Complaint,
}

/// How long somebody has waited for bytes of an image. Waits at the same time count once.
#[derive(Default)]
struct Waiting {
    count: AtomicUsize,
    clock: Mutex<Clock>,
    over: Notify,
}

#[derive(Default)]
struct Clock {
    since: Option<Instant>,
    total: Duration,
}

/// Somebody waits, as long as this is kept.
pub(crate) struct Wait<'a>(&'a Waiting);

impl Remote {
    pub(crate) fn new(
        connector: Connector,
        name: Name,
        credentials: Option<PathBuf>,
        complain: Complaint,
    ) -> Self {
        Self {
            connector,
            name,
            credentials,
            session: tokio::sync::Mutex::default(),
            now: Semaphore::new(limits::RUNS_AT_ONCE),
            whenever: Semaphore::new(1),
            fetched: AtomicU64::new(0),
            waiting: Waiting::default(),
            complain,
        }
    }

    /// A part of a blob. One try.
    pub(crate) async fn range(&self, blob: &Digest, from: u64, length: u64) -> Result<Bytes, Error> {
        let session = self.session().await?;
        match session.range(blob, from, length).await {
            Ok(Ranged::Part(bytes)) => {
                self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Ok(bytes)
            }
            Ok(Ranged::Unsupported) => Err(Error::Unreachable(format!(
                "{} does not give parts of blobs any more",
                self.name.registry
            ))),
            Err(error) => {
                if matches!(error, Error::Denied(_)) {
                    // Credentials change; the next one reads them anew.
                    *self.session.lock().await = None;
                }
                Err(error)
            }
        }
    }

    async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let credentials = match &self.credentials {
            Some(path) => Credentials::read(path)?,
            None => Credentials::default(),
        };
        let login = credentials.find(&self.name.registry);
        let made = Arc::new(Session::new(self.connector.clone(), self.name.clone(), login, Access::Pull));
        *session = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Bounds what is asked for at the same time.
    pub(crate) async fn turn(&self, urgency: Urgency) -> Option<SemaphorePermit<'_>> {
        let turns = if urgency == Urgency::Now { &self.now } else { &self.whenever };
        // Nobody closes it.
        turns.acquire().await.ok()
    }

    /// Somebody begins to wait.
    pub(crate) fn wait(&self) -> Wait<'_> {
        let mut clock = self.waiting.clock.lock();
        if self.waiting.count.fetch_add(1, Ordering::AcqRel) == 0 {
            clock.since = Some(Instant::now());
        }
        Wait(&self.waiting)
    }

    /// How long somebody has waited, in all.
    pub(crate) fn waited(&self) -> Duration {
        let clock = self.waiting.clock.lock();
        clock.total + clock.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Bytes that came.
    pub(crate) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Resolves when nobody waits.
    pub(crate) async fn quiet(&self) {
        loop {
            let over = self.waiting.over.notified();
            if self.waiting.count.load(Ordering::Acquire) == 0 {
                return;
            }
            over.await;
        }
    }

    /// Says that parts could not be had.
    pub(crate) fn trouble(&self, error: &Error) {
        let detail = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(image = %self.name, %error, detail, "a part of an image could not be had");
        (self.complain)(&error.to_string());
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut clock = self.0.clock.lock();
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            let since = clock.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            clock.total += since;
            self.0.over.notify_waiters();
        }
    }
}
