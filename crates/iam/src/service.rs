//! The handle that the rest of Virga holds.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{AccountId, Clock, FunctionArn, Region, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use store::Store;
use subtle::ConstantTimeEq;

use crate::claim::{Claim, Verifier};
use crate::directory::{Directory, default_role};
use crate::seal::{Sealer, Use, mac};
use crate::session::{Holder, Session};
use crate::sigv4::SigningKeys;
use crate::{AuthError, Bootstrap, Caller, Credentials, Error, MissingRoles, assume, keys, session, tables};

/// Cheap to clone.
#[derive(Clone)]
pub struct Iam {
    region: Region,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) missing_roles: MissingRoles,
    link_key: Arc<[u8; 32]>,
    environments: Arc<Sealer>,
    receipts: Arc<Sealer>,
    messages: Arc<Sealer>,
    events: Arc<Sealer>,
}

impl Iam {
    /// Reads the keys; makes the first account with its user `admin` when there is none. Secrets are sealed
    /// with the key in `key_file` (made with mode 0600 when the database is new).
    ///
    /// Signatures must be scoped to `us-east-1` until [`Iam::with_region`] says otherwise.
    pub async fn open(
        store: Store,
        key_file: &Path,
        bootstrap: Bootstrap,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let (master, keys) = keys::open(&store, key_file, bootstrap, clock.now()).await?;
        make_default_role(&store, &keys.account, clock.now()).await?;
        let directory = Directory::open(store, Arc::clone(&clock)).await?;
        Ok(Self {
            link_key: Arc::new(master.derive(Use::Links)),
            environments: Arc::new(Sealer::new(&master, Use::Environments)),
            receipts: Arc::new(Sealer::new(&master, Use::Receipts)),
            messages: Arc::new(Sealer::new(&master, Use::Messages)),
            events: Arc::new(Sealer::new(&master, Use::Events)),
            verifier: Arc::new(Verifier {
                keys,
                sessions: Sealer::new(&master, Use::Sessions),
                signing_keys: SigningKeys::default(),
                clock,
                directory,
            }),
            region: Region::default(),
            missing_roles: MissingRoles::default(),
        })
    }

    /// The same handle, for signatures scoped to this region.
    #[must_use]
    pub fn with_region(self, region: Region) -> Self {
        Self { region, ..self }
    }

    /// The same handle, with this rule for functions' roles that are not there.
    #[must_use]
    pub fn with_missing_roles(self, missing_roles: MissingRoles) -> Self {
        Self { missing_roles, ..self }
    }

    /// The first account.
    pub fn first_account(&self) -> &AccountId {
        &self.verifier.keys.account
    }

    /// How many accounts there are that can call.
    pub fn accounts(&self) -> usize {
        let keys = self.verifier.keys.by_id.pin();
        keys.values().map(|key| &key.caller.account).collect::<HashSet<_>>().len()
    }

    /// The first user's keys (for the credentials file that the server writes at first start).
    pub fn first_credentials(&self) -> Credentials {
        self.verifier.keys.first.clone()
    }

    /// Reads the signature of a request: SigV4 in the `Authorization` header or the query.
    pub fn begin(&self, head: &Parts) -> Result<Claim, AuthError> {
        Claim::read(&self.verifier, &self.region, head)
    }

    /// Session credentials for one instance of a function, in the role that it was given. They are stateless: the
    /// token carries what is needed to check them, sealed.
    pub fn function_session(
        &self,
        function: &FunctionArn,
        role_arn: &str,
        lifetime: Duration,
    ) -> Credentials {
        let role = assume::role_name(role_arn, &function.account).to_owned();
        let holder = Holder::Function { arn: function.to_string(), role };
        Session::issue(&self.verifier.sessions, holder, self.verifier.clock.now(), lifetime)
    }

    /// A function as a caller, for what is done on its behalf: it may what its role may now.
    pub fn function_caller(&self, function: &FunctionArn, role_arn: &str) -> Caller {
        let role = assume::role_name(role_arn, &function.account);
        session::of_function(function.clone(), role, &self.verifier.directory, self.verifier.clock.now())
    }

    /// Encrypts a function's environment variables for the database. `context` says whose they are: sealed for
    /// one they open for no other. Not secret.
    pub fn seal_environment(&self, context: &str, variables: &[u8]) -> Vec<u8> {
        self.environments.seal(context, variables)
    }

    /// What [`Iam::seal_environment`] sealed for this context; `None` if it was sealed with another key, for another
    /// context, or was changed.
    pub fn open_environment(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.environments.open(context, sealed)
    }

    /// Encrypts what the holder of a received message is given. `context` says of which queue it is.
    pub fn seal_receipt(&self, context: &str, receipt: &[u8]) -> Vec<u8> {
        self.receipts.seal(context, receipt)
    }

    /// What [`Iam::seal_receipt`] sealed for this context, if it did.
    pub fn open_receipt(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.receipts.open(context, sealed)
    }

    /// Encrypts a message's body for the disk. `context` says which message it is of.
    pub fn seal_message(&self, context: &str, body: &[u8]) -> Vec<u8> {
        self.messages.seal(context, body)
    }

    /// What [`Iam::seal_message`] sealed for this context, if it did.
    pub fn open_message(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.messages.open(context, sealed)
    }

    /// As [`Iam::seal_environment`], for what an event holds that waits for its function.
    pub fn seal_event(&self, context: &str, content: &[u8]) -> Vec<u8> {
        self.events.seal(context, content)
    }

    /// As [`Iam::open_environment`], of what [`Iam::seal_event`] sealed.
    pub fn open_event(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.events.open(context, sealed)
    }

    /// A token that lets its bearer do one thing until it expires: a download link. `purpose` is not secret.
    pub fn sign_link(&self, purpose: &str, expires: Timestamp) -> String {
        URL_SAFE_NO_PAD.encode(self.link_mac(purpose, expires))
    }

    /// Whether `token` was made by [`Iam::sign_link`] for this purpose and has not expired.
    pub fn check_link(&self, purpose: &str, expires: Timestamp, token: &str) -> bool {
        let genuine = URL_SAFE_NO_PAD
            .decode(token)
            .is_ok_and(|given| bool::from(given.as_slice().ct_eq(&self.link_mac(purpose, expires))));
        genuine && self.verifier.clock.now() < expires
    }

    fn link_mac(&self, purpose: &str, expires: Timestamp) -> [u8; 32] {
        // The number comes first and has a fixed width, so that no two pairs give the same bytes.
        mac(self.link_key.as_slice(), &[&expires.as_millis().to_be_bytes(), purpose.as_bytes()])
    }
}

/// Makes the first account's role for functions, once in a database's life.
async fn make_default_role(store: &Store, account: &AccountId, now: Timestamp) -> Result<(), Error> {
    let role = default_role(account, now).map_err(|error| Error::Corrupt(error.to_string()))?;
    let document = serde_json::to_string(&role).map_err(|error| Error::Corrupt(error.to_string()))?;
    let account = account.to_string();
    let make = move |tx: &mut dyn store::Tx| {
        if tables::wants_default_role(tx)? {
            tables::put_role(tx, &account, &role.name, Some(&document))?;
            tables::made_default_role(tx)?;
        }
        Ok::<_, store::Error>(())
    };
    Ok(store.write(make).await?)
}

impl std::fmt::Debug for Iam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iam").field("account", self.first_account()).finish_non_exhaustive()
    }
}
