//! An event's answer as a response (Lambda: function URLs, response payload format 2.0).
//!
//! An object with a `statusCode` is a response; any other JSON is the body of a 200 of type
//! application/json. What is neither JSON nor a legal response is the function's fault: 502.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};
use sandbox::{Body, FunctionError};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::http::headers::strip_hop_by_hop;
use crate::refusal;

/// The members that are looked at; of any type, since a wrong one in an inferred answer is no mistake.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Shape {
    status_code: Option<Value>,
    headers: Option<Value>,
    cookies: Option<Value>,
    body: Option<Value>,
    is_base64_encoded: Option<Value>,
}

/// The response, or what is wrong with the answer.
pub(crate) fn response(answer: &Bytes) -> Result<Response<Body>, &'static str> {
    let object = answer.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if !object {
        serde_json::from_slice::<IgnoredAny>(answer).map_err(|_| "the answer is not JSON")?;
        return Ok(inferred(answer));
    }
    let shape: Shape = serde_json::from_slice(answer).map_err(|_| "the answer is not JSON")?;
    match &shape.status_code {
        None | Some(Value::Null) => Ok(inferred(answer)),
        Some(status) => formatted(&shape, status),
    }
}

/// The response to the function's own error.
pub(crate) fn failed(error: &FunctionError) -> Response<Body> {
    #[derive(Deserialize)]
    struct Report {
        #[serde(rename = "errorType")]
        error_type: String,
    }
    let report = serde_json::from_slice::<Report>(&error.json);
    // The name is the platform's own (see the `functions` crate); a function can only spoil its own status.
    match report {
        Ok(report) if report.error_type == "Sandbox.Timedout" => refusal::timed_out(),
        _ => refusal::function_failed(),
    }
}

fn inferred(answer: &Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.clone()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn formatted(shape: &Shape, status: &Value) -> Result<Response<Body>, &'static str> {
    let body = Body::from(body(shape)?);
    Ok(head(shape, Some(status), "application/json")?.map(|()| body))
}

/// The head of a streamed response: the JSON before its body.
pub(super) fn prelude(json: &[u8]) -> Result<Response<()>, &'static str> {
    let shape: Shape = serde_json::from_slice(json).map_err(|_| "the prelude is not a JSON object")?;
    let status = shape.status_code.as_ref().filter(|status| !status.is_null());
    head(&shape, status, OCTETS)
}

/// What bytes are of which nothing is said.
pub(super) const OCTETS: &str = "application/octet-stream";

fn head(
    shape: &Shape,
    status: Option<&Value>,
    content_type: &'static str,
) -> Result<Response<()>, &'static str> {
    let mut response = Response::new(());
    if let Some(status) = status {
        *response.status_mut() = status_code(status).ok_or("statusCode is not a status from 200 to 599")?;
    }
    let headers = response.headers_mut();
    add_headers(headers, shape.headers.as_ref())?;
    add_cookies(headers, shape.cookies.as_ref())?;
    // Framing is this side's business.
    headers.remove(CONTENT_LENGTH);
    strip_hop_by_hop(headers, false);
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    Ok(response)
}

fn status_code(value: &Value) -> Option<StatusCode> {
    let number = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    let status = u16::try_from(number).ok().filter(|status| (200..600).contains(status))?;
    StatusCode::from_u16(status).ok()
}

fn body(shape: &Shape) -> Result<Bytes, &'static str> {
    let text = match &shape.body {
        None | Some(Value::Null) => return Ok(Bytes::new()),
        Some(Value::String(text)) => text,
        Some(_) => return Err("body is not a string"),
    };
    match &shape.is_base64_encoded {
        Some(Value::Bool(true)) => {
            STANDARD.decode(text).map(Bytes::from).map_err(|_| "isBase64Encoded, and body is not base64")
        }
        None | Some(Value::Null | Value::Bool(false)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Some(_) => Err("isBase64Encoded is not a boolean"),
    }
}

fn add_headers(headers: &mut HeaderMap, given: Option<&Value>) -> Result<(), &'static str> {
    let given = match given {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(given)) => given,
        Some(_) => return Err("headers is not an object"),
    };
    for (name, value) in given {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err("a header's value is not a string"),
        };
        let name = HeaderName::try_from(name.as_str()).map_err(|_| "a header's name is not legal")?;
        headers.insert(name, header_value(&text)?);
    }
    Ok(())
}

