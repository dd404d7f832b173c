//! Registries (OCI distribution spec 1.1, pull and, in `push`, push; Docker's token authentication).
//!
//! A client of our own on hyper and rustls: what a pull takes is four requests, of which the last streams for minutes
//! through the checks; and it decides itself who gets credentials. Those go to the registry they are for and to the
//! token service that it names, never to where a redirect leads, and never unencrypted but where the operator or the
//! loopback address says so.

mod auth;
mod body;
mod connect;
mod pool;
mod push;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, HOST, LOCATION, RANGE, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;

use crate::manifest::{self, Descriptor};
use crate::reference::Name;
use crate::{Digest, Error, limits};
use auth::Challenge;
pub(crate) use auth::{Credentials, Login};
use body::{Arriving, discard, whole};
pub(crate) use body::{Part, Stream};
pub(crate) use connect::Connector;
pub use push::Pushed;

/// What a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// What of a blob or document is asked for.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    /// Media types.
    accept: &'a str,
    /// First and last byte; absent for all of it.
    range: Option<(u64, u64)>,
}

impl<'a> Wanted<'a> {
    fn all(accept: &'a str) -> Self {
        Self { accept, range: None }
    }
}

/// What came of asking for a part of a blob.
pub(crate) enum Ranged {
    /// The part, of the length that was asked for.
    Part(Part),
    /// The registry gives blobs whole only; nothing of it was read.
    Unsupported,
}

/// A request's body.
type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// No body.
fn nothing() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Bytes that were taken of a request's body so far: an extension of the request.
#[derive(Debug, Clone, Default)]
struct Progress(Arc<AtomicU64>);

impl Progress {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One image's requests.
pub(crate) struct Session {
    connector: Connector,
    name: Name,
    login: Option<Login>,
    access: Access,
    /// What the registry wants to see, once it has said so.
    authorization: Mutex<Option<HeaderValue>>,
    /// `http` or `https`, once it is known.
    scheme: OnceCell<&'static str>,
    /// Bodies on their way. They end with the session, and with them the threads that wait for their bytes: nobody
    /// else stops a registry that sends one now and then.
    bodies: parking_lot::Mutex<JoinSet<()>>,
}

impl Session {
    pub(crate) fn new(connector: Connector, name: Name, login: Option<Login>, access: Access) -> Self {
        Self {
            connector,
            name,
            login,
            access,
            authorization: Mutex::default(),
            scheme: OnceCell::new(),
            bodies: parking_lot::Mutex::default(),
        }
    }

    /// A manifest or index, with its digest: of the image that was named, or that a digest names.
    pub(crate) async fn manifest(&self, digest: Option<&Digest>) -> Result<(Bytes, Digest), Error> {
        let digest = digest.or(self.name.digest.as_ref());
        let wanted = digest.map_or_else(|| self.name.wanted(), ToString::to_string);
        let what = || format!("{}/{}", self.name.registry, self.name.repository);
        let path = format!("manifests/{wanted}");
        let bytes = self.document(&path, manifest::ACCEPT, limits::MANIFEST_BYTES).await?;
        let found = Digest::of(&bytes);
        if digest.is_some_and(|digest| *digest != found) {
            let text =
                format!("the manifest {wanted} of {} is not what its digest says: it has {found}", what());
            return Err(Error::Invalid(text));
        }
        Ok((bytes, found))
    }

    /// A blob that is small: the configuration.
    pub(crate) async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let Descriptor { digest, size, .. } = descriptor;
        let bytes = self.document(&format!("blobs/{digest}"), "*/*", limits::CONFIG_BYTES).await?;
        let mut verified = crate::digest::Verified::new(&bytes[..], digest, *size);
        io::copy(&mut verified, &mut io::sink()).map_err(Error::unreadable("a blob"))?;
        verified.finish()?;
        Ok(bytes.into())
    }

    /// A blob as it comes.
    pub(crate) async fn blob(&self, digest: &Digest) -> Result<Stream, Error> {
        let response = self.get(&format!("blobs/{digest}"), Wanted::all("*/*")).await?;
        let (stream, passing) = Stream::of(response, self.name.registry.clone());
        let mut bodies = self.bodies.lock();
        while bodies.try_join_next().is_some() {}
        bodies.spawn(passing);
        Ok(stream)
    }

