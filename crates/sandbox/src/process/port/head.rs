//! Heads of messages: a request's written, a response's read. Pure.
//!
//! The server behind the proxy is the user's code, and what it says decides what the next request on its
//! connection gets as its answer. So a head whose framing two readers could understand differently is refused
//! (RFC 9112 §6.3), and its connection with it.

use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};

use super::framing::{Chunk, Framing, Malformed};
use super::headers::tokens;

/// Bytes of a response's head.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Headers of a response.
const MAX_HEADERS: usize = 128;
/// Room for so many is made at once: those of a small response and what is added on the way.
const USUAL_HEADERS: usize = 6;

/// How a request's body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// There is none.
    Nothing,
    /// With this length announced.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether the connection can carry another exchange after this one.
    pub(super) keep_alive: bool,
}

/// Writes a request's head. Its own framing headers are replaced by what is really sent.
pub(super) fn write<B>(request: &Request<B>, sending: Sending, out: &mut BytesMut) {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    out.reserve(256 + path.len());
    out.put_slice(request.method().as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(path.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            out.put_slice(value.as_bytes());
            out.put_slice(b"\r\n");
        }
    }
    let has_meaning = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    match sending {
        Sending::Nothing if has_meaning => out.put_slice(b"content-length: 0\r\n"),
        Sending::Nothing => {}
        Sending::Length(length) => out.put_slice(format!("content-length: {length}\r\n").as_bytes()),
        Sending::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.put_slice(b"\r\n");
}

/// Reads a response's head out of what was read; `None` until it is whole.
pub(super) fn read(read: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut response, read, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if read.len() > MAX_HEAD => {
            return Err(Malformed("the head of the response is too long"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("the response has too many headers")),
        Err(_) => return Err(Malformed("the head of the response cannot be read")),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed("the response has no status"))?;
    let old = response.version == Some(0);

    // Where names and values are, since they cannot be held while the head is taken out of the buffer.
    let start = read.as_ptr() as usize;
    let place = |part: &[u8]| {
        let begin = part.as_ptr() as usize - start;
        // A head is far below 4 GiB.
        (begin as u32, (begin + part.len()) as u32)
    };
    let heeded = response.headers.iter().filter(|field| !is_idle_talk(field, old));
    let places: Vec<_> = heeded.map(|field| (place(field.name.as_bytes()), place(field.value))).collect();
    let head = read.split_to(length).freeze();
    let range = |(begin, end): (u32, u32)| begin as usize..end as usize;
    let mut headers = HeaderMap::with_capacity(places.len().max(USUAL_HEADERS));
    for (name, value) in &places {
        let name = HeaderName::from_bytes(&head[range(*name)]);
        // A slice of the head: nothing is copied.
        let value = HeaderValue::from_maybe_shared(head.slice(range(*value)));
        headers.append(
            name.map_err(|_| Malformed("a header's name is illegal"))?,
            value.map_err(|_| Malformed("a header's value is illegal"))?,
        );
    }
    let framing = framing(status, &headers, old, method)?;
    let keep_alive = framing != Framing::UntilClose && keeps_alive(&headers, old);
    Ok(Some(Head { status, headers, framing, keep_alive }))
}

/// What most servers say of this hop and nobody here needs to hear: that the connection stays open, as it does
/// unless something else is said, and for how long.
fn is_idle_talk(field: &httparse::Header<'_>, old: bool) -> bool {
    match field.name.len() {
        10 if field.name.eq_ignore_ascii_case("keep-alive") => true,
        10 => {
            !old && field.name.eq_ignore_ascii_case("connection")
                && field.value.eq_ignore_ascii_case(b"keep-alive")
        }
        _ => false,
    }
}

fn framing(
    status: StatusCode,
    headers: &HeaderMap,
    old: bool,
    method: &Method,
) -> Result<Framing, Malformed> {
    let length = content_length(headers)?;
    if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = tokens(headers, &TRANSFER_ENCODING);
        let chunked = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        if old || length.is_some() || !chunked || codings.next().is_some() {
            return Err(Malformed("the response's Transfer-Encoding is not understood"));
        }
        return Ok(if has_body(status, method) { Framing::Chunked(Chunk::Size) } else { Framing::Over });
    }
    Ok(match length {
        _ if !has_body(status, method) => Framing::Over,
        Some(0) => Framing::Over,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    })
}

fn has_body(status: StatusCode, method: &Method) -> bool {
    let none =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !none && *method != Method::HEAD
}

/// The one `Content-Length`; several must agree.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let wrong = Malformed("the response's Content-Length is no length");
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_| wrong)?;
        for part in text.split(',').map(str::trim) {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let part = part.parse().ok().filter(|_| digits).ok_or(wrong)?;
            if length.is_some_and(|other| other != part) {
                return Err(wrong);
            }
            length = Some(part);
        }
    }
    Ok(length)
}

