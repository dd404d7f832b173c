//! Pushing (OCI distribution spec 1.1, push): blobs that the registry lacks, each in one upload, the manifest last.
//!
//! A registry that has the manifest has all that it lists, so an image that did not change costs one request. A blob is
//! streamed from where it is: a file of the build, or the base's own registry, checked while it passes. An upload that
//! breaks off is begun anew, so nothing but whole blobs is ever referred to; what a registry keeps of a broken one is its own
//! to sweep.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::body::{Arriving, whole};
use super::{Outgoing, Progress, Session, nothing, relative_to};
use crate::build::{Blob, Made, document};
use crate::digest::Verified;
use crate::{Digest, Error, limits};

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The reference that means this very image for good.
    pub resolved: String,
    /// Whether the tag meant this image already.
    pub unchanged: bool,
    /// Blobs that were sent.
    pub sent: usize,
    /// Bytes of these.
    pub bytes: u64,
}

/// A blob on its way: how far it is, and what went wrong at our end.
#[derive(Default)]
struct Sending {
    progress: Progress,
    failure: Mutex<Option<Error>>,
}

impl Session {
    /// Pushes an image under the session's tag.
    pub(crate) async fn push(&self, made: &Made) -> Result<Pushed, Error> {
        let mut pushed = Pushed {
            resolved: self.name.resolved(&made.digest),
            unchanged: self.means(&made.digest).await?,
            sent: 0,
            bytes: 0,
        };
        if pushed.unchanged {
            return Ok(pushed);
        }
        for blob in made.blobs() {
            if !self.has(&blob.digest).await? {
                self.send_blob(blob).await?;
                pushed.sent += 1;
                pushed.bytes += blob.size;
            }
        }
        self.put_manifest(made).await?;
        Ok(pushed)
    }

