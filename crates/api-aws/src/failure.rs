//! A refusal on its way to a client: code, status and words, not yet in any protocol's shape.
//!
//! What each service calls each error is decided where the failure is made (`lambda/errors.rs`,
//! `logs/errors.rs`, `auth.rs`); how a protocol writes it down is `protocol.rs`.

use std::borrow::Cow;

use http::StatusCode;

/// An error as a client will see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The service's name for it, for example `ResourceNotFoundException`.
    pub(crate) code: Cow<'static, str>,
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// For people.
    pub(crate) message: String,
    /// The older name of the code, where a service had the query protocol before JSON.
    pub(crate) query_code: Option<&'static str>,
    /// When trying again makes sense.
    pub(crate) retry: Option<Retry>,
}

/// What a client that should come back is told besides the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Lambda's `ThrottleReason`, where it was throttled.
    pub(crate) reason: Option<&'static str>,
    /// Milliseconds.
    pub(crate) after_ms: u64,
}

impl Failure {
    /// A failure that needs no more than this.
    pub(crate) fn new(
        code: impl Into<Cow<'static, str>>,
        status: StatusCode,
        message: impl Into<String>,
    ) -> Self {
        Self { code: code.into(), status, message: message.into(), query_code: None, retry: None }
    }

    /// The same, with its name in the query protocol.
    pub(crate) fn with_query_code(self, code: &'static str) -> Self {
        Self { query_code: Some(code), ..self }
    }

    /// Status 400.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, StatusCode::BAD_REQUEST, message)
    }

    /// JSON that cannot be read, or a member of the wrong type.
    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::bad("SerializationException", message)
    }

    /// Lambda's refusal of a value for any other reason than its shape.
    pub(crate) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::bad("InvalidParameterValueException", message)
    }

    /// Whose fault it is, in the words of AWS: `User`/`Sender` or `Service`/`Receiver`.
    pub(crate) fn by_sender(&self) -> bool {
        !self.status.is_server_error()
    }
}
