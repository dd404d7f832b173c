//! A pair of keys.

use std::fmt;

use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::random;

/// A pair of keys, and the session token of temporary ones. `Debug` shows the key's id only.
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

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// An id for a key that lasts.
pub(crate) fn new_permanent_id() -> String {
    format!("AKIA{}", random::base32::<16>())
}

/// An id for a session's key.
pub(crate) fn new_session_id() -> String {
    format!("ASIA{}", random::base32::<16>())
}

/// 240 random bits, 40 characters like those that AWS hands out.
pub(crate) fn new_secret() -> String {
    STANDARD.encode(random::bytes::<30>())
}