    /// A part of a blob, from a byte on. One try: whoever waits for it decides how long.
    pub(crate) async fn range(&self, digest: &Digest, from: u64, length: u64) -> Result<Ranged, Error> {
        let last = (from + length).saturating_sub(1);
        let wanted = Wanted { accept: "*/*", range: Some((from, last)) };
        let response = self.get(&format!("blobs/{digest}"), wanted).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(Ranged::Unsupported);
        }
        let other = |said: &str| {
            Error::Invalid(format!(
                "{} gives another part of a blob than it was asked for{said}",
                self.name.registry
            ))
        };
        let said =
            response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !said.starts_with(&format!("bytes {from}-{last}/")) {
            return Err(other(&format!(": {said:.60}")));
        }
        Ok(Ranged::Part(Part::new(response, length, &self.name.registry)))
    }

    /// Something small, whole. What may have failed by chance is tried again.
    async fn document(&self, path: &str, accept: &str, most: u64) -> Result<Bytes, Error> {
        let mut pause = limits::RETRY_AFTER;
        for _ in 1..limits::ATTEMPTS {
            match self.fetch(path, accept, most).await {
                Err(Error::Unreachable(_)) => {}
                other => return other,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.fetch(path, accept, most).await
    }

    async fn fetch(&self, path: &str, accept: &str, most: u64) -> Result<Bytes, Error> {
        whole(self.get(path, Wanted::all(accept)).await?, most).await
    }

    /// An answer of 200, or of 206 where a part is wanted, wherever the registry sends us for it.
    async fn get(&self, path: &str, wanted: Wanted<'_>) -> Result<Response<Arriving>, Error> {
        let uri = self.uri(path).await?;
        let shown = self.shown().await;
        let mut response = self.send(&uri, wanted, shown.clone()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.log_in(response, shown.as_ref()).await?;
            response = self.send(&uri, wanted, self.shown().await).await?;
        }
        let response = self.follow(uri, response, wanted).await?;
        self.judge(response, wanted).await
    }

    /// Where something of the image's repository is.
    async fn uri(&self, path: &str) -> Result<Uri, Error> {
        let authority = self.name.authority();
        let scheme = self.scheme.get_or_init(|| self.find_scheme()).await;
        let uri = format!("{scheme}://{authority}/v2/{}/{path}", self.name.repository);
        uri.parse().map_err(|_| Error::Reference(format!("{authority} is not a registry")))
    }

    /// TLS, but where it is named as one without, or is on a loopback address and answers without.
    async fn find_scheme(&self) -> &'static str {
        let authority = self.name.authority();
        if self.connector.is_named_plain(authority) {
            return "http";
        }
        let Ok(uri) = format!("http://{authority}/v2/").parse::<Uri>() else { return "https" };
        if !self.connector.may_be_plain(authority) {
            return "https";
        }
        // Without credentials. A server of TLS answers 400 to this, or nothing that is HTTP.
        match self.send(&uri, Wanted::all("*/*"), None).await {
            Ok(response) if response.status() != StatusCode::BAD_REQUEST => {
                discard(response).await;
                "http"
            }
            _ => "https",
        }
    }

    /// What the registry wants to see, as far as is known.
    async fn shown(&self) -> Option<HeaderValue> {
        self.authorization.lock().await.clone()
    }

    async fn send(
        &self,
        uri: &Uri,
        wanted: Wanted<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Arriving>, Error> {
        let accept = HeaderValue::try_from(wanted.accept).unwrap_or_else(|_| HeaderValue::from_static("*/*"));
        let mut headers = vec![(ACCEPT, accept)];
        let range = wanted.range.map(|(first, last)| HeaderValue::try_from(format!("bytes={first}-{last}")));
        headers.extend(range.into_iter().flatten().map(|range| (RANGE, range)));
        headers.extend(authorization.map(|authorization| (AUTHORIZATION, authorization)));
        let request = request(Method::GET, uri, headers)?.body(());
        self.connector.get(uri, request.map_err(|_| no_address(uri))?).await
    }

    /// Sends a request that changes something. `progress` grows while its body is taken.
    async fn transmit(
        &self,
        method: Method,
        uri: &Uri,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Outgoing,
        progress: Progress,
    ) -> Result<Response<Arriving>, Error> {
        let request = request(method, uri, headers)?.extension(progress).body(body);
        self.connector.send(uri, request.map_err(|_| no_address(uri))?).await
    }

    /// Follows redirects, to which no credentials go.
    async fn follow(
        &self,
        mut uri: Uri,
        mut response: Response<Arriving>,
        wanted: Wanted<'_>,
    ) -> Result<Response<Arriving>, Error> {
        for _ in 0..limits::REDIRECTS {
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let nowhere = || Error::Invalid(format!("{} redirects to no address", self.name.registry));
            uri = relative_to(&uri, location.ok_or_else(nowhere)?).ok_or_else(nowhere)?;
            discard(response).await;
            response = self.send(&uri, wanted, None).await?;
        }
        Err(Error::Invalid(format!("{} redirects without end", self.name.registry)))
    }

    /// Does what a 401 asks for, once, however many requests were refused with what they had `shown`.
    async fn log_in(&self, response: Response<Arriving>, shown: Option<&HeaderValue>) -> Result<(), Error> {
        let mut authorization = self.authorization.lock().await;
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = challenges.filter_map(|value| Challenge::parse(value.to_str().ok()?)).next();
        discard(response).await;
        if authorization.as_ref() != shown {
            return Ok(());
        }
        *authorization = match (challenge, &self.login) {
            (Some(Challenge::Basic), Some(login)) => Some(login.basic()),
            (Some(Challenge::Bearer { realm, service }), login) => {
                Some(self.token(&realm, service.as_deref(), login.as_ref()).await?)
            }
            (_, None) => return Err(self.denied("it wants credentials and none are configured for it")),
            (None, Some(_)) => return Err(self.denied("it wants credentials of an unknown kind")),
        };
        Ok(())
    }

    /// Docker's token authentication (distribution: Token Authentication Specification).
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        login: Option<&Login>,
    ) -> Result<HeaderValue, Error> {
        let uri = auth::token_uri(realm, service, &self.name.repository, self.access)
            .ok_or_else(|| self.denied("its token service has no address"))?;
        if !keeps_encryption(self.scheme.get().copied(), &uri) {
            return Err(self.denied("its token service would be asked without encryption"));
        }
        let response = self.send(&uri, Wanted::all("application/json"), login.map(Login::basic)).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.denied("its token service does not accept the credentials"));
            }
            status => {
                return Err(Error::Unreachable(format!(
                    "the token service of {} answered {status}",
                    self.name.registry
                )));
            }
        }
        let body = whole(response, limits::MANIFEST_BYTES).await?;
        auth::bearer(&body).ok_or_else(|| self.denied("its token service gave no token"))
    }

    fn denied(&self, why: &str) -> Error {
        Error::Denied(format!("{} does not let us have {}: {why}", self.name.registry, self.name.repository))
    }

    /// The error that a status means.
    async fn judge(
        &self,
        response: Response<Arriving>,
        wanted: Wanted<'_>,
    ) -> Result<Response<Arriving>, Error> {
        let status = response.status();
        match status {
            StatusCode::OK => Ok(response),
            StatusCode::PARTIAL_CONTENT if wanted.range.is_some() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let why = if self.login.is_some() {
                    "it does not accept the credentials, or they do not open this image"
                } else {
                    "it wants credentials and none are configured for it"
                };
                Err(self.denied(why))
            }
            StatusCode::NOT_FOUND => Err(Error::NotFound(format!("{} does not exist", self.name))),
            status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                Err(Error::Unreachable(format!("{} answered {status}", self.name.registry)))
            }
            status => Err(Error::Invalid(format!("{} answered {status} to a pull", self.name.registry))),
        }
    }
}

