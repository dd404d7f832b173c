//! One call on a line, from the server's side: the request goes out as the worker reads it, what is printed goes to
//! the log, the answer comes back. Nothing is spawned: whoever polls for the answer sends the request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::{Request, request};
use http_body::{Body as HttpBody, Frame};
use sandbox::{Body, BoxError, LogSink, Payload};

use super::head;
use super::line::{CHUNK, Kind, Line, WAITING, WINDOW};
use super::process::Worker;

/// A call under way. Dropping it ends the call.
pub(super) struct Exchange {
    worker: Arc<Worker>,
    line: Option<Line>,
    upload: Upload,
    /// Whether all of the call went in one frame.
    whole: bool,
    /// What the call's frame was made of, where it was a request.
    request: Option<(request::Parts, Bytes)>,
    log: Arc<dyn LogSink>,
}

/// The line has ended in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broke {
    /// Whether it is known that the worker has not read the call: then no guest has seen it.
    pub(super) unread: bool,
}

/// The rest of a request's body.
struct Upload {
    body: Option<Body>,
    piece: Bytes,
    /// Bytes that the worker has room for.
    window: usize,
}

impl Exchange {
    pub(super) fn new(worker: Arc<Worker>, line: Line, log: Arc<dyn LogSink>) -> Self {
        let upload = Upload { body: None, piece: Bytes::new(), window: WINDOW };
        Self { worker, line: Some(line), upload, whole: false, request: None, log }
    }

    /// Puts the call on the line.
    pub(super) fn begin(&mut self, instance: u64, payload: Payload) {
        let Some(line) = &mut self.line else { return };
        match payload {
            Payload::Event(event) => {
                self.whole = true;
                line.push(Kind::Event, |to| {
                    to.put_u64_le(instance);
                    to.put_slice(&event.json);
                });
            }
            Payload::Http(request) => {
                let (parts, body) = request.into_parts();
                let (whole, rest) = split(body);
                line.push(Kind::Request, |to| {
                    head::put_request(to, instance, rest.is_some(), &parts);
                    to.put_slice(&whole);
                });
                self.whole = rest.is_none();
                self.upload.body = rest;
                self.request = Some((parts, whole));
            }
        }
    }

    /// Sends what can be sent; an error: nothing of it may have arrived.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.line.as_mut().map(|line| line.poll_flush(cx)) {
            Some(Poll::Ready(Err(error))) => Err(error),
            _ => Ok(()),
        }
    }

    /// The request as it came, where the worker has seen nothing of it; `None` of an event.
    pub(super) fn take_back(&mut self) -> Option<Box<Request<Body>>> {
        let (parts, whole) = self.request.take()?;
        let body = self.upload.body.take().unwrap_or_else(|| whole.into());
        Some(Box::new(Request::from_parts(parts, body)))
    }

    /// The next frame of the answer.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Kind, Bytes), Broke>> {
        let Some(line) = &mut self.line else { return Poll::Ready(Err(Broke { unread: false })) };
        loop {
            if self.upload.poll(line, cx).is_err() {
                // What it had still said is worth more than that it went.
                self.upload.body = None;
            }
            match line.poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                // unix(7): a socket that is closed with something unread resets its peer.
                Poll::Ready(Err(error)) => {
                    let unread = self.whole && error.kind() == io::ErrorKind::ConnectionReset;
                    return Poll::Ready(Err(Broke { unread }));
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(Broke { unread: false })),
                Poll::Ready(Ok(Some((Kind::Printed, bytes)))) => self.log.write(&bytes),
                Poll::Ready(Ok(Some((Kind::Credit, mut bytes)))) => {
                    let read = bytes.try_get_u32_le().unwrap_or(0) as usize;
                    self.upload.window = self.upload.window.saturating_add(read).min(WINDOW);
                }
                Poll::Ready(Ok(Some(frame))) => return Poll::Ready(Ok(frame)),
            }
        }
    }

    /// The call is over: the line goes back, unless something is still on its way on it.
    pub(super) fn finish(&mut self) {
        if let Some(line) = self.line.take()
            && self.upload.body.is_none()
        {
            self.worker.give_back(line);
        }
    }
}

/// The bytes of a small body that is there, and any other body.
fn split(body: Body) -> (Bytes, Option<Body>) {
    match body {
        Body::Full(full) if full.size_hint().upper().is_some_and(|size| size <= CHUNK as u64) => {
            (full.into_inner().unwrap_or_default(), None)
        }
        body if body.is_end_stream() => (Bytes::new(), None),
        body => (Bytes::new(), Some(body)),
    }
}

impl Upload {
    /// Sends on what there is, as far as there is room.
    fn poll(&mut self, line: &mut Line, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            if let Poll::Ready(sent) = line.poll_flush(cx) {
                sent?;
            }
            let Some(body) = &mut self.body else { return Ok(()) };
            if line.waiting() > WAITING {
                return Ok(());
            }
            if !self.piece.is_empty() {
                let size = self.piece.len().min(self.window).min(CHUNK);
                if size == 0 {
                    return Ok(());
                }
                self.window -= size;
                let piece = self.piece.split_to(size);
                line.push(Kind::Data, |to| to.put_slice(&piece));
                continue;
            }
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                // Trailers of requests are left out.
                Poll::Ready(Some(Ok(frame))) => self.piece = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => {
                    self.body = None;
                    line.push(Kind::Broken, |to| to.put_slice(error.to_string().as_bytes()));
                }
                Poll::Ready(None) => {
                    self.body = None;
                    line.push(Kind::End, |_| {});
                }
            }
        }
    }
}

/// The body of a response that streams.
pub(super) struct Streamed {
    /// `None` once it has ended.
    pub(super) exchange: Option<Exchange>,
    /// Takes the peak of memory at the end.
    pub(super) peak: Arc<std::sync::atomic::AtomicU64>,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        let Poll::Ready(frame) = exchange.poll_frame(cx) else { return Poll::Pending };
        let error: BoxError = match frame {
            Ok((Kind::Data, bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Ok((Kind::Trailers, mut bytes)) => match head::take_headers(&mut bytes) {
                Some(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                None => "the worker's trailers cannot be read".into(),
            },
            Ok((Kind::End, mut bytes)) => {
                exchange.finish();
                self.end(head::take_peak(&mut bytes));
                return Poll::Ready(None);
            }
            Ok((Kind::Broken, mut bytes)) => {
                exchange.finish();
                self.end(head::take_peak(&mut bytes));
                return Poll::Ready(Some(Err(String::from_utf8_lossy(&bytes).into())));
            }
            Ok(_) => "the worker's answer makes no sense".into(),
            Err(_) => "the worker process of the function's tenant has ended".into(),
        };
        self.exchange = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Streamed {
    fn end(&mut self, peak: u64) {
        self.exchange = None;
        self.peak.fetch_max(peak, std::sync::atomic::Ordering::Relaxed);
    }
}
