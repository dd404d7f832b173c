//! Function URL configurations: one each of `$LATEST`, of an alias and, beyond Lambda, of a version.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use base::{FunctionArn, InstanceId, Timestamp};
use iam::Caller;
use iam::policy::{self, Context, Decision, Policies, Policy, Question, Resource, Who};

use super::{key, paging};
use crate::Error;
use crate::model::{Cors, FunctionRef, InvokeMode, LATEST, Page, UrlAuth, UrlConfig, UrlView};
use crate::service::{Functions, Inner, Route};
use crate::version::Function;

/// What calling a URL is called.
const INVOKE_URL: &str = "lambda:InvokeFunctionUrl";

impl Functions {
    /// Lambda API: CreateFunctionUrlConfig.
    pub async fn create_url(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        auth: UrlAuth,
        cors: Option<Cors>,
        mode: InvokeMode,
    ) -> Result<UrlView, Error> {
        self.inner.permit(caller, "CreateFunctionUrlConfig", function)?;
        self.change_url(function.clone(), move |arn, before, now| match before {
            Some(_) => Err(Error::AlreadyExists(format!(
                "Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists \
                 for this Lambda function"
            ))),
            // Random as an instance's id is; no order, no name to guess.
            None => Ok(Some(UrlConfig {
                id: InstanceId::random().as_str().to_owned(),
                auth,
                cors,
                mode,
                created: now,
                modified: now,
            })),
        })
        .await
    }

    /// Lambda API: UpdateFunctionUrlConfig; `None` leaves a member as it is.
    pub async fn update_url(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        auth: Option<UrlAuth>,
        cors: Option<Cors>,
        mode: Option<InvokeMode>,
    ) -> Result<UrlView, Error> {
        self.inner.permit(caller, "UpdateFunctionUrlConfig", function)?;
        self.change_url(function.clone(), move |_, before, now| {
            let mut url = existing(before)?;
            url.auth = auth.unwrap_or(url.auth);
            url.cors = cors.or(url.cors);
            url.mode = mode.unwrap_or(url.mode);
            url.modified = now;
            Ok(Some(url))
        })
        .await
    }

    /// Lambda API: GetFunctionUrlConfig.
    pub fn url(&self, caller: &Caller, function: &FunctionRef) -> Result<UrlView, Error> {
        self.inner.permit(caller, "GetFunctionUrlConfig", function)?;
        let (found, _) = self.inner.version(function)?;
        let url = existing(found.urls.get(qualifier(function)).map(|url| &**url))?;
        Ok(UrlView { function: arn(&found, function), url })
    }

    /// Lambda API: ListFunctionUrlConfigs, of the function, its versions and aliases.
    pub fn urls(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<UrlView>, Error> {
        let function = self.inner.permit_change(caller, "ListFunctionUrlConfigs", function)?;
        let found = self.inner.function(&function)?;
        let (page, next_marker) = paging::by_name(found.urls.iter(), marker, max_items)?;
        let view = |(name, url): (&String, &Arc<UrlConfig>)| {
            let named = FunctionRef { qualifier: Some(name.clone()), ..function.clone() };
            UrlView { function: arn(&found, &named), url: (**url).clone() }
        };
        Ok(Page { items: page.into_iter().map(view).collect(), next_marker })
    }

    /// Lambda API: DeleteFunctionUrlConfig.
    pub async fn delete_url(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        self.inner.permit(caller, "DeleteFunctionUrlConfig", function)?;
        self.change_url(function.clone(), |_, before, _| existing(before).map(|_| None)).await.map(|_| ())
    }

    /// The target of `ID.lambda-url.…`.
    pub fn route_by_id(&self, id: &str) -> Option<Arc<Route>> {
        self.inner.registry.by_url(id)
    }

    /// The target of a host name that its owner brought, as a request says it.
    pub fn route_by_domain(&self, host: &str) -> Option<Arc<Route>> {
        self.inner.registry.by_domain(host)
    }

    /// The target of `/_fn/NAME/…` or `/_fn/NAME:QUALIFIER/…`: a function of the first account with a URL
    /// configuration.
    pub fn route_by_name(&self, name: &str) -> Option<Arc<Route>> {
        self.inner.registry.by_name(name)
    }

    /// Whether this request may call a function by its URL: anybody by a public one that the function's policy does
    /// not deny, by any other who has the permission `lambda:InvokeFunctionUrl`.
    pub fn permit_url(&self, caller: Option<&Caller>, address: IpAddr, route: &Route) -> Result<(), Error> {
        let arn = &route.function;
        let all = self.inner.registry.permissions(&(arn.account.clone(), arn.name.clone()));
        let policy = all.as_ref().and_then(|all| all.of(arn.qualifier.as_deref()));
        match (caller, policy) {
            (None, None) => Ok(()),
            (None, Some(policy)) => permit_stranger(&policy.policy, address, arn),
            (Some(caller), policy) => {
                let name = arn.to_string();
                let policy = policy.map(|own| Resource { policy: &own.policy, name: &name, required: false });
                let more = || {
                    let mut context = Context::new([("lambda:FunctionUrlAuthType", "AWS_IAM")]);
                    self.inner.add_tags(&mut context, &(arn.account.clone(), arn.name.clone()));
                    Cow::Owned(context)
                };
                caller.check_with(INVOKE_URL, &name, policy, more).map_err(Error::Denied)
            }
        }
    }

    /// Replaces the URL by what `change` makes of it; the answer is what there was or is.
    async fn change_url(
        &self,
        function: FunctionRef,
        change: impl Change + Send + 'static,
    ) -> Result<UrlView, Error> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.change_url(&function, change).await }).await
    }
}

