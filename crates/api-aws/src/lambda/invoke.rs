//! Lambda API: Invoke.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use functions::{Invoke, Outcome, Timings};
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use sandbox::{Body, FunctionError};

use super::{failed, function, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::limits;
use crate::protocol;
use crate::request::Request;

/// What `X-Amz-Invocation-Type` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

/// The function's answer, whatever it is, with status 200; a function's own error is told by a header.
pub(super) async fn invoke(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let (kind, call) = call(request, label, &["Event", "RequestResponse", "DryRun"])?;
    match kind {
        Kind::DryRun => {
            request.api.functions.check_invoke(request.caller, &call.function).map_err(failed(request))?;
            Ok(no_content())
        }
        Kind::Event => later(request, call).await,
        Kind::RequestResponse => {
            request.api.functions.invoke(request.caller, call).await.map(answer).map_err(failed(request))
        }
    }
}

/// What a call is and how it is wanted, of `kinds`.
pub(super) fn call(request: &Request<'_>, label: &str, kinds: &[&str]) -> Result<(Kind, Invoke), Failure> {
    let function = function(request, label)?;
    let tail = log_type(request.header("x-amz-log-type"))?;
    for header in ["x-amz-tenant-id", "x-amz-durable-execution-name"] {
        if request.header(header).is_some() {
            return Err(Failure::invalid_parameter(format!("{header} is not supported by this server yet.")));
        }
    }
    let client_context = request.header("x-amz-client-context").map(client_context).transpose()?;
    let kind = kind(request.header("x-amz-invocation-type"), kinds)?;
    let call = Invoke {
        id: request.id,
        function,
        payload: request.body.clone(),
        client_context,
        trace_id: request.header("x-amzn-trace-id").map(str::to_owned),
        tail,
        trace: asks_for_trace(request.header("x-virga-trace"))?,
    };
    Ok((kind, call))
}

/// Lambda API: InvokeAsync, which was there before `Event`: 202 once the event is on the disk.
pub(super) async fn invoke_async(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let call = Invoke {
        id: request.id,
        function: function(request, label)?,
        payload: request.body.clone(),
        client_context: None,
        trace_id: request.header("x-amzn-trace-id").map(str::to_owned),
        tail: false,
        trace: false,
    };
    later(request, call).await
}

/// 202 once the event is on the disk.
async fn later(request: &Request<'_>, call: Invoke) -> Result<Response<Body>, Failure> {
    request.api.functions.invoke_later(request.caller, call).await.map_err(failed(request))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// Virga's own request header: `on` has the answer say what the call was made of.
fn asks_for_trace(header: Option<&str>) -> Result<bool, Failure> {
    match header {
        None | Some("" | "off") => Ok(false),
        Some("on") => Ok(true),
        Some(_) => Err(Failure::invalid_parameter("X-Virga-Trace is on or off.")),
    }
}

/// What a call was made of (W3C: Server Timing), milliseconds. `start` and its parts are there for the first call
/// of an instance.
fn server_timing(timings: &Timings) -> String {
    let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let mut text = format!("wait;dur={:.3}", millis(timings.wait));
    if let Some(startup) = &timings.startup {
        let origin = startup.phases.origin.as_str();
        text.push_str(&format!(", start;desc={origin};dur={:.3}", millis(startup.total)));
        for (name, duration) in startup.parts().into_iter().flatten() {
            text.push_str(&format!(", {name};dur={:.3}", millis(duration)));
        }
        if let Some(fetch) = startup.fetch {
            text.push_str(&format!(", fetch;dur={:.3}", millis(fetch)));
        }
    }
    text.push_str(&format!(", call;dur={:.3}", millis(timings.call)));
    text
}

fn kind(header: Option<&str>, kinds: &[&str]) -> Result<Kind, Failure> {
    match header {
        None | Some("" | "RequestResponse") => Ok(Kind::RequestResponse),
        Some("DryRun") => Ok(Kind::DryRun),
        Some("Event") if kinds.contains(&"Event") => Ok(Kind::Event),
        Some(other) => {
            let mut violations = Violations::default();
            violations.one_of("invocationType", other, kinds);
            violations.finish().map(|()| Kind::RequestResponse)
        }
    }
}

fn log_type(header: Option<&str>) -> Result<bool, Failure> {
    let mut violations = Violations::default();
    let header = header.filter(|text| !text.is_empty());
    if let Some(text) = header {
        violations.one_of("logType", text, &["None", "Tail"]);
    }
    violations.finish()?;
    Ok(header == Some("Tail"))
}

/// Base64 of a JSON object, at most 3,583 bytes of it.
fn client_context(header: &str) -> Result<String, Failure> {
    let refused = |message| Failure::bad("InvalidRequestContentException", message);
    let decoded = STANDARD.decode(header).ok().filter(|bytes| bytes.len() <= limits::CLIENT_CONTEXT);
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| refused("Client context must be base64 of at most 3583 bytes of JSON."))?;
    let object = serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|value| value.is_object());
    if object { Ok(text) } else { Err(refused("Client context must be a base64-encoded JSON object.")) }
}

