//! The operations, by what they are about. Each checks its permission first, so that who may not see a function
//! learns nothing about it, then the request, then the function's state.

mod aliases;
mod asynchronous;
mod call;
mod concurrency;
mod create;
mod delete;
mod paging;
mod permissions;
mod publish;
mod read;
mod restore;
mod runtime;
mod tags;
mod update;
mod urls;

use std::borrow::Cow;
use std::sync::Arc;

use base::{AccountId, FunctionArn, RequestId};
use iam::policy::{Context, Resource};
use iam::{Caller, NotPassed};

use crate::Error;
use crate::claims::check_storage;
use crate::model::{Configuration, FunctionRef, LATEST, Reason, State, UpdateStatus};
use crate::permissions::ResourcePolicy;
use crate::pool::Target;
use crate::registry::Key;
use crate::service::Inner;
use crate::settings::Tags;
use crate::version::{Function, Version};

pub(crate) fn key(function: &FunctionRef) -> Key {
    (function.account.clone(), function.name.clone())
}

/// Whether the caller may do this, by the action's name without `lambda:`.
pub(crate) fn permit(caller: &Caller, action: &str, resource: &str) -> Result<(), Error> {
    let action = ["lambda:", action].concat();
    caller.check(&action, resource, None, &Context::default()).map_err(Error::Denied)
}

/// Tags that a request names.
pub(crate) enum Asked<'a> {
    /// To be set.
    Set(&'a Tags),
    /// To be taken away.
    Gone(&'a [String]),
}

impl Asked<'_> {
    /// What conditions may ask about them.
    fn context(&self) -> Context {
        let mut context = Context::default();
        let keys: Vec<String> = match self {
            Self::Set(tags) => {
                for (tag, value) in *tags {
                    context.set(&["aws:RequestTag/", tag].concat(), value);
                }
                tags.keys().cloned().collect()
            }
            Self::Gone(keys) => keys.to_vec(),
        };
        context.set_all("aws:TagKeys", keys);
        context
    }
}

/// The refusal of an action, by its name without `lambda:`.
pub(crate) fn denied(caller: &Caller, action: &str, resource: &str) -> Error {
    Error::Denied(format!(
        "User: {} is not authorized to perform: lambda:{action} on resource: {resource} because no resource-based \
         policy allows the lambda:{action} action",
        caller.arn()
    ))
}

impl Inner {
    /// Whether the caller may give a function this role, and the role lets Lambda take it on.
    fn check_role(&self, caller: &Caller, role_arn: &str) -> Result<(), Error> {
        self.host.iam.check_pass_role(caller, role_arn).map_err(|error| match error {
            NotPassed::Denied(text) => Error::Denied(text),
            NotPassed::NotAssumable => {
                Error::Invalid("The role defined for the function cannot be assumed by Lambda.".into())
            }
        })
    }
}

fn not_found(arn: &FunctionArn) -> Error {
    Error::FunctionNotFound(arn.to_string())
}

impl Inner {
    /// Whether the caller may do this with a function, by its own policies or by the function's. Says nothing of
    /// whether there is such a function.
    fn permit(&self, caller: &Caller, action: &str, function: &FunctionRef) -> Result<(), Error> {
        self.permit_tagging(caller, action, function, None)
    }

    /// The same of a request that names tags.
    fn permit_tagging(
        &self,
        caller: &Caller,
        action: &str,
        function: &FunctionRef,
        asked: Option<&Asked<'_>>,
    ) -> Result<(), Error> {
        let name = self.arn(function).to_string();
        let key = key(function);
        let all = self.registry.permissions(&key);
        let policy = all.as_ref().and_then(|all| all.of(function.qualifier.as_deref()));
        let more = || {
            let mut context = asked.map(Asked::context).unwrap_or_default();
            self.add_tags(&mut context, &key);
            Cow::Owned(context)
        };
        let action = ["lambda:", action].concat();
        // The function's own policy calls it by its own name.
        let latest = policy.is_some() && function.qualifier.as_deref() == Some(LATEST);
        let own = latest.then(|| self.arn(&FunctionRef { qualifier: None, ..function.clone() }).to_string());
        let own = own.as_deref().unwrap_or(&name);
        let policy = policy.map(|policy| Resource { policy: &policy.policy, name: own, required: false });
        caller.check_with(&action, &name, policy, more).map_err(Error::Denied)
    }

    /// What conditions may ask about a function's tags (Lambda: Attribute-based access control).
    fn add_tags(&self, context: &mut Context, key: &Key) {
        for (tag, value) in self.registry.get(key).iter().flat_map(|function| &function.tags) {
            context.set(&["aws:ResourceTag/", tag].concat(), value);
        }
    }