/// A `Location` may be relative (RFC 9110, 10.2.2). Encryption is not given up on the way.
fn relative_to(base: &Uri, location: &str) -> Option<Uri> {
    let target: Uri = location.parse().ok()?;
    if target.scheme().is_some() {
        return keeps_encryption(base.scheme_str(), &target).then_some(target);
    }
    let target = if location.starts_with('/') { location.to_owned() } else { return None };
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Who was spoken to encrypted sends nobody to where we speak in the clear: on this machine that would be anything
/// that listens here.
fn keeps_encryption(scheme: Option<&str>, target: &Uri) -> bool {
    target.scheme_str() == Some("https") || scheme == Some("http")
}

/// The head of a request.
fn request(
    method: Method,
    uri: &Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<http::request::Builder, Error> {
    let host = uri.authority().ok_or_else(|| no_address(uri))?.as_str();
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = http::Request::builder().method(method).uri(target).header(HOST, host);
    request = request.header(USER_AGENT, concat!("virga/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    Ok(request)
}

fn no_address(uri: &Uri) -> Error {
    Error::Invalid(format!("{} sent us to no address", uri.host().unwrap_or("the registry")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_encryption() {
        let follow = |base: &str, location: &str| {
            relative_to(&base.parse().unwrap(), location).map(|uri| uri.to_string())
        };
        assert_eq!(follow("https://a/v2/x", "https://b/y?z").as_deref(), Some("https://b/y?z"));
        assert_eq!(follow("https://a/v2/x", "/y?z").as_deref(), Some("https://a/y?z"));
        assert_eq!(follow("https://a/v2/x", "http://b/y"), None);
        assert_eq!(follow("http://a/v2/x", "http://b/y").as_deref(), Some("http://b/y"));
        assert_eq!(follow("http://a/v2/x", "y"), None);
    }

    #[tokio::test]
    async fn token_services_keep_encryption() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let realm = format!("http://{}/any/path", listener.local_addr().unwrap());
        let Ok(crate::Reference::Registry(name)) = crate::Reference::parse("r.example/a/b") else {
            panic!("a name")
        };
        let session = Session::new(Connector::new(&[], None).unwrap(), name, None, Access::Pull);
        session.scheme.set("https").unwrap();
        let error = session.token(&realm, None, None).await.unwrap_err().to_string();
        assert!(error.contains("without encryption"), "{error}");
        assert!(listener.accept().is_err(), "nobody has asked");
    }
}
