//! One connection of a runtime client: HTTP/1.1 from the server's side, for this API alone.
//!
//! Written instead of a general server because an event handler pays for it with every event: whoever handles a
//! request reads and writes the socket itself, a small event is one write, a small answer one read. The client is
//! not trusted: heads and bodies are bounded, and a request whose end is not clear ends the connection.

use std::future::pending;
use std::io::{self, ErrorKind};

use base::RequestId;
use base64::Engine as _;
use bytes::{Buf, Bytes, BytesMut};
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::super::port::framing::{Framing, Piece};
use super::machine::ConnectionId;
use super::request::{self, Head};
use super::wire::{ERROR_BODY, ERROR_TYPE, Reply};

/// Bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
/// Bytes read at a time, where no more are announced.
const READ: usize = 4 * 1024;
/// Bytes of a body that is copied rather than kept in the buffer that it was read into, or of an event that is
/// copied behind its head rather than written by itself.
const SMALL: usize = 16 * 1024;
/// Bytes read past a limit before the connection is given up: a client that is told "too large" while it
/// still writes mostly fails to read the answer, so what it has to say is read and thrown away.
const DISCARD_AT_MOST: u64 = 64 * 1024 * 1024;

/// A body, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Whole, and what its trailers say.
    Whole(Bytes, Option<Failed>),
    /// Over the limit: how long it was, as far as that is known.
    TooLarge(usize),
}

/// The trailers of a streamed answer that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// The error's JSON.
    pub(super) json: Bytes,
    pub(super) error_type: Option<String>,
}

impl Failed {
    fn of(trailers: &http::HeaderMap) -> Option<Self> {
        let value = |name| trailers.get(name).map(|value| value.as_bytes());
        value(ERROR_TYPE).map(|kind| Self {
            json: decoded(value(ERROR_BODY).unwrap_or_default()),
            error_type: request::text(kind),
        })
    }
}

