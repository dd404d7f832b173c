//! Errors that decide the exit code; everything else is the user's to mend and exits with 2.

use std::process::ExitCode;

/// An error with an exit code of its own.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The function failed, or its deployment did: 1.
    Function(String),
    /// A step of a build failed, or it was interrupted: as a shell would tell it.
    Exit {
        /// For people.
        message: String,
        /// The exit code.
        code: u8,
    },
    /// The server cannot be reached: 3.
    Unreachable(String),
    /// The server refused the request: 3.
    Refused {
        /// HTTP status.
        status: u16,
        /// The API's name for it, for example `ResourceNotFoundException`.
        code: String,
        /// For people.
        message: String,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Function(text) | Self::Unreachable(text) | Self::Exit { message: text, .. } => {
                f.write_str(text)
            }
            Self::Refused { code, message, .. } if message.is_empty() => f.write_str(code),
            Self::Refused { code, message, .. } => write!(f, "{message} ({code})"),
        }
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error: docs/cli.md lists them.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Failure>() {
        Some(Failure::Function(_)) => ExitCode::from(1),
        Some(Failure::Exit { code, .. }) => ExitCode::from(*code),
        Some(Failure::Unreachable(_) | Failure::Refused { .. }) => ExitCode::from(3),
        None => ExitCode::from(2),
    }
}

/// Whether the server said that the thing does not exist.
pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Failure>(), Some(Failure::Refused { status: 404, .. }))
}
