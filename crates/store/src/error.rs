//! Errors of the store.

use base::Kind;

/// A statement, a commit or a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or failed.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file system refused or failed.
    #[error("{context}")]
    Io {
        /// What was being done.
        context: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The schema on disk was written by a newer Virga, or a migration was altered.
    #[error("schema: {0}")]
    Schema(String),
    /// A column holds what the code does not expect.
    #[error("column {column}: {problem}")]
    Column {
        /// Index in the row, from 0.
        column: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A statement that a transaction may not run, or whose parameters do not fit it.
    #[error("statement: {0}")]
    Statement(String),
    /// The transaction would hold more bytes than one may: large bodies belong into [`crate::Blobs`].
    #[error("a transaction may write at most {0} bytes")]
    TooLarge(usize),
    /// A statement was run after an earlier one had failed.
    #[error("the transaction is dead since an earlier statement failed")]
    Dead,
    /// The closure panicked; nothing of it was kept.
    #[error("the transaction's closure panicked: {0}")]
    Panicked(String),
    /// The transaction was rolled back for a reason outside the closure (disk full, file locked); it may be
    /// tried again.
    #[error("nothing was kept: {0}")]
    RolledBack(String),
    /// The writer is gone: an earlier commit failed, and a failed fsync must not be taken for retryable.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

impl Error {
    /// The kind of failure.
    ///
    /// Constraint violations count as internal: a noun checks its rules before it writes.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Stopped(_) | Self::RolledBack(_) => Kind::Unavailable,
            Self::TooLarge(_) => Kind::LimitExceeded,
            _ => Kind::Internal,
        }
    }
}

/// Adds what was being done to an I/O error.
pub(crate) fn io_error(context: impl FnOnce() -> String) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { context: context(), source }
}
