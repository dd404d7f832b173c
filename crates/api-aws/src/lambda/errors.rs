//! Lambda's name and status for each failure of the `functions` crate.

use std::error::Error as _;

use base::RequestId;
use functions::Error;
use http::StatusCode;

use crate::body::ReadError;
use crate::failure::{Failure, Retry};

/// After how many milliseconds a caller should try again who came when the server was stopping, or its host could
/// not start instances.
const UNAVAILABLE_MS: u64 = 1000;

/// The table: one line a kind of failure.
pub(crate) fn failure(error: &Error, id: RequestId) -> Failure {
    let (code, status) = match error {
        Error::FunctionNotFound(_) | Error::NotFound(_) => {
            ("ResourceNotFoundException", StatusCode::NOT_FOUND)
        }
        Error::ProvisionedNotFound => {
            ("ProvisionedConcurrencyConfigNotFoundException", StatusCode::NOT_FOUND)
        }
        Error::CodeSigningConfigNotFound(_) => ("CodeSigningConfigNotFoundException", StatusCode::NOT_FOUND),
        Error::InvalidSignature(_) => ("InvalidCodeSignatureException", StatusCode::BAD_REQUEST),
        Error::CodeVerificationFailed(_) => ("CodeVerificationFailedException", StatusCode::BAD_REQUEST),
        Error::CodeStorageExceeded(_) => ("CodeStorageExceededException", StatusCode::BAD_REQUEST),
        Error::TooManyAliases(_) => ("AliasLimitExceededException", StatusCode::BAD_REQUEST),
        // A function that is not Active is a conflict on Invoke, not ResourceNotReadyException: that one is
        // for network interfaces still being made, and clients would retry it.
        Error::AlreadyExists(_) | Error::Conflict(_) | Error::NotReady(_) => {
            ("ResourceConflictException", StatusCode::CONFLICT)
        }
        Error::PreconditionFailed(_) => ("PreconditionFailedException", StatusCode::PRECONDITION_FAILED),
        Error::Invalid(_) | Error::InvalidPackage(_) | Error::InvalidRuntime(_) | Error::CodeTooLarge(_) => {
            ("InvalidParameterValueException", StatusCode::BAD_REQUEST)
        }
        Error::InvalidJson(_) => ("InvalidRequestContentException", StatusCode::BAD_REQUEST),
        Error::PayloadTooLarge(_) => ("RequestTooLargeException", StatusCode::PAYLOAD_TOO_LARGE),
        Error::PolicyTooLong(_) => ("PolicyLengthExceededException", StatusCode::BAD_REQUEST),
        Error::Recursive(_) => ("RecursiveInvocationException", StatusCode::BAD_REQUEST),
        Error::Denied(_) => ("AccessDeniedException", StatusCode::FORBIDDEN),
        Error::Throttled { .. } => ("TooManyRequestsException", StatusCode::TOO_MANY_REQUESTS),
        Error::Unavailable(_) => ("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE),
        // Public requests only end so; an Invoke has the function's error as its answer.
        Error::TimedOut(_) | Error::Failed { .. } | Error::Internal(_) => {
            ("ServiceException", StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    let mut failure = Failure::new(code, status, error.to_string());
    match error {
        Error::Throttled { code, retry_after_ms, .. } => {
            failure.retry = Some(Retry { reason: Some(code), after_ms: *retry_after_ms });
        }
        Error::Unavailable(_) => failure.retry = Some(Retry { reason: None, after_ms: UNAVAILABLE_MS }),
        Error::Internal(_) => {
            tracing::error!(request_id = %id, detail = details(error), "a request failed inside");
            failure.message = "An internal error occurred. The server's log has the details.".to_owned();
        }
        _ => {}
    }
    failure
}

/// The whole chain of causes: Display never prints its source.
fn details(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A body that could not be read: an upload has another name for too large than an event has.
pub(crate) fn unread(error: ReadError, upload: bool) -> Failure {
    match error {
        ReadError::TooLarge(limit) if upload => Failure::new(
            "RequestEntityTooLargeException",
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request must be smaller than {limit} bytes for this operation"),
        ),
        ReadError::TooLarge(limit) => Failure::new(
            "RequestTooLargeException",
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request must be smaller than {limit} bytes for the InvokeFunction operation"),
        ),
        ReadError::TimedOut => Failure::new(
            "RequestTimeoutException",
            StatusCode::REQUEST_TIMEOUT,
            "The request's body did not arrive in time.",
        ),
        ReadError::Broken => {
            Failure::bad("InvalidRequestContentException", "The request's body ended early or is malformed.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_exception() {
        let throttled = Error::Throttled {
            code: "ConcurrentInvocationLimitExceeded",
            reason: "Rate Exceeded.".into(),
            retry_after_ms: 100,
        };
        for (error, code, status) in [
            (Error::FunctionNotFound("arn".into()), "ResourceNotFoundException", 404),
            (Error::ProvisionedNotFound, "ProvisionedConcurrencyConfigNotFoundException", 404),
            (Error::AlreadyExists("x".into()), "ResourceConflictException", 409),
            (Error::NotReady("x".into()), "ResourceConflictException", 409),
            (Error::PreconditionFailed("x".into()), "PreconditionFailedException", 412),
            (Error::TooManyAliases("x".into()), "AliasLimitExceededException", 400),
            (Error::CodeStorageExceeded("x".into()), "CodeStorageExceededException", 400),
            (Error::CodeSigningConfigNotFound("x".into()), "CodeSigningConfigNotFoundException", 404),
            (Error::InvalidSignature("x".into()), "InvalidCodeSignatureException", 400),
            (Error::CodeVerificationFailed("x".into()), "CodeVerificationFailedException", 400),
            (Error::InvalidPackage("x".into()), "InvalidParameterValueException", 400),
            (Error::PolicyTooLong("x".into()), "PolicyLengthExceededException", 400),
            (Error::InvalidJson("x".into()), "InvalidRequestContentException", 400),
            (Error::PayloadTooLarge("x".into()), "RequestTooLargeException", 413),
            (Error::Recursive("x".into()), "RecursiveInvocationException", 400),
            (Error::Denied("x".into()), "AccessDeniedException", 403),
            (throttled, "TooManyRequestsException", 429),
            (Error::Unavailable("x".into()), "ServiceUnavailableException", 503),
            (Error::Internal("secret path".into()), "ServiceException", 500),
        ] {
            let failure = failure(&error, RequestId::random());
            assert_eq!((&*failure.code, failure.status.as_u16()), (code, status));
            assert!(!failure.message.contains("secret"), "{}", failure.message);
            assert_eq!(failure.retry.is_some(), matches!(status, 429 | 503));
            assert_eq!(failure.retry.and_then(|retry| retry.reason).is_some(), status == 429);
        }
    }
}
