//! UpdateFunctionCode and UpdateFunctionConfiguration.

use std::sync::Arc;

use iam::Caller;

use super::{check_changeable, check_revision, key, new_revision, waiting};
use crate::model::{CodeRef, Configuration, FunctionRef, FunctionView, UpdateCode, UpdateConfiguration};
use crate::service::{Functions, Inner};
use crate::settings::Tags;
use crate::version::{Function, Version};
use crate::{Error, settings, validate};

impl Functions {
    /// Lambda API: UpdateFunctionCode.
    pub async fn update_code(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        args: UpdateCode,
    ) -> Result<FunctionView, Error> {
        let function = self.inner.permit_change(caller, "UpdateFunctionCode", function)?;
        let old = self.inner.function(&function)?;
        check_changeable(&old)?;
        check_revision(&old, args.revision_id.as_deref())?;
        let turn = self.inner.code.turn().await?;
        if args.dry_run {
            let code = self.inner.code.check(turn, args.code).await?;
            let mut view = old.view(&old.latest, None);
            view.configuration.code = code;
            return Ok(view);
        }
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let pin = inner.code.take_in(turn, args.code.clone()).await?;
            let updated = inner.update_code(&function, &args, pin.code.clone()).await;
            pin.let_go().await;
            updated
        })
        .await
    }

    /// Lambda API: UpdateFunctionConfiguration.
    pub async fn update_configuration(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        args: UpdateConfiguration,
    ) -> Result<FunctionView, Error> {
        let function = self.inner.permit_change(caller, "UpdateFunctionConfiguration", function)?;
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let key = key(&function);
            let _lock = inner.lock(&key).await;
            let old = inner.function(&function)?;
            check_changeable(&old)?;
            check_revision(&old, args.revision_id.as_deref())?;
            let mut new = (*old).clone();
            inner.change_latest(&mut new, |configuration| apply(configuration, args)).await?;
            let view = new.view(&new.latest, None);
            inner.commit(&key, Some(&old), Some(new)).await?;
            inner.queue.push(key);
            Ok(view)
        })
        .await
    }
}

fn apply(configuration: &mut Configuration, args: UpdateConfiguration) {
    fn set<T>(member: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *member = value;
        }
    }
    set(&mut configuration.description, args.description);
    set(&mut configuration.role, args.role);
    set(&mut configuration.runtime, args.runtime);
    set(&mut configuration.handler, args.handler);
    set(&mut configuration.timeout_s, args.timeout_s);
    set(&mut configuration.memory_mb, args.memory_mb);
    set(&mut configuration.ephemeral_mb, args.ephemeral_mb);
    set(&mut configuration.environment, args.environment);
}

impl Inner {
    async fn update_code(
        self: &Arc<Self>,
        function: &FunctionRef,
        args: &UpdateCode,
        code: CodeRef,
    ) -> Result<FunctionView, Error> {
        let key = key(function);
        let _lock = self.lock(&key).await;
        let old = self.function(function)?;
        check_changeable(&old)?;
        check_revision(&old, args.revision_id.as_deref())?;
        let mut new = (*old).clone();
        self.change_latest(&mut new, |configuration| configuration.code = code).await?;
        // Lambda API: the same effect as calling PublishVersion.
        let already = new.published_already().map(|(number, _)| number.to_string());
        let publish = || already.unwrap_or_else(|| new.publish_latest(None, self.host.clock.now()));
        let number = args.publish.then(publish);
        let shown = new.version(number.as_deref()).map_or_else(|| Arc::clone(&new.latest), Arc::clone);
        let view = new.view(&shown, number.as_deref());
        self.commit(&key, Some(&old), Some(new)).await?;
        self.queue.push(key);
        Ok(view)
    }

    /// Makes `$LATEST` a changed configuration that waits to be prepared; refuses what is refused at once.
    pub(super) async fn change_latest(
        &self,
        function: &mut Function,
        change: impl FnOnce(&mut Configuration),
    ) -> Result<(), Error> {
        let before = Arc::clone(&function.latest);
        let mut configuration = (*before.configuration).clone();
        change(&mut configuration);
        configuration.settings = self.resolve(&configuration.runtime, &function.tags)?;
        configuration.last_modified = self.host.clock.now();
        configuration.revision_id = new_revision();
        validate::configuration(&configuration)?;
        self.prepare_early(&configuration).await?;
        let configuration = waiting(configuration, before.target.is_some());
        function.latest = Arc::new(Version::pending(configuration, Some(&before)));
        Ok(())
    }

    fn resolve(&self, runtime: &str, tags: &Tags) -> Result<crate::model::Settings, Error> {
        settings::resolve(&settings::parse_runtime(runtime)?, tags, &self.host.bounds)
    }
}
