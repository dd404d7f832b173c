//! Sending a request: its head and the pieces of its body, each with one write where the socket takes it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body::Body as _;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::head::{self, Sending};
use crate::{Body, BoxError};

/// What is left to send of one request.
pub(super) struct Upload {
    body: Option<Body>,
    sending: Sending,
    /// Written first: the head, the frame of a chunk.
    before: BytesMut,
    data: Bytes,
    /// Written last.
    after: &'static [u8],
}

/// Why a request was not sent whole.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection's fault.
    Connection(io::Error),
    /// The body's own.
    Body(BoxError),
}

impl Upload {
    /// Prepares a request; `before` is an empty buffer to be used.
    pub(super) fn new(request: Box<Request<Body>>, before: BytesMut) -> Self {
        let hint = request.body().size_hint();
        let sending = match hint.exact() {
            _ if request.body().is_end_stream() => Sending::Nothing,
            Some(0) => Sending::Nothing,
            Some(length) => Sending::Length(length),
            None => Sending::Chunked,
        };
        let mut before = before;
        head::write(&request, sending, &mut before);
        let body = (sending != Sending::Nothing).then(|| request.into_body());
        Self { body, sending, before, data: Bytes::new(), after: b"" }
    }

    /// The buffer, for the next request.
    pub(super) fn into_buffer(self) -> BytesMut {
        self.before
    }

    /// Sends what can be sent now; ready when all is.
    pub(super) fn poll(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            // Staged before anything is written, so that a head and its body go out together.
            let waits = self.data.is_empty() && self.after.is_empty() && self.stage(cx)?.is_pending();
            ready!(self.flush(stream, cx)).map_err(Broken::Connection)?;
            match self.body {
                None => return Poll::Ready(Ok(())),
                Some(_) if waits => return Poll::Pending,
                Some(_) => {}
            }
        }
    }

    /// Takes the next piece of the body; pending while it has none.
    fn stage(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Broken> {
        let Some(body) = &mut self.body else { return Ok(Poll::Ready(())) };
        let frame = match Pin::new(body).poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(frame) => frame.transpose().map_err(Broken::Body)?,
        };
        match frame.map(http_body::Frame::into_data) {
            Some(Ok(data)) => self.stage_data(data)?,
            Some(Err(other)) => {
                if let Ok(trailers) = other.into_trailers() {
                    self.finish(Some(&trailers))?;
                }
            }
            None => self.finish(None)?,
        }
        Ok(Poll::Ready(()))
    }

    fn stage_data(&mut self, data: Bytes) -> Result<(), Broken> {
        match &mut self.sending {
            Sending::Nothing => return Ok(()),
            Sending::Length(left) => {
                let rest = left.checked_sub(data.len() as u64);
                *left = rest.ok_or_else(|| Broken::Body("the body is longer than announced".into()))?;
                if *left == 0 {
                    self.body = None;
                }
            }
            Sending::Chunked if data.is_empty() => return Ok(()),
            Sending::Chunked => {
                self.before.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.after = b"\r\n";
            }
        }
        self.data = data;
        Ok(())
    }

    /// The body has ended.
    fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        self.body = None;
        match self.sending {
            Sending::Length(1..) => return Err(Broken::Body("the body is shorter than announced".into())),
            Sending::Nothing | Sending::Length(_) => {}
            Sending::Chunked => {
                self.before.put_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                        self.before.put_slice(part);
                    }
                }
                self.before.put_slice(b"\r\n");
            }
        }
        Ok(())
    }

    fn is_staged(&self) -> bool {
        !(self.before.is_empty() && self.data.is_empty() && self.after.is_empty())
    }

    fn flush(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_staged() {
            let stream = Pin::new(&mut *stream);
            // A head alone, what most requests are, in a plain write: it costs less than a vectored one.
            let mut written = ready!(if self.data.is_empty() && self.after.is_empty() {
                stream.poll_write(cx, &self.before)
            } else {
                let parts = [IoSlice::new(&self.before), IoSlice::new(&self.data), IoSlice::new(self.after)];
                stream.poll_write_vectored(cx, &parts)
            })?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let first = written.min(self.before.len());
            self.before.advance(first);
            written -= first;
            let second = written.min(self.data.len());
            self.data.advance(second);
            self.after = &self.after[written - second..];
        }
        Poll::Ready(Ok(()))
    }
}
