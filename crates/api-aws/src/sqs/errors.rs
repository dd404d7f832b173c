//! SQS's names for what can go wrong, in both protocols (SQS API: the errors of each operation, and "Common errors").

use std::error::Error as _;

use base::RequestId;
use http::StatusCode;
use mailboxes::{Error, Fault};

use crate::failure::Failure;

/// The name in JSON, the name in forms, the status.
fn names(fault: Fault) -> (&'static str, &'static str, StatusCode) {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    match fault {
        Fault::NonExistentQueue => ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", BAD),
        Fault::QueueNameExists => ("QueueNameExists", "QueueAlreadyExists", BAD),
        Fault::InvalidAttributeName => ("InvalidAttributeName", "InvalidAttributeName", BAD),
        Fault::InvalidAttributeValue => ("InvalidAttributeValue", "InvalidAttributeValue", BAD),
        Fault::InvalidParameterValue => ("InvalidParameterValueException", "InvalidParameterValue", BAD),
        Fault::MissingParameter => ("MissingRequiredParameterException", "MissingParameter", BAD),
        Fault::UnsupportedOperation => {
            ("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", BAD)
        }
        Fault::ReceiptHandleIsInvalid => ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", BAD),
        Fault::MessageNotInflight => ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", BAD),
        Fault::OverLimit => ("OverLimit", "OverLimit", StatusCode::FORBIDDEN),
        Fault::PurgeQueueInProgress => {
            ("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", StatusCode::FORBIDDEN)
        }
        Fault::InvalidMessageContents => ("InvalidMessageContents", "InvalidMessageContents", BAD),
        Fault::TooManyEntriesInBatchRequest => {
            ("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", BAD)
        }
        Fault::EmptyBatchRequest => ("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", BAD),
        Fault::BatchEntryIdsNotDistinct => {
            ("BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", BAD)
        }
        Fault::InvalidBatchEntryId => {
            ("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", BAD)
        }
        Fault::BatchRequestTooLong => {
            ("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", BAD)
        }
        Fault::AccessDenied => ("AccessDeniedException", "AccessDenied", StatusCode::FORBIDDEN),
        Fault::ResourceNotFound => {
            ("ResourceNotFoundException", "ResourceNotFoundException", StatusCode::NOT_FOUND)
        }
    }
}

/// What one entry of a batch is refused with: these have the older names in both protocols.
pub(super) fn entry_code(fault: Fault) -> &'static str {
    names(fault).1
}

pub(super) fn failure(error: &Error, id: RequestId) -> Failure {
    let Error::Refused(fault, message) = error else {
        let detail = error.source().map(ToString::to_string).unwrap_or_default();
        tracing::error!(request_id = %id, %error, detail, "a request to SQS failed");
        let message = "The service cannot complete the request. The server's log has the details.";
        return Failure::new("ServiceUnavailable", StatusCode::SERVICE_UNAVAILABLE, message)
            .with_query_code("ServiceUnavailable");
    };
    named(*fault, message)
}

fn named(fault: Fault, message: &str) -> Failure {
    let (code, query, status) = names(fault);
    Failure::new(code, status, message).with_query_code(query)
}

pub(super) fn missing(parameter: &str) -> Failure {
    named(Fault::MissingParameter, &format!("The request must contain the parameter {parameter}."))
}

pub(super) fn invalid_address(url: &str) -> Failure {
    let url = &url[..url.floor_char_boundary(200)];
    let message = format!("The address {url} is not valid for this endpoint.");
    Failure::new("InvalidAddress", StatusCode::NOT_FOUND, message).with_query_code("InvalidAddress")
}
