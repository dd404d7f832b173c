//! Function logs: append-only files, one folder a log group.

use std::path::Path;
use std::sync::Arc;

use base::{AccountId, Clock, Timestamp};

/// Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    _inner: Arc<()>,
}

/// A log operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Nothing was ever logged under that name.
    #[error("The specified log group does not exist.")]
    GroupNotFound,
    /// The group is there, the stream is not.
    #[error("The specified log stream does not exist.")]
    StreamNotFound,
    /// A token was not made here.
    #[error("The specified nextToken is invalid.")]
    InvalidToken,
    /// The file system failed.
    #[error("{context}")]
    Io {
        /// What was being done.
        context: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only these streams (empty: all).
    pub streams: Vec<String>,
    /// Only streams whose name starts so.
    pub stream_prefix: Option<String>,
    /// From this time on, inclusive.
    pub start: Option<Timestamp>,
    /// Up to this time, inclusive.
    pub end: Option<Timestamp>,
    /// From where an earlier page ended.
    pub next_token: Option<String>,
    /// At most so many events.
    pub limit: usize,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique in its group, and in order.
    pub id: String,
    /// The stream it was written to.
    pub stream: String,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The line without its end.
    pub message: String,
}

/// A page of lines in the order they were written.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// The lines.
    pub events: Vec<Event>,
    /// Where the next page starts; `None` at the end of what is written so far.
    pub next_token: Option<String>,
    /// A token for a later look, always there: where this page ended, even at the end of what is written.
    pub resume: String,
}

/// A log group.
#[derive(Debug, Clone)]
pub struct GroupInfo {
    /// For example `/aws/lambda/hello`.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes on disk.
    pub stored_bytes: u64,
}

/// A log stream.
#[derive(Debug, Clone)]
pub struct StreamInfo {
    /// For example `2026/11/20/[$LATEST]0123…`.
    pub name: String,
    /// Time of its first line.
    pub first_event: Timestamp,
    /// Time of its last line.
    pub last_event: Timestamp,
}

impl Logs {
    /// Opens or makes the folder.
    pub fn open(_dir: &Path, _clock: Arc<dyn Clock>) -> Result<Self, LogsError> {
        unimplemented!()
    }

    /// A writer for one instance's lines. Makes the group with its first line.
    pub fn stream(&self, _account: &AccountId, _group: &str, _stream: &str) -> LogStream {
        unimplemented!()
    }

    /// Reads lines. Blocking file I/O: call it off the async threads.
    pub fn filter(&self, _account: &AccountId, _group: &str, _query: &Query) -> Result<EventPage, LogsError> {
        unimplemented!()
    }

    /// Groups whose name starts so, in order.
    pub fn groups(&self, _account: &AccountId, _prefix: &str) -> Result<Vec<GroupInfo>, LogsError> {
        unimplemented!()
    }

    /// Streams of a group, the newest last line first.
    pub fn streams(&self, _account: &AccountId, _group: &str) -> Result<Vec<StreamInfo>, LogsError> {
        unimplemented!()
    }
}

/// Writes one stream. Every method returns once the bytes are with the kernel: a crash of the server loses
/// nothing that was written, a crash of the host may.
pub struct LogStream {}

impl LogStream {
    /// Takes output as it comes, cuts it at line ends; a line over 256 KiB is cut.
    pub fn write(&self, _chunk: &[u8]) {
        unimplemented!()
    }

    /// Writes what an unfinished last line holds.
    pub fn flush(&self) {
        unimplemented!()
    }

    /// Writes a line of the platform's own (START, END, REPORT), after flushing.
    pub fn line(&self, _text: &str) {
        unimplemented!()
    }

    /// Forgets the tail: a call begins.
    pub fn begin_tail(&self) {
        unimplemented!()
    }

    /// The last 4 KiB written since [`LogStream::begin_tail`], from the start of a line.
    pub fn tail(&self) -> Vec<u8> {
        unimplemented!()
    }
}
