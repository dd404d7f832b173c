//! What can go wrong, once; the API has its own names for it.

use base::Kind;
use observe::LogsError;

/// A refused or failed operation. The texts are CloudWatch Logs' own where they are known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A group, stream or filter is not there.
    #[error("{0}")]
    NotFound(&'static str),
    /// There is one of that name.
    #[error("{0}")]
    AlreadyExists(&'static str),
    /// A rule is broken.
    #[error("{0}")]
    Invalid(String),
    /// More than there may be.
    #[error("{0}")]
    LimitExceeded(String),
    /// More tags than a group may have.
    #[error("{0}")]
    TooManyTags(String),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] store::Error),
    /// The files failed.
    #[error("{context}")]
    Files {
        /// What was being done.
        context: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::AlreadyExists(_) => Kind::Conflict,
            Self::Invalid(_) => Kind::Invalid,
            Self::LimitExceeded(_) | Self::TooManyTags(_) => Kind::LimitExceeded,
            Self::Store(_) | Self::Files { .. } | Self::Internal(_) => Kind::Internal,
        }
    }

    pub(crate) fn no_group() -> Self {
        Self::NotFound("The specified log group does not exist.")
    }

    pub(crate) fn no_stream() -> Self {
        Self::NotFound("The specified log stream does not exist.")
    }
}

impl From<LogsError> for Error {
    fn from(error: LogsError) -> Self {
        match error {
            LogsError::GroupNotFound => Self::no_group(),
            LogsError::StreamNotFound => Self::no_stream(),
            LogsError::GroupExists => Self::AlreadyExists("The specified log group already exists"),
            LogsError::InvalidToken => Self::Invalid("The specified nextToken is invalid.".to_owned()),
            LogsError::Io { context, source } => Self::Files { context, source },
        }
    }
}
