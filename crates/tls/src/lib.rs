//! TLS to others: who vouches for them, the handshake, and what went wrong with it.
//!
//! A crate because rustls and its cryptography are heavy and are to have one home; registries of images and guests of
//! WebAssembly are spoken to through it. [`Roots`] are what a server's certificate must lead to: the host's, and those
//! that the operator adds. A [`Client`] checks every certificate against them and against the name that was asked for;
//! there is no way to have one that does not.
//!
//! One provider of cryptography for TLS, aws-lc, is named here and nowhere else, so that none has to be installed for the
//! process. Versions are TLS 1.2 and 1.3; what is spoken inside is HTTP/1.1. Left out: certificates of the client's own,
//! revocation, and the server's side.

mod cause;
mod roots;

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

pub use cause::Cause;
pub use roots::Roots;
/// A connection that is encrypted.
pub use tokio_rustls::client::TlsStream;

/// Makes encrypted connections. Cheap to clone; the clones share what lets a later handshake be short.
#[derive(Clone)]
pub struct Client(TlsConnector);

impl Client {
    /// One that believes these.
    pub fn new(roots: &Roots) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots.store())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Makes sure that the other side of a stream is `host`, a name or an address as in a URI, and encrypts.
    ///
    /// What an error is about, [`Cause::of`] tells.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{host} is no name that has certificates"))
        })?;
        self.0.connect(name, stream).await
    }
}
