//! Bodies of answers: small ones, parts of blobs, and blobs on their way to a thread that unpacks them.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::mpsc;

use super::Outgoing;
use super::connect::root_cause;
use super::pool::{Place, Pool};
use crate::{Error, limits};

/// Of a body that nobody wants: how long it may take to be read to its end, and how long it may be, so that its connection
/// can be used again.
const UNWANTED: Duration = Duration::from_secs(1);
const UNWANTED_BYTES: u64 = 64 << 10;

/// A body on its way.
pub(super) struct Arriving {
    body: Incoming,
    /// Where its connection goes once all has come.
    home: Option<(Arc<Pool>, Place, SendRequest<Outgoing>)>,
}

impl Arriving {
    /// One whose connection is of no further use.
    pub(super) fn once(body: Incoming) -> Self {
        Self { body, home: None }
    }

    /// One whose connection is kept.
    pub(super) fn kept(
        body: Incoming,
        pool: &Arc<Pool>,
        place: Place,
        sender: SendRequest<Outgoing>,
    ) -> Self {
        Self { body, home: Some((Arc::clone(pool), place, sender)) }
    }

    /// Its next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match tokio::time::timeout(limits::SILENCE, self.frame()).await {
                Err(_) => return Err(format!("nothing came for {} s", limits::SILENCE.as_secs())),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(root_cause(&error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        let frame = self.body.frame().await;
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.home = None,
            None => {
                if let Some((pool, place, sender)) = self.home.take() {
                    pool.give_back(place, sender);
                }
            }
        }
        frame
    }
}

pub(super) fn broke_off(registry: &str, error: &str) -> Error {
    Error::Unreachable(format!("{registry} broke off in the middle: {error}"))
}

/// A body that is small.
pub(super) async fn whole(response: Response<Arriving>, most: u64) -> Result<Bytes, Error> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(part) = body.next().await.map_err(|error| broke_off("the registry", &error))? {
        bytes.extend_from_slice(&part);
        if bytes.len() as u64 > most {
            return Err(Error::Invalid("a document of the image is too large".to_owned()));
        }
    }
    Ok(bytes.freeze())
}

/// Has the connection of an answer be used again, whose body nobody wants. What is long or slow is hung up on.
pub(super) async fn discard(response: Response<Arriving>) {
    let _ = tokio::time::timeout(UNWANTED, whole(response, UNWANTED_BYTES)).await;
}

/// A part of a blob on its way: as many bytes as were asked for, or an error.
pub(crate) struct Part {
    body: Arriving,
    left: u64,
    registry: String,
}

impl Part {
    pub(super) fn new(response: Response<Arriving>, length: u64, registry: &str) -> Self {
        Self { body: response.into_body(), left: length, registry: registry.to_owned() }
    }

    /// Its next bytes; `None` once all have come.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let next = self.body.next().await.map_err(|error| broke_off(&self.registry, &error))?;
        let Some(bytes) = next else {
            return match self.left {
                0 => Ok(None),
                _ => Err(broke_off(&self.registry, "a part of a blob is shorter than it says")),
            };
        };
        let left = self.left.checked_sub(bytes.len() as u64);
        let longer = || Error::Invalid(format!("{} gives more of a blob than it says", self.registry));
        self.left = left.ok_or_else(longer)?;
        Ok(Some(bytes))
    }

    /// All of it; as much is held in memory.
    pub(crate) async fn all(mut self) -> Result<Bytes, Error> {
        let mut bytes = BytesMut::new();
        while let Some(next) = self.next().await? {
            bytes.extend_from_slice(&next);
        }
        Ok(bytes.freeze())
    }
}

/// A body on its way to a thread that unpacks it.
pub(crate) struct Stream {
    parts: mpsc::Receiver<Result<Bytes, Error>>,
    current: Bytes,
}

impl Stream {
    /// Passes a body on until its end, or until nobody reads on.
    pub(super) fn of(response: Response<Arriving>, registry: String) -> (Self, impl Future<Output = ()>) {
        let (parts, stream) = mpsc::channel(limits::PARTS_AHEAD);
        let mut body = response.into_body();
        let passing = async move {
            loop {
                let part = match body.next().await {
                    Ok(Some(part)) => Ok(part),
                    Ok(None) => return,
                    Err(error) => Err(broke_off(&registry, &error)),
                };
                let failed = part.is_err();
                // Nobody reads on: the layer was refused.
                if parts.send(part).await.is_err() || failed {
                    return;
                }
            }
        };
        (Self { parts: stream, current: Bytes::new() }, passing)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.parts.blocking_recv() {
                None => return Ok(0),
                Some(part) => self.current = part.map_err(Error::into_io)?,
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
