//! AddPermission, RemovePermission, GetPolicy, and the newer operations on whole policies.

use std::sync::Arc;

use iam::Caller;

use super::{check_policy_revision, key, new_revision};
use crate::model::{FunctionRef, Grant, LATEST, PolicyView};
use crate::permissions::{ResourcePolicy, missing_statement, statement};
use crate::service::Functions;
use crate::{Error, permissions};

impl Functions {
    /// Lambda API: AddPermission. Answers the statement as JSON.
    pub async fn add_permission(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        grant: Grant,
    ) -> Result<String, Error> {
        self.inner.permit(caller, "AddPermission", function)?;
        check_qualifier(function)?;
        let added = statement(&grant, &self.inner.arn(function))?;
        let text = added.to_string();
        self.change_policy(function, grant.revision_id, move |before| {
            let changed = ResourcePolicy::with(before, added, new_revision());
            // What could not be read as a policy afterwards names nobody.
            changed.map(Some).map_err(|error| match error {
                Error::Invalid(_) => permissions::invalid_principal(),
                other => other,
            })
        })
        .await?;
        Ok(text)
    }

    /// Lambda API: RemovePermission.
    pub async fn remove_permission(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        statement_id: &str,
        revision_id: Option<String>,
    ) -> Result<(), Error> {
        self.inner.permit(caller, "RemovePermission", function)?;
        let id = statement_id.to_owned();
        self.change_policy(function, revision_id, move |before| {
            before.ok_or_else(|| missing_statement(&id))?.without(&id, new_revision())
        })
        .await
        .map(drop)
    }

    /// Lambda API: GetPolicy.
    pub fn policy(&self, caller: &Caller, function: &FunctionRef) -> Result<PolicyView, Error> {
        self.inner.permit(caller, "GetPolicy", function)?;
        let (found, _) = self.inner.version(function)?;
        let policy = found.permissions.of(function.qualifier.as_deref());
        policy.map(view).ok_or_else(no_policy)
    }

    /// Lambda API: PutResourcePolicy: the whole document at once.
    pub async fn put_policy(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        document: &str,
        revision_id: Option<String>,
    ) -> Result<PolicyView, Error> {
        self.inner.permit(caller, "PutResourcePolicy", function)?;
        check_qualifier(function)?;
        let document = serde_json::from_str(document)
            .map_err(|_| Error::Invalid("The policy is malformed: Syntax errors in policy.".into()))?;
        let new = ResourcePolicy::new(document, new_revision())?;
        let put = self.change_policy(function, revision_id, move |_| Ok(Some(new))).await?;
        put.as_ref().map(view).ok_or_else(no_policy)
    }

    /// Lambda API: DeleteResourcePolicy.
    pub async fn delete_policy(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        revision_id: Option<String>,
    ) -> Result<(), Error> {
        self.inner.permit(caller, "DeleteResourcePolicy", function)?;
        self.change_policy(function, revision_id, |before| before.map(|_| None).ok_or_else(no_policy))
            .await
            .map(drop)
    }

    /// Replaces the policy of what the reference names by what `change` makes of it.
    async fn change_policy(
        &self,
        function: &FunctionRef,
        revision_id: Option<String>,
        change: impl FnOnce(Option<&ResourcePolicy>) -> Result<Option<ResourcePolicy>, Error> + Send + 'static,
    ) -> Result<Option<ResourcePolicy>, Error> {
        let (inner, function) = (Arc::clone(&self.inner), function.clone());
        self.detached(async move {
            let key = key(&function);
            let _lock = inner.lock(&key).await;
            let (old, _) = inner.version(&function)?;
            let qualifier = function.qualifier.as_deref();
            let before = old.permissions.of(qualifier);
            check_policy_revision(before, revision_id.as_deref())?;
            let changed = change(before)?;
            let mut new = (*old).clone();
            new.permissions.set(qualifier, changed.clone());
            inner.commit(&key, Some(&old), Some(new)).await?;
            Ok(changed)
        })
        .await
    }
}

fn check_qualifier(function: &FunctionRef) -> Result<(), Error> {
    match function.qualifier.as_deref() {
        Some(LATEST) => {
            Err(Error::Invalid("We currently do not support adding policies for $LATEST.".into()))
        }
        _ => Ok(()),
    }
}

fn view(policy: &ResourcePolicy) -> PolicyView {
    PolicyView { document: policy.text(), revision_id: policy.revision_id.clone() }
}

fn no_policy() -> Error {
    Error::NotFound("The resource you requested does not exist.".into())
}
