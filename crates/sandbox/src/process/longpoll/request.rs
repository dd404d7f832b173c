//! Reading a request's head (RFC 9112), as far as the Runtime API looks at it. Pure.

use super::super::port::framing::{Chunk, Framing};
use super::wire::{self, NotAnOperation, Operation};

/// Header fields of a request.
const MAX_FIELDS: usize = 100;

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) operation: Result<Operation, NotAnOperation>,
    /// How its body is told from the next request.
    pub(super) framing: Framing,
    /// The client waits to be told to send the body.
    pub(super) expects_continue: bool,
    /// The connection ends with the reply.
    pub(super) last: bool,
    /// See [`wire::ERROR_TYPE`]; not empty.
    pub(super) error_type: Option<String>,
    /// See [`wire::RESPONSE_MODE`].
    pub(super) mode: Mode,
    /// `Content-Type`, where it is printable.
    pub(super) content_type: Option<String>,
    /// See [`wire::NEXT`].
    pub(super) next: bool,
    /// See [`wire::INIT_BEGAN`].
    pub(super) init_began: Option<u64>,
}

/// How an answer is to reach its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Whole,
    Streaming,
    /// The API has no such mode.
    Unknown,
}

impl Mode {
    fn of(value: &[u8]) -> Self {
        match value {
            b"streaming" => Self::Streaming,
            b"buffered" => Self::Whole,
            _ => Self::Unknown,
        }
    }
}

/// It is no request, or not clear where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a head from the beginning of `bytes`, and how long it is; `None` where its end is not there yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(bytes).map_err(|_| Malformed)? else {
        return Ok(None);
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Malformed);
    };
    let mut head = Head {
        operation: wire::operation(method, path(target)),
        framing: Framing::Over,
        expects_continue: false,
        last: minor == 0,
        error_type: None,
        mode: Mode::Whole,
        content_type: None,
        next: false,
        init_began: None,
    };
    let (mut content_length, mut chunked) = (None, false);
    for field in request.headers.iter() {
        let value = field.value.trim_ascii();
        match field.name {
            name if name.eq_ignore_ascii_case("content-length") => {
                let length = number(value).ok_or(Malformed)?;
                if content_length.replace(length).is_some_and(|other| other != length) {
                    return Err(Malformed);
                }
            }
            name if name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed);
                }
                chunked = true;
            }
            name if name.eq_ignore_ascii_case("connection") => head.last |= has(value, b"close"),
            name if name.eq_ignore_ascii_case("expect") => {
                head.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            name if name.eq_ignore_ascii_case(wire::ERROR_TYPE) => head.error_type = text(value),
            name if name.eq_ignore_ascii_case(wire::RESPONSE_MODE) => head.mode = Mode::of(value),
            name if name.eq_ignore_ascii_case("content-type") => head.content_type = text(value),
            name if name.eq_ignore_ascii_case(wire::NEXT) => head.next = true,
            name if name.eq_ignore_ascii_case(wire::INIT_BEGAN) => head.init_began = number(value),
            _ => {}
        }
    }
    head.framing = match (content_length, chunked) {
        (Some(_), true) => return Err(Malformed),
        (None, true) => Framing::Chunked(Chunk::Size),
        (None | Some(0), false) => Framing::Over,
        (Some(length), false) => Framing::Length(length),
    };
    Ok(Some((head, length)))
}

/// Without what an absolute form has before it and a query after it.
fn path(target: &str) -> &str {
    let after_host = target.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    let path = after_host.unwrap_or(target);
    path.split_once('?').map_or(path, |(path, _)| path)
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Whether a list has the word.
fn has(list: &[u8], word: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
}

/// Printable, and not nothing.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let printable =
        !value.is_empty() && value.iter().all(|byte| *byte == b'\t' || (b' '..=b'~').contains(byte));
    String::from_utf8(value.to_vec()).ok().filter(|_| printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str) -> Result<Option<Head>, Malformed> {
        for end in 0..request.len() {
            assert_eq!(parse(&request.as_bytes()[..end]), Ok(None), "{:?}", &request[..end]);
        }
        let more = format!("{request}next");
        let found = parse(more.as_bytes())?;
        Ok(found.map(|(head, length)| {
            assert_eq!(length, request.len());
            head
        }))
    }

    fn plain(operation: Result<Operation, NotAnOperation>) -> Head {
        let (framing, expects_continue, last) = (Framing::Over, false, false);
        let (error_type, content_type, init_began) = (None, None, None);
        let (mode, next) = (Mode::Whole, false);
        Head { operation, framing, expects_continue, last, error_type, mode, content_type, next, init_began }
    }

    #[test]
    fn heads() {
        let next = "/2018-06-01/runtime/invocation/next";
        for request in [
            format!("GET {next} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
            format!("GET http://127.0.0.1:9001{next} HTTP/1.1\r\n\r\n"),
            format!("GET {next}?a=b HTTP/1.1\nHost: x\n\n"),
        ] {
            assert_eq!(check(&request), Ok(Some(plain(Ok(Operation::Next)))), "{request}");
        }
        let began = format!("GET {next} HTTP/1.0\r\nVirga-Init-Began: 123\r\n\r\n");
        let expected = Head { last: true, init_began: Some(123), ..plain(Ok(Operation::Next)) };
        assert_eq!(check(&began), Ok(Some(expected)));
        let failed = "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nexpect: 100-Continue\r\n\
                      connection: x, Close\r\ntransfer-encoding: Chunked\r\n\
                      Lambda-Runtime-Function-Error-Type: E\r\nVirga-Next: 1\r\n\r\n";
        let expected = Head {
            framing: Framing::Chunked(Chunk::Size),
            expects_continue: true,
            last: true,
            error_type: Some("E".to_owned()),
            next: true,
            ..plain(Ok(Operation::InitError))
        };
        assert_eq!(check(failed), Ok(Some(expected)));
        let other = "GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
        let expected = Head { framing: Framing::Length(5), ..plain(Err(NotAnOperation::Path)) };
        assert_eq!(check(other), Ok(Some(expected)));
    }

    #[test]
    fn heads_that_leave_the_end_open_are_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: -1",
            "Content-Length:",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "no colon",
        ] {
            let request = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(parse(request.as_bytes()), Err(Malformed), "{fields}");
        }
        assert_eq!(parse(b"nonsense\r\n\r\n"), Err(Malformed));
    }
}
