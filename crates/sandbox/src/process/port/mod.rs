//! The port engine: the instance is a web server, and this a proxy in front of it.
//!
//! Requests and responses stream both ways; what comes is passed on when it comes. A request whose response
//! switches protocols (101) leaves with hyper's `OnUpgrade` in the response's extensions. Nothing is tried
//! twice, but for a request that met an idle connection which the server had closed: nothing of it was sent.
//!
//! This path is what a web function costs, so it has no task, no queue and mostly no boxed body of its own.

mod connection;
mod headers;
mod pool;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};

use self::connection::{Connection, Failed};
use self::pool::Pool;
use super::route::Route;
use crate::Body;

/// Pauses between attempts to connect to a server that starts: short first, since many are quick.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(5);

/// A web server in an instance.
pub(crate) struct WebServer {
    route: Route,
    pool: Arc<Pool>,
}

/// What an attempt came to.
enum Attempt {
    /// The head of a response.
    Answered(Response<Body>),
    /// Nothing was sent: the request is as it was.
    Unsent(Request<Body>),
}

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server cannot be reached.
    #[error("the web server cannot be reached: {0}")]
    Connect(#[source] io::Error),
    /// It answered, but not in HTTP.
    #[error("the web server's answer is not HTTP: {0}")]
    NotHttp(#[source] hyper::Error),
    /// The connection ended before there was an answer.
    #[error("the web server closed the connection before it answered")]
    Closed(#[source] hyper::Error),
    /// It switched to another protocol, which the request did not ask for.
    #[error("the web server switched protocols unasked")]
    Unasked,
    /// The request's own body broke.
    #[error("the request's body broke off: {0}")]
    Request(#[source] hyper::Error),
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
            match self.open().await {
                // Kept: the request that the instance was started for follows at once.
                Ok(connection) => return self.pool.put(connection),
                Err(error) => tracing::trace!(%error, "a web server does not listen yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Passes a request on and returns when the head of its response is here.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        let upgrade = headers::outgoing(&mut request);
        while let Some(connection) = self.pool.take() {
            match self.attempt(connection, request, upgrade).await? {
                Attempt::Answered(response) => return Ok(response),
                Attempt::Unsent(back) => request = back,
            }
        }
        let connection = self.open().await.map_err(Error::Connect)?;
        match self.attempt(connection, request, upgrade).await? {
            Attempt::Answered(response) => Ok(response),
            Attempt::Unsent(_) => Err(Error::Connect(io::ErrorKind::ConnectionReset.into())),
        }
    }

    async fn open(&self) -> io::Result<Box<Connection>> {
        Connection::open(self.route.connect().await?).await
    }

    async fn attempt(
        &self,
        mut connection: Box<Connection>,
        request: Request<Body>,
        upgrade: bool,
    ) -> Result<Attempt, Error> {
        let (mut head, incoming) = match connection.exchange(request).await {
            Ok(response) => response.into_parts(),
            Err(Failed::Unsent(request)) => return Ok(Attempt::Unsent(request)),
            Err(Failed::Broken(error)) => return Err(sorted(error)),
        };
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if switched && !upgrade {
            return Err(Error::Unasked);
        }
        headers::incoming(&mut head.headers, switched);
        let body = if switched {
            connection.switch();
            Body::empty()
        } else {
            connection::body(incoming, connection, &self.pool).await
        };
        Ok(Attempt::Answered(Response::from_parts(head, body)))
    }
}

fn sorted(error: hyper::Error) -> Error {
    if error.is_parse() {
        Error::NotHttp(error)
    } else if error.is_user() {
        Error::Request(error)
    } else {
        Error::Closed(error)
    }
}

#[cfg(test)]
mod tests;
