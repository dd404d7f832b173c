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
        headers::outgoing(&mut request);
        while let Some(connection) = self.pool.take() {
            match self.exchange(connection, request).await {
                Err(Failed::Unsent(back)) => request = back,
                Err(Failed::Broken(error)) => return Err(sorted(error)),
                Ok(response) => return Ok(response),
            }
        }
        let connection = self.open().await.map_err(Error::Connect)?;
        match self.exchange(connection, request).await {
            Ok(response) => Ok(response),
            Err(Failed::Broken(error)) => Err(sorted(error)),
            Err(Failed::Unsent(_)) => {
                let why = "it closed a new connection at once";
                Err(Error::Connect(io::Error::new(io::ErrorKind::ConnectionReset, why)))
            }
        }
    }

    async fn open(&self) -> io::Result<Box<Connection>> {
        Connection::open(self.route.connect().await?).await
    }

    async fn exchange(
        &self,
        mut connection: Box<Connection>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failed> {
        let (mut head, incoming) = connection.exchange(request).await?.into_parts();
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        headers::incoming(&mut head.headers, switched);
        let body = if switched {
            connection.switch();
            Body::empty()
        } else {
            connection::body(incoming, connection, &self.pool).await
        };
        Ok(Response::from_parts(head, body))
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
