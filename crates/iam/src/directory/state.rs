//! All roles and policies in memory, and how they change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::{AccountId, Clock, Timestamp};
use parking_lot::RwLock;
use store::{Store, Tx};

use super::{Error, ManagedPolicy, Role, aws_managed};
use crate::policy::Policy;
use crate::tables;

/// Whose, and its name.
type Key = (AccountId, String);

/// The snapshot and the way to change it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    memory: RwLock<Memory>,
    /// Held while something changes.
    changing: tokio::sync::Mutex<()>,
}

/// What there is.
#[derive(Default, Clone)]
pub(super) struct Memory {
    pub(super) roles: BTreeMap<Key, Arc<Role>>,
    /// By account and ARN.
    pub(super) policies: BTreeMap<Key, Arc<ManagedPolicy>>,
}

/// What one change writes.
pub(super) enum Change {
    Role(Key, Option<Box<Role>>),
    Policy(Key, Option<Box<ManagedPolicy>>),
}

impl Memory {
    /// A policy that an account's roles can have attached: its own or AWS's.
    pub(super) fn policy<'a>(&'a self, account: &AccountId, arn: &str) -> Option<&'a ManagedPolicy> {
        aws_managed::find(arn)
            .or_else(|| self.policies.get(&(account.clone(), arn.to_owned())).map(|policy| &**policy))
    }

    /// How many roles have a policy attached, and how many have it as their boundary.
    pub(super) fn uses(&self, account: &AccountId, arn: &str) -> (usize, usize) {
        let own = || self.roles.values().filter(|role| role.account == *account);
        let attached = own().filter(|role| role.attached.contains(arn)).count();
        (attached, own().filter(|role| role.boundary.as_deref() == Some(arn)).count())
    }
}

impl Memory {
    /// The same of all policies that are used at all, by ARN.
    pub(super) fn all_uses(&self, account: &AccountId) -> HashMap<&str, (usize, usize)> {
        let mut uses: HashMap<&str, (usize, usize)> = HashMap::new();
        for role in self.roles.values().filter(|role| role.account == *account) {
            role.attached.iter().for_each(|arn| uses.entry(arn).or_default().0 += 1);
            role.boundary.iter().for_each(|arn| uses.entry(arn).or_default().1 += 1);
        }
        uses
    }
}

impl Directory {
    /// Reads everything.
    pub(crate) async fn open(store: Store, clock: Arc<dyn Clock>) -> Result<Self, crate::Error> {
        let (roles, policies) =
            store.read(|tx| Ok::<_, store::Error>((tables::roles(tx)?, tables::policies(tx)?))).await?;
        let corrupt = |what: String| crate::Error::Corrupt(what);
        let owner = |text: &str| {
            AccountId::parse(text).ok_or_else(|| corrupt(format!("the owner {text} is no account")))
        };
        let mut memory = Memory::default();
        for (account, name, document) in roles {
            let role: Role = serde_json::from_str(&document)
                .map_err(|error| corrupt(format!("the role {name} cannot be read: {error}")))?;
            memory.roles.insert((owner(&account)?, name), Arc::new(role));
        }
        for (account, arn, document) in policies {
            let policy: ManagedPolicy = serde_json::from_str(&document)
                .map_err(|error| corrupt(format!("the policy {arn} cannot be read: {error}")))?;
            memory.policies.insert((owner(&account)?, arn), Arc::new(policy));
        }
        let (memory, changing) = (RwLock::new(memory), tokio::sync::Mutex::default());
        Ok(Self { inner: Arc::new(Inner { store, clock, memory, changing }) })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Looks at everything, briefly.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        look(&self.inner.memory.read())
    }

    /// The role of this name.
    pub(crate) fn role(&self, account: &AccountId, name: &str) -> Option<Arc<Role>> {
        self.look(|memory| memory.roles.get(&(account.clone(), name.to_owned())).cloned())
    }

    /// What a role may: its own policies, those attached to it, and its boundary. A boundary that is gone allows
    /// nothing.
    pub(crate) fn grants(&self, role: &Role) -> (Vec<Arc<Policy>>, Option<Arc<Policy>>) {
        self.look(|memory| {
            let attached = role.attached.iter().filter_map(|arn| memory.policy(&role.account, arn));
            let own = role.inline.values().map(|document| Arc::clone(document.policy()));
            let all = own.chain(attached.map(|policy| Arc::clone(policy.document().policy()))).collect();
            let boundary = role.boundary.as_deref().map(|arn| match memory.policy(&role.account, arn) {
                Some(policy) => Arc::clone(policy.document().policy()),
                None => Arc::new(Policy::nothing()),
            });
            (all, boundary)
        })
    }

    /// Makes a change: `change` looks at what there is and says what is written and what is answered.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Memory) -> Result<(Change, T), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move {
            let _turn = inner.changing.lock().await;
            let (change, answer) = change(&inner.memory.read())?;
            inner.commit(change).await?;
            Ok(answer)
        });
        task.await.map_err(|error| Error::Internal(Box::new(error)))?
    }
}

impl Inner {
    async fn commit(&self, change: Change) -> Result<(), Error> {
        let (put, (account, name), text): (Put, &Key, _) = match &change {
            Change::Role(key, role) => (tables::put_role, key, row(role.as_deref())?),
            Change::Policy(key, policy) => (tables::put_policy, key, row(policy.as_deref())?),
        };
        let (account, name) = (account.to_string(), name.clone());
        let write = move |tx: &mut dyn Tx| put(tx, &account, &name, text.as_deref());
        self.store.write(move |tx| write(tx).map_err(Error::from)).await?;
        let mut memory = self.memory.write();
        match change {
            Change::Role(key, Some(role)) => drop(memory.roles.insert(key, Arc::new(*role))),
            Change::Role(key, None) => drop(memory.roles.remove(&key)),
            Change::Policy(key, Some(policy)) => drop(memory.policies.insert(key, Arc::new(*policy))),
            Change::Policy(key, None) => drop(memory.policies.remove(&key)),
        }
        Ok(())
    }
}

/// Writes a row, or removes it: account, name, document.
type Put = fn(&mut dyn Tx, &str, &str, Option<&str>) -> Result<(), store::Error>;

fn row(noun: Option<&impl serde::Serialize>) -> Result<Option<String>, Error> {
    noun.map(serde_json::to_string).transpose().map_err(|error| Error::Internal(Box::new(error)))
}
