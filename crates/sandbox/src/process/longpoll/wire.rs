//! The Runtime API's messages (Lambda Runtime API 2018-06-01): which call a request is, the head of an
//! event, the shape of errors.

use base::RequestId;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::Begun;
use crate::Event;

/// What is written back.
pub(super) type Reply = Response<Full<Bytes>>;

/// Names an answer's own error, on `error` and `init/error` and in the trailers of a streamed response.
pub(super) const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-runtime-function-error-type");
/// Trailer of a streamed response that failed: base64 of the error's JSON.
pub(super) const ERROR_BODY: HeaderName = HeaderName::from_static("lambda-runtime-function-error-body");

/// Virga's own, on the first `next`: when the client began to load the function's code, in nanoseconds of the
/// monotonic clock.
const INIT_BEGAN: HeaderName = HeaderName::from_static("virga-init-began");

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("lambda-runtime-client-context");
const COGNITO_IDENTITY: HeaderName = HeaderName::from_static("lambda-runtime-cognito-identity");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

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
pub(super) fn operation(method: &Method, path: &str) -> Result<Operation, NotAnOperation> {
    let path = path.strip_prefix("/2018-06-01/runtime/").ok_or(NotAnOperation::Path)?;
    let (operation, expected) = match path {
        "invocation/next" => (Operation::Next, Method::GET),
        "init/error" => (Operation::InitError, Method::POST),
        _ => {
            let rest = path.strip_prefix("invocation/").ok_or(NotAnOperation::Path)?;
            let (id, verb) = rest.split_once('/').ok_or(NotAnOperation::Path)?;
            match verb {
                "response" => (Operation::Response(RequestId::parse(id)), Method::POST),
                "error" => (Operation::Error(RequestId::parse(id)), Method::POST),
                _ => return Err(NotAnOperation::Path),
            }
        }
    };
    if *method == expected { Ok(operation) } else { Err(NotAnOperation::Method) }
}

/// What a `next` says of the client's start.
pub(super) fn begun(headers: &HeaderMap) -> Begun {
    let value = headers.get(INIT_BEGAN).and_then(|value| value.to_str().ok());
    Begun { init_began_ns: value.and_then(|value| value.parse().ok()) }
}

/// The answer to `next`.
pub(super) fn event(id: RequestId, deadline_unix_ms: i64, event: &Event) -> Reply {
    let mut reply = Response::new(Full::new(event.json.clone()));
    let headers = reply.headers_mut();
    headers.reserve(8);
    headers.insert(CONTENT_TYPE, JSON);
    put(headers, REQUEST_ID, &id.to_string());
    headers.insert(DEADLINE, HeaderValue::from(deadline_unix_ms));
    put(headers, ARN, &event.invoked_arn);
    put(headers, TRACE_ID, &event.trace_id);
    if let Some(context) = &event.client_context {
        put(headers, CLIENT_CONTEXT, context);
    }
    if let Some(identity) = &event.cognito_identity {
        put(headers, COGNITO_IDENTITY, identity);
    }
    reply
}

/// Sets a header. JSON may hold any character: what a header cannot carry as it is (control characters in
/// white space) becomes a space, the rest goes out as UTF-8.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).or_else(|_| {
        let spaced: Vec<u8> = value.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }).collect();
        HeaderValue::from_bytes(&spaced)
    });
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}

/// The answer to an accepted POST.
pub(super) fn accepted() -> Reply {
    json(StatusCode::ACCEPTED, Bytes::from_static(b"{\"status\":\"OK\"}\n"))
}

/// An error in the API's shape.
pub(super) fn error(status: StatusCode, error_type: &str, message: &str) -> Reply {
    let body = serde_json::json!({ "errorMessage": message, "errorType": error_type });
    json(status, Bytes::from(body.to_string()))
}

fn json(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_by_method_and_path() {
        let id = RequestId::random();
        let invocation = |verb: &str| format!("/2018-06-01/runtime/invocation/{id}/{verb}");
        for (method, path, expected) in [
            (Method::GET, "/2018-06-01/runtime/invocation/next".to_owned(), Ok(Operation::Next)),
            (Method::POST, invocation("response"), Ok(Operation::Response(Some(id)))),
            (Method::POST, invocation("error"), Ok(Operation::Error(Some(id)))),
            (Method::POST, "/2018-06-01/runtime/init/error".to_owned(), Ok(Operation::InitError)),
            (Method::POST, "/2018-06-01/runtime/invocation/x/error".to_owned(), Ok(Operation::Error(None))),
            (Method::POST, "/2018-06-01/runtime/invocation/next".to_owned(), Err(NotAnOperation::Method)),
            (Method::GET, invocation("response"), Err(NotAnOperation::Method)),
            (Method::GET, "/".to_owned(), Err(NotAnOperation::Path)),
            (Method::POST, invocation("other"), Err(NotAnOperation::Path)),
            (Method::GET, "/2018-06-01/runtime/restore/next".to_owned(), Err(NotAnOperation::Path)),
        ] {
            assert_eq!(operation(&method, &path), expected, "{method} {path}");
        }
    }

    #[test]
    fn an_event_carries_its_context() {
        let id = RequestId::random();
        let reply = event(
            id,
            1_700_000_000_123,
            &Event {
                json: Bytes::from_static(b"{}"),
                invoked_arn: "arn:aws:lambda:us-east-1:123456789012:function:f".to_owned(),
                trace_id: "Root=1-2-3".to_owned(),
                client_context: Some("{\n\"custom\":{\"ä\":1}}".to_owned()),
                cognito_identity: None,
            },
        );
        let header = |name: &str| reply.headers().get(name).map(|value| value.as_bytes().to_vec());
        assert_eq!(header("lambda-runtime-aws-request-id"), Some(id.to_string().into_bytes()));
        assert_eq!(header("lambda-runtime-deadline-ms"), Some(b"1700000000123".to_vec()));
        assert_eq!(header("lambda-runtime-trace-id"), Some(b"Root=1-2-3".to_vec()));
        assert_eq!(
            header("lambda-runtime-client-context"),
            Some("{ \"custom\":{\"ä\":1}}".as_bytes().to_vec())
        );
        assert_eq!(header("lambda-runtime-cognito-identity"), None);
        assert_eq!(header("content-type"), Some(b"application/json".to_vec()));
    }
}
