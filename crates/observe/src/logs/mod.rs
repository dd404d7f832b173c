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
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use base::{AccountId, Clock};
use parking_lot::Mutex;

use group::{Group, OpenFiles};
pub use stream::LogStream;
pub use types::{Event, EventPage, GroupInfo, LogsError, Query, StreamInfo};

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
}

impl Logs {
    /// Opens or makes the folder.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, LogsError> {
        names::make_folder(dir)
            .map_err(types::io_error(|| format!("cannot make the folder {}", dir.display())))?;
        let inner =
            Inner { dir: dir.to_owned(), clock, groups: Mutex::default(), open_files: Arc::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A writer for one instance's lines. Makes the group with its first line.
    pub fn stream(&self, account: &AccountId, group: &str, stream: &str) -> LogStream {
        let folder = self.folder(account, group);
        let mut groups = self.inner.groups.lock();
        let known = groups.get(&folder).and_then(Weak::upgrade);
        let group = known.unwrap_or_else(|| {
            groups.retain(|_, group| group.strong_count() > 0);
            let group = Arc::new(Group::new(folder.clone(), self.inner.open_files.clone()));
            groups.insert(folder, Arc::downgrade(&group));
            group
        });
        LogStream::new(group, stream, self.inner.clock.clone())
    }

    /// Reads lines. Blocking file I/O: call it off the async threads.
    pub fn filter(&self, account: &AccountId, group: &str, query: &Query) -> Result<EventPage, LogsError> {
        read::filter(&self.folder(account, group), query)
    }

    /// Groups whose name starts so, in order.
    pub fn groups(&self, account: &AccountId, prefix: &str) -> Result<Vec<GroupInfo>, LogsError> {
        let mut groups = Vec::new();
        for (name, folder) in names::groups(&self.inner.dir.join(account.as_str()))? {
            if name.starts_with(prefix) {
                groups.push(read::group_info(name, &folder)?);
            }
        }
        groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// Streams of a group, the newest last line first; at most the 10,000 newest.
    pub fn streams(&self, account: &AccountId, group: &str) -> Result<Vec<StreamInfo>, LogsError> {
        read::streams(&self.folder(account, group))
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