    /// A function that exists.
    pub(crate) fn function(&self, function: &FunctionRef) -> Result<Arc<Function>, Error> {
        self.registry.get(&key(function)).ok_or_else(|| not_found(&self.arn(function)))
    }

    /// A version that exists.
    fn version(&self, function: &FunctionRef) -> Result<(Arc<Function>, Arc<Version>), Error> {
        let found = self.function(function)?;
        let version = found.version(function.qualifier.as_deref()).map(Arc::clone);
        version.map(|version| (found, version)).ok_or_else(|| not_found(&self.arn(function)))
    }

    /// What the call of this id gets, if it can be called: an alias may lead to two versions.
    pub(crate) fn target(&self, function: &FunctionRef, id: RequestId) -> Result<Arc<Target>, Error> {
        let found = self.function(function)?;
        let version = found.drawn(function.qualifier.as_deref(), id);
        let version = version.ok_or_else(|| not_found(&self.arn(function)))?;
        version.target.as_ref().map(Arc::clone).ok_or_else(|| not_now(version.configuration.state))
    }

    /// Bytes of the packages of an account: of every version of its functions and of its layers.
    pub(crate) fn code_bytes(&self, account: &AccountId) -> u64 {
        self.registry.claims().of(account).code_bytes + self.shelf.code_bytes(account)
    }

    /// Whether the account may keep the packages that it has once `old` has become `new`.
    fn check_storage(&self, old: Option<&Function>, new: &Function) -> Result<(), Error> {
        let before = self.code_bytes(&new.arn.account);
        let replaced = old.map_or(0, |old| old.claim().code_bytes);
        let after = before.saturating_sub(replaced) + new.claim().code_bytes;
        check_storage(before, after, self.host.bounds.scaling.account_code_bytes)
    }

    /// Checks the permission for a change of a function as a whole and answers its unqualified reference.
    pub(crate) fn permit_change(
        &self,
        caller: &Caller,
        action: &str,
        function: &FunctionRef,
    ) -> Result<FunctionRef, Error> {
        self.permit(caller, action, function)?;
        whole(function)
    }
}

/// The unqualified reference of what is no version or alias.
fn whole(function: &FunctionRef) -> Result<FunctionRef, Error> {
    match function.qualifier.as_deref() {
        None | Some(LATEST) => Ok(FunctionRef { qualifier: None, ..function.clone() }),
        Some(_) => Err(Error::Invalid(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support it. Please \
             specify either a function name or an unqualified function ARN."
                .into(),
        )),
    }
}

fn not_now(state: State) -> Error {
    Error::NotReady(state_text(state))
}

fn state_text(state: State) -> String {
    format!(
        "The operation cannot be performed at this time. The function is currently in the following state: {state:?}"
    )
}

/// Whether `$LATEST` can be changed now (Lambda: function states).
fn check_changeable(function: &Function) -> Result<(), Error> {
    let configuration = &function.latest.configuration;
    if configuration.state == State::Pending {
        return Err(Error::Conflict(state_text(State::Pending)));
    }
    if configuration.update_status == UpdateStatus::InProgress {
        return Err(Error::Conflict(format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {}",
            function.arn
        )));
    }
    Ok(())
}

fn check_revision(function: &Function, revision: Option<&str>) -> Result<(), Error> {
    match revision {
        Some(revision) if revision != function.latest.configuration.revision_id => Err(stale_revision()),
        _ => Ok(()),
    }
}

fn check_policy_revision(policy: Option<&ResourcePolicy>, revision: Option<&str>) -> Result<(), Error> {
    match revision {
        Some(revision) if policy.is_none_or(|policy| policy.revision_id != revision) => {
            Err(Error::PreconditionFailed(
                "The RevisionId provided does not match the latest RevisionId. Call the GetPolicy API to retrieve the \
                 latest RevisionId for your resource."
                    .into(),
            ))
        }
        _ => Ok(()),
    }
}

fn stale_revision() -> Error {
    Error::PreconditionFailed(
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to \
         retrieve the latest Revision Id"
            .into(),
    )
}

pub(crate) fn new_revision() -> String {
    base::RequestId::random().to_string()
}

/// The configuration as it is while it waits to be prepared; `callable` if calls meanwhile get an older one.
fn waiting(mut configuration: Configuration, callable: bool) -> Configuration {
    let reason = |code: &str, text: &str| Some(Reason { code: code.into(), text: text.into() });
    configuration.update_status = UpdateStatus::InProgress;
    if callable {
        configuration.state = State::Active;
        configuration.state_reason = None;
        configuration.update_reason = reason("Creating", "The function is being updated.");
    } else {
        configuration.state = State::Pending;
        configuration.state_reason = reason("Creating", "The function is being created.");
        configuration.update_reason = reason("Creating", "The function is being created.");
    }
    configuration
}
