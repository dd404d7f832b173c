//! What can go wrong, once; the API has its own names for it in each protocol.

use base::Kind;

/// Why a request is refused, in SQS's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// There is no mailbox of that name.
    NonExistentQueue,
    /// There is one, with other attributes.
    QueueNameExists,
    /// An attribute that there is not.
    InvalidAttributeName,
    /// An attribute's value.
    InvalidAttributeValue,
    /// Another value.
    InvalidParameterValue,
    /// Something has to be said.
    MissingParameter,
    /// Not with this kind of mailbox.
    UnsupportedOperation,
    /// Not a handle that was given out for this mailbox.
    ReceiptHandleIsInvalid,
    /// The message is in nobody's hand.
    MessageNotInflight,
    /// More than there may be.
    OverLimit,
    /// It was purged less than a minute ago.
    PurgeQueueInProgress,
    /// Characters that a body cannot have.
    InvalidMessageContents,
    /// More than ten.
    TooManyEntriesInBatchRequest,
    /// None.
    EmptyBatchRequest,
    /// Two entries have one id.
    BatchEntryIdsNotDistinct,
    /// An entry's id.
    InvalidBatchEntryId,
    /// All messages of a batch together.
    BatchRequestTooLong,
    /// The caller may not.
    AccessDenied,
    /// Another thing than a mailbox is not there.
    ResourceNotFound,
}

/// A refused or failed operation. The texts are SQS's own where they are known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is refused.
    #[error("{1}")]
    Refused(Fault, String),
    /// The queues failed.
    #[error("the queues failed")]
    Queues(#[from] queues::Error),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] store::Error),
    /// A row is not what the code wrote.
    #[error("damaged: {0}")]
    Damaged(String),
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused(fault, _) => fault.kind(),
            Self::Queues(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Damaged(_) => Kind::Internal,
        }
    }
}

impl Fault {
    /// A refusal with these words.
    pub(crate) fn because(self, message: impl Into<String>) -> Error {
        Error::Refused(self, message.into())
    }

    fn kind(self) -> Kind {
        match self {
            Self::NonExistentQueue | Self::ResourceNotFound => Kind::NotFound,
            Self::QueueNameExists | Self::PurgeQueueInProgress => Kind::Conflict,
            Self::AccessDenied => Kind::Denied,
            Self::OverLimit => Kind::LimitExceeded,
            _ => Kind::Invalid,
        }
    }
}

pub(crate) fn no_queue() -> Error {
    Fault::NonExistentQueue.because("The specified queue does not exist.")
}

/// SQS's words for a parameter's value.
pub(crate) fn invalid(value: impl std::fmt::Display, parameter: &str, reason: &str) -> Error {
    Fault::InvalidParameterValue
        .because(format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}"))
}

pub(crate) fn missing(parameter: &str) -> Error {
    Fault::MissingParameter.because(format!("The request must contain the parameter {parameter}."))
}
