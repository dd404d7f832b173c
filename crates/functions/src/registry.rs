//! Every function in memory: what look-ups on the invoke path read, without locks.
//!
//! Maps from keys to immutable snapshots. Writers replace a function whole, one at a time per function (the
//! service's locks see to that), after the database has it; a reader sees the old or the new one.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use base::AccountId;
use parking_lot::RwLock;
use sandbox::{Contract, Speaks};

use crate::claims::Claims;
use crate::domains::{self, Owners};
use crate::layers::AttachedLayer;
use crate::permissions::Permissions;
use crate::service::Route;
use crate::version::Function;

/// Which function.
pub(crate) type Key = (AccountId, String);

/// The snapshot.
pub(crate) struct Registry {
    functions: papaya::HashMap<Key, Arc<Function>>,
    by_url: papaya::HashMap<String, Arc<Route>>,
    by_name: papaya::HashMap<String, Arc<Route>>,
    /// The policies of functions that have any: most servers have none, and a call then looks nothing up.
    permissions: papaya::HashMap<Key, Arc<Permissions>>,
    by_domain: papaya::HashMap<String, Arc<Route>>,
    /// Whose host names are whose.
    pub(crate) domains: Owners,
    /// The same functions in name order, for listings alone.
    ordered: RwLock<BTreeMap<Key, Arc<Function>>>,
    claims: Claims,
    first_account: AccountId,
}

impl Registry {
    pub(crate) fn new(first_account: AccountId) -> Self {
        Self {
            functions: papaya::HashMap::new(),
            by_url: papaya::HashMap::new(),
            by_name: papaya::HashMap::new(),
            permissions: papaya::HashMap::new(),
            by_domain: papaya::HashMap::new(),
            domains: Owners::default(),
            ordered: RwLock::default(),
            claims: Claims::default(),
            first_account,
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Function>> {
        self.functions.pin().get(key).cloned()
    }

    /// What is used and claimed, by account.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// A function's policies, if it has any.
    pub(crate) fn permissions(&self, key: &Key) -> Option<Arc<Permissions>> {
        let all = self.permissions.pin();
        if all.is_empty() { None } else { all.get(key).cloned() }
    }

    pub(crate) fn by_url(&self, id: &str) -> Option<Arc<Route>> {
        self.by_url.pin().get(id).cloned()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Route>> {
        self.by_name.pin().get(name).cloned()
    }

    /// By a host name that its owner brought.
    pub(crate) fn by_domain(&self, host: &str) -> Option<Arc<Route>> {
        let by_domain = self.by_domain.pin();
        // Most servers have none, and every request to the API asks.
        if by_domain.is_empty() { None } else { by_domain.get(&domains::asked(host)).cloned() }
    }

    /// What a function is reached by at its owner's host names.
    fn put_domains(&self, old: Option<&Function>, new: Option<&Function>, route: Option<&Arc<Route>>) {
        let names = |function: Option<&Function>| function.map(Function::domains).unwrap_or_default();
        let (old, new) = (names(old), names(new));
        let by_domain = self.by_domain.pin();
        for name in &new {
            match route {
                Some(route) => by_domain.insert(name.clone(), Arc::clone(route)),
                None => by_domain.remove(name),
            };
        }
        let gone: Vec<_> = old.iter().filter(|name| !new.contains(name)).collect();
        for name in &gone {
            by_domain.remove(*name);
        }
        self.domains.give_back(gone);
    }

    /// Replaces a function, or removes it.
    pub(crate) fn put(&self, key: &Key, old: Option<&Function>, new: Option<&Arc<Function>>) {
        match new {
            Some(new) => {
                self.functions.pin().insert(key.clone(), Arc::clone(new));
                self.ordered.write().insert(key.clone(), Arc::clone(new));
            }
            None => {
                self.functions.pin().remove(key);
                self.ordered.write().remove(key);
            }
        }
        match new.map(|new| &new.permissions).filter(|all| !all.is_empty()) {
            Some(all) => drop(self.permissions.pin().insert(key.clone(), Arc::new(all.clone()))),
            None => drop(self.permissions.pin().remove(key)),
        }
        let claim = |function: Option<&Function>| function.map(Function::claim).unwrap_or_default();
        self.claims.change(&key.0, claim(old), claim(new.map(|new| &**new)));
        let old_url = old.and_then(|old| old.url.as_ref());
        let route = new.and_then(|new| route(new)).map(Arc::new);
        if let Some(gone) = old_url.filter(|old| route.as_ref().is_none_or(|route| route.url.id != old.id)) {
            self.by_url.pin().remove(gone.id.as_str());
        }
        self.put_domains(old, new.map(|new| &**new), route.as_ref());
        let named = key.0 == self.first_account;
        match route {
            Some(route) => {
                if named {
                    self.by_name.pin().insert(key.1.clone(), Arc::clone(&route));
                }
                self.by_url.pin().insert(route.url.id.clone(), route);
            }
            None if named => {
                self.by_name.pin().remove(key.1.as_str());
            }
            None => {}
        }
    }

    /// Up to `limit` functions of an account whose names come after `after`.
    pub(crate) fn page(&self, account: &AccountId, after: Option<&str>, limit: usize) -> Vec<Arc<Function>> {
        let ordered = self.ordered.read();
        let start = match after {
            Some(name) => Bound::Excluded((account.clone(), name.to_owned())),
            None => Bound::Included((account.clone(), String::new())),
        };
        let own = ordered.range((start, Bound::Unbounded)).take_while(|((owner, _), _)| owner == account);
        own.take(limit).map(|(_, function)| Arc::clone(function)).collect()
    }

    /// Every function. At start and for tests.
    pub(crate) fn all(&self) -> Vec<(Key, Arc<Function>)> {
        self.ordered.read().iter().map(|(key, function)| (key.clone(), Arc::clone(function))).collect()
    }

    /// Every package, and every tree of layers, that some version needs.
    pub(crate) fn digests(&self) -> HashSet<String> {
        let all = self.all();
        let versions = all.iter().flat_map(|(_, function)| function.versions());
        versions.flat_map(|version| version.digests()).collect()
    }

    /// The layers of every version that calls get and that has some.
    pub(crate) fn layers(&self) -> Vec<Vec<AttachedLayer>> {
        let all = self.all();
        let versions = all.iter().flat_map(|(_, function)| function.versions());
        let layers = versions.map(|version| version.served().layers.clone());
        layers.filter(|layers| !layers.is_empty()).collect()
    }
}

/// Where a function's URL leads.
fn route(function: &Function) -> Option<Route> {
    let url = Arc::clone(function.url.as_ref()?);
    let target = function.latest.target.clone();
    let contract = function.latest.served().settings.contract;
    let speaks = match (&target, contract) {
        (Some(target), _) => target.plan().prepared.speaks,
        (None, Contract::Http) => Speaks::Http,
        (None, Contract::Lambda | Contract::Wasi) => Speaks::Events,
    };
    Some(Route { function: function.arn.clone(), url, speaks, contract, target })
}
