//! Configurations, profiles and revocations in memory. Not on the way of a call.

use std::collections::BTreeMap;
use std::ops::Bound;

use base::AccountId;
use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::model::{CodeSigningConfig, Profile, Revocation};
use super::tables::{self, Kind, Row};
use crate::Error;

/// Account, and a name in it.
pub(super) type Key = (AccountId, String);

/// Documents of one kind.
pub(super) struct Shelf<T> {
    kind: Kind,
    all: RwLock<BTreeMap<Key, T>>,
}

/// The snapshot. Changes are made one at a time, under `changing`, after the database has them.
pub(crate) struct Book {
    pub(super) configs: Shelf<CodeSigningConfig>,
    pub(super) profiles: Shelf<Profile>,
    /// Signatures that were revoked one by one, by their job's id.
    pub(super) revocations: Shelf<Revocation>,
    /// Held while any of it changes, and while a function is given a configuration. Taken before a function's lock.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            configs: Shelf::new(Kind::Config),
            profiles: Shelf::new(Kind::Profile),
            revocations: Shelf::new(Kind::Revocation),
            changing: tokio::sync::Mutex::default(),
        }
    }
}

impl Book {
    /// Fills an empty one with what the tables hold.
    pub(crate) async fn load(&self, store: &store::Store) -> Result<(), Error> {
        self.configs.load(store).await?;
        self.profiles.load(store).await?;
        self.revocations.load(store).await
    }
}

impl<T: Clone + Serialize + DeserializeOwned> Shelf<T> {
    fn new(kind: Kind) -> Self {
        Self { kind, all: RwLock::default() }
    }

    async fn load(&self, store: &store::Store) -> Result<(), Error> {
        let kind = self.kind;
        let rows: Vec<Row> = store.read(move |tx| tables::load(tx, kind).map_err(Error::from)).await?;
        let mut all = self.all.write();
        for (account, name, document) in rows {
            let owner = AccountId::parse(&account)
                .ok_or_else(|| Error::internal(format!("the owner {account} of {name} is no account")))?;
            all.insert((owner, name), serde_json::from_str(&document).map_err(Error::internal)?);
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &Key) -> Option<T> {
        self.all.read().get(key).cloned()
    }

    pub(super) fn count(&self, account: &AccountId) -> usize {
        self.all.read().keys().filter(|(owner, _)| owner == account).count()
    }

    /// Makes it durable, then visible; `None` removes it. Under `changing`.
    pub(super) async fn put(&self, store: &store::Store, key: &Key, new: Option<T>) -> Result<(), Error> {
        let document = new.as_ref().map(serde_json::to_string).transpose().map_err(Error::internal)?;
        let (kind, account, name) = (self.kind, key.0.to_string(), key.1.clone());
        let write = move |tx: &mut dyn store::Tx| {
            tables::put(tx, kind, &account, &name, document.as_deref()).map_err(Error::from)
        };
        store.write(write).await?;
        match new {
            Some(new) => drop(self.all.write().insert(key.clone(), new)),
            None => drop(self.all.write().remove(key)),
        }
        Ok(())
    }

    /// An account's in the order of their names, after a name; those that `pick` takes, at most so many.
    pub(super) fn page<U>(
        &self,
        account: &AccountId,
        after: Option<&str>,
        limit: usize,
        pick: impl Fn(&str, &T) -> Option<U>,
    ) -> Vec<(String, U)> {
        let all = self.all.read();
        let start = match after {
            Some(name) => Bound::Excluded((account.clone(), name.to_owned())),
            None => Bound::Included((account.clone(), String::new())),
        };
        let own = all.range((start, Bound::Unbounded)).take_while(|((owner, _), _)| owner == account);
        own.filter_map(|((_, name), one)| Some((name.clone(), pick(name, one)?))).take(limit).collect()
    }
}
