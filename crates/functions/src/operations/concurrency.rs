//! Reserved and provisioned concurrency. Reserving takes turns, so that two functions cannot both get the last
//! of what may be reserved.

use std::sync::Arc;

use base::Timestamp;
use iam::Caller;

use super::{key, not_found, paging, permit};
use crate::claims::{check_provisioned, check_reserved};
use crate::concurrency::{OnAlias, Provisioned, ProvisionedStatus};
use crate::model::{AccountSettings, FunctionRef, LATEST, Page, ProvisionedView};
use crate::provisioning::unpublished;
use crate::service::{Functions, Inner};
use crate::version::Function;
use crate::{Error, limits};

impl Functions {
    /// Lambda API: PutFunctionConcurrency. Nothing of a function that reserves 0 runs.
    pub async fn reserve(&self, caller: &Caller, function: &FunctionRef, calls: u32) -> Result<u32, Error> {
        let function = self.inner.permit_change(caller, "PutFunctionConcurrency", function)?;
        self.change_concurrency(function, move |inner, old, new| {
            new.concurrency.reserved = Some(calls);
            let (_, taken) = inner.taken(old, new);
            check_reserved(new, taken, inner.concurrency_limit())
        })
        .await?;
        Ok(calls)
    }

    /// Lambda API: GetFunctionConcurrency.
    pub fn reserved(&self, caller: &Caller, function: &FunctionRef) -> Result<Option<u32>, Error> {
        let function = self.inner.permit_change(caller, "GetFunctionConcurrency", function)?;
        Ok(self.inner.function(&function)?.concurrency.reserved)
    }

    /// Lambda API: DeleteFunctionConcurrency; that nothing is reserved is no error.
    pub async fn unreserve(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        let function = self.inner.permit_change(caller, "DeleteFunctionConcurrency", function)?;
        self.change_concurrency(function, |_, _, new| {
            new.concurrency.reserved = None;
            Ok(())
        })
        .await
    }

    /// Lambda API: PutProvisionedConcurrencyConfig, of a published version or of an alias.
    pub async fn provision(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        instances: u32,
    ) -> Result<ProvisionedView, Error> {
        self.inner.permit(caller, "PutProvisionedConcurrencyConfig", function)?;
        if is_latest(function) {
            return Err(unpublished());
        }
        let modified = self.inner.host.clock.now();
        let arn = self.inner.arn(function);
        let named = function.clone();
        self.change_concurrency(function.clone(), move |inner, old, new| {
            match inner.of(old, &named)? {
                Of::Version(number) if old.is_provisioned_by_alias(number) => {
                    let text = "Version is pointed by a Provisioned Concurrency alias";
                    return Err(Error::Conflict(text.into()));
                }
                Of::Version(number) => new.concurrency.provision(number, instances, modified),
                Of::Alias(name) => provision_alias(new, &name, OnAlias { instances, modified })?,
            }
            let (before, taken) = inner.taken(old, new);
            check_provisioned(new, before, taken, inner.concurrency_limit())
        })
        .await?;
        Ok(ProvisionedView { arn, provisioned: nothing_yet(instances), modified })
    }

    /// Lambda API: GetProvisionedConcurrencyConfig.
    pub fn provisioned(&self, caller: &Caller, function: &FunctionRef) -> Result<ProvisionedView, Error> {
        self.inner.permit(caller, "GetProvisionedConcurrencyConfig", function)?;
        must_be_published(function)?;
        let found = self.inner.function(function)?;
        let of = self.inner.of(&found, function)?;
        provisioned_view(&found, &of).ok_or(Error::ProvisionedNotFound)
    }

    /// Lambda API: DeleteProvisionedConcurrencyConfig; that there is none is no error.
    pub async fn unprovision(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        self.inner.permit(caller, "DeleteProvisionedConcurrencyConfig", function)?;
        must_be_published(function)?;
        let named = function.clone();
        self.change_concurrency(function.clone(), move |inner, old, new| {
            match inner.of(old, &named)? {
                Of::Version(number) => new.concurrency.unprovision(number),
                Of::Alias(name) => drop(new.concurrency.by_alias.remove(&name)),
            }
            Ok(())
        })
        .await
    }

    /// Lambda API: ListProvisionedConcurrencyConfigs: versions in their order, then aliases in that of their names.
    pub fn all_provisioned(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<ProvisionedView>, Error> {
        let function = self.inner.permit_change(caller, "ListProvisionedConcurrencyConfigs", function)?;
        let found = self.inner.function(&function)?;
        let after = marker.map(read_marker).transpose()?;
        let versions = found.concurrency.provisioned.keys().map(|number| Of::Version(*number));
        let aliases = found.concurrency.by_alias.keys().map(|name| Of::Alias(name.clone()));
        let rest = versions.chain(aliases).filter(|of| after.as_ref().is_none_or(|after| of > after));
        let mut rest = rest.collect::<Vec<_>>().into_iter();
        let page: Vec<Of> = rest.by_ref().take(max_items.max(1)).collect();
        let more = rest.next().and(page.last());
        let next_marker = more.map(|last| paging::write(&last.qualifier()));
        let items = page.iter().filter_map(|of| provisioned_view(&found, of)).collect();
        Ok(Page { items, next_marker })
    }

    /// Lambda API: GetAccountSettings.
    pub fn account_settings(&self, caller: &Caller) -> Result<AccountSettings, Error> {
        permit(caller, "GetAccountSettings", "*")?;
        let all = self.inner.registry.claims().of(&caller.account);
        let concurrency = self.inner.concurrency_limit();
        Ok(AccountSettings {
            functions: all.functions,
            code_bytes: self.inner.code_bytes(&caller.account),
            code_bytes_limit: self.inner.host.bounds.scaling.account_code_bytes,
            zipped_limit: limits::ZIPPED_BYTES as u64,
            unzipped_limit: limits::UNZIPPED_BYTES,
            concurrency,
            unreserved: concurrency.saturating_sub(all.reserved),
        })
    }

    /// Changes what is reserved and provisioned, one change at a time on this server.
    async fn change_concurrency(
        &self,
        function: FunctionRef,
        change: impl FnOnce(&Inner, &Function, &mut Function) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let _turn = inner.claiming.lock().await;
            let key = key(&function);
            let _lock = inner.lock(&key).await;
            let old = inner.function(&function)?;
            let mut new = (*old).clone();
            change(&inner, &old, &mut new)?;
            inner.commit(&key, Some(&old), Some(new)).await
        })
        .await
    }
}

