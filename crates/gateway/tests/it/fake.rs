//! A back end without sandboxes. An event's function does what the event says; a web function is a hyper
//! server behind an in-memory connection, so that streams and upgrades are real ones.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sandbox::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) struct Fake;

impl Backend for Fake {
    fn isolation(&self) -> Isolation {
        Isolation::Process
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<Prepared, Error>> {
        let events = artifact.contract == Contract::Lambda;
        let speaks = if events { Speaks::Events } else { Speaks::Http };
        Box::pin(async move { Ok(Prepared { speaks, one_at_a_time: events }) })
    }

    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>> {
        Box::pin(async move { Ok(Arc::new(FakeInstance { spec }) as Arc<dyn Instance>) })
    }
}

struct FakeInstance {
    spec: Arc<Spec>,
}

impl Instance for FakeInstance {
    fn invoke(&self, call: Call) -> BoxFuture<'_, Result<Output, Fault>> {
        Box::pin(async move {
            match call.payload {
                Payload::Event(event) => self.event(&event).await,
                Payload::Http(request) => Ok(Output::Http(through(*request).await)),
            }
        })
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        Box::pin(std::future::pending())
    }

    fn peak_memory(&self) -> u64 {
        1 << 20
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl FakeInstance {
    /// A URL's event is answered by its path: `/answer` with its body, `/fail` with an error, else itself.
    async fn event(&self, event: &Event) -> Result<Output, Fault> {
        self.spec.output.write(b"a line\n");
        let value: Value = serde_json::from_slice(&event.json).expect("events are JSON");
        match value["rawPath"].as_str() {
            Some("/answer") => {
                Ok(Output::Event(Bytes::from(value["body"].as_str().unwrap_or_default().to_owned())))
            }
            Some("/stream") => Ok(Output::Stream(dictated(&value))),
            Some("/hang") => std::future::pending().await,
            Some("/exit") => Err(Fault::Trap("gone".into())),
            Some("/fail") => {
                let json = Bytes::from_static(br#"{"errorType":"ValueError","errorMessage":"secret"}"#);
                Ok(Output::FunctionError(FunctionError { json, error_type: None }))
            }
            _ if value == json!("context") => {
                let context = json!({ "arn": event.invoked_arn, "client": event.client_context });
                Ok(Output::Event(context.to_string().into()))
            }
            _ if value == json!("fail") => {
                let json = Bytes::from_static(br#"{"errorType":"ValueError","errorMessage":"no"}"#);
                Ok(Output::FunctionError(FunctionError { json, error_type: None }))
            }
            _ => Ok(Output::Event(event.json.clone())),
        }
    }
}

/// An answer in pieces as the event's body says: its type, what is sent of it, and whether it then ends, fails or goes on.
fn dictated(event: &Value) -> Streamed {
    let body: Value =
        serde_json::from_str(event["body"].as_str().unwrap_or_default()).expect("the body is JSON");
    let (pieces, end, streamed) = Streamed::new(body["type"].as_str().map(str::to_owned));
    tokio::spawn(async move {
        for piece in body["pieces"].as_array().into_iter().flatten() {
            let piece = piece.as_str().unwrap_or_default().to_owned();
            pieces.send(piece.into()).await.ok();
        }
        let json = Bytes::from_static(br#"{"errorType":"ValueError","errorMessage":"secret"}"#);
        match body["then"].as_str() {
            Some("fail") => {
                drop(pieces);
                end.send(Ok(Some(FunctionError { json, error_type: None }))).ok();
            }
            Some("go on") => {
                pieces.closed().await;
            }
            _ => {
                drop(pieces);
                end.send(Ok(None)).ok();
            }
        }
    });
    streamed
}

/// Sends a request over a connection of its own to the web server below.
async fn through(request: Request<Body>) -> Response<Body> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = hyper::server::conn::http1::Builder::new();
    tokio::spawn(server.serve_connection(TokioIo::new(far), service_fn(web)).with_upgrades());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(near)).await.expect("an in-memory handshake");
    tokio::spawn(connection.with_upgrades());
    let mut response = sender.send_request(request).await.expect("an in-memory exchange");
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgrade = hyper::upgrade::on(&mut response);
        let mut response = response.map(|_| Body::empty());
        response.extensions_mut().insert(upgrade);
        return response;
    }
    // The sender would close the connection if it went before the body.
    let mut response = response.map(Body::Incoming);
    response.extensions_mut().insert(Arc::new(sender));
    response
}

async fn web(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let response = match request.uri().path() {
        "/echo" => Response::new(Body::Incoming(request.into_body())),
        "/hang" => std::future::pending().await,
        "/hop" => Response::builder()
            .header("connection", "x-internal")
            .header("x-internal", "1")
            .header("keep-alive", "timeout=5")
            .header("access-control-allow-origin", "the-function")
            .body(Body::from("hop"))
            .expect("legal parts"),
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut tunnel = TokioIo::new(upgrade.await.expect("the upgrade happens"));
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = tunnel.read(&mut buffer).await {
                    tunnel
                        .write_all(&buffer[..count].to_ascii_uppercase())
                        .await
                        .expect("the other side reads");
                }
            });
            Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "shout")
                .body(Body::empty())
                .expect("legal parts")
        }
        _ => Response::new(Body::Full(Full::new(described(&request).to_string().into()))),
    };
    Ok(response)
}

/// What the web server sees of a request.
fn described(request: &Request<Incoming>) -> Value {
    let headers: serde_json::Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    json!({ "method": request.method().as_str(), "target": request.uri().to_string(), "headers": headers })
}
