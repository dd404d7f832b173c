//! CreateAlias, GetAlias, UpdateAlias, DeleteAlias and ListAliases.

use std::sync::Arc;

use futures_util::future::join_all;
use iam::Caller;

use super::{key, new_revision, not_found, paging, stale_revision};
use crate::alias::{Alias, AliasView, CreateAlias, UpdateAlias, Weighted};
use crate::model::{FunctionRef, LATEST, Page};
use crate::pool::Target;
use crate::service::{Functions, Inner};
use crate::version::Function;
use crate::{Error, limits};

impl Functions {
    /// Lambda API: CreateAlias.
    pub async fn create_alias(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        args: CreateAlias,
    ) -> Result<AliasView, Error> {
        let function = self.inner.permit_change(caller, "CreateAlias", function)?;
        self.change_aliases(function, move |old, new| {
            let CreateAlias { name, version, description, additional } = args;
            if old.aliases.contains_key(&name) {
                return Err(Error::AlreadyExists(format!(
                    "Alias already exists: {}",
                    old.arn.qualified(&name)
                )));
            }
            if old.aliases.len() >= limits::ALIASES {
                return Err(Error::TooManyAliases(format!(
                    "A function can have at most {} aliases.",
                    limits::ALIASES
                )));
            }
            let additional = one(additional)?;
            let revision_id = new_revision();
            let alias = Alias { version, description, additional, revision_id, before: Vec::new() };
            put(new, &name, alias)
        })
        .await
    }

    /// Lambda API: GetAlias.
    pub fn alias(&self, caller: &Caller, function: &FunctionRef, name: &str) -> Result<AliasView, Error> {
        let function = self.inner.permit_change(caller, "GetAlias", function)?;
        let found = self.inner.function(&function)?;
        existing(&found, name).map(|alias| view(&found, name, alias))
    }

    /// Lambda API: UpdateAlias. Where the alias is in use, a version that has no instance gets its first before calls go
    /// to it.
    pub async fn update_alias(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        name: &str,
        args: UpdateAlias,
    ) -> Result<AliasView, Error> {
        let function = self.inner.permit_change(caller, "UpdateAlias", function)?;
        let found = self.inner.function(&function)?;
        let after = updated(&found, name, args.clone())?;
        self.inner.warm_alias(&found, existing(&found, name)?, &after).await;
        let name = name.to_owned();
        self.change_aliases(function, move |old, new| {
            let alias = updated(old, &name, args)?;
            put(new, &name, alias)
        })
        .await
    }

    /// Lambda API: DeleteAlias; that there is none is no error. Its URL and what it has kept ready go with it.
    pub async fn delete_alias(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        name: &str,
    ) -> Result<(), Error> {
        let function = self.inner.permit_change(caller, "DeleteAlias", function)?;
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        self.detached(async move {
            let key = key(&function);
            let _lock = inner.lock(&key).await;
            let old = inner.function(&function)?;
            let mut new = (*old).clone();
            if new.aliases.remove(&name).is_none() {
                return Ok(());
            }
            new.urls.remove(&name);
            new.concurrency.by_alias.remove(&name);
            new.events.configs.remove(&name);
            inner.commit(&key, Some(&old), Some(new)).await
        })
        .await
    }

    /// Lambda API: ListAliases, in the order of names; with `version`, those that lead to it.
    pub fn aliases(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        version: Option<&str>,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<AliasView>, Error> {
        let function = self.inner.permit_change(caller, "ListAliases", function)?;
        let found = self.inner.function(&function)?;
        let leads = |alias: &Alias| version.is_none_or(|wanted| alias.versions().any(|one| one == wanted));
        let all = found.aliases.iter().filter(|(_, alias)| leads(alias));
        let (page, next_marker) = paging::by_name(all, marker, max_items)?;
        let items = page.into_iter().map(|(name, alias)| view(&found, name, alias)).collect();
        Ok(Page { items, next_marker })
    }

    /// Changes aliases under the function's lock; the answer is the alias that `change` names.
    async fn change_aliases(
        &self,
        function: FunctionRef,
        change: impl FnOnce(&Function, &mut Function) -> Result<AliasView, Error> + Send + 'static,
    ) -> Result<AliasView, Error> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let key = key(&function);
            let _lock = inner.lock(&key).await;
            let old = inner.function(&function)?;
            let mut new = (*old).clone();
            let view = change(&old, &mut new)?;
            inner.commit(&key, Some(&old), Some(new)).await?;
            Ok(view)
        })
        .await
    }
}

