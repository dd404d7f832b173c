//! The port engine: the instance is a web server, and this a proxy in front of it.
//!
//! Requests and responses stream both ways; what comes is passed on when it comes. A request whose response
//! switches protocols (101) leaves with hyper's `OnUpgrade` in the response's extensions. Nothing is sent
//! twice: an idle connection is looked at before it is used, one that the server has closed is passed over, and only
//! a request of which nothing was sent, since there is no connection, is given back for another instance.
//!
//! This path is what a web function costs, so it has no task, no queue and mostly no boxed body of its own.

mod connection;
pub(crate) mod framing;
mod head;
mod headers;
mod pool;
mod upgrade;
mod upload;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};

use self::connection::Connection;
use self::framing::Malformed;
use self::pool::Pool;
use super::route::Route;
use crate::{Body, BoxError};

/// Pauses between attempts to connect to a server that starts: short first, since many are quick.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(5);

/// A web server in an instance.
pub(crate) struct WebServer {
    route: Route,
    pool: Arc<Pool>,
}

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server cannot be reached: nothing was sent, and the request is as it was.
    #[error("the web server cannot be reached: {1}")]
    Connect(Box<Request<Body>>, #[source] io::Error),
    /// It answered, but not in HTTP.
    #[error("the web server's answer is not HTTP: {0}")]
    NotHttp(&'static str),
    /// The connection ended before there was an answer.
    #[error("the web server closed the connection before it answered")]
    Closed(#[source] io::Error),
    /// It switched to another protocol, which the request did not ask for.
    #[error("the web server switched protocols unasked")]
    Unasked,
    /// A tunnel was asked for, which a server behind a proxy does not give.
    #[error("CONNECT is not passed on")]
    Tunnel,
    /// The request's own body broke.
    #[error("the request's body broke off: {0}")]
    Request(#[source] BoxError),
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::NotHttp(malformed.0)
    }
}

impl WebServer {
    /// A server that may not listen yet.
    pub(crate) fn new(route: Route) -> Self {
        Self { route, pool: Arc::default() }
    }

    /// Waits until the port answers. The caller bounds the time.
    pub(crate) async fn ready(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.route.connect().await {
                // Kept: the request that the instance was started for follows at once.
                Ok(stream) => return self.pool.put(Connection::new(stream)),
                Err(error) => tracing::trace!(%error, "a web server does not listen yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Passes a request on and returns when the head of its response is here.
    pub(crate) async fn send(&self, mut request: Box<Request<Body>>) -> Result<Response<Body>, Error> {
        if *request.method() == Method::CONNECT {
            return Err(Error::Tunnel);
        }
        if headers::outgoing(&mut request) {
            let stream = match self.route.connect().await {
                Ok(stream) => stream,
                Err(error) => return Err(Error::Connect(request, error)),
            };
            // Boxed: it is rare, and larger than all the rest of this.
            return Box::pin(upgrade::send(stream, *request)).await;
        }
        let connection = match self.idle() {
            Some(connection) => connection,
            None => match Box::pin(self.route.connect()).await {
                Ok(stream) => Connection::new(stream),
                Err(error) => return Err(Error::Connect(request, error)),
            },
        };
        let (mut head, response) = connection.exchange(request).await?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::Unasked);
        }
        headers::incoming(&mut head.headers, false);
        let mut answer = Response::new(response.into_body(head.framing, head.keep_alive, &self.pool));
        *answer.status_mut() = head.status;
        *answer.headers_mut() = head.headers;
        Ok(answer)
    }

    /// The idle connection that was used last and is still open.
    fn idle(&self) -> Option<Box<Connection>> {
        std::iter::from_fn(|| self.pool.take()).find(|connection| connection.is_quiet())
    }
}

#[cfg(test)]
mod tests;
