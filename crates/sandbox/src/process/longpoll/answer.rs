//! Reading an answer's body within its bound.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

/// Bytes read past the limit before the connection is given up: a client that is told "too large" while it
/// still writes mostly fails to read the answer, so what it has to say is read and thrown away.
const DISCARD_AT_MOST: usize = 64 * 1024 * 1024;

/// A body, read.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// Whole, with its trailers.
    Whole(Bytes, Option<HeaderMap>),
    /// Over the limit: how long it was, as far as that is known.
    TooLarge(usize),
}

/// Reads a body of at most `limit` bytes; never holds more than that. An error is the connection's.
pub(super) async fn read<B>(mut body: B, limit: usize) -> Result<Answer, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        let seen = discard(&mut body).await?;
        return Ok(Answer::TooLarge(usize::try_from(announced).unwrap_or(usize::MAX).max(seen)));
    }
    let mut pieces = Pieces::default();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if pieces.len() + data.len() > limit => {
                let size = pieces.len() + data.len();
                drop(pieces);
                return Ok(Answer::TooLarge(size + discard(&mut body).await?));
            }
            Ok(data) => pieces.push(data, announced),
            Err(other) => trailers = Frame::into_trailers(other).ok(),
        }
    }
    Ok(Answer::Whole(pieces.join(), trailers))
}

async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Result<usize, B::Error> {
    let mut size = 0;
    while size < DISCARD_AT_MOST {
        let Some(frame) = body.frame().await else { break };
        size += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(size)
}

/// A body put together; one that comes in one piece, as most do, is not copied.
#[derive(Default)]
struct Pieces {
    first: Bytes,
    joined: BytesMut,
}

impl Pieces {
    fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    fn push(&mut self, data: Bytes, announced: u64) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if self.joined.is_empty() {
            let first = std::mem::take(&mut self.first);
            // The announced length is at most the limit.
            self.joined.reserve((first.len() + data.len()).max(announced as usize));
            self.joined.extend_from_slice(&first);
        }
        self.joined.extend_from_slice(&data);
    }

    fn join(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn pieces(sizes: &[usize]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames: Vec<_> =
            sizes.iter().map(|size| Ok(Frame::data(Bytes::from(vec![b'a'; *size])))).collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn up_to_the_limit() {
        for sizes in [&[][..], &[10], &[4, 6], &[0, 4, 0, 6, 0]] {
            let total: usize = sizes.iter().sum();
            let Answer::Whole(bytes, None) = read(pieces(sizes), 10).await.unwrap() else {
                panic!("{sizes:?}")
            };
            assert_eq!(bytes.len(), total);
        }
    }

    #[tokio::test]
    async fn over_the_limit() {
        assert_eq!(read(pieces(&[4, 7, 100]), 10).await.unwrap(), Answer::TooLarge(111));
        assert_eq!(read(Full::new(Bytes::from(vec![0; 11])), 10).await.unwrap(), Answer::TooLarge(11));
    }

    #[tokio::test]
    async fn trailers_are_kept() {
        let mut trailers = HeaderMap::new();
        trailers.insert("a", "b".parse().unwrap());
        let frames = vec![
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let read = read(StreamBody::new(stream::iter(frames)), 10).await.unwrap();
        assert_eq!(read, Answer::Whole(Bytes::from_static(b"x"), Some(trailers)));
    }
}
