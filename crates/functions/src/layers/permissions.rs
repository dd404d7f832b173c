//! AddLayerVersionPermission, GetLayerVersionPolicy, RemoveLayerVersionPermission, and who may use a version.

use std::sync::Arc;

use base::LayerArn;
use iam::Caller;

use super::model::{LayerPermission, LayerVersion};
use super::operations::key;
use super::policy::PolicyView;
use super::{not_found, number};
use crate::Error;
use crate::operations::{denied, new_revision, permit};
use crate::service::{Functions, Inner};

impl Functions {
    /// Lambda API: AddLayerVersionPermission; the statement that was added.
    pub async fn permit_layer_version(
        &self,
        caller: &Caller,
        arn: &LayerArn,
        args: LayerPermission,
    ) -> Result<PolicyView, Error> {
        permit(caller, "AddLayerVersionPermission", &arn.to_string())?;
        let (inner, arn) = (Arc::clone(&self.inner), arn.clone());
        self.detached(async move {
            inner.change_policy(&arn, |version| version.policy.add(&arn, args, new_revision())).await
        })
        .await
    }

    /// Lambda API: GetLayerVersionPolicy.
    pub fn layer_policy(&self, caller: &Caller, arn: &LayerArn) -> Result<PolicyView, Error> {
        permit(caller, "GetLayerVersionPolicy", &arn.to_string())?;
        number(arn)?;
        let version = self.inner.shelf.get(arn).ok_or_else(not_found)?;
        let none = || Error::NotFound("No policy is associated with the given resource.".into());
        version.policy.view(arn).ok_or_else(none)
    }

    /// Lambda API: RemoveLayerVersionPermission.
    pub async fn forbid_layer_version(
        &self,
        caller: &Caller,
        arn: &LayerArn,
        statement: &str,
        revision: Option<&str>,
    ) -> Result<(), Error> {
        permit(caller, "RemoveLayerVersionPermission", &arn.to_string())?;
        let (inner, arn) = (Arc::clone(&self.inner), arn.clone());
        let (statement, revision) = (statement.to_owned(), revision.map(str::to_owned));
        self.detached(async move {
            let change = |version: &mut LayerVersion| {
                version.policy.remove(&statement, revision.as_deref(), new_revision())
            };
            inner.change_policy(&arn, change).await
        })
        .await
    }
}

impl Inner {
    /// Whether the caller may do this with a layer version: its own account's by what the caller may at all, another's
    /// by the version's policy. Where there is no such version a stranger learns nothing else.
    pub(super) fn permit_layer(&self, caller: &Caller, action: &str, arn: &LayerArn) -> Result<(), Error> {
        if caller.account == arn.account {
            return permit(caller, action, &arn.to_string());
        }
        // What the caller may at all, had it such a layer itself.
        let own = LayerArn { account: caller.account.clone(), ..arn.clone() };
        permit(caller, action, &own.to_string())?;
        let allowed = self.shelf.with(arn, |version| version.policy.allows(&caller.account));
        if allowed == Some(true) { Ok(()) } else { Err(denied(caller, action, &arn.to_string())) }
    }

    async fn change_policy<T>(
        &self,
        arn: &LayerArn,
        change: impl FnOnce(&mut LayerVersion) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let number = number(arn)?;
        let _changing = self.shelf.changing.lock().await;
        let mut version = (*self.shelf.get(arn).ok_or_else(not_found)?).clone();
        let done = change(&mut version)?;
        self.write_layer(arn, &version).await?;
        self.shelf.put(&key(arn), number, Arc::new(version));
        Ok(done)
    }
}
