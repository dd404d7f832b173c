//! How a response's body is told from what follows it (RFC 9112 §6, §7.1). Pure: bytes in, pieces out.

use std::ops::ControlFlow;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of a chunk's size line, extensions included.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// Bytes and number of trailers.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_FIELDS: usize = 64;

/// What is left of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing.
    Over,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// All until the connection ends.
    UntilClose,
}

/// Where in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Before a size line.
    Size,
    /// In a chunk with this much to come.
    Data(u64),
    /// Before the line's end after a chunk.
    DataEnd,
    /// After the last chunk.
    Trailers,
}

/// A piece of a body.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    /// Bytes.
    Data(Bytes),
    /// Trailers; nothing but the end follows.
    Trailers(HeaderMap),
    /// The end.
    End,
    /// More must be read first.
    Missing,
}

/// The framing is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(super) &'static str);

impl Framing {
    /// Takes the next piece of the body out of what was read.
    pub(crate) fn next(&mut self, read: &mut BytesMut) -> Result<Piece, Malformed> {
        match self {
            Self::Over => Ok(Piece::End),
            _ if read.is_empty() => Ok(Piece::Missing),
            Self::UntilClose => Ok(Piece::Data(read.split().freeze())),
            Self::Length(left) => {
                let data = take(left, read);
                if *left == 0 {
                    *self = Self::Over;
                }
                Ok(Piece::Data(data))
            }
            Self::Chunked(chunk) => loop {
                match chunk.step(read)? {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(piece) => {
                        if matches!(piece, Piece::Trailers(_) | Piece::End) {
                            *self = Self::Over;
                        }
                        return Ok(piece);
                    }
                }
            },
        }
    }

    /// Whether the end of the connection is a proper end of the body.
    pub(super) fn may_end(&self) -> bool {
        matches!(self, Self::Over | Self::UntilClose)
    }

    /// Bytes to come, where they are known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Over => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}

impl Chunk {
    fn step(&mut self, read: &mut BytesMut) -> Result<ControlFlow<Piece>, Malformed> {
        match self {
            Self::Size => {
                let Some(end) = find(read, b"\r\n") else {
                    let endless = read.len() > MAX_SIZE_LINE;
                    return if endless { Err(Malformed("a chunk's size has no end")) } else { missing() };
                };
                let size = size(&read[..end])?;
                read.advance(end + 2);
                *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
            }
            Self::Data(_) if read.is_empty() => return missing(),
            Self::Data(left) => {
                let data = take(left, read);
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                return Ok(ControlFlow::Break(Piece::Data(data)));
            }
            Self::DataEnd if read.len() < 2 => return missing(),
            Self::DataEnd => {
                if !read.starts_with(b"\r\n") {
                    return Err(Malformed("a chunk is longer than its size"));
                }
                read.advance(2);
                *self = Self::Size;
            }
            Self::Trailers if read.starts_with(b"\r\n") => {
                read.advance(2);
                return Ok(ControlFlow::Break(Piece::End));
            }
            Self::Trailers => {
                let Some(end) = find(read, b"\r\n\r\n") else {
                    let endless = read.len() > MAX_TRAILERS;
                    return if endless { Err(Malformed("trailers have no end")) } else { missing() };
                };
                let fields = trailers(&read.split_to(end + 4))?;
                return Ok(ControlFlow::Break(Piece::Trailers(fields)));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn missing() -> Result<ControlFlow<Piece>, Malformed> {
    Ok(ControlFlow::Break(Piece::Missing))
}

fn take(left: &mut u64, read: &mut BytesMut) -> Bytes {
    let length = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
    *left -= length as u64;
    read.split_to(length).freeze()
}

/// Where a byte string begins.
pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A size line without its end: hexadecimal digits, then perhaps extensions.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or(line).trim_ascii_end();
    let legal = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| legal);
    text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(Malformed("a chunk's size is no number"))
}

fn trailers(bytes: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(bytes, &mut fields) else {
        return Err(Malformed("trailers are no headers"));
    };
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            map.append(name, value);
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that comes out when the bytes arrive in pieces of this size: data joined, trailers, and what
    /// is left over after the end.
    fn decode(
        mut framing: Framing,
        bytes: &[u8],
        piece: usize,
    ) -> Result<(String, usize, String), Malformed> {
        let (mut read, mut data, mut trailers) = (BytesMut::new(), Vec::new(), 0);
        let mut pieces = bytes.chunks(piece);
        loop {
            match framing.next(&mut read)? {
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::Trailers(map) => trailers = map.len(),
                Piece::End => break,
                Piece::Missing => match pieces.next() {
                    Some(piece) => read.extend_from_slice(piece),
                    None if framing.may_end() => break,
                    None => return Err(Malformed("missing")),
                },
            }
        }
        pieces.for_each(|piece| read.extend_from_slice(piece));
        Ok((String::from_utf8(data).unwrap(), trailers, String::from_utf8(read.to_vec()).unwrap()))
    }

    fn check(
        framing: impl Fn() -> Framing,
        bytes: &str,
        expected: Result<(&str, usize, &str), &'static str>,
    ) {
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b, c.to_owned())).map_err(Malformed);
        for piece in 1..=bytes.len().max(1) {
            assert_eq!(decode(framing(), bytes.as_bytes(), piece), expected, "{bytes:?} by {piece}");
        }
    }

    #[test]
    fn bodies_of_known_length() {
        check(|| Framing::Over, "next", Ok(("", 0, "next")));
        check(|| Framing::Length(3), "abcnext", Ok(("abc", 0, "next")));
        check(|| Framing::Length(3), "ab", Err("missing"));
        check(|| Framing::UntilClose, "abc", Ok(("abc", 0, "")));
    }

    #[test]
    fn chunked_bodies() {
        let chunked = || Framing::Chunked(Chunk::Size);
        check(chunked, "0\r\n\r\nnext", Ok(("", 0, "next")));
        check(chunked, "3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n00\r\n\r\n", Ok(("abc0123456789", 0, "")));
        check(chunked, "1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\nnext", Ok(("a", 2, "next")));
    }

    #[test]
    fn chunked_bodies_that_are_broken() {
        let chunked = || Framing::Chunked(Chunk::Size);
        let number = Err("a chunk's size is no number");
        for bytes in ["\r\n", "x\r\n", "-1\r\n", "+1\r\n", "0x1\r\n", " 1\r\n", "11112222333344445\r\n"] {
            check(chunked, bytes, number);
        }
        check(chunked, "1\r\nabc", Err("a chunk is longer than its size"));
        check(chunked, "1\r\na\r\n", Err("missing"));
        check(chunked, "1\r\na\r\n0\r\n", Err("missing"));
        check(chunked, "0\r\n bad\x01\r\n\r\n", Err("trailers are no headers"));
        let endless = "1".to_owned() + &";".repeat(MAX_SIZE_LINE);
        assert_eq!(decode(chunked(), endless.as_bytes(), 512), Err(Malformed("a chunk's size has no end")));
        let endless = "0\r\na: ".to_owned() + &"b".repeat(MAX_TRAILERS);
        assert_eq!(decode(chunked(), endless.as_bytes(), 512), Err(Malformed("trailers have no end")));
    }
}
