//! IAM's and STS's names for what can go wrong with roles and policies.

use base::RequestId;
use http::StatusCode;
use iam::directory::Error;

use crate::failure::Failure;

/// The table.
pub(crate) fn failure(error: &Error, id: RequestId) -> Failure {
    let (code, status) = match error {
        Error::NoSuchEntity(_) => ("NoSuchEntity", StatusCode::NOT_FOUND),
        Error::AlreadyExists(_) => ("EntityAlreadyExists", StatusCode::CONFLICT),
        Error::DeleteConflict(_) => ("DeleteConflict", StatusCode::CONFLICT),
        Error::MalformedPolicyDocument(_) => ("MalformedPolicyDocument", StatusCode::BAD_REQUEST),
        Error::Invalid(_) => ("ValidationError", StatusCode::BAD_REQUEST),
        Error::LimitExceeded(_) => ("LimitExceeded", StatusCode::CONFLICT),
        Error::Denied(_) => ("AccessDenied", StatusCode::FORBIDDEN),
        Error::Internal(source) => {
            tracing::error!(request_id = %id, %source, "a request about identities failed inside");
            ("ServiceFailure", StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    Failure::new(code, status, error.to_string())
}