fn keeps_alive(headers: &HeaderMap, old: bool) -> bool {
    let says = |wanted: &str| tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(wanted));
    if old { says("keep-alive") } else { !says("close") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str, method: &Method) -> Result<Option<(Head, String)>, Malformed> {
        let mut bytes = BytesMut::from(text);
        let head = read(&mut bytes, method)?;
        Ok(head.map(|head| (head, String::from_utf8(bytes.to_vec()).unwrap())))
    }

    fn framing_of(lines: &str) -> Result<(Framing, bool), Malformed> {
        let (head, _) = head(&format!("{lines}\r\n\r\n"), &Method::GET)?.unwrap();
        Ok((head.framing, head.keep_alive))
    }

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = "HTTP/1.1 201 Created\r\nX-A: 1\r\nset-cookie: a\r\nSet-Cookie: b\r\nContent-Length: 4\r\n\r\nbody";
        for length in 0..text.len() - 4 {
            assert!(head(&text[..length], &Method::GET).unwrap().is_none(), "{length}");
        }
        let (head, rest) = head(text, &Method::GET).unwrap().unwrap();
        assert_eq!((head.status, rest.as_str(), head.keep_alive), (StatusCode::CREATED, "body", true));
        assert_eq!(head.headers["x-a"], "1");
        let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a", "b"]);
        assert_eq!(head.framing, Framing::Length(4));
    }

    #[test]
    fn framings() {
        let chunked = || Framing::Chunked(Chunk::Size);
        for (lines, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5", (Framing::Length(5), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5, 5", (Framing::Length(5), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0", (Framing::Over, true)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", (chunked(), true)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x, Close", (chunked(), false)),
            ("HTTP/1.1 200 OK", (Framing::UntilClose, false)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5", (Framing::Length(5), false)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", (Framing::Length(5), true)),
            ("HTTP/1.1 204 No Content", (Framing::Over, true)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5", (Framing::Over, true)),
        ] {
            assert_eq!(framing_of(lines), Ok(expected), "{lines}");
        }
        let (to_head, _) =
            head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", &Method::HEAD).unwrap().unwrap();
        assert_eq!(to_head.framing, Framing::Over);
    }

    #[test]
    fn framings_that_two_readers_could_understand_differently() {
        for lines in [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: +5",
            "Content-Length: ",
            "Content-Length: 5 5",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Name with space: 1",
            "X: a\x01b",
        ] {
            assert!(framing_of(&format!("HTTP/1.1 200 OK\r\n{lines}")).is_err(), "{lines}");
        }
        assert!(framing_of("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked").is_err());
        assert!(framing_of("HTTP/2 200 OK").is_err());
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(head(&long, &Method::GET).is_err());
        let many = "A: b\r\n".repeat(MAX_HEADERS + 1);
        assert!(head(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), &Method::GET).is_err());
    }

    #[test]
    fn a_request_says_what_is_really_sent() {
        for (method, sending, framing) in [
            ("GET", Sending::Nothing, ""),
            ("POST", Sending::Nothing, "content-length: 0\r\n"),
            ("POST", Sending::Length(7), "content-length: 7\r\n"),
            ("PUT", Sending::Chunked, "transfer-encoding: chunked\r\n"),
        ] {
            let request = Request::builder().method(method).uri("/a?b").header("host", "h");
            let request = request.header("content-length", "99").body(()).unwrap();
            let mut out = BytesMut::new();
            write(&request, sending, &mut out);
            assert_eq!(out, format!("{method} /a?b HTTP/1.1\r\nhost: h\r\n{framing}\r\n"));
        }
    }
}
