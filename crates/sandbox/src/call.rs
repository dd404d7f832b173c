//! One call to an instance and what may come of it.

use std::time::Instant;

use base::RequestId;
use bytes::Bytes;

use crate::{Body, Streamed};

/// One call.
pub struct Call {
    /// The request id: in the context object, the logs and every error.
    pub id: RequestId,
    /// When the caller gives up, on the monotonic clock.
    pub deadline: Instant,
    /// The same moment in milliseconds since the Unix epoch (`Lambda-Runtime-Deadline-Ms`).
    pub deadline_unix_ms: i64,
    /// What is handed over: the kind that `prepare` said the artifact speaks.
    pub payload: Payload,
}

/// What is handed to the code.
pub enum Payload {
    /// For instances that speak events.
    Event(Event),
    /// For instances that speak HTTP. The path and query are in origin form. A request to upgrade keeps
    /// its `Connection: upgrade` and `Upgrade` headers. Boxed: many hands pass it on.
    Http(Box<http::Request<Body>>),
}

/// An event with what the context object shows of its caller.
#[derive(Debug, Clone)]
pub struct Event {
    /// JSON.
    pub json: Bytes,
    /// The ARN that was called, as the caller qualified it.
    pub invoked_arn: String,
    /// Value of `X-Amzn-Trace-Id`, always present.
    pub trace_id: String,
    /// Decoded JSON of `X-Amz-Client-Context`.
    pub client_context: Option<String>,
    /// JSON of the Cognito identity.
    pub cognito_identity: Option<String>,
}

/// What the code answered.
pub enum Output {
    /// The result of an event: JSON as the code gave it, not checked.
    Event(Bytes),
    /// The result of an event in pieces, whoever asked for it: bytes as the code gives them.
    Stream(Streamed),
    /// The code's own error for an event.
    FunctionError(FunctionError),
    /// A response. On 101 its extensions hold the `hyper::upgrade::OnUpgrade` of the instance's side.
    Http(http::Response<Body>),
    /// No answer: the instance was gone before anything of the request was sent, as with [`Fault::NotDelivered`], and
    /// here is the request, its body untouched, for another instance.
    NotTaken(Box<http::Request<Body>>, Exit),
}

/// An error that the runtime client reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// JSON with `errorType`, `errorMessage` and mostly `stackTrace`, as it was reported.
    pub json: Bytes,
    /// `Lambda-Runtime-Function-Error-Type`, where it was given.
    pub error_type: Option<String>,
}

/// Why a call has no output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The instance is gone.
    Exited(Exit),
    /// The instance was gone before the code took the call: nothing of it ran, and another instance may have it.
    /// That is known of an event which the runtime client never fetched. (A request for which there was no connection
    /// to the web server comes back as [`Output::NotTaken`].) Whatever may have been read is [`Fault::Exited`].
    NotDelivered(Exit),
    /// The answer to an event was over the limit; the instance lives.
    AnswerTooLarge {
        /// Bytes of the answer, or the limit plus one where reading stopped.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// An answer in pieces broke off before its end, though the instance did not.
    Truncated,
    /// The guest trapped: WebAssembly's words for what it did.
    Trap(String),
    /// A web server's side broke: connection refused or reset, not HTTP.
    BadAnswer(String),
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself with this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was over its memory limit.
    OutOfMemory,
    /// Virga stopped it.
    Stopped,
}
