//! What can go wrong, once; each interface has its own words for it.

use base::Kind;

/// A refused or failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such function, version or URL; the text names the ARN.
    #[error("Function not found: {0}")]
    FunctionNotFound(String),
    /// Another thing than a function is missing.
    #[error("{0}")]
    NotFound(String),
    /// The version has no provisioned concurrency.
    #[error("No Provisioned Concurrency Config found for this function")]
    ProvisionedNotFound,
    /// The account has as many bytes of packages as it may.
    #[error("{0}")]
    CodeStorageExceeded(String),
    /// The function has as many aliases as it may.
    #[error("{0}")]
    TooManyAliases(String),
    /// There is no such code signing configuration.
    #[error("{0}")]
    CodeSigningConfigNotFound(String),
    /// The package is not what was signed.
    #[error("{0}")]
    InvalidSignature(String),
    /// The package was not signed by whom the function takes packages from.
    #[error("{0}")]
    CodeVerificationFailed(String),
    /// It exists already.
    #[error("{0}")]
    AlreadyExists(String),
    /// The state of the thing forbids it for now (an update is in progress, Pending).
    #[error("{0}")]
    Conflict(String),
    /// `RevisionId` is not the current one.
    #[error("{0}")]
    PreconditionFailed(String),
    /// The function is not `Active`.
    #[error("{0}")]
    NotReady(String),
    /// A rule is broken.
    #[error("{0}")]
    Invalid(String),
    /// The package cannot be unpacked or is hostile.
    #[error("{0}")]
    InvalidPackage(String),
    /// The runtime is unknown, or the host lacks it; the text lists what there is.
    #[error("{0}")]
    InvalidRuntime(String),
    /// The event is not JSON.
    #[error("{0}")]
    InvalidJson(String),
    /// The event or request is over the limit.
    #[error("{0}")]
    PayloadTooLarge(String),
    /// The package is over a limit.
    #[error("{0}")]
    CodeTooLarge(String),
    /// A resource policy would be over the limit.
    #[error("{0}")]
    PolicyTooLong(String),
    /// The caller may not.
    #[error("{0}")]
    Denied(String),
    /// The call is one of a circle that has come round too often.
    #[error("{0}")]
    Recursive(String),
    /// Queue or instances are at their bound.
    #[error("{reason}")]
    Throttled {
        /// Lambda's reason code, for example `ConcurrentInvocationLimitExceeded`.
        code: &'static str,
        /// For people.
        reason: String,
        /// Milliseconds after which trying again makes sense.
        retry_after_ms: u64,
    },
    /// The server is stopping, or the host cannot start instances.
    #[error("{0}")]
    Unavailable(String),
    /// A public HTTP request reached the function and ran into its `Timeout` before there was an answer
    /// (a gateway's 504).
    #[error("{0}")]
    TimedOut(String),
    /// A public HTTP request was answered by no response: the function exited, trapped, did not come up, or
    /// did not speak HTTP (a gateway's 502).
    #[error("{message}")]
    Failed {
        /// Lambda's error type, for example `Runtime.ExitError`.
        error_type: String,
        /// For people; nothing of the host's.
        message: String,
    },
    /// A defect or a broken host; the detail is in the log.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::FunctionNotFound(_)
            | Self::NotFound(_)
            | Self::CodeSigningConfigNotFound(_)
            | Self::ProvisionedNotFound => Kind::NotFound,
            Self::AlreadyExists(_) | Self::Conflict(_) | Self::NotReady(_) | Self::PreconditionFailed(_) => {
                Kind::Conflict
            }
            Self::Invalid(_)
            | Self::InvalidPackage(_)
            | Self::InvalidSignature(_)
            | Self::CodeVerificationFailed(_)
            | Self::InvalidRuntime(_)
            | Self::InvalidJson(_)
            | Self::PayloadTooLarge(_) => Kind::Invalid,
            Self::CodeTooLarge(_)
            | Self::PolicyTooLong(_)
            | Self::TooManyAliases(_)
            | Self::CodeStorageExceeded(_)
            | Self::Recursive(_) => Kind::LimitExceeded,
            Self::Denied(_) => Kind::Denied,
            Self::Throttled { .. } => Kind::Throttled,
            Self::Unavailable(_) | Self::TimedOut(_) | Self::Failed { .. } => Kind::Unavailable,
            Self::Internal(_) => Kind::Internal,
        }
    }
}

impl Error {
    /// A defect or a broken host, with what was being done.
    pub(crate) fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl From<queues::Error> for Error {
    fn from(error: queues::Error) -> Self {
        match error.kind() {
            Kind::Unavailable => Self::Unavailable("The event could not be written down.".into()),
            _ => Self::Internal(Box::new(error)),
        }
    }
}
