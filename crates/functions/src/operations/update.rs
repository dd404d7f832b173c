//! UpdateFunctionCode and UpdateFunctionConfiguration.

use std::sync::Arc;

use bytes::Bytes;
use iam::Caller;

use super::create::source;
use super::{check_changeable, check_revision, key, new_revision, waiting};
use crate::code::Turn;
use crate::environment;
use crate::image;
use crate::model::{
    CodeRef, Configuration, FunctionRef, FunctionView, ImageCode, NewCode, Settings, UpdateCode,
    UpdateConfiguration,
};
use crate::service::{Functions, Inner};
use crate::version::{Function, Version};
use crate::{Error, objects, settings, validate};

/// What refusals call the code.
const PACKAGE: &str = "the function's package";

/// What an image function is told that is given a zip.
const NO_IMAGE: &str = "Please provide ImageUri when updating a function with packageType Image.";

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
        let is_image = old.latest.configuration.image.is_some();
        match &args.code {
            NewCode::Zip(_) | NewCode::Object(_) if is_image => {
                return Err(Error::Invalid(NO_IMAGE.to_owned()));
            }
            NewCode::Zip(_) | NewCode::Object(_) => {}
            NewCode::Image(uri) => {
                image::check_kinds(is_image, true, false, false)?;
                return self.update_image(function, uri.clone(), args).await;
            }
        }
        let Some(source) = source(&args.code) else { return Err(Error::Invalid(NO_IMAGE.to_owned())) };
        let zip = objects::obtain(self.inner.objects.as_ref(), source).await?;
        let turn = self.inner.code.turn().await?;
        if args.dry_run {
            return self.try_code(&old, turn, zip).await;
        }
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let pin = inner.code.take_in(turn, zip).await?;
            let updated = inner.update_package(&function, &args, pin.code.clone()).await;
            pin.let_go().await;
            updated
        })
        .await
    }

    /// Everything of an update but the update.
    async fn try_code(&self, old: &Arc<Function>, turn: Turn, zip: Bytes) -> Result<FunctionView, Error> {
        let (inner, old) = (Arc::clone(&self.inner), Arc::clone(old));
        self.detached(async move {
            // Whose signature is to be checked is taken in for a moment: that is done on what was unpacked.
            let mut view = old.view(&old.latest, None);
            match old.code_signing.as_deref() {
                None => view.configuration.code = inner.code.check(turn, zip).await?,
                Some(config) => {
                    let pin = inner.code.take_in(turn, zip).await?;
                    view.configuration.code = pin.code.clone();
                    let folder = inner.code.folder(&pin.code.digest);
                    let checked = inner.check_signature(Some(config), folder, PACKAGE).await;
                    pin.let_go().await;
                    view.configuration.signature = checked?;
                }
            }
            Ok(view)
        })
        .await
    }

    /// Another image, or what the same name means by now.
    async fn update_image(
        &self,
        function: FunctionRef,
        uri: String,
        args: UpdateCode,
    ) -> Result<FunctionView, Error> {
        let inner = Arc::clone(&self.inner);
        if args.dry_run {
            let checked = inner.code.images()?.check(&uri);
            checked.map_err(|error| Error::Invalid(error.reason().text))?;
            let old = inner.function(&function)?;
            return Ok(old.view(&old.latest, None));
        }
        self.detached(async move {
            let change = |configuration: &mut Configuration| {
                let config = configuration.image.take().map(|image| image.config).unwrap_or_default();
                configuration.code = CodeRef { digest: String::new(), size: 0 };
                configuration.image = Some(ImageCode { uri, resolved: None, digest: None, config });
            };
            inner.update_code(&function, &args, None, change).await
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
        if let Some(role) = &args.role {
            self.inner.check_role(caller, role)?;
        }
        let attached = args.layers.as_ref().map(|arns| self.inner.attach(caller, arns)).transpose()?;
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let key = key(&function);
            let _lock = inner.lock(&key).await;
            let old = inner.function(&function)?;
            check_changeable(&old)?;
            check_revision(&old, args.revision_id.as_deref())?;
            let is_image = old.latest.configuration.image.is_some();
            let named = [&args.runtime, &args.handler].into_iter().flatten().any(|text| !text.is_empty());
            let layered = attached.as_ref().is_some_and(|attached| !attached.layers.is_empty());
            image::check_kinds(is_image, false, args.image_config.is_some(), named || layered)?;
            if let Some(attached) = &attached {
                inner.check_layer_signatures(old.code_signing.as_deref(), &attached.layers).await?;
            }
            let logging = args.logging.apply(old.latest.configuration.logging)?;
            let (log_group, name) = (args.log_group.clone(), function.name.clone());
            let change = |configuration: &mut Configuration| {
                apply(configuration, args);
                configuration.logging = logging;
                if let Some(group) = log_group {
                    let own = environment::own_log_group(&name);
                    configuration.log_group = Some(group).filter(|group| *group != own);
                }
                if let Some(attached) = &attached {
                    configuration.layers.clone_from(&attached.layers);
                }
            };
            let mut new = (*old).clone();
            inner.change_latest(&mut new, change).await?;
            let view = new.view(&new.latest, None);
            inner.commit(&key, Some(&old), Some(new)).await?;
            inner.queue.push(key);
            Ok(view)
        })
        .await
    }
}

