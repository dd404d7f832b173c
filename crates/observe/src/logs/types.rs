//! What is asked and answered about logs.

use std::sync::Arc;

use base::{Kind, Timestamp};

/// A log operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Nothing was ever logged under that name.
    #[error("The specified log group does not exist.")]
    GroupNotFound,
    /// There is one of that name.
    #[error("The specified log group already exists")]
    GroupExists,
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

impl LogsError {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::GroupNotFound | Self::StreamNotFound => Kind::NotFound,
            Self::GroupExists => Kind::Conflict,
            Self::InvalidToken => Kind::Invalid,
            Self::Io { .. } => Kind::Internal,
        }
    }
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
    /// At most so many events; 0 and what is over 10,000 mean 10,000.
    pub limit: usize,
    /// Only lines that it takes.
    pub matcher: Option<Matcher>,
    /// Streams that were deleted, each with the place (see [`super::Logs::end`]) before which none of its lines is shown.
    pub hidden: Arc<Vec<(String, String)>>,
}

/// Decides by a line's text.
#[derive(Clone)]
pub struct Matcher(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Matcher")
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique in its group, and in order.
    pub id: String,
    /// The stream it was written to.
    pub stream: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// When it arrived.
    pub ingested: Timestamp,
    /// The line without its end.
    pub message: String,
}

/// A page of lines in the order they were written. It may be empty and still have a next page, since the bytes
/// looked through for one page are bounded.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// The lines.
    pub events: Vec<Event>,
    /// Where the next page starts; `None` at the end of what is written so far.
    pub next_token: Option<String>,
    /// A token for a later look, always there: where this page ended, even at the end of what is written.
    pub resume: String,
    /// A token of where this page began: [`super::Logs::before`] reads on backward from it.
    pub start: String,
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
    /// When its first line arrived.
    pub first_ingested: Timestamp,
    /// When its last line arrived.
    pub last_ingested: Timestamp,
}

/// Adds what was being done to an I/O error.
pub(super) fn io_error(context: impl FnOnce() -> String) -> impl FnOnce(std::io::Error) -> LogsError {
    move |source| LogsError::Io { context: context(), source }
}
