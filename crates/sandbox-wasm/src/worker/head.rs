//! Heads of requests and responses, and faults, as bytes.
//!
//! Strings stand behind their length (four bytes, little-endian). What a worker sends is checked like anything that
//! comes from outside.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use sandbox::{Exit, Fault};
use serde::{Deserialize, Serialize};

fn put(to: &mut BytesMut, bytes: &[u8]) {
    to.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    to.put_slice(bytes);
}

fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32_le().ok()? as usize;
    (length <= from.len()).then(|| from.split_to(length))
}

pub(super) fn put_headers(to: &mut BytesMut, headers: &HeaderMap) {
    to.put_u32_le(u32::try_from(headers.len()).unwrap_or(u32::MAX));
    for (name, value) in headers {
        put(to, name.as_str().as_bytes());
        put(to, value.as_bytes());
    }
}

pub(super) fn take_headers(from: &mut Bytes) -> Option<HeaderMap> {
    let count = from.try_get_u32_le().ok()?;
    let mut headers = HeaderMap::new();
    for _ in 0..count {
        let name = HeaderName::from_bytes(&take(from)?).ok()?;
        let value = HeaderValue::from_maybe_shared(take(from)?).ok()?;
        headers.try_append(name, value).ok()?;
    }
    Some(headers)
}

/// The head of a request to an instance; what follows it in its frame is its whole body, unless that is streamed.
pub(super) fn put_request(to: &mut BytesMut, instance: u64, streamed: bool, request: &http::request::Parts) {
    to.put_u64_le(instance);
    to.put_u8(streamed.into());
    put(to, request.method.as_str().as_bytes());
    put(to, request.uri.to_string().as_bytes());
    put_headers(to, &request.headers);
}

/// The instance, whether the body is streamed, and the request with the rest of the frame.
pub(super) fn take_request(mut from: Bytes) -> Option<(u64, bool, Request<Bytes>)> {
    let instance = from.try_get_u64_le().ok()?;
    let streamed = from.try_get_u8().ok()? != 0;
    let method = Method::from_bytes(&take(&mut from)?).ok()?;
    let uri = Uri::from_maybe_shared(take(&mut from)?).ok()?;
    let headers = take_headers(&mut from)?;
    let mut request = Request::new(from);
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
    Some((instance, streamed, request))
}

/// The head of a response; what follows it in its frame is its whole body, unless that is streamed.
pub(super) fn put_response(to: &mut BytesMut, peak: u64, response: &http::response::Parts) {
    to.put_u64_le(peak);
    to.put_u16_le(response.status.as_u16());
    put_headers(to, &response.headers);
}

/// The peak of memory, and the response with the rest of the frame.
pub(super) fn take_response(mut from: Bytes) -> Option<(u64, Response<Bytes>)> {
    let peak = from.try_get_u64_le().ok()?;
    let status = StatusCode::from_u16(from.try_get_u16_le().ok()?).ok()?;
    let headers = take_headers(&mut from)?;
    let mut response = Response::new(from);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Some((peak, response))
}

/// A fault of a guest, as it is told.
#[derive(Serialize, Deserialize)]
pub(super) enum Told {
    Code(i32),
    Stopped,
    TooLarge { size: usize, limit: usize },
    Trap(String),
    BadAnswer(String),
}

impl From<Fault> for Told {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Exited(Exit::Code(code)) => Self::Code(code),
            Fault::Exited(_) | Fault::NotDelivered(_) => Self::Stopped,
            Fault::AnswerTooLarge { size, limit } => Self::TooLarge { size, limit },
            Fault::Trap(text) => Self::Trap(text),
            Fault::Truncated => Self::BadAnswer("the answer broke off".to_owned()),
            Fault::BadAnswer(text) => Self::BadAnswer(text),
        }
    }
}

impl From<Told> for Fault {
    fn from(told: Told) -> Self {
        match told {
            Told::Code(code) => Self::Exited(Exit::Code(code)),
            Told::Stopped => Self::Exited(Exit::Stopped),
            Told::TooLarge { size, limit } => Self::AnswerTooLarge { size, limit },
            Told::Trap(text) => Self::Trap(text),
            Told::BadAnswer(text) => Self::BadAnswer(text),
        }
    }
}

/// The peak of memory before a last frame's own bytes.
pub(super) fn take_peak(from: &mut Bytes) -> u64 {
    from.try_get_u64_le().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_written() {
        let request = Request::builder().method("PATCH").uri("/a?b=c").header("x", "1").header("x", "\u{e9}");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut bytes = BytesMut::new();
        put_request(&mut bytes, 7, true, &parts);
        let whole = bytes.clone().freeze();
        bytes.put_slice(b"body");
        let (instance, streamed, read) = take_request(bytes.freeze()).unwrap();
        assert_eq!((instance, streamed, read.method().as_str()), (7, true, "PATCH"));
        assert_eq!((read.uri().to_string(), &read.body()[..]), ("/a?b=c".to_owned(), &b"body"[..]));
        assert_eq!(read.headers(), &parts.headers);
        for length in 0..whole.len() {
            assert!(take_request(whole.slice(..length)).is_none(), "{length}");
        }
    }

    #[test]
    fn a_worker_cannot_make_up_headers() {
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(0);
        bytes.put_u16_le(200);
        bytes.put_u32_le(1);
        put(&mut bytes, b"x");
        put(&mut bytes, b"a\r\nset-cookie: b");
        assert!(take_response(bytes.freeze()).is_none());
    }
}
