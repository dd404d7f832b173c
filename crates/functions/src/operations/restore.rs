//! Bringing `$LATEST` back to what a published version is: Virga's own, since Lambda has no operation for it.
//!
//! All of a version's configuration comes back in one change: code, settings, layers, image, and the `virga:` tags that
//! were in force when it was published. What belongs to the function as a whole stays: other tags, policies,
//! concurrency, URLs. It is a deployment like any other, so signatures are checked.

use std::sync::Arc;

use iam::Caller;

use super::{check_changeable, check_revision, key, not_found};
use crate::model::{Configuration, FunctionRef, LATEST, Restored};
use crate::service::{Functions, Inner};
use crate::version::{Function, Version};
use crate::{Error, settings};

impl Functions {
    /// Brings back a published version; without a number, the one before what `$LATEST` is like now.
    pub async fn restore(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        number: Option<String>,
        revision_id: Option<String>,
    ) -> Result<Restored, Error> {
        let function = self.inner.permit_change(caller, "UpdateFunctionConfiguration", function)?;
        self.inner.permit(caller, "UpdateFunctionCode", &function)?;
        let (inner, caller) = (Arc::clone(&self.inner), caller.clone());
        self.detached(async move {
            let key = key(&function);
            let _lock = inner.lock(&key).await;
            let old = inner.function(&function)?;
            check_changeable(&old)?;
            check_revision(&old, revision_id.as_deref())?;
            let chosen = chosen(&inner, &old, number.as_deref())?;
            let new = inner.restored(&caller, &function, &old, &chosen).await?;
            let (view, to) = (new.view(&new.latest, None), chosen.configuration.version.clone());
            let from = old.published.values().rev().find(|version| is_like_latest(&old, version));
            let from = from.map(|version| version.configuration.version.clone());
            inner.commit(&key, Some(&old), Some(new)).await?;
            inner.queue.push(key);
            Ok(Restored { view, from, to })
        })
        .await
    }
}

impl Inner {
    async fn restored(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        old: &Function,
        version: &Version,
    ) -> Result<Function, Error> {
        let mut back = (*version.configuration).clone();
        if back.role != old.latest.configuration.role {
            self.check_role(caller, &back.role)?;
        }
        let mut new = old.clone();
        if let Some(tags) = &back.setting_tags
            && *tags != settings::of_settings(&old.tags)
        {
            self.permit(caller, "TagResource", function)?;
            new.tags.retain(|key, _| !settings::is_setting(key));
            new.tags.extend(tags.clone());
            settings::check_tags(&new.tags)?;
        }
        if back.image.is_none() && old.code_signing.is_some() {
            self.code.restore(&back.code.digest).await?;
            self.check_signatures(old.code_signing.as_deref(), &mut back).await?;
        }
        let description = version.source_description.clone().unwrap_or_else(|| back.description.clone());
        self.change_latest(&mut new, |latest| {
            let runtime_management = latest.runtime_management.clone();
            *latest = Configuration { version: LATEST.to_owned(), description, runtime_management, ..back };
        })
        .await?;
        self.check_storage(Some(old), &new)?;
        Ok(new)
    }
}

fn is_like_latest(function: &Function, version: &Version) -> bool {
    version.was_published_from(&function.latest.configuration)
}

/// The version that is meant: one that could be called.
fn chosen(inner: &Inner, function: &Function, number: Option<&str>) -> Result<Arc<Version>, Error> {
    let Some(number) = number else {
        return before(function).ok_or_else(|| {
            Error::NotFound(format!("{} has no published version to go back to.", function.arn))
        });
    };
    let named = FunctionRef {
        account: function.arn.account.clone(),
        name: function.arn.name.clone(),
        qualifier: Some(number.to_owned()),
    };
    let found = number.parse().ok().and_then(|number: u64| function.published.get(&number));
    let found = found.ok_or_else(|| not_found(&inner.arn(&named)))?;
    match &found.target {
        Some(_) => Ok(Arc::clone(found)),
        None => Err(super::not_now(found.configuration.state)),
    }
}

/// The newest version that could be called and is before what `$LATEST` is like; where it is like none, the newest: what was
/// changed and not published is given up.
fn before(function: &Function) -> Option<Arc<Version>> {
    let like = function.published.iter().rev().find(|(_, version)| is_like_latest(function, version));
    let below = like.map_or(u64::MAX, |(number, _)| *number);
    let older = function.published.range(..below).rev().map(|(_, version)| version);
    let mut other = older.filter(|version| version.target.is_some() && !is_like_latest(function, version));
    other.next().map(Arc::clone)
}
