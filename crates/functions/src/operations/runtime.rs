//! PutRuntimeManagementConfig and GetRuntimeManagementConfig.

use std::sync::Arc;

use iam::Caller;

use super::{key, not_found, permit};
use crate::Error;
use crate::model::{FunctionRef, FunctionView, RuntimeManagement};
use crate::service::{Functions, Inner};
use crate::version::{Function, Version};

impl Functions {
    /// Lambda API: PutRuntimeManagementConfig: of `$LATEST` or of one version. Nothing is prepared anew for it.
    pub async fn manage_runtime(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        wanted: RuntimeManagement,
    ) -> Result<FunctionView, Error> {
        permit(caller, "PutRuntimeManagementConfig", &self.inner.arn(function).to_string())?;
        let (inner, function) = (Arc::clone(&self.inner), function.clone());
        self.detached(async move { inner.manage_runtime(&function, wanted).await }).await
    }

    /// Lambda API: GetRuntimeManagementConfig.
    pub fn managed_runtime(&self, caller: &Caller, function: &FunctionRef) -> Result<FunctionView, Error> {
        permit(caller, "GetRuntimeManagementConfig", &self.inner.arn(function).to_string())?;
        let (found, version) = self.inner.version(function)?;
        refuse_image(&version)?;
        Ok(found.view(&version, Some(&version.configuration.version)))
    }
}

impl Inner {
    async fn manage_runtime(
        self: &Arc<Self>,
        function: &FunctionRef,
        wanted: RuntimeManagement,
    ) -> Result<FunctionView, Error> {
        let key = key(function);
        let _lock = self.lock(&key).await;
        let old = self.function(function)?;
        let missing = || not_found(&self.arn(function));
        let version = old.version(function.qualifier.as_deref()).ok_or_else(missing)?;
        refuse_image(version)?;
        let mut new = (*old).clone();
        let changed = managed(version, wanted);
        let (number, unsettled) = (changed.configuration.version.clone(), changed.unsettled());
        new.replace(Arc::new(changed));
        let view = new.version(Some(&number)).map(|version| new.view(version, Some(&number)));
        self.commit(&key, Some(&old), Some(new)).await?;
        if unsettled {
            // What is being prepared is another by now.
            self.queue.push(key);
        }
        view.ok_or_else(missing)
    }
}

fn refuse_image(version: &Version) -> Result<(), Error> {
    match version.configuration.image {
        Some(_) => Err(Error::Invalid(
            "Runtime management is not supported for functions with PackageType Image.".into(),
        )),
        None => Ok(()),
    }
}

/// The version with another rule; calls of it go on as they are.
fn managed(version: &Version, wanted: RuntimeManagement) -> Version {
    let mut changed = version.clone();
    Arc::make_mut(&mut changed.configuration).runtime_management = wanted;
    changed
}

impl Function {
    /// Puts a version in the place of the one of its number.
    fn replace(&mut self, version: Arc<Version>) {
        match version.configuration.version.parse() {
            Ok(number) => drop(self.published.insert(number, version)),
            Err(_) => self.latest = version,
        }
    }
}