fn answer(outcome: Outcome) -> Response<Body> {
    let (body, error) = match outcome.result {
        Ok(body) => (body, None),
        Err(error) => (error.json.clone(), Some(function_error(&error))),
    };
    let mut response = protocol::answer(StatusCode::OK, "application/json", body);
    let headers = response.headers_mut();
    if let Ok(version) = HeaderValue::from_str(&outcome.executed_version) {
        headers.insert(HeaderName::from_static("x-amz-executed-version"), version);
    }
    if let Some(error) = error {
        headers.insert(HeaderName::from_static("x-amz-function-error"), HeaderValue::from_static(error));
    }
    if let Some(timings) = &outcome.timings
        && let Ok(text) = HeaderValue::try_from(server_timing(timings))
    {
        headers.insert(HeaderName::from_static("server-timing"), text);
    }
    if let Some(tail) = outcome.log_tail
        && let Ok(tail) = HeaderValue::from_str(&STANDARD.encode(tail))
    {
        headers.insert(HeaderName::from_static("x-amz-log-result"), tail);
    }
    response
}

/// `Unhandled` unless the runtime client says that the handler itself reported the error: that is what
/// Lambda answers for exceptions and faults alike.
fn function_error(error: &FunctionError) -> &'static str {
    if error.error_type.as_deref() == Some("Handled") { "Handled" } else { "Unhandled" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use functions::Startup;
    use sandbox::{Origin, Phases};

    #[test]
    fn kinds_of_calls() {
        let kinds = &["Event", "RequestResponse", "DryRun"];
        assert_eq!(kind(None, kinds), Ok(Kind::RequestResponse));
        assert_eq!(kind(Some("DryRun"), kinds), Ok(Kind::DryRun));
        assert_eq!(kind(Some("Event"), kinds), Ok(Kind::Event));
        assert_eq!(kind(Some("Later"), kinds).unwrap_err().code, "ValidationException");
        assert_eq!(kind(Some("Event"), &kinds[1..]).unwrap_err().code, "ValidationException");
    }

    #[test]
    fn a_trace_is_asked_for() {
        assert_eq!(asks_for_trace(None), Ok(false));
        assert_eq!(asks_for_trace(Some("on")), Ok(true));
        assert!(asks_for_trace(Some("1")).is_err());
    }

    #[test]
    fn log_types() {
        assert_eq!(log_type(None), Ok(false));
        assert_eq!(log_type(Some("None")), Ok(false));
        assert_eq!(log_type(Some("Tail")), Ok(true));
        assert_eq!(log_type(Some("Head")).unwrap_err().code, "ValidationException");
    }

    #[test]
    fn a_client_context_is_json() {
        assert_eq!(
            client_context(&STANDARD.encode(r#"{"custom":{"a":"b"}}"#)).unwrap(),
            r#"{"custom":{"a":"b"}}"#
        );
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(limits::CLIENT_CONTEXT));
        for bad in ["%%%".to_owned(), STANDARD.encode("[1]"), STANDARD.encode("{"), STANDARD.encode(long)] {
            assert_eq!(client_context(&bad).unwrap_err().code, "InvalidRequestContentException");
        }
    }

    #[test]
    fn the_answer_tells_version_error_and_log() {
        let outcome = Outcome {
            executed_version: "$LATEST".into(),
            result: Err(FunctionError {
                json: Bytes::from_static(b"{}"),
                error_type: Some("ValueError".into()),
            }),
            content_type: None,
            log_tail: Some(Bytes::from_static(b"END")),
            timings: None,
        };
        let response = answer(outcome);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-amz-function-error"], "Unhandled");
        assert_eq!(response.headers()["x-amz-executed-version"], "$LATEST");
        assert_eq!(response.headers()["x-amz-log-result"], "RU5E");
        assert!(!response.headers().contains_key("server-timing"));
        let phases = Phases {
            origin: Origin::Runtime,
            sandbox: Duration::from_micros(1_500),
            runtime: Duration::ZERO,
            init: Duration::from_millis(20),
        };
        let startup =
            Some(Startup { total: Duration::from_millis(22), phases, fetch: Some(Duration::from_millis(7)) });
        let timings = Timings { wait: Duration::from_millis(23), startup, call: Duration::from_micros(250) };
        let fine = Outcome {
            executed_version: "1".into(),
            result: Ok(Bytes::from_static(b"1")),
            content_type: None,
            log_tail: None,
            timings: Some(timings),
        };
        let response = answer(fine);
        assert!(!response.headers().contains_key("x-amz-function-error"));
        assert_eq!(
            response.headers()["server-timing"],
            "wait;dur=23.000, start;desc=runtime;dur=22.000, sandbox;dur=1.500, runtime;dur=0.000, \
             init;dur=20.000, fetch;dur=7.000, call;dur=0.250"
        );
        let warm = Timings { startup: None, ..timings };
        assert_eq!(server_timing(&warm), "wait;dur=23.000, call;dur=0.250");
    }
}
