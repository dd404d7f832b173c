//! CloudWatch Logs' names for what can go wrong. JSON 1.1 errors have status 400 but for the service's own.

use base::RequestId;
use http::StatusCode;
use observe::LogsError;

use crate::failure::Failure;

pub(super) fn failure(error: &LogsError, id: RequestId) -> Failure {
    match error {
        LogsError::GroupNotFound | LogsError::StreamNotFound => {
            Failure::bad("ResourceNotFoundException", error.to_string())
        }
        LogsError::InvalidToken => Failure::bad("InvalidParameterException", error.to_string()),
        LogsError::Io { context, source } => {
            tracing::error!(request_id = %id, context, %source, "reading logs failed");
            internal()
        }
    }
}

pub(super) fn internal() -> Failure {
    Failure::new(
        "ServiceUnavailableException",
        StatusCode::SERVICE_UNAVAILABLE,
        "The logs cannot be read. The server's log has the details.",
    )
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::bad("InvalidParameterException", message)
}