    /// Whether the tag means this image. Some registries say of what does not exist that it may not be seen.
    async fn means(&self, digest: &Digest) -> Result<bool, Error> {
        match self.manifest(None).await {
            Ok((_, found)) => Ok(found == *digest),
            Err(Error::NotFound(_) | Error::Denied(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the registry has a blob. Where it would send us for it does not matter.
    async fn has(&self, digest: &Digest) -> Result<bool, Error> {
        let path = format!("blobs/{digest}");
        let answer = self.retried(|| self.command(Method::HEAD, &path, None, Bytes::new())).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status == StatusCode::OK || status.is_redirection() => Ok(true),
            _ => Err(self.refusal(answer, "a blob").await),
        }
    }

    async fn send_blob(&self, blob: &Blob) -> Result<(), Error> {
        self.retried(|| self.upload(blob)).await
    }

    async fn put_manifest(&self, made: &Made) -> Result<(), Error> {
        let path = format!("manifests/{}", self.name.wanted());
        let bytes = Bytes::copy_from_slice(&made.manifest);
        let answer = self
            .retried(|| async {
                let sent = self.command(Method::PUT, &path, Some(document::MANIFEST), bytes.clone());
                self.accepted(sent.await?, "the manifest").await
            })
            .await?;
        let said = answer.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        if said.is_some_and(|said| said != made.digest.to_string()) {
            return Err(Error::Invalid(format!(
                "{} made another image of what was pushed",
                self.name.registry
            )));
        }
        Ok(())
    }

    /// One upload: where to, then all of it.
    async fn upload(&self, blob: &Blob) -> Result<(), Error> {
        let begun = self.command(Method::POST, "blobs/uploads/", None, Bytes::new()).await?;
        let begun = self.accepted(begun, "a blob").await?;
        let target = self.upload_target(&begun, &blob.digest).await?;
        let sending = Arc::new(Sending::default());
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (CONTENT_LENGTH, blob.size.into()),
        ];
        // Storage elsewhere is told where to put it by the address alone.
        let own = target.authority().map(http::uri::Authority::as_str) == Some(self.name.authority());
        if own && let Some(authorization) = self.shown().await {
            headers.push((http::header::AUTHORIZATION, authorization));
        }
        let body = body_of(blob.open().await?, Arc::clone(&sending));
        let answer = self.transmit(Method::PUT, &target, headers, body, sending.progress.clone()).await;
        // What our end could not give explains whatever the other made of it.
        if let Some(failure) = sending.failure.lock().take() {
            return Err(failure);
        }
        self.accepted(answer?, "a blob").await.map(drop)
    }

    /// Where an upload goes, with the digest that it is to have.
    async fn upload_target(&self, begun: &Response<Arriving>, digest: &Digest) -> Result<Uri, Error> {
        let nowhere = || Error::Invalid(format!("{} gives no address to push to", self.name.registry));
        let location = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let base = self.uri("blobs/uploads/").await?;
        let target = relative_to(&base, location.ok_or_else(nowhere)?).ok_or_else(nowhere)?;
        let mark = if target.query().is_some() { '&' } else { '?' };
        format!("{target}{mark}digest={digest}").parse().map_err(|_| nowhere())
    }

    /// A request to the registry itself with a small body; what it wants to see of us is shown.
    async fn command(
        &self,
        method: Method,
        path: &str,
        kind: Option<&'static str>,
        body: Bytes,
    ) -> Result<Response<Arriving>, Error> {
        let uri = self.uri(path).await?;
        let send = async |shown: Option<HeaderValue>| {
            let mut headers = vec![(ACCEPT, HeaderValue::from_static("*/*"))];
            if method != Method::HEAD {
                headers.push((CONTENT_LENGTH, body.len().into()));
            }
            if let Some(kind) = kind {
                headers.push((CONTENT_TYPE, HeaderValue::from_static(kind)));
            }
            headers.extend(shown.map(|shown| (http::header::AUTHORIZATION, shown)));
            let body = if body.is_empty() { nothing() } else { full(body.clone()) };
            self.transmit(method.clone(), &uri, headers, body, Progress::default()).await
        };
        let shown = self.shown().await;
        let answer = send(shown.clone()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.log_in(answer, shown.as_ref()).await?;
        send(self.shown().await).await
    }

    async fn retried<T, F: Future<Output = Result<T, Error>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut pause = limits::RETRY_AFTER;
        for _ in 1..limits::ATTEMPTS {
            match attempt().await {
                Err(Error::Unreachable(_)) => {}
                other => return other,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        attempt().await
    }

    /// An answer of success (201, 202).
    async fn accepted(&self, answer: Response<Arriving>, what: &str) -> Result<Response<Arriving>, Error> {
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer, what).await) }
    }

    /// The error that a status means, with what the registry says about it.
    async fn refusal(&self, answer: Response<Arriving>, what: &str) -> Error {
        let status = answer.status();
        let registry = &self.name.registry;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let why = if self.login.is_some() {
                    "it does not accept the credentials, or they do not allow it"
                } else {
                    "it wants credentials and none are configured for it"
                };
                Error::Denied(format!("{registry} does not let us push to {}: {why}", self.name.repository))
            }
            status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                Error::Unreachable(format!("{registry} answered {status} to {what}"))
            }
            status => {
                let said = whole(answer, limits::MANIFEST_BYTES).await.ok().and_then(|body| said(&body));
                let said = said.map_or_else(String::new, |said| format!(": {said}"));
                Error::Invalid(format!("{registry} does not take {what} of {}: {status}{said}", self.name))
            }
        }
    }
}

/// The first message in a registry's answer (distribution spec: Error Codes).
fn said(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = answer.pointer("/errors/0/message")?.as_str()?;
    Some(text.chars().take(300).filter(|c| !c.is_control()).collect())
}

fn full(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Streams a blob, read by a thread that may wait for it. The last part is sent once all of it was checked: of a blob that is
/// not what its digest says, no other side has the whole.
fn body_of(mut content: Verified<Box<dyn Read + Send>>, sending: Arc<Sending>) -> Outgoing {
    let (parts, rest) = mpsc::channel::<Bytes>(limits::PARTS_AHEAD);
    let progress = sending.progress.clone();
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; 64 << 10];
        let mut last: Option<Bytes> = None;
        let outcome = loop {
            match content.read(&mut buffer) {
                Ok(0) => break content.finish(),
                Err(error) => break Err(Error::unreadable("a blob")(error)),
                Ok(count) => {
                    let before = last.replace(Bytes::copy_from_slice(&buffer[..count]));
                    // Whoever sends has given up, and knows why.
                    if before.is_some_and(|part| parts.blocking_send(part).is_err()) {
                        return;
                    }
                }
            }
        };
        match (outcome, last) {
            // Said before the other side can see that the rest is missing.
            (Err(error), _) => *sending.failure.lock() = Some(error),
            (Ok(()), Some(part)) => drop(parts.blocking_send(part)),
            (Ok(()), None) => {}
        }
    });
    let parts = stream::unfold((rest, progress), |(mut rest, progress)| async {
        let part = rest.recv().await?;
        progress.add(part.len());
        Some((Ok(Frame::data(part)), (rest, progress)))
    });
    StreamBody::new(parts).boxed_unsync()
}
