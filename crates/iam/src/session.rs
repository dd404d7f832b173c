//! Session credentials of functions: stateless, since the token carries what is needed to check them.

use std::time::Duration;

use base::{FunctionArn, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::seal::Sealer;
use crate::{Credentials, credentials};

/// Longer tokens are not ours: they are refused before they are decoded.
const MAX_TOKEN: usize = 4096;

/// What a session token holds, sealed with the key's id as context.
#[derive(Serialize, Deserialize)]
pub(crate) struct Session {
    #[serde(rename = "f")]
    function: String,
    #[serde(rename = "s")]
    pub(crate) secret: String,
    #[serde(rename = "e")]
    pub(crate) expires: Timestamp,
}

impl Session {
    /// New credentials for a function.
    pub(crate) fn issue(
        sealer: &Sealer,
        function: &FunctionArn,
        now: Timestamp,
        lifetime: Duration,
    ) -> Credentials {
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let expires = Timestamp(now.as_millis().saturating_add(lifetime));
        let session = Self { function: function.to_string(), secret: credentials::new_secret(), expires };
        let access_key_id = credentials::new_session_id();
        // A struct of two strings and a number always has a JSON form.
        let plain = serde_json::to_vec(&session).expect("strings and numbers have a JSON form");
        Credentials {
            session_token: Some(STANDARD.encode(sealer.seal(&access_key_id, &plain))),
            access_key_id,
            secret_access_key: session.secret,
            expires: Some(expires),
        }
    }

    /// Reads a token that came with the key id it was made for.
    pub(crate) fn open(sealer: &Sealer, access_key_id: &str, token: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let sealed = STANDARD.decode(token).ok()?;
        serde_json::from_slice(&sealer.open(access_key_id, &sealed)?).ok()
    }

    /// Whose session it is.
    pub(crate) fn function(&self) -> Option<FunctionArn> {
        FunctionArn::parse(&self.function)
    }
}
