//! CloudWatch Logs' names for what can go wrong. JSON 1.1 errors have status 400 but for the service's own.

use std::error::Error as _;

use ::logs::Error;
use base::RequestId;
use http::StatusCode;

use crate::failure::Failure;

pub(super) fn failure(error: &Error, id: RequestId) -> Failure {
    let code = match error {
        Error::NotFound(_) => "ResourceNotFoundException",
        Error::AlreadyExists(_) => "ResourceAlreadyExistsException",
        Error::Invalid(_) => "InvalidParameterException",
        Error::LimitExceeded(_) => "LimitExceededException",
        Error::TooManyTags(_) => "TooManyTagsException",
        Error::Store(_) | Error::Files { .. } | Error::Internal(_) => {
            let detail = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(request_id = %id, %error, detail, "a request to CloudWatch Logs failed");
            return internal();
        }
    };
    Failure::bad(code, error.to_string())
}

fn internal() -> Failure {
    Failure::new(
        "ServiceUnavailableException",
        StatusCode::SERVICE_UNAVAILABLE,
        "The service cannot complete the request. The server's log has the details.",
    )
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::bad("InvalidParameterException", message)
}
