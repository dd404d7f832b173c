//! One connection to a web server and one exchange on it.
//!
//! Written for this path alone, instead of a general client: whoever waits for the response reads and writes
//! the socket itself, so that a request costs no task, no channel and no wake-up of its own. The body goes
//! on up while the response is awaited and while it is read; a server that answers early and closes is heard.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::Error;
use super::framing::{Framing, Piece};
use super::head::{self, Head};
use super::pool::Pool;
use super::upload::{Broken, Upload};
use crate::{Body, BoxError};

/// Bytes read at a time; less where a buffer has some room left.
const READ: usize = 8 * 1024;
const READ_OF_BODY: usize = 64 * 1024;
const LEAST_READ: usize = 1024;

/// Interim responses (1xx) taken before the real one.
const MAX_INTERIM: usize = 32;

/// A connection between exchanges. Boxed: it goes from hand to hand.
pub(super) struct Connection {
    stream: TcpStream,
    /// Read and not yet used.
    read: BytesMut,
    /// For the next head.
    write: BytesMut,
    /// The pool's sweep after which it last became idle.
    pub(super) idle_since: u64,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Box<Self> {
        let (read, write) = (BytesMut::new(), BytesMut::new());
        Box::new(Self { stream, read, write, idle_since: 0 })
    }

    /// Whether the server has left the idle connection alone: neither closed it nor said anything.
    pub(super) fn is_quiet(&self) -> bool {
        let unread = self.read.is_empty();
        let closed = self.stream.try_read(&mut [0]).map_err(|error| error.kind());
        unread && closed == Err(io::ErrorKind::WouldBlock)
    }

    /// Sends a request and returns when the head of its response is here. The body goes on being sent by
    /// whoever reads the response's.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Box<Request<Body>>,
    ) -> Result<(Head, Response), Error> {
        let method = request.method().clone();
        let upload = Upload::new(request, std::mem::take(&mut self.write));
        let mut exchange = Exchange { connection: self, upload: Some(upload), refused: None };
        let head = poll_fn(|cx| exchange.poll_head(&method, cx)).await?;
        Ok((head, Response(exchange)))
    }

    fn poll_read(&mut self, at_least: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // From the buffer's beginning, if nothing of the last response is left: it is in the processor's cache.
        let anew = self.read.is_empty() && self.read.try_reclaim(at_least);
        if !anew && self.read.capacity() - self.read.len() < LEAST_READ {
            self.read.reserve(at_least);
        }
        // Holds no state: polled anew each time.
        pin!(self.stream.read_buf(&mut self.read)).poll(cx)
    }
}

/// A connection while a request is under way.
struct Exchange {
    connection: Box<Connection>,
    /// What is left to send.
    upload: Option<Upload>,
    /// Why no more can be sent. The server may still have answered.
    refused: Option<io::Error>,
}

/// A response whose body has not been read.
pub(super) struct Response(Exchange);

impl Exchange {
    /// Sends what can be sent now. Only a broken body is an error: a server may stop to listen and answer.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        match upload.poll(&mut self.connection.stream, cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.connection.write = self.upload.take().map(Upload::into_buffer).unwrap_or_default();
            }
            Poll::Ready(Err(Broken::Body(error))) => return Err(error),
            Poll::Ready(Err(Broken::Connection(error))) => {
                self.upload = None;
                self.refused = Some(error);
            }
        }
        Ok(())
    }

    fn poll_head(&mut self, method: &Method, cx: &mut Context<'_>) -> Poll<Result<Head, Error>> {
        self.send(cx).map_err(Error::Request)?;
        for _ in 0..=MAX_INTERIM {
            let head = loop {
                if !self.connection.read.is_empty()
                    && let Some(head) = head::read(&mut self.connection.read, method)?
                {
                    break head;
                }
                let closed = match ready!(self.connection.poll_read(READ, cx)) {
                    Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                    Ok(_) => continue,
                    Err(error) => error,
                };
                return Poll::Ready(Err(Error::Closed(self.refused.take().unwrap_or(closed))));
            };
            if !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Ok(head));
            }
        }
        Poll::Ready(Err(Error::NotHttp("interim responses without end")))
    }

    /// The connection, where another exchange can follow.
    fn finish(mut self) -> Option<Box<Connection>> {
        let clean = self.upload.is_none() && self.refused.is_none() && self.connection.read.is_empty();
        if self.connection.read.capacity() > READ {
            // It grew for a long body; idle connections are many and should hold little.
            self.connection.read = BytesMut::new();
        }
        clean.then_some(self.connection)
    }
}

