//! Why a request was not let in, and why opening failed.

use base::Kind;

/// Why a request was not let in. Each protocol has its own name for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No signature at all.
    #[error("Missing Authentication Token")]
    MissingToken,
    /// The `Authorization` header or the query cannot be read.
    #[error("{0}")]
    IncompleteSignature(String),
    /// The access key is unknown or disabled, or the session token is not for it.
    #[error("The security token included in the request is invalid.")]
    UnrecognizedClient,
    /// The signature is not the one expected.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    SignatureMismatch,
    /// The date is too far from now, or the presigned time or the session is over.
    #[error("{0}")]
    Expired(String),
    /// The credential scope names another date, region or terminator than it must.
    #[error("{0}")]
    InvalidScope(String),
}

impl AuthError {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        Kind::Denied
    }
}

/// Opening failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The key file is missing, unreadable, or not the one the secrets were sealed with.
    #[error("{0}")]
    Key(String),
    /// A value given for the first account cannot be used.
    #[error("{0}")]
    Bootstrap(String),
    /// The database holds something that this crate never writes.
    #[error("identity tables: {0}")]
    Corrupt(String),
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Bootstrap(_) => Kind::Invalid,
            Self::Key(_) | Self::Corrupt(_) => Kind::Internal,
        }
    }
}