/// Whether a package was checked for the configuration that the function still has.
fn check_same_signers(function: &Function, checked_for: Option<&str>) -> Result<(), Error> {
    if function.code_signing.as_deref() == checked_for {
        return Ok(());
    }
    Err(Error::Conflict(
        "The function's code signing configuration was changed meanwhile. Please try again.".into(),
    ))
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
    set(&mut configuration.file_systems, args.file_systems);
    set(&mut configuration.snap_start, args.snap_start);
    set(&mut configuration.traced, args.traced);
    if let (Some(image), Some(config)) = (&mut configuration.image, args.image_config) {
        image.config = config;
    }
}

impl Inner {
    /// Has `$LATEST` run a package that was taken in.
    async fn update_package(
        self: &Arc<Self>,
        function: &FunctionRef,
        args: &UpdateCode,
        code: CodeRef,
    ) -> Result<FunctionView, Error> {
        // The configuration that counts is the one that the function has as this is made: it is looked at again below.
        let config = self.function(function)?.code_signing.clone();
        let folder = self.code.folder(&code.digest);
        let signature = self.check_signature(config.as_deref(), folder, PACKAGE).await?;
        self.update_code(function, args, config, |configuration| {
            configuration.code = code;
            configuration.signature = signature;
        })
        .await
    }

    async fn update_code(
        self: &Arc<Self>,
        function: &FunctionRef,
        args: &UpdateCode,
        checked_for: Option<String>,
        change: impl FnOnce(&mut Configuration),
    ) -> Result<FunctionView, Error> {
        let key = key(function);
        let _lock = self.lock(&key).await;
        let old = self.function(function)?;
        check_same_signers(&old, checked_for.as_deref())?;
        check_changeable(&old)?;
        check_revision(&old, args.revision_id.as_deref())?;
        let mut new = (*old).clone();
        self.change_latest(&mut new, change).await?;
        // Lambda API: the same effect as calling PublishVersion.
        let already = new.published_already().map(|(number, _)| number.to_string());
        let publish = || already.unwrap_or_else(|| new.publish_latest(None, self.host.clock.now()));
        let number = args.publish.then(publish);
        let shown = new.version(number.as_deref()).map_or_else(|| Arc::clone(&new.latest), Arc::clone);
        let view = new.view(&shown, number.as_deref());
        self.check_storage(Some(&old), &new)?;
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
        configuration.settings = self.resolve(&configuration, function)?;
        configuration.setting_tags = Some(settings::of_settings(&function.tags));
        configuration.last_modified = self.host.clock.now();
        configuration.revision_id = new_revision();
        validate::configuration(&configuration)?;
        self.host.file_systems.check(&function.arn.account, &configuration)?;
        self.prepare_early(&configuration).await?;
        let configuration = waiting(configuration, before.target.is_some());
        function.latest = Arc::new(Version::pending(configuration, Some(&before)));
        Ok(())
    }

    fn resolve(&self, configuration: &Configuration, function: &Function) -> Result<Settings, Error> {
        let known = self.code.guessed_tags(configuration, &function.tags);
        let runtime = settings::runtime_of(configuration)?;
        settings::resolve(&runtime, &known, &self.host.bounds, &function.arn.account)
    }
}
