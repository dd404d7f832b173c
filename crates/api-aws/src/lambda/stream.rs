//! Lambda API: InvokeWithResponseStream.
//!
//! What is refused before the function runs is an ordinary error. From then on the status is 200, and the last event
//! says how the call ended, with or without chunks before it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use functions::{Error, Outcome, Streaming};
use futures_util::stream;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use sandbox::{Body, BoxError, FunctionError};
use serde_json::{Map, Value};

use super::invoke::{Kind, call};
use super::{failed, no_content};
use crate::eventstream::{self, MEDIA_TYPE};
use crate::failure::Failure;
use crate::request::Request;

/// Bytes of one chunk: an answer that came as a whole is cut, since clients bound their messages.
const CHUNK: usize = 128 * 1024;

/// 200 with events, once the answer begins.
pub(super) async fn invoke(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let (kind, call) = call(request, label, &["RequestResponse", "DryRun"])?;
    if kind == Kind::DryRun {
        request.api.functions.check_invoke(request.caller, &call.function).map_err(failed(request))?;
        return Ok(no_content());
    }
    let streaming = request.api.functions.invoke_streaming(request.caller, call).await;
    Ok(answer(streaming.map_err(failed(request))?))
}

fn answer(streaming: Streaming) -> Response<Body> {
    let version = HeaderValue::from_str(&streaming.executed_version);
    let events = stream::unfold(State::Pieces(streaming, Bytes::new()), |state| async move {
        let (event, state) = state.step().await?;
        Some((Ok::<_, BoxError>(Frame::data(event)), state))
    });
    let mut response = Response::new(Body::boxed(StreamBody::new(events)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Ok(version) = version {
        headers.insert(HeaderName::from_static("x-amz-executed-version"), version);
    }
    response
}

/// Where in the answer.
enum State {
    /// What is left of the piece at hand, then further ones.
    Pieces(Streaming, Bytes),
    Over,
}

impl State {
    /// The next event.
    async fn step(self) -> Option<(Bytes, Self)> {
        let Self::Pieces(mut streaming, mut piece) = self else { return None };
        if piece.is_empty() {
            piece = streaming.next().await.unwrap_or_default();
        }
        if piece.is_empty() {
            return Some((complete(streaming.end().await), Self::Over));
        }
        let chunk = piece.split_to(piece.len().min(CHUNK));
        let event = eventstream::event("PayloadChunk", "application/octet-stream", &chunk);
        Some((event, Self::Pieces(streaming, piece)))
    }
}

/// The last event.
fn complete(outcome: Result<Outcome, Error>) -> Bytes {
    let mut members = Map::new();
    match outcome {
        Ok(outcome) => {
            if let Err(error) = &outcome.result {
                members.insert("ErrorCode".into(), Value::from(code(error)));
                members.insert("ErrorDetails".into(), Value::from(String::from_utf8_lossy(&error.json)));
            }
            if let Some(tail) = outcome.log_tail {
                members.insert("LogResult".into(), Value::from(STANDARD.encode(tail)));
            }
        }
        Err(error) => {
            members.insert("ErrorCode".into(), Value::from("ServiceException"));
            members.insert("ErrorDetails".into(), Value::from(error.to_string()));
        }
    }
    eventstream::event("InvokeComplete", "application/json", Value::Object(members).to_string().as_bytes())
}

/// The platform's errors have names of its own; the function's are all one.
fn code(error: &FunctionError) -> &str {
    let platforms = |name: &&str| ["Runtime.", "Sandbox.", "Function."].iter().any(|of| name.starts_with(of));
    error.error_type.as_deref().filter(platforms).unwrap_or("Unhandled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_codes() {
        for (error_type, expected) in [
            (None, "Unhandled"),
            (Some("ValueError"), "Unhandled"),
            (Some("Runtime.ExitError"), "Runtime.ExitError"),
            (Some("Sandbox.Timedout"), "Sandbox.Timedout"),
            (Some("Function.ResponseSizeTooLarge"), "Function.ResponseSizeTooLarge"),
        ] {
            let error =
                FunctionError { json: Bytes::from_static(b"{}"), error_type: error_type.map(str::to_owned) };
            assert_eq!(code(&error), expected);
        }
    }
}
