//! The S3-compatible store that packages are read from: one signed GET a package.
//!
//! Only the endpoint that the operator names is ever connected to: a request's bucket and key become a path or a host
//! below it, encoded, and a redirect is an error. Every account reads with the operator's one set of credentials, which is
//! read anew each time, so that it can be renewed without a restart. What the store says of itself is bounded.

mod answer;
mod credentials;
mod location;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base::{Clock, Region};
use bytes::Bytes;
use functions::{ObjectError, ObjectRef};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::PackageStore;
use location::Endpoint;

/// How long connecting and the handshake may take, each; how long the store may be silent.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);
/// How long one package may take in all: the largest at half a megabyte a second.
const IN_ALL: Duration = Duration::from_secs(600);

/// The service that signatures are for.
const SERVICE: &str = "s3";

/// Reads packages. Without TLS only where the operator's URL says `http`.
pub(crate) struct Store {
    endpoint: Endpoint,
    region: Region,
    credentials: PathBuf,
    tls: tls::Client,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Nothing is connected to yet; the credentials must be there.
    pub(crate) fn open(config: &PackageStore, clock: Arc<dyn Clock>) -> Result<Self> {
        let endpoint = Endpoint::parse(&config.url, config.virtual_hosts)?;
        let region = Region::parse(&config.region)
            .with_context(|| format!("--package-store-region: {} is not a region's name", config.region))?;
        credentials::read(&config.credentials)?;
        let tls = tls_client(config.certificates.as_deref()).context("cannot set TLS up")?;
        Ok(Self { endpoint, region, credentials: config.credentials.clone(), tls, clock })
    }

    async fn get(&self, object: &ObjectRef, most: usize) -> Result<Bytes, ObjectError> {
        let request = self.request(object).map_err(|error| unavailable(format!("{error:#}")))?;
        let response = self.send(request).await?;
        answer::read(response, object, most, SILENCE).await
    }

    /// The request, signed.
    fn request(&self, object: &ObjectRef) -> Result<Request<Empty<Bytes>>> {
        let (authority, target) = self.endpoint.locate(object)?;
        let request = Request::get(target).header(http::header::HOST, authority).body(())?;
        let (mut head, ()) = request.into_parts();
        let keys = credentials::read(&self.credentials)?;
        iam::sigv4::sign_request(&mut head, b"", &keys, &self.region, SERVICE, self.clock.now())?;
        Ok(Request::from_parts(head, Empty::new()))
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, ObjectError> {
        let (host, port) = self.endpoint.address();
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect((host, port))).await;
        let stream = connecting.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| unavailable(format!("connecting failed: {error}")))?;
        if !self.endpoint.encrypted() {
            return exchange(TokioIo::new(stream), request).await;
        }
        let name = request.headers()[http::header::HOST].to_str().unwrap_or_default();
        let name = name.rsplit_once(':').map_or(name, |(name, _)| name).to_owned();
        let encrypting = tokio::time::timeout(CONNECT, self.tls.connect(&name, stream)).await;
        let stream = encrypting.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| unavailable(format!("TLS failed: {error}")))?;
        exchange(TokioIo::new(stream), request).await
    }
}

impl functions::Objects for Store {
    fn read<'a>(&'a self, object: &'a ObjectRef, most: usize) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            let read = tokio::time::timeout(IN_ALL, self.get(object, most)).await;
            read.unwrap_or_else(|_| Err(unavailable("it took too long".to_owned())))
        })
    }
}

fn tls_client(certificates: Option<&Path>) -> std::io::Result<tls::Client> {
    let mut roots = tls::Roots::default();
    roots.add_hosts()?;
    certificates.map_or(Ok(()), |path| roots.add_file(path))?;
    tls::Client::new(&roots)
}

async fn exchange(
    stream: impl Read + Write + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, ObjectError> {
    let failed = |error: hyper::Error| unavailable(format!("the exchange failed: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
    // Ends with the answer's body, or with whoever reads it.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the store of packages broke off");
        }
    });
    let answered = tokio::time::timeout(SILENCE, sender.send_request(request)).await;
    answered.map_err(|_| unavailable("it does not answer".to_owned()))?.map_err(failed)
}

fn unavailable(text: String) -> ObjectError {
    ObjectError::Unavailable(text)
}
