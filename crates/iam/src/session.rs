//! Session credentials of functions, roles and users: stateless, since the token carries what is needed to check them.
//!
//! What a session may is not in its token but asked of the role each time, so that a change of the role counts at
//! once.

use std::sync::Arc;
use std::time::Duration;

use base::{AccountId, FunctionArn, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::directory::{Directory, Document};
use crate::role_session::RoleSession;
use crate::seal::Sealer;
use crate::{Caller, Credentials, Principal, credentials};

/// Longer tokens are not ours: they are refused before they are decoded.
const MAX_TOKEN: usize = 8192;

/// What a session token holds, sealed with the key's id as context.
#[derive(Serialize, Deserialize)]
pub(crate) struct Session {
    #[serde(rename = "h")]
    holder: Holder,
    #[serde(rename = "s")]
    pub(crate) secret: String,
    #[serde(rename = "e")]
    pub(crate) expires: Timestamp,
}

/// Whose session it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Holder {
    /// A function's, in the role of this name.
    #[serde(rename = "f")]
    Function { arn: String, role: String },
    /// Somebody's who took a role on.
    #[serde(rename = "r")]
    Role {
        account: AccountId,
        role: String,
        /// Another role of the same name is not this one.
        id: String,
        session: String,
        /// The session's own policy.
        policy: Option<String>,
    },
    /// A user's.
    #[serde(rename = "u")]
    User { account: AccountId, name: String },
}

impl Session {
    /// New credentials.
    pub(crate) fn issue(sealer: &Sealer, holder: Holder, now: Timestamp, lifetime: Duration) -> Credentials {
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let expires = Timestamp(now.as_millis().saturating_add(lifetime));
        let session = Self { holder, secret: credentials::new_secret(), expires };
        let access_key_id = credentials::new_session_id();
        // A struct of strings and a number always has a JSON form.
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

    /// Who calls with it now; `None` once the role that it is of is gone.
    pub(crate) fn caller(&self, directory: &Directory, now: Timestamp) -> Option<Caller> {
        match &self.holder {
            Holder::Function { arn, role } => {
                Some(of_function(FunctionArn::parse(arn)?, role, directory, now))
            }
            Holder::Role { account, role, id, session, policy } => {
                let role = directory.role(account, role).filter(|role| role.id == *id)?;
                let policy = policy.as_deref().map(Document::identity).transpose().ok()?;
                let mut made = RoleSession::new(&role, session);
                made.grant(&role, directory, policy.map(|policy| Arc::clone(policy.policy())));
                made.at = Some(now);
                Some(Caller::new(account.clone(), Principal::Session(Arc::new(made))))
            }
            Holder::User { account, name } => {
                Some(Caller::new(account.clone(), Principal::User { name: name.clone() }))
            }
        }
    }
}

/// A function in its role, as that is now.
pub(crate) fn of_function(arn: FunctionArn, role: &str, directory: &Directory, now: Timestamp) -> Caller {
    let account = arn.account.clone();
    let mut session = RoleSession::of_function(arn, role);
    // A function whose role is not there is somebody, who may do nothing.
    if let Some(role) = directory.role(&account, role) {
        session.grant(&role, directory, None);
    }
    session.at = Some(now);
    Caller::new(account, Principal::Session(Arc::new(session)))
}
