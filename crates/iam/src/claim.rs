//! Checking a signed request in two steps: the head when it arrives, the signature once the body is there.
//!
//! The first step turns strangers away before a byte of their body is read: it needs a well-formed signature
//! of a known key, for this region and about this time. Only the second step proves who is calling.

use std::sync::Arc;

use base::{Clock, Region, Timestamp};
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::directory::Directory;
use crate::keys::Keys;
use crate::seal::Sealer;
use crate::session::Session;
use crate::sigv4::{self, Presented, Request, SigningKeys, UNSIGNED_PAYLOAD};
use crate::{AuthError, Caller};

/// What signatures are checked against.
pub(crate) struct Verifier {
    pub(crate) keys: Keys,
    pub(crate) sessions: Sealer,
    pub(crate) signing_keys: SigningKeys,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) directory: Directory,
}

/// A request whose head names a known key for this time, region and service. The signature is not checked
/// before [`Claim::finish`].
pub struct Claim {
    /// The service in the credential scope: `lambda`, `logs`, …
    pub service: String,
    verifier: Arc<Verifier>,
    presented: Presented,
    canonical_head: Vec<u8>,
    secret: String,
    caller: Caller,
}

/// What a head says of its body.
#[derive(Debug)]
pub enum Stated {
    /// Who is calling, and the SHA-256 that the body must have.
    Hash(Caller, [u8; 32]),
    /// Nothing.
    Nothing(Box<Claim>),
}

impl Claim {
    pub(crate) fn read(verifier: &Arc<Verifier>, region: &Region, head: &Parts) -> Result<Self, AuthError> {
        let request = Request::of(head);
        let presented = Presented::read(&request)?;
        let now = verifier.clock.now();
        presented.check_scope(region)?;
        presented.check_time(now)?;
        presented.check_signed_headers(&request)?;
        let (caller, secret) = verifier.identify(&presented, now)?;
        let signed: Vec<&str> = presented.signed_headers.iter().map(String::as_str).collect();
        Ok(Self {
            service: presented.scope.service.clone(),
            verifier: verifier.clone(),
            canonical_head: sigv4::canonical_head(&request, &signed, &presented.scope.service),
            presented,
            secret,
            caller,
        })
    }

    /// The id of the key that the request is signed with.
    pub fn access_key_id(&self) -> &str {
        &self.presented.access_key_id
    }

    /// Checks the signature over head and body.
    pub fn finish(self, body: &[u8]) -> Result<Caller, AuthError> {
        let payload = self.payload(body)?;
        self.check(&payload)
    }

    /// Checks the signature before the body is there, where the head states the body's hash and the signature covers
    /// it. The body is what was signed if it comes to that hash.
    ///
    /// A head that states no hash gives the claim back: only the whole body can tell.
    pub fn stated(self) -> Result<Stated, AuthError> {
        let Some(stated) = self.presented.payload.clone() else { return Ok(Stated::Nothing(Box::new(self))) };
        let mut hash = [0; 32];
        if hex::decode_to_slice(&stated, &mut hash).is_err() {
            return Err(AuthError::SignatureMismatch);
        }
        Ok(Stated::Hash(self.check(&stated)?, hash))
    }

    /// Checks the signature over the head and what stands for the body.
    fn check(self, payload: &str) -> Result<Caller, AuthError> {
        let scope = &self.presented.scope;
        let canonical = sigv4::with_payload(self.canonical_head, payload);
        let text = sigv4::string_to_sign(&self.presented.time, scope, &canonical);
        let cache = &self.verifier.signing_keys;
        let (key, fresh) = cache.get(&self.presented.access_key_id, &self.secret, scope);
        let expected = sigv4::signature(&key, &text);
        if !bool::from(expected.as_bytes().ct_eq(self.presented.signature.as_bytes())) {
            return Err(AuthError::SignatureMismatch);
        }
        // Only what proved right is kept: strangers cannot push others' keys out.
        if fresh {
            cache.keep(&self.presented.access_key_id, scope, key);
        }
        Ok(self.caller)
    }

    /// What stands for the body in the canonical request.
    fn payload(&self, body: &[u8]) -> Result<String, AuthError> {
        let unsigned_allowed = self.service == sigv4::S3;
        match self.presented.payload.as_deref() {
            Some(UNSIGNED_PAYLOAD) if unsigned_allowed => Ok(UNSIGNED_PAYLOAD.to_owned()),
            None if unsigned_allowed && self.presented.is_query() => Ok(UNSIGNED_PAYLOAD.to_owned()),
            stated => {
                let actual = sigv4::hex(&Sha256::digest(body));
                let honest = stated.is_none_or(|stated| stated.eq_ignore_ascii_case(&actual));
                // The canonical request holds the hash as it was stated.
                honest.then(|| stated.map_or(actual, str::to_owned)).ok_or(AuthError::SignatureMismatch)
            }
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim")
            .field("service", &self.service)
            .field("access_key_id", &self.presented.access_key_id)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Whom the key stands for, and its secret.
    fn identify(&self, presented: &Presented, now: Timestamp) -> Result<(Caller, String), AuthError> {
        let id = presented.access_key_id.as_str();
        let Some(token) = &presented.session_token else {
            let keys = self.keys.by_id.pin();
            let key = keys.get(id).ok_or(AuthError::UnrecognizedClient)?;
            return Ok((key.caller.clone(), key.secret.clone()));
        };
        let session = Session::open(&self.sessions, id, token).ok_or(AuthError::UnrecognizedClient)?;
        if now >= session.expires {
            return Err(AuthError::Expired("The security token included in the request is expired".into()));
        }
        let caller = session.caller(&self.directory, now).ok_or(AuthError::UnrecognizedClient)?;
        Ok((caller, session.secret))
    }
}