fn add_cookies(headers: &mut HeaderMap, given: Option<&Value>) -> Result<(), &'static str> {
    let given = match given {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(given)) => given,
        Some(_) => return Err("cookies is not a list"),
    };
    for cookie in given {
        let cookie = cookie.as_str().ok_or("a cookie is not a string")?;
        headers.append(SET_COOKIE, header_value(cookie)?);
    }
    Ok(())
}

/// Line ends and other control characters would be a second header, or a second response.
fn header_value(text: &str) -> Result<HeaderValue, &'static str> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| "a header's value is not legal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    /// `STATUS name: value | … || body`, or what is wrong.
    async fn check(answer: &'static str, expect: &str) {
        let shown = match response(&Bytes::from_static(answer.as_bytes())) {
            Err(reason) => format!("error: {reason}"),
            Ok(response) => {
                let (head, body) = response.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let headers: Vec<String> = head
                    .headers
                    .iter()
                    .map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes())))
                    .collect();
                format!(
                    "{} {} || {}",
                    head.status.as_u16(),
                    headers.join(" | "),
                    String::from_utf8_lossy(&body)
                )
            }
        };
        assert_eq!(shown, expect, "{answer}");
    }

    #[tokio::test]
    async fn answers_without_a_status_are_bodies() {
        check(r#""Hello""#, r#"200 content-type: application/json || "Hello""#).await;
        check("{\"message\": \"hi\"}", "200 content-type: application/json || {\"message\": \"hi\"}").await;
        check("[1, 2]", "200 content-type: application/json || [1, 2]").await;
        check("null", "200 content-type: application/json || null").await;
        check(
            r#"{"statusCode":null,"headers":3}"#,
            r#"200 content-type: application/json || {"statusCode":null,"headers":3}"#,
        )
        .await;
    }

    #[tokio::test]
    async fn answers_with_a_status_are_responses() {
        check(
            r#"{"statusCode":201,"headers":{"X-One":"1","X-Two":2,"X-No":null},"cookies":["a=1","b=2"],"body":"done"}"#,
            "201 x-one: 1 | x-two: 2 | set-cookie: a=1 | set-cookie: b=2 | content-type: application/json || done",
        )
        .await;
        check(r#"{"statusCode":"204"}"#, "204 content-type: application/json || ").await;
        check(
            r#"{"statusCode":200,"headers":{"content-type":"image/gif"},"body":"R0lG","isBase64Encoded":true}"#,
            "200 content-type: image/gif || GIF",
        )
        .await;
        check(
            r#"{"statusCode":200,"headers":{"Content-Length":"999","Transfer-Encoding":"chunked","Connection":"x-a","X-A":"1"},"body":"ok"}"#,
            "200 content-type: application/json || ok",
        )
        .await;
    }

    #[tokio::test]
    async fn illegal_answers_are_the_functions_fault() {
        check("", "error: the answer is not JSON").await;
        check("{\"statusCode\":200", "error: the answer is not JSON").await;
        check("nonsense", "error: the answer is not JSON").await;
        check(r#"{"statusCode":99}"#, "error: statusCode is not a status from 200 to 599").await;
        check(r#"{"statusCode":101}"#, "error: statusCode is not a status from 200 to 599").await;
        check(r#"{"statusCode":200.5}"#, "error: statusCode is not a status from 200 to 599").await;
        check(r#"{"statusCode":200,"body":{"a":1}}"#, "error: body is not a string").await;
        check(r#"{"statusCode":200,"headers":{"a\r\nb":"1"}}"#, "error: a header's name is not legal").await;
        check(
            r#"{"statusCode":200,"headers":{"a":"1\r\nset-cookie: x"}}"#,
            "error: a header's value is not legal",
        )
        .await;
        check(r#"{"statusCode":200,"headers":[]}"#, "error: headers is not an object").await;
        check(r#"{"statusCode":200,"cookies":["a\nb"]}"#, "error: a header's value is not legal").await;
        check(
            r#"{"statusCode":200,"body":"%%","isBase64Encoded":true}"#,
            "error: isBase64Encoded, and body is not base64",
        )
        .await;
    }

    #[test]
    fn a_time_out_is_not_any_error() {
        let error = |json: &'static str| FunctionError {
            json: Bytes::from_static(json.as_bytes()),
            error_type: None,
        };
        assert_eq!(failed(&error(r#"{"errorType":"Sandbox.Timedout","errorMessage":"x"}"#)).status(), 504);
        assert_eq!(failed(&error(r#"{"errorType":"ValueError","errorMessage":"x"}"#)).status(), 502);
        assert_eq!(failed(&error("nonsense")).status(), 502);
    }
}
