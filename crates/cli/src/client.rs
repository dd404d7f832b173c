//! The HTTP side: signed requests in the shapes that AWS's SDKs send, one connection, no retries.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use base::{Clock, Region, SystemClock};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::failure::Failure;
use crate::settings::Connection;

/// A server and how to sign for it.
pub(crate) struct Client {
    connection: Connection,
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

/// An answer of any status below 400.
pub(crate) struct Answer {
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

/// Bytes of an answer that are read: Lambda's own are below 7 MB.
const MAX_ANSWER_BYTES: usize = 32 << 20;

impl Client {
    /// Nothing is sent yet.
    pub(crate) fn new(connection: Connection) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { connection, http }
    }

    /// Where the server is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.connection.endpoint
    }

    /// Lambda's API: JSON in, JSON out. An empty answer is null.
    pub(crate) async fn lambda(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.call("lambda", method, path, body).await
    }

    /// The API of a service that takes JSON and answers it. An empty answer is null.
    pub(crate) async fn call(
        &self,
        service: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let body = body.map_or_else(Bytes::new, |value| value.to_string().into());
        let answer = self.send(service, method, path, HeaderMap::new(), body).await?;
        parse(&answer.body)
    }

    /// CloudWatch Logs' API: JSON 1.1 with the operation in a header.
    pub(crate) async fn logs(&self, operation: &str, body: &Value) -> Result<Value> {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", format!("Logs_20140328.{operation}").parse()?);
        headers.insert("content-type", "application/x-amz-json-1.1".parse()?);
        let answer = self.send("logs", Method::POST, "/", headers, body.to_string().into()).await?;
        parse(&answer.body)
    }

    /// Signs and sends. A status of 400 or more is a [`Failure::Refused`].
    pub(crate) async fn send(
        &self,
        service: &str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer> {
        let uri = format!("{}{path}", self.connection.endpoint);
        let (mut head, ()) = Request::builder().method(method).uri(uri).body(())?.into_parts();
        head.headers = headers;
        self.sign(service, &mut head, &body)?;
        let request = Request::from_parts(head, Full::new(body));
        let response = self.http.request(request).await.map_err(|error| self.unreachable(&error))?;
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow!("the answer broke off: {error}"))?.to_bytes();
        if head.status.as_u16() >= 400 {
            return Err(refused(head.status, &head.headers, &body).into());
        }
        Ok(Answer { headers: head.headers, body })
    }

    fn sign(&self, service: &str, head: &mut http::request::Parts, body: &[u8]) -> Result<()> {
        let connection = &self.connection;
        let credentials = iam::Credentials {
            access_key_id: connection.access_key_id.clone(),
            secret_access_key: connection.secret_access_key.clone(),
            session_token: connection.session_token.clone(),
            expires: None,
        };
        let region = Region::parse(&connection.region);
        let region = region.with_context(|| format!("{} is not a region's name", connection.region))?;
        Ok(iam::sigv4::sign_request(head, body, &credentials, &region, service, SystemClock.now())?)
    }

    fn unreachable(&self, error: &hyper_util::client::legacy::Error) -> Failure {
        let endpoint = &self.connection.endpoint;
        if error.is_connect() {
            return Failure::Unreachable(format!("no server at {endpoint}: start one with `virga serve`"));
        }
        Failure::Unreachable(format!("{endpoint} did not answer: {}", root_cause(error)))
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn parse(body: &[u8]) -> Result<Value> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).context("the answer is not JSON: is this a Virga server?")
}

/// Reads an error in the forms of the REST-JSON and JSON 1.1 protocols.
fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text =
        |names: [&str; 2]| names.into_iter().find_map(|name| body[name].as_str()).unwrap_or("").to_owned();
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = header.map_or_else(|| text(["__type", "code"]), str::to_owned);
    let code = code.split(':').next().unwrap_or("").rsplit('#').next().unwrap_or("").to_owned();
    let code = if code.is_empty() { format!("HTTP {}", status.as_u16()) } else { code };
    Failure::Refused { status: status.as_u16(), code, message: text(["message", "Message"]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_both_protocols() {
        let check = |header: Option<&str>, body: &str, expect: &str| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-amzn-errortype", header.parse().unwrap());
            }
            assert_eq!(refused(StatusCode::NOT_FOUND, &headers, body.as_bytes()).to_string(), expect);
        };
        check(
            Some("ResourceNotFoundException"),
            r#"{"Message": "gone"}"#,
            "gone (ResourceNotFoundException)",
        );
        check(Some("X:http://y"), r#"{"message": "m"}"#, "m (X)");
        check(None, r#"{"__type": "com.amazonaws#Gone", "message": "m"}"#, "m (Gone)");
        check(None, "<html>", "HTTP 404");
    }
}
