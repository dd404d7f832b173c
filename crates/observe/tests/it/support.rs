//! A folder of logs, a clock that tests set, and short ways to write and read.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::{AccountId, Clock, Timestamp};
use observe::{EventPage, Logs, Query};

pub(crate) const GROUP: &str = "/aws/lambda/hello";

pub(crate) struct FakeClock(AtomicI64);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) logs: Logs,
}

pub(crate) fn account() -> AccountId {
    AccountId::parse("123456789012").unwrap()
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock(AtomicI64::new(1000)));
        let logs = Logs::open(dir.path(), clock.clone()).unwrap();
        Self { dir, clock, logs }
    }

    pub(crate) fn set_time(&self, milliseconds: i64) {
        self.clock.0.store(milliseconds, Ordering::SeqCst);
    }

    /// The same folder, as a server that starts anew finds it.
    pub(crate) fn reopened(&self) -> Logs {
        Logs::open(self.dir.path(), self.clock.clone()).unwrap()
    }

    pub(crate) fn log(&self, stream: &str, text: &str) {
        self.logs.stream(&account(), GROUP, stream).line(text);
    }

    pub(crate) fn page(&self, query: &Query) -> EventPage {
        self.logs.filter(&account(), GROUP, query).unwrap()
    }

    pub(crate) fn messages(&self, query: &Query) -> Vec<String> {
        self.page(query).events.into_iter().map(|event| event.message).collect()
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.messages(&Query::default())
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("123456789012").join("+aws+lambda+hello")
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        segments.sort();
        segments
    }
}
