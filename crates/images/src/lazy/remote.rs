//! Where an image's parts come from, and how that went.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::meter::{Meter, Outcome};
use crate::reference::Name;
use crate::registry::{Access, Connector, Credentials, Part, Ranged, Session};
use crate::{Digest, Error, limits};

/// Whether somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    Now,
    /// Somebody waited for it once.
    Ahead,
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
    ahead: Semaphore,
    whenever: Semaphore,
    /// MiB that may be held of what is on its way.
    memory: Semaphore,
    /// Bytes and parts that came.
    fetched: AtomicU64,
    parts: AtomicU64,
    waiting: Waiting,
    /// When somebody was last told of trouble.
    told: Mutex<Option<Instant>>,
    complain: Complaint,
    meter: Arc<dyn Meter>,
}

/// A run's leave to be asked for.
pub(crate) struct Turn<'a> {
    _turn: Option<SemaphorePermit<'a>>,
    _memory: Option<SemaphorePermit<'a>>,
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
        meter: Arc<dyn Meter>,
    ) -> Self {
        Self {
            connector,
            name,
            credentials,
            session: tokio::sync::Mutex::default(),
            now: Semaphore::new(limits::RUNS_AT_ONCE),
            ahead: Semaphore::new(limits::RUNS_AHEAD),
            whenever: Semaphore::new(1),
            memory: Semaphore::new(limits::RUNS_MIB as usize),
            fetched: AtomicU64::new(0),
            parts: AtomicU64::new(0),
            waiting: Waiting::default(),
            told: Mutex::default(),
            complain,
            meter,
        }
    }

    /// A part of a blob. One try.
    pub(crate) async fn range(&self, blob: &Digest, from: u64, length: u64) -> Result<Part, Error> {
        let session = self.session().await?;
        match session.range(blob, from, length).await {
            Ok(Ranged::Part(part)) => Ok(part),
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

    /// Bounds what is asked for at the same time, and what is held in memory of it: so many bytes of this.
    pub(crate) async fn turn(&self, urgency: Urgency, bytes: u64) -> Turn<'_> {
        let turns = match urgency {
            Urgency::Now => &self.now,
            Urgency::Ahead => &self.ahead,
            Urgency::Whenever => &self.whenever,
        };
        let memory = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX).clamp(1, limits::RUNS_MIB);
        // Nobody closes them.
        Turn { _turn: turns.acquire().await.ok(), _memory: self.memory.acquire_many(memory).await.ok() }
    }

    /// Bytes came.
    pub(crate) fn received(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
        self.meter.received(bytes);
    }

    /// A part came, and was what it should be.
    pub(crate) fn came(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
        self.meter.part();
    }

    /// Parts that came.
    pub(crate) fn parts(&self) -> u64 {
        self.parts.load(Ordering::Relaxed)
    }

    /// How a run went.
    pub(crate) fn measure(&self, took: Duration, failure: Option<&Error>) {
        self.meter.run(took, Outcome::of(failure));
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

    /// Says that parts could not be had, once in a while.
    pub(crate) fn trouble(&self, error: &Error) {
        {
            let mut told = self.told.lock();
            if told.is_some_and(|told| told.elapsed() < limits::TELL_EVERY) {
                return;
            }
            *told = Some(Instant::now());
        }
        let detail = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(image = %self.name, %error, detail, "a part of an image could not be had");
        (self.complain)(&error.to_string());
    }
}

/// Waits for work as long as something comes of it, by a number that grows.
pub(crate) async fn patiently<T>(work: impl Future<Output = T>, come: impl Fn() -> u64) -> Result<T, Error> {
    let mut work = std::pin::pin!(work);
    loop {
        let before = come();
        match tokio::time::timeout(limits::PART_PATIENCE, &mut work).await {
            Ok(done) => return Ok(done),
            Err(_) if come() > before => {}
            Err(_) => {
                let seconds = limits::PART_PATIENCE.as_secs();
                return Err(Error::Unreachable(format!(
                    "a part of the image did not come within {seconds} s"
                )));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_lasts_as_long_as_something_comes() {
        let came = AtomicU64::new(0);
        let slow = async {
            for _ in 0..5 {
                tokio::time::sleep(limits::PART_PATIENCE * 9 / 10).await;
                came.fetch_add(1, Ordering::Relaxed);
            }
        };
        patiently(slow, || came.load(Ordering::Relaxed)).await.unwrap();
        let since = tokio::time::Instant::now();
        let error = patiently(std::future::pending::<()>(), || 0).await.unwrap_err();
        assert!(error.to_string().contains("within 60 s"), "{error}");
        assert_eq!(since.elapsed().as_secs(), limits::PART_PATIENCE.as_secs());
    }
}