/// A public URL lets everybody in whom no statement keeps out.
fn permit_stranger(policy: &Policy, address: IpAddr, arn: &FunctionArn) -> Result<(), Error> {
    let (name, address) = (arn.to_string(), address.to_canonical().to_string());
    let context = Context::new([("lambda:FunctionUrlAuthType", "NONE"), ("aws:SourceIp", address.as_str())]);
    let who = Who::Anonymous;
    let question =
        Question { who: &who, action: INVOKE_URL, resource: &name, owner: &arn.account, context: &context };
    let resource = Some(Resource { policy, name: &name, required: false });
    match policy::decide(&question, &Policies { resource, ..Policies::default() }) {
        Decision::Denied(_) => Err(Error::Denied(format!("{name} denies strangers"))),
        _ => Ok(()),
    }
}

/// What becomes of a URL, by the ARN that it is of, what it is and what time it is.
trait Change: FnOnce(&FunctionArn, Option<&UrlConfig>, Timestamp) -> Result<Option<UrlConfig>, Error> {}

impl<T> Change for T where
    T: FnOnce(&FunctionArn, Option<&UrlConfig>, Timestamp) -> Result<Option<UrlConfig>, Error>
{
}

fn existing(url: Option<&UrlConfig>) -> Result<UrlConfig, Error> {
    url.cloned().ok_or_else(|| Error::NotFound("The resource you requested does not exist.".into()))
}

fn qualifier(function: &FunctionRef) -> &str {
    function.qualifier.as_deref().unwrap_or(LATEST)
}

/// The function's ARN, with the qualifier that the URL is of; `$LATEST` is said by none.
fn arn(found: &Function, function: &FunctionRef) -> FunctionArn {
    match qualifier(function) {
        LATEST => found.arn.clone(),
        other => found.arn.qualified(other),
    }
}

impl Inner {
    async fn change_url(
        self: &Arc<Self>,
        function: &FunctionRef,
        change: impl Change,
    ) -> Result<UrlView, Error> {
        let key = key(function);
        let _lock = self.lock(&key).await;
        let (old, _) = self.version(function)?;
        let (arn, qualifier) = (arn(&old, function), qualifier(function));
        let before = old.urls.get(qualifier).map(|url| &**url);
        let after = change(&arn, before, self.host.clock.now())?;
        let mut new = (*old).clone();
        match &after {
            Some(url) => drop(new.urls.insert(qualifier.to_owned(), Arc::new(url.clone()))),
            None => drop(new.urls.remove(qualifier)),
        }
        let view = UrlView { function: arn, url: after.map_or_else(|| existing(before), Ok)? };
        self.commit(&key, Some(&old), Some(new)).await?;
        Ok(view)
    }
}
