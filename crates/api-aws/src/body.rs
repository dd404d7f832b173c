//! Reading a request's body into memory: never more than a limit, never waiting for ever.
//!
//! A client that announces a body and then goes quiet would otherwise hold a connection and a buffer; so
//! there is a time-out between two pieces and one for the whole.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use sandbox::Body;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is longer than the limit, in bytes; the rest was not read.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// The client went quiet or was too slow.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection ended, or the body's framing is broken.
    #[error("the body ended early or is malformed")]
    Broken,
}

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Between two pieces.
    pub idle: Duration,
    /// From the first to the last.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { idle: Duration::from_secs(20), total: Duration::from_secs(300) }
    }
}

/// Reads all of `body`, at most `limit` bytes of it.
pub async fn read(body: Body, limit: usize, patience: Patience) -> Result<Bytes, ReadError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLarge(limit));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    tokio::time::timeout(patience.total, read_pieces(body, limit, patience.idle))
        .await
        .unwrap_or(Err(ReadError::TimedOut))
}

async fn read_pieces(mut body: Body, limit: usize, idle: Duration) -> Result<Bytes, ReadError> {
    let Some(first) = piece(&mut body, idle).await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(ReadError::TooLarge(limit));
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let mut whole = BytesMut::from(&first[..]);
    drop(first);
    while let Some(next) = piece(&mut body, idle).await? {
        if whole.len() + next.len() > limit {
            return Err(ReadError::TooLarge(limit));
        }
        whole.extend_from_slice(&next);
    }
    Ok(whole.freeze())
}

/// The next piece of data; trailers are passed over.
async fn piece(body: &mut Body, idle: Duration) -> Result<Option<Bytes>, ReadError> {
    loop {
        let frame = tokio::time::timeout(idle, body.frame()).await.map_err(|_| ReadError::TimedOut)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(ReadError::Broken),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;

    fn streamed(pieces: &[&'static str]) -> Body {
        let frames: Vec<Result<Frame<Bytes>, Infallible>> =
            pieces.iter().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))).collect();
        Body::boxed(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn reads_up_to_the_limit() {
        let patience = Patience::default();
        assert_eq!(read(Body::empty(), 0, patience).await.unwrap(), "");
        assert_eq!(read(Body::from("abc"), 3, patience).await.unwrap(), "abc");
        assert_eq!(read(Body::from("abcd"), 3, patience).await, Err(ReadError::TooLarge(3)));
        assert_eq!(read(streamed(&["ab", "c"]), 3, patience).await.unwrap(), "abc");
        assert_eq!(read(streamed(&["ab", "cd"]), 3, patience).await, Err(ReadError::TooLarge(3)));
        assert_eq!(read(streamed(&["abcd"]), 3, patience).await, Err(ReadError::TooLarge(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_on_silence() {
        let silent =
            Body::boxed(StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>()));
        assert_eq!(read(silent, 10, Patience::default()).await, Err(ReadError::TimedOut));
    }
}