impl Response {
    /// Makes the body to pass on. One that was read with its head is handed over whole, and its connection is
    /// free at once; any other takes the connection along.
    pub(super) fn into_body(self, framing: Framing, keep_alive: bool, pool: &Arc<Pool>) -> Body {
        let pool = keep_alive.then(|| pool.clone());
        let mut streaming = Streaming { exchange: Some(self.0), framing, pool, ahead: None };
        let first = streaming.next_read();
        let whole = streaming.framing == Framing::Over;
        match first {
            Ok(Piece::End) => {
                streaming.release();
                Body::empty()
            }
            Ok(Piece::Data(data)) if whole => {
                streaming.release();
                Body::from(data)
            }
            Ok(Piece::Missing) => Body::boxed(streaming),
            Ok(Piece::Data(data)) => {
                streaming.ahead = Some(Ok(Frame::data(data)));
                Body::boxed(streaming)
            }
            Ok(Piece::Trailers(trailers)) => {
                streaming.ahead = Some(Ok(Frame::trailers(trailers)));
                Body::boxed(streaming)
            }
            Err(error) => {
                streaming.ahead = Some(Err(error));
                Body::boxed(streaming)
            }
        }
    }
}

/// A response's body with the connection that it comes from.
struct Streaming {
    /// `None` once nothing more comes.
    exchange: Option<Exchange>,
    framing: Framing,
    /// Where the connection goes, if it can be used again.
    pool: Option<Arc<Pool>>,
    /// Taken already, not yet handed on.
    ahead: Option<Result<Frame<Bytes>, BoxError>>,
}

impl Streaming {
    /// The next piece of what was read.
    fn next_read(&mut self) -> Result<Piece, BoxError> {
        match &mut self.exchange {
            Some(exchange) => Ok(self.framing.next(&mut exchange.connection.read)?),
            None => Ok(Piece::End),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, BoxError>> {
        loop {
            let piece = self.next_read()?;
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(Ok(piece)) };
            exchange.send(cx)?;
            if piece != Piece::Missing {
                return Poll::Ready(Ok(piece));
            }
            if ready!(exchange.connection.poll_read(READ_OF_BODY, cx))? == 0 {
                let proper = self.framing.may_end();
                let broken = || io::Error::new(io::ErrorKind::UnexpectedEof, "the response broke off");
                return Poll::Ready(if proper { Ok(Piece::End) } else { Err(broken().into()) });
            }
        }
    }

    /// Gives the connection back where it can carry another exchange.
    fn release(&mut self) {
        let connection = self.exchange.take().and_then(Exchange::finish);
        if let (Some(connection), Some(pool)) = (connection, &self.pool) {
            pool.put(connection);
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
        let frame = match ready!(self.poll_piece(cx)) {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End | Piece::Missing) => None,
            Err(error) => {
                // Nothing after an error, and never another exchange.
                self.exchange = None;
                return Poll::Ready(Some(Err(error)));
            }
        };
        if frame.is_none() || self.framing == Framing::Over {
            self.release();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.exchange.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        let ahead = ahead.map_or(0, |data| data.len() as u64);
        match self.framing.length() {
            Some(left) => SizeHint::with_exact(left + ahead),
            None => SizeHint::default(),
        }
    }
}
