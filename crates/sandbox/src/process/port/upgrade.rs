//! Requests that ask for another protocol (WebSocket and others).
//!
//! hyper's own client carries these: what the caller needs is hyper's `OnUpgrade`, which nothing else can make.
//! They get a connection of their own and a task that drives it, since their streams live long and they are
//! rare beside ordinary requests.

use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Error, headers};
use crate::Body;

/// Sends the request and returns the response, whether it switches or not.
pub(super) async fn send(stream: TcpStream, request: Request<Body>) -> Result<Response<Body>, Error> {
    let handshake = http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(sorted)?;
    // Ends with the connection, which ends when both sides drop theirs.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::trace!(%error, "a connection to a web server broke");
        }
    });
    let mut response = sender.send_request(request).await.map_err(sorted)?;
    let switched = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
    headers::incoming(response.headers_mut(), switched);
    Ok(response.map(|body| if switched { Body::empty() } else { Body::Incoming(body) }))
}

fn sorted(error: hyper::Error) -> Error {
    if error.is_parse() {
        Error::NotHttp("the head of the response cannot be read")
    } else if error.is_user() {
        Error::Request(error.into())
    } else {
        Error::Closed(std::io::Error::other(error))
    }
}