/// A connection that the client made.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    stream: TcpStream,
    /// Read and not yet used.
    read: BytesMut,
    write: Vec<u8>,
    /// The event that was written last; none once the client has said something more.
    brought: Option<RequestId>,
    /// Nothing follows the reply.
    last: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, id: ConnectionId) -> Self {
        // A small message must not wait for the acknowledgement of the one before it.
        stream.set_nodelay(true).ok();
        Self { id, stream, read: BytesMut::new(), write: Vec::new(), brought: None, last: false }
    }

    /// The next request; none where the client or we have ended the connection.
    pub(super) async fn request(&mut self) -> io::Result<Option<Head>> {
        loop {
            if self.last {
                return Ok(None);
            }
            if !self.read.is_empty() {
                match request::parse(&self.read) {
                    Ok(Some((head, length))) => {
                        self.read.advance(length);
                        (self.brought, self.last) = (None, head.last);
                        return Ok(Some(head));
                    }
                    Ok(None) if self.read.len() < MAX_HEAD => {}
                    Ok(None) | Err(request::Malformed) => {
                        self.last = true;
                        let text = "This is no request of HTTP/1.1, or its head is too long.";
                        self.reply(&Reply::error("400 Bad Request", "InvalidRequest", text)).await?;
                        continue;
                    }
                }
            }
            if self.read_more(READ).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads what there is, at least one byte; 0 is the end.
    async fn read_more(&mut self, room: usize) -> io::Result<usize> {
        self.read.reserve(room);
        self.stream.read_buf(&mut self.read).await
    }

    /// Resolves when the other end is closed. What it says meanwhile is kept.
    pub(super) async fn ended(&mut self) -> io::Error {
        while self.read.len() < MAX_HEAD {
            match self.read_more(READ).await {
                Ok(0) => return ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        pending().await
    }

    /// Whether the other end is closed already. The reactor may hear of it only after an event was offered.
    pub(super) fn has_ended(&self) -> bool {
        match rustix::net::recv(&self.stream, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, read)) => read == 0,
            Err(error) => error != rustix::io::Errno::WOULDBLOCK && error != rustix::io::Errno::INTR,
        }
    }

    /// The event that the client has not read, given that the connection broke with this error.
    pub(super) fn unread_event(&self, error: &io::Error) -> Option<RequestId> {
        let reset = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        self.brought.filter(|_| reset)
    }

    /// Writes an event behind the head that `head` makes.
    pub(super) fn put_event(&mut self, id: RequestId, head: impl FnOnce(&mut Vec<u8>)) {
        self.brought = Some(id);
        head(&mut self.write);
    }

    /// Sends the event that was put.
    pub(super) async fn send_event(&mut self, json: Bytes) -> io::Result<()> {
        if json.len() <= SMALL {
            self.write.extend_from_slice(&json);
            return self.flush().await;
        }
        self.flush().await?;
        self.stream.write_all(&json).await
    }

    pub(super) async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        reply.write(&mut self.write, self.last);
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.write).await;
        self.write.clear();
        self.write.shrink_to(2 * SMALL);
        written
    }

    /// Reads a body of at most `limit` bytes; never holds more than that. `InvalidData` where it is not framed as it
    /// says; another error is the connection's.
    pub(super) async fn body(&mut self, head: &mut Head, limit: usize) -> io::Result<Answer> {
        self.go_on(head).await?;
        match &mut head.framing {
            Framing::Length(length) => match usize::try_from(*length) {
                Ok(length) if length <= limit => Ok(Answer::Whole(self.take(length).await?, None)),
                length => {
                    self.skip(head).await?;
                    Ok(Answer::TooLarge(length.unwrap_or(usize::MAX)))
                }
            },
            Framing::Chunked(_) => self.chunks(head, limit).await,
            Framing::Over | Framing::UntilClose => Ok(Answer::Whole(Bytes::new(), None)),
        }
    }

    /// Tells a client that waits for it to send the body.
    async fn go_on(&mut self, head: &Head) -> io::Result<()> {
        if head.expects_continue && self.read.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        Ok(())
    }

    /// Hands a body on as it comes, no faster than it is taken; what nobody takes any more is thrown away. What its
    /// trailers say. Errors are [`Connection::body`]'s.
    pub(super) async fn stream(
        &mut self,
        head: &mut Head,
        into: &mpsc::Sender<Bytes>,
    ) -> io::Result<Option<Failed>> {
        self.go_on(head).await?;
        let mut failed = None;
        loop {
            match self.piece(head).await? {
                Piece::Data(data) => {
                    if into.send(data).await.is_err() {
                        self.skip(head).await?;
                        return Ok(None);
                    }
                }
                Piece::Trailers(fields) => failed = Failed::of(&fields),
                Piece::End | Piece::Missing => return Ok(failed),
            }
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        while self.read.len() < length {
            if self.read_more(length - self.read.len()).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        if length > SMALL {
            return Ok(self.read.split_to(length).freeze());
        }
        let body = Bytes::copy_from_slice(&self.read[..length]);
        self.read.advance(length);
        Ok(body)
    }

    async fn chunks(&mut self, head: &mut Head, limit: usize) -> io::Result<Answer> {
        let (mut body, mut failed) = (BytesMut::new(), None);
        loop {
            match self.piece(head).await? {
                Piece::Data(data) if body.len() + data.len() > limit => {
                    let size = body.len() + data.len();
                    drop(body);
                    return Ok(Answer::TooLarge(size.saturating_add(self.skip(head).await?)));
                }
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(fields) => failed = Failed::of(&fields),
                Piece::End | Piece::Missing => return Ok(Answer::Whole(body.freeze(), failed)),
            }
        }
    }

    /// The next piece of a body; never [`Piece::Missing`].
    async fn piece(&mut self, head: &mut Head) -> io::Result<Piece> {
        loop {
            match head.framing.next(&mut self.read) {
                Ok(Piece::Missing) => {}
                Ok(piece) => return Ok(piece),
                Err(broken) => return Err(io::Error::new(ErrorKind::InvalidData, broken)),
            }
            if self.read_more(SMALL).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads what is left of a body and throws it away; how much it was. The connection ends with the reply where
    /// that is more than it is worth, or may never come.
    pub(super) async fn skip(&mut self, head: &mut Head) -> io::Result<usize> {
        if head.expects_continue && self.read.is_empty() {
            self.last = true;
            return Ok(0);
        }
        let mut size = 0;
        while size < DISCARD_AT_MOST {
            match self.piece(head).await? {
                Piece::Data(data) => size += data.len() as u64,
                Piece::Trailers(_) => {}
                Piece::End | Piece::Missing => return Ok(usize::try_from(size).unwrap_or(usize::MAX)),
            }
        }
        self.last = true;
        Ok(usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Nothing more is read: the reply is the last.
    pub(super) fn give_up(&mut self) {
        self.last = true;
    }
}

/// What is base64 is decoded, what is not is taken as it is.
fn decoded(value: &[u8]) -> Bytes {
    let decoded = base64::engine::general_purpose::STANDARD.decode(value);
    decoded.map_or_else(|_| Bytes::copy_from_slice(value), Bytes::from)
}
