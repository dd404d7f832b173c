//! One keep-alive connection to a web server, driven by whoever uses it.
//!
//! hyper's client connection is two halves joined by channels: a sender, and a driver that does the work when
//! it is polled. The usual way gives the driver a task of its own, which costs several wake-ups a request.
//! Here the future that waits for the response, and then the body that is read, poll it themselves.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::pool::Pool;
use crate::{Body, BoxError};

/// hyper's connection; a box, since its type cannot be named.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Bytes of a response's head, and of body read at a time.
const MAX_BUFFER: usize = 256 * 1024;

/// A connection that carries one exchange at a time.
pub(super) struct Connection {
    sender: http1::SendRequest<Body>,
    /// `None` once the connection is closed or has switched protocols.
    driver: Option<Driver>,
    /// When it last became idle.
    pub(super) idle_since: Instant,
}

/// Why an exchange came to nothing.
pub(super) enum Failed {
    /// The connection was closed before anything was sent: the request is as it was.
    Unsent(Request<Body>),
    /// Something may have been sent.
    Broken(hyper::Error),
}

impl Connection {
    /// Speaks HTTP/1.1 over a stream.
    pub(super) async fn open(stream: TcpStream) -> io::Result<Box<Self>> {
        let handshake = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream));
        let (sender, driver) = handshake.await.map_err(io::Error::other)?;
        Ok(Box::new(Self {
            sender,
            driver: Some(Box::pin(driver.with_upgrades())),
            idle_since: Instant::now(),
        }))
    }

    /// Whether another request can be sent.
    fn is_usable(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Does what can be done now.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(result) = driver.as_mut().poll(cx)
        {
            if let Err(error) = result {
                tracing::trace!(%error, "a connection to a web server broke");
            }
            self.driver = None;
        }
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn exchange(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        let mut response = pin!(self.sender.try_send_request(request));
        let result = poll_fn(|cx| {
            self.drive(cx);
            response.as_mut().poll(cx)
        });
        result.await.map_err(|mut error| match error.take_message() {
            Some(request) => Failed::Unsent(request),
            None => Failed::Broken(error.into_error()),
        })
    }

    /// After a 101: goes on until the stream is handed over to whoever waits for the upgrade.
    pub(super) fn switch(mut self: Box<Self>) {
        if let Some(driver) = self.driver.take() {
            tokio::spawn(driver);
        }
    }
}

/// Makes the body to pass on. A body that has arrived already is handed over whole, and its connection is
/// free at once; any other takes the connection along.
pub(super) async fn body(incoming: Incoming, connection: Box<Connection>, pool: &Arc<Pool>) -> Body {
    let mut streaming =
        Streaming { incoming, connection: Some(connection), pool: pool.clone(), ahead: None, over: false };
    let first = poll_fn(|cx| match Pin::new(&mut streaming).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending => Poll::Ready(None),
    });
    match first.await {
        Some(None) => Body::empty(),
        Some(Some(Ok(frame))) if streaming.over && frame.is_data() => {
            frame.into_data().map_or_else(|_| Body::empty(), Body::from)
        }
        Some(first) => {
            streaming.ahead = first;
            Body::boxed(streaming)
        }
        None => Body::boxed(streaming),
    }
}

/// A response's body with the connection that it comes from.
struct Streaming {
    incoming: Incoming,
    connection: Option<Box<Connection>>,
    pool: Arc<Pool>,
    /// Read already, not yet handed on.
    ahead: Option<Result<Frame<Bytes>, BoxError>>,
    /// Nothing more comes from the connection.
    over: bool,
}

impl Streaming {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        self.over = !matches!(frame, Some(Ok(_))) || self.incoming.is_end_stream();
        if self.over {
            self.release(cx, !matches!(frame, Some(Err(_))));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    /// Gives the connection back where it can carry another exchange.
    fn release(&mut self, cx: &mut Context<'_>, intact: bool) {
        let Some(mut connection) = self.connection.take() else { return };
        if intact && !connection.is_usable() {
            connection.drive(cx);
        }
        if intact && connection.is_usable() {
            self.pool.put(connection);
        }
    }
}

impl HttpBody for Streaming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.ahead.take() {
            return Poll::Ready(Some(frame));
        }
        if self.over {
            return Poll::Ready(None);
        }
        // Asking first tells the driver that more is wanted; then it reads, and the answer is there.
        if let Poll::Ready(frame) = self.poll_incoming(cx) {
            return Poll::Ready(frame);
        }
        if let Some(connection) = &mut self.connection {
            connection.drive(cx);
        }
        self.poll_incoming(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && (self.over || self.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        let ahead = ahead.map_or(0, |data| data.len() as u64);
        let rest = if self.over { SizeHint::with_exact(0) } else { self.incoming.size_hint() };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}