fn existing<'a>(function: &'a Function, name: &str) -> Result<&'a Alias, Error> {
    let missing = || Error::NotFound(format!("Cannot find alias arn: {}", function.arn.qualified(name)));
    function.aliases.get(name).map(|alias| &**alias).ok_or_else(missing)
}

fn view(function: &Function, name: &str, alias: &Alias) -> AliasView {
    let mut alias = alias.clone();
    alias.before.retain(|version| function.version(Some(version)).is_some());
    AliasView { arn: function.arn.qualified(name), alias }
}

/// The alias as it is once these members were changed.
fn updated(function: &Function, name: &str, args: UpdateAlias) -> Result<Alias, Error> {
    let mut alias = existing(function, name)?.clone();
    if args.revision_id.is_some_and(|revision| revision != alias.revision_id) {
        return Err(stale_revision());
    }
    // What does not exist any more is no way back.
    alias.before.retain(|version| function.version(Some(version)).is_some());
    if let Some(version) = args.version {
        alias.lead_to(version);
    }
    alias.description = args.description.unwrap_or(alias.description);
    if let Some(additional) = args.additional {
        alias.additional = one(additional)?;
    }
    alias.revision_id = new_revision();
    check(function, &alias)?;
    Ok(alias)
}

fn one(mut additional: Vec<Weighted>) -> Result<Option<Weighted>, Error> {
    match additional.len() {
        0 | 1 => Ok(additional.pop()),
        _ => {
            Err(Error::Invalid("Number of items in AdditionalVersionWeights cannot be greater than 1".into()))
        }
    }
}

/// Gives the function the alias, if it may have it.
fn put(function: &mut Function, name: &str, alias: Alias) -> Result<AliasView, Error> {
    check(function, &alias)?;
    let view = view(function, name, &alias);
    function.aliases.insert(name.to_owned(), Arc::new(alias));
    function.check_provisioned_once()?;
    Ok(view)
}

/// The versions that an alias leads to exist, are two, and do not change by themselves.
fn check(function: &Function, alias: &Alias) -> Result<(), Error> {
    let exists = |version: &str| {
        let known = function.version(Some(version)).is_some();
        known.then_some(()).ok_or_else(|| not_found(&function.arn.qualified(version)))
    };
    exists(&alias.version)?;
    let Some(other) = &alias.additional else { return Ok(()) };
    if alias.version == LATEST {
        let text = "$LATEST is not supported for an alias pointing to more than 1 version";
        return Err(Error::Invalid(text.into()));
    }
    if other.version == alias.version {
        return Err(Error::Invalid(format!(
            "Invalid function version {version}. Function version {version} is already included in routing configuration.",
            version = other.version
        )));
    }
    exists(&other.version)
}

impl Inner {
    /// Has an instance up of what an alias is to lead to, where there is one of what it leads to now.
    async fn warm_alias(&self, function: &Function, before: &Alias, after: &Alias) {
        let targets = |alias: &Alias| -> Vec<Arc<Target>> {
            let versions = alias.versions().filter_map(|version| function.version(Some(version)));
            versions.filter_map(|version| version.target.clone()).collect()
        };
        if !targets(before).iter().any(|target| target.is_in_use()) {
            return;
        }
        let cold = targets(after).into_iter().filter(|target| !target.is_in_use());
        join_all(cold.map(|target| async move {
            target.warm(&self.host, limits::WARMED_WITHIN).await;
        }))
        .await;
    }
}