fn nothing_yet(requested: u32) -> Provisioned {
    let status = ProvisionedStatus::InProgress;
    Provisioned { requested, allocated: 0, available: 0, status, reason: None }
}

fn is_latest(function: &FunctionRef) -> bool {
    matches!(function.qualifier.as_deref(), None | Some(LATEST))
}

fn must_be_published(function: &FunctionRef) -> Result<(), Error> {
    if is_latest(function) {
        let text = "The function resource provided must be an alias or a published version.";
        return Err(Error::Invalid(text.into()));
    }
    Ok(())
}

fn read_marker(marker: &str) -> Result<Of, Error> {
    let place = paging::read(marker)?;
    Ok(place.parse().map_or(Of::Alias(place), Of::Version))
}

/// What instances are kept ready of. Versions come first in listings.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Version(u64),
    Alias(String),
}

impl Of {
    fn qualifier(&self) -> String {
        match self {
            Self::Version(number) => number.to_string(),
            Self::Alias(name) => name.clone(),
        }
    }
}

fn provision_alias(function: &mut Function, name: &str, asked: OnAlias) -> Result<(), Error> {
    // Lambda: it cannot be managed while the routing configuration is in place.
    if function.aliases.get(name).is_some_and(|alias| alias.additional.is_some()) {
        let text =
            "Provisioned Concurrency Configs cannot be applied to an alias with a routing configuration.";
        return Err(Error::Invalid(text.into()));
    }
    function.concurrency.by_alias.insert(name.to_owned(), asked);
    function.check_provisioned_once()
}

/// What is kept ready of it, and how far that is.
fn provisioned_view(function: &Function, of: &Of) -> Option<ProvisionedView> {
    let (parts, modified) = match of {
        Of::Version(number) => {
            let requested = *function.concurrency.provisioned.get(number)?;
            let modified = function.concurrency.provisioned_at.get(number).copied();
            (vec![(*number, requested)], modified.unwrap_or(Timestamp(0)))
        }
        Of::Alias(name) => (function.parts(name), function.concurrency.by_alias.get(name)?.modified),
    };
    let told = parts.iter().map(|(number, requested)| version_provisioned(function, *number, *requested));
    let arn = function.arn.qualified(&of.qualifier());
    Some(ProvisionedView { arn, provisioned: told.reduce(together)?, modified })
}

fn version_provisioned(function: &Function, number: u64, requested: u32) -> Provisioned {
    let version = function.published.get(&number);
    let target = version.and_then(|version| version.target.as_ref());
    // A version that cannot be called yet has no instances; one that was just asked for may not have begun.
    let told = target.map(|target| target.provisioned()).filter(|told| told.requested == requested);
    told.unwrap_or_else(|| nothing_yet(requested))
}

/// What two versions of an alias have kept ready.
fn together(one: Provisioned, other: Provisioned) -> Provisioned {
    let status = match (one.status, other.status) {
        (ProvisionedStatus::Failed, _) | (_, ProvisionedStatus::Failed) => ProvisionedStatus::Failed,
        (ProvisionedStatus::Ready, ProvisionedStatus::Ready) => ProvisionedStatus::Ready,
        _ => ProvisionedStatus::InProgress,
    };
    Provisioned {
        requested: one.requested.saturating_add(other.requested),
        allocated: one.allocated.saturating_add(other.allocated),
        available: one.available.saturating_add(other.available),
        status,
        reason: one.reason.or(other.reason),
    }
}

impl Inner {
    /// The published version or the alias that a qualifier names, if it exists.
    fn of(&self, found: &Function, function: &FunctionRef) -> Result<Of, Error> {
        let name = function.qualifier.as_deref().unwrap_or(LATEST);
        match name.parse::<u64>() {
            Ok(number) if found.version(Some(name)).is_some() => Ok(Of::Version(number)),
            Ok(_) => Err(not_found(&self.arn(function))),
            Err(_) if found.aliases.contains_key(name) => Ok(Of::Alias(name.to_owned())),
            Err(_) => Err(Error::NotFound(format!("Cannot find alias arn: {}", self.arn(function)))),
        }
    }

    /// Calls at once that may be reserved and in flight in all.
    fn concurrency_limit(&self) -> u64 {
        u64::from(self.host.bounds.scaling.account_concurrency)
    }

    /// What is taken in the function's account now, and once it is as `new`.
    fn taken(&self, old: &Function, new: &Function) -> (u64, u64) {
        let taken = self.registry.claims().of(&old.arn.account).taken;
        let others = taken.saturating_sub(old.claim().taken);
        (others, others + new.claim().taken)
    }
}
