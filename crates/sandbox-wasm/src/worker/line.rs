//! A line: the socket of one call at a time, and the frames on it.
//!
//! A frame is its length (four bytes, little-endian, of what follows the kind), its kind, and its bytes.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::net::UnixStream;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// To the worker: a request ([`super::head`]).
    Request = 1,
    /// To the worker: an instance's number and an event.
    Event = 2,
    /// Both ways: bytes of a body.
    Data = 3,
    /// To the worker: the end of the request's body. To the server: the end of the answer's, with the peak of memory.
    End = 4,
    /// Both ways: the body breaks off, and why.
    Broken = 5,
    /// To the server: so many bytes of the request's body have been read (four bytes).
    Credit = 6,
    /// To the server: what was printed.
    Printed = 7,
    /// To the server: the head of a response whose body follows.
    Head = 8,
    /// To the server, the last: a whole response.
    Response = 9,
    /// To the server, the last: the answer to an event.
    Answer = 10,
    /// To the server, the last: a fault.
    Fault = 11,
    /// To the server: trailers.
    Trailers = 12,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Request,
        Self::Event,
        Self::Data,
        Self::End,
        Self::Broken,
        Self::Credit,
        Self::Printed,
        Self::Head,
        Self::Response,
        Self::Answer,
        Self::Fault,
        Self::Trailers,
    ];

    fn read(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Bytes of a body in one frame, and of a body that goes with its head.
pub(super) const CHUNK: usize = 64 << 10;
/// Bytes of a request's body that are sent without the worker having read them.
pub(super) const WINDOW: usize = 256 << 10;
/// Bytes that wait to be sent, beyond which nothing more is taken in.
pub(super) const WAITING: usize = 256 << 10;
/// Bytes of a frame that is no answer to an event.
pub(super) const FRAME: usize = 1 << 20;

const PREFIX: usize = 5;
const READ_AT_ONCE: usize = 16 << 10;

/// One end of a line.
pub(super) struct Line {
    stream: UnixStream,
    input: BytesMut,
    output: BytesMut,
    /// Bytes of a frame that may be received.
    pub(super) limit: usize,
    /// Whether a frame since the last rest was long: its memory stays with the buffers.
    long: bool,
}

impl Line {
    pub(super) fn new(stream: UnixStream, limit: usize) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), limit, long: false }
    }

    /// Adds a frame to what is to be sent.
    pub(super) fn push(&mut self, kind: Kind, write: impl FnOnce(&mut BytesMut)) {
        let start = self.output.len();
        self.output.put_u32_le(0);
        self.output.put_u8(kind as u8);
        write(&mut self.output);
        // What is put into one frame is bounded far below four gigabytes.
        let length = u32::try_from(self.output.len() - start - PREFIX).unwrap_or(u32::MAX);
        self.output[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.long |= self.output.len() > 2 * CHUNK;
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Sends what waits. Ready when nothing is left.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(written) => self.output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame; `None` at the end.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<(Kind, Bytes)>>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            ready!(self.stream.poll_read_ready(cx))?;
            self.input.reserve(READ_AT_ONCE);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) if self.input.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn take_frame(&mut self) -> io::Result<Option<(Kind, Bytes)>> {
        let Some((prefix, _)) = self.input.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [a, b, c, d, kind] = *prefix;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > self.limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is over its size limit"));
        }
        if self.input.len() < PREFIX + length {
            return Ok(None);
        }
        let kind = Kind::read(kind).ok_or(io::ErrorKind::InvalidData)?;
        self.long |= length > 2 * CHUNK;
        self.input.advance(PREFIX);
        Ok(Some((kind, self.input.split_to(length).freeze())))
    }

    /// Between two calls: gives back the memory that a long frame took, which hundreds of lines would keep for nothing.
    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.long) {
            for buffer in [&mut self.input, &mut self.output] {
                if buffer.is_empty() {
                    *buffer = BytesMut::new();
                }
            }
        }
    }

    /// Whether nothing is on its way in this process.
    pub(super) fn is_clean(&self) -> bool {
        self.input.is_empty() && self.output.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent() {
        let (one, two) = UnixStream::pair().unwrap();
        let (mut one, mut two) = (Line::new(one, FRAME), Line::new(two, FRAME));
        let long = vec![7_u8; 300_000];
        for (kind, bytes) in [(Kind::Event, &b""[..]), (Kind::Data, &long), (Kind::End, b"x")] {
            one.push(kind, |to| to.put_slice(bytes));
        }
        let sending = async {
            poll_fn(|cx| one.poll_flush(cx)).await.unwrap();
            drop(one);
        };
        let receiving = async {
            let mut frames = Vec::new();
            while let Some((kind, bytes)) = poll_fn(|cx| two.poll_frame(cx)).await.unwrap() {
                frames.push((kind, bytes.len()));
            }
            frames
        };
        let ((), frames) = tokio::join!(sending, receiving);
        assert_eq!(frames, [(Kind::Event, 0), (Kind::Data, 300_000), (Kind::End, 1)]);
    }

    #[tokio::test]
    async fn a_line_that_rests_holds_no_long_frame() {
        let (one, two) = UnixStream::pair().unwrap();
        let (mut one, mut two) = (Line::new(one, 8 << 20), Line::new(two, 8 << 20));
        one.push(Kind::Event, |to| to.put_bytes(7, 6 << 20));
        let sending = poll_fn(|cx| one.poll_flush(cx));
        let receiving = poll_fn(|cx| two.poll_frame(cx));
        let (sent, received) = tokio::join!(sending, receiving);
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap().1.len(), 6 << 20);
        one.rest();
        two.rest();
        // Whether there is still room for another without asking for memory.
        assert!(!one.output.try_reclaim(1 << 20) && !two.input.try_reclaim(1 << 20));
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_an_error() {
        for bytes in [&[0, 0, 0, 1, 3][..], &[0, 0, 0, 0, 99], &[0, 0, 0, 0, 0], &[9, 0, 0, 0, 3, 1]] {
            let (one, two) = UnixStream::pair().unwrap();
            one.try_write(bytes).unwrap();
            drop(one);
            let mut line = Line::new(two, 1000);
            assert!(poll_fn(|cx| line.poll_frame(cx)).await.is_err(), "{bytes:?}");
        }
    }
}
