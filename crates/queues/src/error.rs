//! What can go wrong.

use base::Kind;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A head or a body over its limit.
    #[error("a message's {what} may have at most {limit} bytes")]
    TooLarge {
        /// `head` or `body`.
        what: &'static str,
        /// Bytes.
        limit: usize,
    },
    /// The database or the file system refused or failed. Nothing of the change is kept.
    #[error("the queue's store failed")]
    Store(#[from] store::Error),
    /// Another change of the same transaction failed, or the transaction did. Nothing of it is kept.
    #[error("the change was not written: {0}")]
    NotWritten(String),
    /// There are as many queues as there can be; those without messages are forgotten at the next start.
    #[error("there are too many queues")]
    TooMany,
    /// The queues are closed.
    #[error("the queues are closed")]
    Closed,
    /// A row is not what the code wrote.
    #[error("damaged: {0}")]
    Damaged(String),
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::TooLarge { .. } => Kind::Invalid,
            Self::Store(error) => error.kind(),
            Self::TooMany => Kind::LimitExceeded,
            Self::NotWritten(_) | Self::Closed => Kind::Unavailable,
            Self::Damaged(_) => Kind::Internal,
        }
    }
}
