//! Log groups in a folder, and a clock that tests set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::{AccountId, Clock, Timestamp};
use logs::{Direction, Error, GroupName, Logs, NewEvent, Page, Pattern, Rejected, Search};

/// The time at which a world begins, in milliseconds.
pub(crate) const NOW: i64 = 1_800_000_000_000;

pub(crate) const DAY: i64 = 24 * 60 * 60 * 1000;

pub(crate) struct FakeClock(AtomicI64);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) files: observe::Logs,
    pub(crate) logs: Logs,
}

pub(crate) fn account() -> AccountId {
    AccountId::parse("123456789012").unwrap()
}

pub(crate) fn group(name: &str) -> GroupName {
    GroupName { account: account(), name: name.to_owned() }
}

pub(crate) fn events(texts: &[(i64, &str)]) -> Vec<NewEvent> {
    texts
        .iter()
        .map(|(time, text)| NewEvent { timestamp: Timestamp(*time), message: (*text).to_owned() })
        .collect()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(dir: tempfile::TempDir) -> Self {
        let clock = Arc::new(FakeClock(AtomicI64::new(NOW)));
        let files = observe::Logs::open(&dir.path().join("logs"), clock.clone()).unwrap();
        let store = store::Store::open(&dir.path().join("db"), &[logs::MIGRATIONS]).unwrap();
        let logs = Logs::open(store, files.clone(), clock.clone());
        Self { dir, clock, files, logs }
    }

    /// The same folder, as a server that starts anew finds it.
    pub(crate) fn reopened(self) -> Self {
        let now = self.clock.now();
        let World { dir, logs, .. } = self;
        drop(logs);
        let new = Self::at(dir);
        new.set_time(now.as_millis());
        new
    }

    pub(crate) fn set_time(&self, milliseconds: i64) {
        self.clock.0.store(milliseconds, Ordering::SeqCst);
    }

    /// Makes a group `g` with a stream `s`.
    pub(crate) async fn with_stream(self) -> Self {
        self.logs.create_group(&group("g"), Default::default()).await.unwrap();
        self.logs.create_stream(&group("g"), "s").await.unwrap();
        self
    }

    pub(crate) async fn put(&self, stream: &str, texts: &[(i64, &str)]) -> Result<Rejected, Error> {
        self.logs.put_events(&group("g"), stream, events(texts)).await
    }

    pub(crate) async fn search(&self, search: Search) -> Result<Page, Error> {
        let most = if search.most == 0 { 10_000 } else { search.most };
        self.logs.search(&group("g"), Search { most, ..search }).await
    }

    pub(crate) async fn found(&self, search: Search) -> Vec<String> {
        messages(&self.search(search).await.unwrap())
    }

    pub(crate) async fn all(&self) -> Vec<String> {
        self.found(Search::default()).await
    }

    /// A page of the stream `s`.
    pub(crate) async fn page(&self, direction: Direction, token: Option<&str>, most: usize) -> Page {
        let search = Search { token: token.map(str::to_owned), most, ..Search::default() };
        self.logs.read_stream(&group("g"), "s", direction, search).await.unwrap()
    }
}

pub(crate) fn messages(page: &Page) -> Vec<String> {
    page.events.iter().map(|event| event.message.clone()).collect()
}

pub(crate) fn pattern(text: &str) -> Search {
    Search { pattern: Some(Arc::new(Pattern::parse(text).unwrap())), ..Search::default() }
}

/// The error's text.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}
