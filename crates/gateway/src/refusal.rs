//! What a function URL answers when the function did not (Lambda: function URLs, HTTP status codes).

use functions::Error;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use sandbox::Body;

/// After how many milliseconds a client should come back that found no service.
const UNAVAILABLE_MS: u64 = 1000;

/// A JSON message with this status.
pub(crate) fn message(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &serde_json::json!({ "message": text }))
}

/// Any JSON with this status.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The same, and the connection ends with it.
pub(crate) fn last_message(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = message(status, text);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// There is no such function URL.
pub(crate) fn nobody() -> Response<Body> {
    message(StatusCode::NOT_FOUND, "Not Found")
}

/// Who is calling may not (Lambda: function URLs, in its own capitals).
pub(crate) fn forbidden() -> Response<Body> {
    let mut response = json(StatusCode::FORBIDDEN, &serde_json::json!({ "Message": "Forbidden" }));
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("x-amzn-errortype"),
        HeaderValue::from_static("AccessDeniedException"),
    );
    // The body, if there is one, is not read.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The function failed: its error is in its log, not in a stranger's browser.
pub(crate) fn function_failed() -> Response<Body> {
    message(StatusCode::BAD_GATEWAY, "Internal Server Error")
}

/// The function's `Timeout` was over.
pub(crate) fn timed_out() -> Response<Body> {
    message(StatusCode::GATEWAY_TIMEOUT, "Endpoint request timed out")
}

/// The table from a failure to an answer.
pub(crate) fn of(error: &Error) -> Response<Body> {
    match error {
        Error::FunctionNotFound(_) | Error::NotFound(_) => nobody(),
        Error::Denied(_) => forbidden(),
        Error::PayloadTooLarge(_) => last_message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
        Error::Throttled { retry_after_ms, .. } => throttled(*retry_after_ms),
        Error::Recursive(_) => recursive(),
        Error::TimedOut(_) => timed_out(),
        Error::Failed { .. } => function_failed(),
        Error::NotReady(_) | Error::Conflict(_) | Error::Unavailable(_) => {
            retry_after(message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"), UNAVAILABLE_MS)
        }
        Error::Internal(source) => {
            tracing::error!(%source, "a public request failed inside");
            function_failed()
        }
        // The rest are an API's refusals, which a public request cannot cause.
        _ => message(StatusCode::BAD_REQUEST, "Bad Request"),
    }
}

/// It has come round too often, and would for ever. What the function is called is not a stranger's to know.
fn recursive() -> Response<Body> {
    let mut response = message(StatusCode::TOO_MANY_REQUESTS, "The function is in a recursive loop.");
    let name = HeaderValue::from_static("RecursiveInvocationException");
    response.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), name);
    response
}

fn throttled(retry_after_ms: u64) -> Response<Body> {
    retry_after(message(StatusCode::TOO_MANY_REQUESTS, "Rate Exceeded."), retry_after_ms)
}

/// The server takes no new requests. Whoever comes back finds its successor, or another server. Said before anybody
/// looks at what is asked for, so the name that clients of an API go by is in it too.
pub(crate) fn stopping() -> Response<Body> {
    let mut response = last_message(StatusCode::SERVICE_UNAVAILABLE, "The server is stopping.");
    let name = HeaderValue::from_static("ServiceUnavailableException");
    response.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), name);
    retry_after(response, UNAVAILABLE_MS)
}

/// RFC 9110 §10.2.3 has whole seconds only, rounded up; the exact time is beside it.
fn retry_after(mut response: Response<Body>, milliseconds: u64) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000).max(1)));
    headers.insert(HeaderName::from_static("retry-after-ms"), HeaderValue::from(milliseconds));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_status() {
        let throttled = Error::Throttled {
            code: "ConcurrentInvocationLimitExceeded",
            reason: String::new(),
            retry_after_ms: 2_001,
        };
        for (error, status) in [
            (Error::FunctionNotFound("arn".into()), 404),
            (Error::PayloadTooLarge(String::new()), 413),
            (Error::TimedOut(String::new()), 504),
            (Error::Recursive(String::new()), 429),
            (Error::Failed { error_type: "Runtime.ExitError".into(), message: "secret".into() }, 502),
            (Error::NotReady(String::new()), 503),
            (Error::Unavailable(String::new()), 503),
            (Error::Internal("x".into()), 502),
        ] {
            let response = of(&error);
            assert_eq!(response.status(), status, "{error:?}");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{error:?}");
        }
        let response = of(&throttled);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "3");
        assert_eq!(response.headers()["retry-after-ms"], "2001");
        assert_eq!((stopping().status().as_u16(), &stopping().headers()["retry-after"] == "1"), (503, true));
    }
}
