//! Who is calling, and what they may do.
//!
//! [`Iam::begin`] reads a request's signature from its head alone, so that a stranger's body is never
//! read; [`Claim::finish`] checks it once the body is there.

use std::sync::Arc;

use base::{AccountId, Clock, FunctionArn, Kind, Timestamp};

/// Cheap to clone.
#[derive(Clone)]
pub struct Iam {
    _inner: Arc<()>,
}

/// What the first account is made from when the database is new.
#[derive(Clone, Default)]
pub struct Bootstrap {
    /// Generated where absent.
    pub access_key_id: Option<String>,
    /// Generated where absent.
    pub secret_access_key: Option<String>,
    /// Generated where absent.
    pub account: Option<AccountId>,
}

/// A pair of keys, and the session token of temporary ones.
#[derive(Clone)]
pub struct Credentials {
    /// `AKIA…`, or `ASIA…` for temporary ones.
    pub access_key_id: String,
    /// Secret.
    pub secret_access_key: String,
    /// `X-Amz-Security-Token`, for temporary ones.
    pub session_token: Option<String>,
    /// When temporary ones end.
    pub expires: Option<Timestamp>,
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose resources the call is about.
    pub account: AccountId,
    /// Who exactly.
    pub principal: Principal,
}

/// An identity that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A user of the account.
    User {
        /// Its name: `admin` for the first.
        name: String,
    },
    /// A function's own session.
    Function {
        /// The function and version.
        arn: FunctionArn,
    },
}

impl Caller {
    /// The identity's ARN, as errors and GetCallerIdentity show it.
    pub fn arn(&self) -> String {
        unimplemented!()
    }

    /// Whether the caller may do `action` (`lambda:InvokeFunction`) on `resource` (an ARN).
    pub fn may(&self, _action: &str, _resource: &str) -> bool {
        unimplemented!()
    }
}

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
    #[error("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")]
    SignatureMismatch,
    /// The date is too far from now, or the presigned time is over.
    #[error("{0}")]
    Expired(String),
}

impl AuthError {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        Kind::Denied
    }
}

/// A request whose head names a known key for this time, region and service. The signature is not checked
/// before [`Claim::finish`].
pub struct Claim {
    /// The service in the credential scope: `lambda`, `logs`, …
    pub service: String,
}

impl Claim {
    /// Checks the signature over head and body.
    pub fn finish(self, _body: &[u8]) -> Result<Caller, AuthError> {
        unimplemented!()
    }
}

impl Iam {
    /// Reads the keys; makes the first account with its user `admin` when there is none. Secrets are sealed
    /// with the key in `key_file` (made with mode 0600 when the database is new).
    pub async fn open(
        _store: store::Store,
        _key_file: &std::path::Path,
        _bootstrap: Bootstrap,
        _clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        unimplemented!()
    }

    /// The first account.
    pub fn first_account(&self) -> &AccountId {
        unimplemented!()
    }

    /// The first user's keys (for the credentials file that the server writes at first start).
    pub fn first_credentials(&self) -> Credentials {
        unimplemented!()
    }

    /// Reads the signature of a request: SigV4 in the `Authorization` header or the query.
    pub fn begin(&self, _head: &http::request::Parts) -> Result<Claim, AuthError> {
        unimplemented!()
    }

    /// Session credentials for one instance of a function. They are stateless: the token carries what is
    /// needed to check them, sealed.
    pub fn function_session(&self, _function: &FunctionArn, _lifetime: std::time::Duration) -> Credentials {
        unimplemented!()
    }

    /// A token that lets its bearer do one thing until it expires: a download link. `purpose` is not secret.
    pub fn sign_link(&self, _purpose: &str, _expires: Timestamp) -> String {
        unimplemented!()
    }

    /// Whether `token` was made by [`Iam::sign_link`] for this purpose and has not expired.
    pub fn check_link(&self, _purpose: &str, _expires: Timestamp, _token: &str) -> bool {
        unimplemented!()
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
}

/// The schema of this noun.
pub const MIGRATIONS: &[store::Migration] = &[];
