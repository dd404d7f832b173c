//! Function logs: append-only files, one folder a log group.
//!
//! `DIR/ACCOUNT/GROUP/0000000001.log`, the number counting up. A segment is closed at 8 MiB and the oldest of
//! more than eight removed, so that a group's bytes are bounded. All streams of a group share its segments:
//! reading them together, which is what people do, is reading one file forward. A line's place (segment and
//! offset) is its id and the token to go on from.

mod group;
mod names;
mod read;
mod record;
mod stream;
mod tail;
mod types;

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use base::{AccountId, Clock, Timestamp};
use parking_lot::Mutex;

use group::{Group, OpenFiles};
pub use stream::LogStream;
pub use types::{Event, EventPage, GroupInfo, LogsError, Matcher, Query, StreamInfo};

/// Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    /// Groups that streams write to, by folder: one object a folder, so that lines do not interleave.
    groups: Mutex<HashMap<PathBuf, Weak<Group>>>,
    open_files: Arc<OpenFiles>,
    /// Counts folders that are being removed.
    removals: AtomicU64,
}

/// Where folders of deleted groups wait to be removed. No account is called so.
const REMOVED: &str = "removed";

impl Logs {
    /// Opens or makes the folder.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, LogsError> {
        let removed = dir.join(REMOVED);
        let made = match fs::remove_dir_all(&removed) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => names::make_folder(&removed),
        };
        made.map_err(types::io_error(|| format!("cannot make the folder {}", removed.display())))?;
        let inner = Inner {
            dir: dir.to_owned(),
            clock,
            groups: Mutex::default(),
            open_files: Arc::default(),
            removals: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A writer for one instance's lines. Makes the group with its first line.
    pub fn stream(&self, account: &AccountId, group: &str, stream: &str) -> LogStream {
        LogStream::new(self.group(account, group), stream, self.inner.clock.clone())
    }

    /// Writes events into a group that is there, with one call to the kernel: when this returns they are with the
    /// kernel, all of them. Blocking file I/O, as everything below.
    pub fn put<'a>(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        events: impl IntoIterator<Item = (Timestamp, &'a str)>,
    ) -> Result<(), LogsError> {
        let (now, mut name, mut records) = (self.inner.clock.now(), Vec::new(), Vec::new());
        record::escape(&mut name, stream.as_bytes());
        for (time, message) in events {
            record::write_late(&mut records, time, now, &name, message.as_bytes());
        }
        let written = self.group(account, group).append_existing(now, &records);
        written.map_err(|error| self.failed(account, group, error))
    }

    /// Makes a group. It is on the disk when this returns.
    pub fn create_group(&self, account: &AccountId, group: &str) -> Result<(), LogsError> {
        let made = self.group(account, group).create(self.inner.clock.now());
        made.map_err(|error| self.failed(account, group, error))?.then_some(()).ok_or(LogsError::GroupExists)
    }

    /// Removes a group with all its lines. A stream that is still written to makes it anew with its next line.
    pub fn delete_group(&self, account: &AccountId, group: &str) -> Result<(), LogsError> {
        let number = self.inner.removals.fetch_add(1, Ordering::Relaxed);
        let removed = self.inner.dir.join(REMOVED).join(number.to_string());
        self.group(account, group).move_away(&removed).map_err(|error| self.failed(account, group, error))?;
        fs::remove_dir_all(&removed)
            .map_err(types::io_error(|| format!("cannot remove the folder {}", removed.display())))
    }

    /// Whether there is such a group.
    pub fn has_group(&self, account: &AccountId, group: &str) -> bool {
        self.folder(account, group).join(group::CREATED).exists()
    }

    /// Removes what has arrived so long before `before` that nothing in it can be younger, whole segments at a time.
    pub fn expire(&self, account: &AccountId, group: &str, before: Timestamp) -> Result<(), LogsError> {
        self.group(account, group).hold(|folder| read::expire(folder, before))
    }

    /// Where the group's lines end now: a token like [`EventPage::resume`].
    pub fn end(&self, account: &AccountId, group: &str) -> Result<String, LogsError> {
        self.group(account, group).hold(|folder| Ok(read::end(folder)?.token()))
    }

    /// Reads lines forward from [`Query::next_token`], or the start.
    pub fn filter(&self, account: &AccountId, group: &str, query: &Query) -> Result<EventPage, LogsError> {
        read::filter(&self.folder(account, group), query)
    }

    /// Reads the page that ends at [`Query::next_token`], or the last one. Its `next_token` leads further back, and
    /// so does [`EventPage::start`].
    pub fn before(&self, account: &AccountId, group: &str, query: &Query) -> Result<EventPage, LogsError> {
        read::before(&self.folder(account, group), query)
    }

    /// What is known of a group without reading it.
    pub fn group_info(&self, account: &AccountId, group: &str) -> Result<GroupInfo, LogsError> {
        read::group_info(group.to_owned(), &self.folder(account, group))
    }

    /// The names of an account's groups that start so, in order.
    pub fn group_names(&self, account: &AccountId, prefix: &str) -> Result<Vec<String>, LogsError> {
        let all = names::groups(&self.inner.dir.join(account.as_str()))?;
        let mut names: Vec<_> =
            all.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Streams of a group, the newest last line first; at most the 10,000 newest. `hidden` as in [`Query::hidden`].
    pub fn streams(
        &self,
        account: &AccountId,
        group: &str,
        hidden: &[(String, String)],
    ) -> Result<Vec<StreamInfo>, LogsError> {
        read::streams(&self.folder(account, group), hidden)
    }

    /// The one object of this folder, so that lines do not interleave.
    fn group(&self, account: &AccountId, group: &str) -> Arc<Group> {
        let folder = self.folder(account, group);
        let mut groups = self.inner.groups.lock();
        groups.get(&folder).and_then(Weak::upgrade).unwrap_or_else(|| {
            groups.retain(|_, group| group.strong_count() > 0);
            let group = Arc::new(Group::new(folder.clone(), self.inner.open_files.clone()));
            groups.insert(folder, Arc::downgrade(&group));
            group
        })
    }

    fn failed(&self, account: &AccountId, group: &str, error: std::io::Error) -> LogsError {
        match error.kind() {
            ErrorKind::NotFound => LogsError::GroupNotFound,
            _ => types::io_error(|| format!("cannot write in {}", self.folder(account, group).display()))(
                error,
            ),
        }
    }

    fn folder(&self, account: &AccountId, group: &str) -> PathBuf {
        self.inner.dir.join(account.as_str()).join(names::folder(group))
    }
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}
