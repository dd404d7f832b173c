//! The Runtime API's messages (Lambda Runtime API 2018-06-01): which call a request is, the head of an
//! event, the shape of errors.

use std::io::Write;

use base::RequestId;

use crate::Event;

/// Names an answer's own error, on `error` and `init/error` and in the trailers of a streamed response.
pub(super) const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
/// Trailer of a streamed response that failed: base64 of the error's JSON.
pub(super) const ERROR_BODY: &str = "lambda-runtime-function-error-body";
/// On `response`: whether the answer is to reach its caller piece by piece.
pub(super) const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
/// Virga's own, on `response` and `error`: the reply to an answer that is taken is the next event. Saves a client an
/// exchange for each event.
pub(super) const NEXT: &str = "virga-next";
/// Virga's own, on the first `next`: when the client began to load the function's code, in nanoseconds of the
/// monotonic clock.
pub(super) const INIT_BEGAN: &str = "virga-init-began";

/// A call of the API. The id is `None` where it is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Next,
    Response(Option<RequestId>),
    Error(Option<RequestId>),
    InitError,
}

/// Why a request is no call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAnOperation {
    Path,
    Method,
}

/// Reads a request's method and path.
pub(super) fn operation(method: &str, path: &str) -> Result<Operation, NotAnOperation> {
    let path = path.strip_prefix("/2018-06-01/runtime/").ok_or(NotAnOperation::Path)?;
    let (operation, expected) = match path {
        "invocation/next" => (Operation::Next, "GET"),
        "init/error" => (Operation::InitError, "POST"),
        _ => {
            let rest = path.strip_prefix("invocation/").ok_or(NotAnOperation::Path)?;
            let (id, verb) = rest.split_once('/').ok_or(NotAnOperation::Path)?;
            match verb {
                "response" => (Operation::Response(RequestId::parse(id)), "POST"),
                "error" => (Operation::Error(RequestId::parse(id)), "POST"),
                _ => return Err(NotAnOperation::Path),
            }
        }
    };
    if method == expected { Ok(operation) } else { Err(NotAnOperation::Method) }
}

/// Writes the head of the answer to `next`; the event's JSON follows it. Shell clients look for the names with the
/// case that the documentation has.
pub(super) fn event_head(into: &mut Vec<u8>, id: RequestId, deadline_unix_ms: i64, event: &Event) {
    into.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n");
    // Writing to memory does not fail.
    let _ = write!(
        into,
        "Content-Length: {}\r\nLambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: {deadline_unix_ms}\r\n",
        event.json.len(),
    );
    field(into, "Lambda-Runtime-Invoked-Function-Arn", &event.invoked_arn);
    field(into, "Lambda-Runtime-Trace-Id", &event.trace_id);
    if let Some(context) = &event.client_context {
        field(into, "Lambda-Runtime-Client-Context", context);
    }
    if let Some(identity) = &event.cognito_identity {
        field(into, "Lambda-Runtime-Cognito-Identity", identity);
    }
    into.extend_from_slice(b"\r\n");
}

/// Writes a header. JSON may hold any character: what a header cannot carry as it is (control characters in
/// white space) becomes a space, the rest goes out as UTF-8.
fn field(into: &mut Vec<u8>, name: &str, value: &str) {
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b": ");
    into.extend(value.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    into.extend_from_slice(b"\r\n");
}

/// A reply without an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    status: &'static str,
    body: String,
}

impl Reply {
    /// To an accepted POST.
    pub(super) fn accepted() -> Self {
        Self { status: "202 Accepted", body: "{\"status\":\"OK\"}\n".to_owned() }
    }

    /// An error in the API's shape.
    pub(super) fn error(status: &'static str, error_type: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errorMessage": message, "errorType": error_type });
        Self { status, body: body.to_string() }
    }

    /// Writes it; `last` tells the client that the connection ends with it.
    pub(super) fn write(&self, into: &mut Vec<u8>, last: bool) {
        let Self { status, body } = self;
        let (length, close) = (body.len(), if last { "Connection: close\r\n" } else { "" });
        let _ = write!(
            into,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{close}\r\n{body}"
        );
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn operations_by_method_and_path() {
        let id = RequestId::random();
        let invocation = |verb: &str| format!("/2018-06-01/runtime/invocation/{id}/{verb}");
        for (method, path, expected) in [
            ("GET", "/2018-06-01/runtime/invocation/next".to_owned(), Ok(Operation::Next)),
            ("POST", invocation("response"), Ok(Operation::Response(Some(id)))),
            ("POST", invocation("error"), Ok(Operation::Error(Some(id)))),
            ("POST", "/2018-06-01/runtime/init/error".to_owned(), Ok(Operation::InitError)),
            ("POST", "/2018-06-01/runtime/invocation/x/error".to_owned(), Ok(Operation::Error(None))),
            ("POST", "/2018-06-01/runtime/invocation/next".to_owned(), Err(NotAnOperation::Method)),
            ("GET", invocation("response"), Err(NotAnOperation::Method)),
            ("GET", "/".to_owned(), Err(NotAnOperation::Path)),
            ("POST", invocation("other"), Err(NotAnOperation::Path)),
            ("GET", "/2018-06-01/runtime/restore/next".to_owned(), Err(NotAnOperation::Path)),
        ] {
            assert_eq!(operation(method, &path), expected, "{method} {path}");
        }
    }

    #[test]
    fn an_event_carries_its_context() {
        let id = RequestId::random();
        let event = Event {
            json: Bytes::from_static(b"{}"),
            invoked_arn: "arn:aws:lambda:us-east-1:123456789012:function:f".to_owned(),
            trace_id: "Root=1-2-3".to_owned(),
            client_context: Some("{\r\n\"custom\":{\"ä\":1}}".to_owned()),
            cognito_identity: None,
        };
        let mut head = Vec::new();
        event_head(&mut head, id, 1_700_000_000_123, &event);
        let expected = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
             Lambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: 1700000000123\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:f\r\n\
             Lambda-Runtime-Trace-Id: Root=1-2-3\r\nLambda-Runtime-Client-Context: {{  \"custom\":{{\"ä\":1}}}}\r\n\r\n"
        );
        assert_eq!(String::from_utf8(head).unwrap(), expected);
    }

    #[test]
    fn replies() {
        let mut bytes = Vec::new();
        Reply::error("403 Forbidden", "T", "m").write(&mut bytes, true);
        let expected = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\
                        Connection: close\r\n\r\n{\"errorMessage\":\"m\",\"errorType\":\"T\"}";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
