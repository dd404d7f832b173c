//! Reserved and provisioned concurrency. Reserving takes turns, so that two functions cannot both get the last
//! of what may be reserved.

use std::sync::Arc;

use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam::Caller;

use super::{key, not_found, permit};
use crate::Error;
use crate::claims::{check_provisioned, check_reserved};
use crate::concurrency::{Provisioned, ProvisionedStatus};
use crate::model::{AccountSettings, FunctionRef, LATEST, Page, ProvisionedView};
use crate::service::{Functions, Inner};
use crate::version::Function;

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

    /// Lambda API: PutProvisionedConcurrencyConfig, of a published version.
    pub async fn provision(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        instances: u32,
    ) -> Result<ProvisionedView, Error> {
        self.inner.permit(caller, "PutProvisionedConcurrencyConfig", function)?;
        if is_latest(function) {
            return Err(Error::Invalid(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.".into(),
            ));
        }
        let modified = self.inner.host.clock.now();
        let arn = self.inner.arn(function);
        let named = function.clone();
        self.change_concurrency(function.clone(), move |inner, old, new| {
            let number = inner.number(old, &named)?;
            new.concurrency.provision(number, instances, modified);
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
        let number = self.inner.number(&found, function)?;
        self.inner.provisioned_view(&found, number).ok_or(Error::ProvisionedNotFound)
    }

    /// Lambda API: DeleteProvisionedConcurrencyConfig; that there is none is no error.
    pub async fn unprovision(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        self.inner.permit(caller, "DeleteProvisionedConcurrencyConfig", function)?;
        must_be_published(function)?;
        let named = function.clone();
        self.change_concurrency(function.clone(), move |inner, old, new| {
            new.concurrency.unprovision(inner.number(old, &named)?);
            Ok(())
        })
        .await
    }

    /// Lambda API: ListProvisionedConcurrencyConfigs, in the order of versions.
    pub fn all_provisioned(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<ProvisionedView>, Error> {
        let function = self.inner.permit_change(caller, "ListProvisionedConcurrencyConfigs", function)?;
        let found = self.inner.function(&function)?;
        let after = marker.map(read_marker).transpose()?.unwrap_or(0);
        let mut numbers = found.concurrency.provisioned.range(after + 1..).map(|(number, _)| *number);
        let page: Vec<u64> = numbers.by_ref().take(max_items.max(1)).collect();
        let next_marker =
            numbers.next().and(page.last()).map(|last| URL_SAFE_NO_PAD.encode(last.to_string()));
        let view = |number: &u64| self.inner.provisioned_view(&found, *number);
        Ok(Page { items: page.iter().filter_map(view).collect(), next_marker })
    }

    /// Lambda API: GetAccountSettings.
    pub fn account_settings(&self, caller: &Caller) -> Result<AccountSettings, Error> {
        permit(caller, "GetAccountSettings", "*")?;
        let all = self.inner.registry.claims().of(&caller.account);
        let concurrency = self.inner.concurrency_limit();
        Ok(AccountSettings {
            functions: all.functions,
            code_bytes: all.code_bytes,
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

fn read_marker(marker: &str) -> Result<u64, Error> {
    let text = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let number = text.and_then(|text| text.parse().ok()).filter(|number| *number < u64::MAX);
    number.ok_or_else(|| Error::Invalid("The marker was not made by this listing.".into()))
}

impl Inner {
    /// The number of a published version that exists. There are no aliases, so every other name is one that is
    /// missing.
    fn number(&self, found: &Function, function: &FunctionRef) -> Result<u64, Error> {
        let name = function.qualifier.as_deref().unwrap_or(LATEST);
        match name.parse::<u64>() {
            Ok(number) if found.version(Some(name)).is_some() => Ok(number),
            Ok(_) => Err(not_found(&self.arn(function))),
            Err(_) => Err(Error::NotFound(format!("Cannot find alias arn: {}", self.arn(function)))),
        }
    }

    /// What a version has kept ready, and how far that is.
    fn provisioned_view(&self, function: &Function, number: u64) -> Option<ProvisionedView> {
        let requested = *function.concurrency.provisioned.get(&number)?;
        let modified = function.concurrency.provisioned_at.get(&number).copied();
        let version = function.published.get(&number);
        let target = version.and_then(|version| version.target.as_ref());
        // A version that cannot be called yet has no instances; one that was just asked for may not have begun.
        let told = target.map(|target| target.provisioned()).filter(|told| told.requested == requested);
        Some(ProvisionedView {
            arn: function.arn.qualified(&number.to_string()),
            provisioned: told.unwrap_or_else(|| nothing_yet(requested)),
            modified: modified.unwrap_or(Timestamp(0)),
        })
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
