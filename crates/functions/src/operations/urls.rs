//! Function URL configurations: one a function, of `$LATEST`.

use std::sync::Arc;

use base::{FunctionArn, InstanceId};
use iam::Caller;
use iam::policy::{self, Context, Decision, Policies, Policy, Question, Resource, Who};

use super::key;
use crate::Error;
use crate::model::{Cors, FunctionRef, InvokeMode, UrlAuth, UrlConfig, UrlView};
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
        let function = self.inner.permit_change(caller, "CreateFunctionUrlConfig", function)?;
        self.change_url(function, move |function, now| match &function.url {
            Some(_) => Err(Error::AlreadyExists(format!(
                "Failed to create function url config for [functionArn = {}]. Error message:  FunctionUrlConfig exists for \
                 this Lambda function",
                function.arn
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
        let function = self.inner.permit_change(caller, "UpdateFunctionUrlConfig", function)?;
        self.change_url(function, move |function, now| {
            let mut url = existing(function)?;
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
        let function = self.inner.permit_change(caller, "GetFunctionUrlConfig", function)?;
        let found = self.inner.function(&function)?;
        Ok(UrlView { function: found.arn.clone(), url: existing(&found)? })
    }

    /// Lambda API: DeleteFunctionUrlConfig.
    pub async fn delete_url(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        let function = self.inner.permit_change(caller, "DeleteFunctionUrlConfig", function)?;
        self.change_url(function, |function, _| existing(function).map(|_| None)).await.map(|_| ())
    }

    /// The target of `ID.lambda-url.…`.
    pub fn route_by_id(&self, id: &str) -> Option<Arc<Route>> {
        self.inner.registry.by_url(id)
    }

    /// The target of a host name that its owner brought, as a request says it.
    pub fn route_by_domain(&self, host: &str) -> Option<Arc<Route>> {
        self.inner.registry.by_domain(host)
    }

    /// The target of `/_fn/NAME/…`: a function of the first account with a URL configuration.
    pub fn route_by_name(&self, name: &str) -> Option<Arc<Route>> {
        self.inner.registry.by_name(name)
    }

    /// Whether this request may call a function by its URL: anybody by a public one that the function's policy does
    /// not deny, by any other who has the permission `lambda:InvokeFunctionUrl`.
    pub fn permit_url(&self, caller: Option<&Caller>, route: &Route) -> Result<(), Error> {
        let arn = &route.function;
        let all = self.inner.registry.permissions(&(arn.account.clone(), arn.name.clone()));
        let policy = all.as_ref().and_then(|all| all.of(arn.qualifier.as_deref()));
        match (caller, policy) {
            (None, None) => Ok(()),
            (None, Some(policy)) => permit_stranger(&policy.policy, arn),
            (Some(caller), policy) => {
                let name = arn.to_string();
                let context = Context::new([("lambda:FunctionUrlAuthType", "AWS_IAM")]);
                let policy = policy.map(|own| Resource { policy: &own.policy, name: &name, required: false });
                caller.check(INVOKE_URL, &name, policy, &context).map_err(Error::Denied)
            }
        }
    }

    /// Replaces the URL by what `change` makes of it; the answer is what there was or is.
    async fn change_url(
        &self,
        function: FunctionRef,
        change: impl FnOnce(&Function, base::Timestamp) -> Result<Option<UrlConfig>, Error> + Send + 'static,
    ) -> Result<UrlView, Error> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.change_url(&function, change).await }).await
    }
}

/// A public URL lets everybody in whom no statement keeps out.
fn permit_stranger(policy: &Policy, arn: &FunctionArn) -> Result<(), Error> {
    let (name, context) = (arn.to_string(), Context::new([("lambda:FunctionUrlAuthType", "NONE")]));
    let who = Who::Anonymous;
    let question =
        Question { who: &who, action: INVOKE_URL, resource: &name, owner: &arn.account, context: &context };
    let resource = Some(Resource { policy, name: &name, required: false });
    match policy::decide(&question, &Policies { resource, ..Policies::default() }) {
        Decision::Denied(_) => Err(Error::Denied(format!("{name} denies strangers"))),
        _ => Ok(()),
    }
}

fn existing(function: &Function) -> Result<UrlConfig, Error> {
    function
        .url
        .as_deref()
        .cloned()
        .ok_or_else(|| Error::NotFound("The resource you requested does not exist.".into()))
}

impl Inner {
    async fn change_url(
        self: &Arc<Self>,
        function: &FunctionRef,
        change: impl FnOnce(&Function, base::Timestamp) -> Result<Option<UrlConfig>, Error>,
    ) -> Result<UrlView, Error> {
        let key = key(function);
        let _lock = self.lock(&key).await;
        let old = self.function(function)?;
        let url = change(&old, self.host.clock.now())?;
        let mut new = (*old).clone();
        new.url = url.clone().map(Arc::new);
        let view = UrlView { function: old.arn.clone(), url: url.map_or_else(|| existing(&old), Ok)? };
        self.commit(&key, Some(&old), Some(new)).await?;
        Ok(view)
    }
}
