//! Errors of preparing and starting; those of a call are [`crate::Fault`].

use base::Kind;
use bytes::Bytes;

use crate::Exit;

/// Preparing an artifact failed, or the host cannot run it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The artifact cannot run as asked; the text is for its owner.
    #[error("{0}")]
    Invalid(String),
    /// The host lacks what isolation needs; the text is for the operator.
    #[error("{0}")]
    Unavailable(String),
    /// The host cannot say yet whether the artifact can run; asking again may help. The text is for its owner.
    #[error("{0}")]
    NotYet(String),
    /// The host failed at something that should work.
    #[error("{context}")]
    Host {
        /// What was being done.
        context: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::Invalid,
            Self::Unavailable(_) | Self::NotYet(_) => Kind::Unavailable,
            Self::Host { .. } => Kind::Internal,
        }
    }

    /// Wraps a system error with what was being done.
    pub fn host(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let context = context.into();
        move |source| Self::Host { context, source }
    }
}

/// Why an instance did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The runtime client reported an error of initialisation (`/runtime/init/error`).
    #[error("initialisation failed")]
    Init {
        /// The report: JSON with `errorType` and `errorMessage`.
        json: Bytes,
        /// `Lambda-Runtime-Function-Error-Type`, where it was given.
        error_type: Option<String>,
    },
    /// The process ended before it was ready.
    #[error("the process ended during initialisation")]
    Exited(Exit),
    /// Initialisation took longer than its time-out.
    #[error("initialisation timed out")]
    TimedOut,
    /// The entry point cannot be started: not there, not executable, not for this machine.
    #[error("{0}")]
    Entrypoint(String),
    /// The host failed or refused.
    #[error(transparent)]
    Sandbox(#[from] Error),
}
