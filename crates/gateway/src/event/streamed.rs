//! A streamed answer as a response (Lambda: response streaming, function URLs).
//!
//! An answer of the type [`HEAD_FIRST`] begins with the response's head: a JSON object with `statusCode`, `headers` and
//! `cookies`, then eight zero bytes. Of any other type all of it is the body.

use bytes::{Bytes, BytesMut};
use functions::{Outcome, Streaming};
use futures_util::stream;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use sandbox::{Body, BoxError};

use super::answer::{OCTETS, failed, prelude};
use crate::limits;

/// The media type of answers that begin with a head.
const HEAD_FIRST: &str = "application/vnd.awslambda.http-integration-response";
/// What ends a head.
const SEPARATOR: [u8; 8] = [0; 8];

/// The response to an answer whose pieces are still to come; what is wrong with it otherwise. Waits for the head, or
/// for the first piece: an error that comes before has a status of its own.
pub(crate) async fn response(mut streaming: Streaming) -> Result<Response<Body>, &'static str> {
    let content_type = streaming.content_type.take();
    let (head, first) = if is_head_first(content_type.as_deref()) {
        let mut read = BytesMut::new();
        let end = loop {
            match find(&read) {
                Some(end) => break end,
                None if read.len() > limits::PRELUDE => return Err("the head of the answer has no end"),
                None => match streaming.next().await {
                    Some(piece) => read.extend_from_slice(&piece),
                    None => return broken_off(streaming).await,
                },
            }
        };
        let head = prelude(&read[..end])?;
        (head, read.split_off(end + SEPARATOR.len()).freeze())
    } else {
        match streaming.next().await {
            Some(piece) => (bare(content_type.as_deref()), piece),
            None => {
                let head = bare(content_type.as_deref());
                return match streaming.end().await {
                    Ok(Outcome { result: Ok(_), .. }) => Ok(head.map(|()| Body::empty())),
                    Ok(Outcome { result: Err(error), .. }) => Ok(failed(&error)),
                    Err(_) => Err("the answer broke off"),
                };
            }
        }
    };
    Ok(head.map(|()| body(first, streaming)))
}

/// The response to an answer that was collected, where it was streamed; JSON is no other than JSON that was not.
pub(crate) fn whole(
    content_type: Option<&str>,
    answer: &Bytes,
) -> Option<Result<Response<Body>, &'static str>> {
    let kind = content_type.filter(|kind| !is(Some(kind), "application/json"))?;
    if !is_head_first(Some(kind)) {
        return Some(Ok(bare(Some(kind)).map(|()| Body::from(answer.clone()))));
    }
    let Some(end) = find(answer) else { return Some(Err("the head of the answer has no end")) };
    let body = answer.slice(end + SEPARATOR.len()..);
    Some(prelude(&answer[..end]).map(|head| head.map(|()| Body::from(body))))
}

/// The answer ended within its head.
async fn broken_off(streaming: Streaming) -> Result<Response<Body>, &'static str> {
    match streaming.end().await {
        Ok(Outcome { result: Err(error), .. }) => Ok(failed(&error)),
        Ok(_) | Err(_) => Err("the answer ended within its head"),
    }
}

fn is_head_first(content_type: Option<&str>) -> bool {
    is(content_type, HEAD_FIRST)
}

/// Whether it is this type, with whatever parameters.
fn is(content_type: Option<&str>, expected: &str) -> bool {
    let kind = content_type.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(expected)
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR)
}

/// A head of which the function said no more than this.
fn bare(content_type: Option<&str>) -> Response<()> {
    let kind = content_type.and_then(|kind| HeaderValue::from_str(kind).ok());
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static(OCTETS)));
    response
}

/// What came already, then the rest as it comes. An answer that fails is cut off, so that nobody takes it for whole.
fn body(first: Bytes, streaming: Streaming) -> Body {
    let frames = stream::unfold((first, Some(streaming)), |(first, streaming)| async move {
        let mut streaming = streaming?;
        if !first.is_empty() {
            return Some((Ok(Frame::data(first)), (Bytes::new(), Some(streaming))));
        }
        match streaming.next().await {
            Some(piece) => Some((Ok(Frame::data(piece)), (Bytes::new(), Some(streaming)))),
            None => match streaming.end().await {
                Ok(Outcome { result: Ok(_), .. }) => None,
                Ok(Outcome { result: Err(_), .. }) | Err(_) => {
                    // Who sends the answer sends what it has while it waits, and drops that on an error.
                    tokio::task::yield_now().await;
                    Some((Err(BoxError::from("the answer broke off")), (Bytes::new(), None)))
                }
            },
        }
    });
    Body::boxed(StreamBody::new(frames))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_head_and_what_follows_it() {
        let check = |content_type, answer: &'static [u8]| {
            whole(Some(content_type), &Bytes::from_static(answer)).map(|made| {
                made.map(|response| {
                    let status = response.status().as_u16();
                    let header = |name: &str| {
                        let value = response.headers().get(name).map(|value| value.to_str().unwrap());
                        value.unwrap_or_default().to_owned()
                    };
                    (status, header("content-type"), header("set-cookie"), response.into_body())
                })
            })
        };
        let made = check(
            "application/vnd.awslambda.http-integration-response; x=y",
            b"{\"statusCode\":201,\"headers\":{\"Content-Type\":\"text/html\"},\"cookies\":[\"a=1\"]}\0\0\0\0\0\0\0\0<p>\0",
        );
        let (status, kind, cookie, body) = made.unwrap().unwrap();
        assert_eq!((status, kind.as_str(), cookie.as_str()), (201, "text/html", "a=1"));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "<p>\0");
        let made = check(HEAD_FIRST, b"{}\0\0\0\0\0\0\0\0");
        let (status, kind, _, _) = made.unwrap().unwrap();
        assert_eq!((status, kind.as_str()), (200, OCTETS));
        for bad in [&b"{}\0\0\0\0\0\0\0"[..], b"{\0\0\0\0\0\0\0\0", b"{\"statusCode\":99}\0\0\0\0\0\0\0\0"] {
            assert!(check(HEAD_FIRST, bad).unwrap().is_err());
        }
        assert!(check("application/json; charset=utf-8", b"{}").is_none());
        let (status, kind, _, _) = check("text/plain", b"plain").unwrap().unwrap();
        assert_eq!((status, kind.as_str()), (200, "text/plain"));
    }
}
