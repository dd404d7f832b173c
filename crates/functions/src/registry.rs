//! Every function in memory: what look-ups on the invoke path read, without locks.
//!
//! Maps from keys to immutable snapshots. Writers replace a function whole, one at a time per function (the
//! service's locks see to that), after the database has it; a reader sees the old or the new one.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use base::{AccountId, FunctionArn, RequestId};
use parking_lot::RwLock;
use sandbox::{Contract, Speaks};

use crate::claims::Claims;
use crate::domains::{self, Domains, Owners};
use crate::layers::AttachedLayer;
use crate::model::{LATEST, UrlConfig};
use crate::permissions::Permissions;
use crate::service::Route;
use crate::version::{Function, Version};

/// Which function.
pub(crate) type Key = (AccountId, String);

/// The snapshot.
pub(crate) struct Registry {
    functions: papaya::HashMap<Key, Arc<Function>>,
    by_url: papaya::HashMap<String, Arc<Leads>>,
    by_name: papaya::HashMap<String, Arc<Leads>>,
    /// The policies of functions that have any: most servers have none, and a call then looks nothing up.
    permissions: papaya::HashMap<Key, Arc<Permissions>>,
    by_domain: papaya::HashMap<String, Arc<Leads>>,
    /// Whose host names are whose.
    pub(crate) domains: Owners,
    /// The same functions in name order, for listings alone.
    ordered: RwLock<BTreeMap<Key, Arc<Function>>>,
    claims: Claims,
    first_account: AccountId,
}

impl Registry {
    pub(crate) fn new(first_account: AccountId, open: Domains) -> Self {
        Self {
            functions: papaya::HashMap::new(),
            by_url: papaya::HashMap::new(),
            by_name: papaya::HashMap::new(),
            permissions: papaya::HashMap::new(),
            by_domain: papaya::HashMap::new(),
            domains: Owners::new(open),
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
        self.by_url.pin().get(id).map(|leads| leads.drawn())
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Route>> {
        self.by_name.pin().get(name).map(|leads| leads.drawn())
    }

    /// By a host name that its owner brought.
    pub(crate) fn by_domain(&self, host: &str) -> Option<Arc<Route>> {
        let by_domain = self.by_domain.pin();
        // Most servers have none, and every request to the API asks.
        if by_domain.is_empty() {
            None
        } else {
            by_domain.get(&domains::asked(host)).map(|leads| leads.drawn())
        }
    }

    /// What a function is reached by at its owner's host names.
    fn put_domains(
        &self,
        key: &Key,
        old: Option<&Function>,
        new: Option<&Function>,
        leads: Option<&Arc<Leads>>,
    ) {
        let names = |function: Option<&Function>| function.map(Function::domains).unwrap_or_default();
        let (mut old, mut new) = (names(old), names(new));
        // What its account may not have is in its tags only.
        old.retain(|name| self.domains.owns(key, name));
        new.retain(|name| self.domains.owns(key, name));
        let by_domain = self.by_domain.pin();
        for name in &new {
            match leads {
                Some(leads) => by_domain.insert(name.clone(), Arc::clone(leads)),
                None => by_domain.remove(name),
            };
        }
        let gone: Vec<_> = old.iter().filter(|name| !new.contains(name)).collect();
        for name in &gone {
            by_domain.remove(*name);
        }
        self.domains.give_back(key, gone);
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
        self.put_routes(key, old, new.map(|new| &**new));
    }

    /// Replaces where a function's URLs lead.
    fn put_routes(&self, key: &Key, old: Option<&Function>, new: Option<&Function>) {
        let named = key.0 == self.first_account;
        let (by_url, by_name) = (self.by_url.pin(), self.by_name.pin());
        for (qualifier, gone) in old.into_iter().flat_map(|old| &old.urls) {
            let now = new.and_then(|new| new.urls.get(qualifier));
            if now.is_none_or(|now| now.id != gone.id) {
                by_url.remove(gone.id.as_str());
            }
            if named && now.is_none() {
                by_name.remove(&path_name(&key.1, qualifier));
            }
        }
        let mut of_latest = None;
        for (qualifier, url) in new.into_iter().flat_map(|new| &new.urls) {
            let Some(leads) = new.and_then(|new| leads(new, qualifier, url)).map(Arc::new) else { continue };
            if named {
                by_name.insert(path_name(&key.1, qualifier), Arc::clone(&leads));
            }
            if qualifier == LATEST {
                of_latest = Some(Arc::clone(&leads));
            }
            by_url.insert(url.id.clone(), leads);
        }
        self.put_domains(key, old, new, of_latest.as_ref());
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

    /// The revision of every version, and of what its calls get meanwhile.
    pub(crate) fn revisions(&self) -> HashSet<String> {
        let all = self.all();
        let versions = all.iter().flat_map(|(_, function)| function.versions());
        let both = versions.flat_map(|version| [&version.configuration, version.served()]);
        both.map(|configuration| configuration.revision_id.clone()).collect()
    }

    /// The layers of every version that calls get and that has some.
    pub(crate) fn layers(&self) -> Vec<Vec<AttachedLayer>> {
        let all = self.all();
        let versions = all.iter().flat_map(|(_, function)| function.versions());
        let layers = versions.map(|version| version.served().layers.clone());
        layers.filter(|layers| !layers.is_empty()).collect()
    }
}

/// Where a URL leads: to one version, or to two by weight.
struct Leads {
    first: Arc<Route>,
    second: Option<(f64, Arc<Route>)>,
}

impl Leads {
    fn drawn(&self) -> Arc<Route> {
        match &self.second {
            Some((weight, route)) if RequestId::random().fraction() < *weight => Arc::clone(route),
            _ => Arc::clone(&self.first),
        }
    }
}

/// What a function is called in a URL by path: `NAME`, or `NAME:QUALIFIER`.
fn path_name(name: &str, qualifier: &str) -> String {
    if qualifier == LATEST { name.to_owned() } else { [name, ":", qualifier].concat() }
}

/// Where a function's URL of this qualifier leads.
fn leads(function: &Function, qualifier: &str, url: &Arc<UrlConfig>) -> Option<Leads> {
    let arn = match qualifier {
        LATEST => function.arn.clone(),
        other => function.arn.qualified(other),
    };
    let to = |version: &Version| Arc::new(route(arn.clone(), url, version));
    let other = function.aliases.get(qualifier).and_then(|alias| alias.additional.as_ref());
    let second = other.and_then(|other| Some((other.weight, to(function.version(Some(&other.version))?))));
    Some(Leads { first: to(function.version(Some(qualifier))?), second })
}

fn route(function: FunctionArn, url: &Arc<UrlConfig>, version: &Version) -> Route {
    let target = version.target.clone();
    let contract = version.served().settings.contract;
    let speaks = match (&target, contract) {
        (Some(target), _) => target.plan().prepared.speaks,
        (None, Contract::Http) => Speaks::Http,
        (None, Contract::Lambda | Contract::Wasi) => Speaks::Events,
    };
    Route { function, url: Arc::clone(url), speaks, contract, target }
}
