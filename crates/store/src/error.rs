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
    /// The writer is gone: an earlier commit failed, and a failed fsync must not be taken for retryable.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Stopped(_) => Kind::Unavailable,
            _ => Kind::Internal,
        }
    }
}
