//! CreateFunction.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::AccountId;
use iam::Caller;
use sandbox::Runtime;

use super::{Asked, key, new_revision, waiting};
use crate::asynchronous::Events;
use crate::environment;
use crate::image;
use crate::layers::AttachedLayer;
use crate::logging::Logging;
use crate::model::{
    CodeRef, Configuration, CreateFunction, FunctionRef, FunctionView, ImageCode, ImageConfig, LATEST,
    NewCode, State, UpdateStatus,
};
use crate::objects::{self, PackageSource};
use crate::service::{Functions, Inner};
use crate::version::{Function, Version};
use crate::{Error, settings, signing, validate};

impl Functions {
    /// Lambda API: CreateFunction. Answers once the function is durable (`Pending`, reason `Creating`).
    pub async fn create(&self, caller: &Caller, args: CreateFunction) -> Result<FunctionView, Error> {
        let function =
            FunctionRef { account: caller.account.clone(), name: args.name.clone(), qualifier: None };
        self.inner.permit_tagging(caller, "CreateFunction", &function, Some(&Asked::Set(&args.tags)))?;
        validate::name(&args.name)?;
        settings::check_tags(&args.tags)?;
        let attached = self.inner.attach(caller, &args.layers)?;
        let configuration = configuration(&self.inner, &caller.account, &args, &attached.layers)?;
        self.inner.host.file_systems.check(&caller.account, &configuration)?;
        check_absent(&self.inner, &function)?;
        self.inner.check_role(caller, &args.role)?;
        if let Some(arn) = &args.code_signing {
            self.inner.check_config(&function, arn)?;
        }
        let inner = Arc::clone(&self.inner);
        let Some(source) = source(&args.code) else {
            // It is fetched when it is prepared.
            let nothing = CodeRef { digest: String::new(), size: 0 };
            return self
                .detached(async move { inner.create(function, args, configuration, nothing).await })
                .await;
        };
        let zip = objects::obtain(inner.objects.as_ref(), source).await?;
        let turn = self.inner.code.turn().await?;
        self.detached(async move {
            let pin = inner.code.take_in(turn, zip).await?;
            let created = inner.create(function, args, configuration, pin.code.clone()).await;
            pin.let_go().await;
            drop(attached);
            created
        })
        .await
    }
}

/// Where the package is, if the code is one.
pub(super) fn source(code: &NewCode) -> Option<PackageSource> {
    match code {
        NewCode::Zip(zip) => Some(PackageSource::Zip(zip.clone())),
        NewCode::Object(object) => Some(PackageSource::Object(object.clone())),
        NewCode::Image(_) => None,
    }
}

/// All of the configuration but the code, checked.
fn configuration(
    inner: &Inner,
    account: &AccountId,
    args: &CreateFunction,
    layers: &[AttachedLayer],
) -> Result<Configuration, Error> {
    let config = (args.image_config != ImageConfig::default()).then_some(&args.image_config);
    let named = !args.runtime.is_empty() || !args.handler.is_empty() || !args.layers.is_empty();
    let image = match &args.code {
        NewCode::Zip(_) | NewCode::Object(_) => {
            image::check_kinds(false, false, config.is_some(), named)?;
            None
        }
        NewCode::Image(uri) => {
            image::check_kinds(true, true, config.is_some(), named)?;
            if args.code_signing.is_some() {
                return Err(signing::no_images());
            }
            let config = args.image_config.clone();
            Some(ImageCode { uri: uri.clone(), resolved: None, digest: None, config })
        }
    };
    let runtime = match &image {
        Some(_) => Runtime::Image,
        None => settings::parse_runtime(&args.runtime)?,
    };
    let configuration = Configuration {
        version: LATEST.to_owned(),
        description: args.description.clone(),
        role: args.role.clone(),
        runtime: args.runtime.clone(),
        handler: args.handler.clone(),
        timeout_s: args.timeout_s,
        memory_mb: args.memory_mb,
        ephemeral_mb: args.ephemeral_mb,
        environment: args.environment.clone(),
        logging: args.logging.apply(Logging::default())?,
        log_group: args.log_group.clone().filter(|group| *group != environment::own_log_group(&args.name)),
        code: CodeRef { digest: String::new(), size: 0 },
        signature: None,
        image,
        layers: layers.to_vec(),
        snap_start: args.snap_start,
        traced: args.traced,
        runtime_management: Default::default(),
        file_systems: args.file_systems.clone(),
        setting_tags: Some(settings::of_settings(&args.tags)),
        settings: settings::resolve(&runtime, &args.tags, &inner.host.bounds, account)?,
        last_modified: inner.host.clock.now(),
        revision_id: new_revision(),
        state: State::Pending,
        state_reason: None,
        update_status: UpdateStatus::InProgress,
        update_reason: None,
    };
    validate::configuration(&configuration)?;
    Ok(configuration)
}

fn check_absent(inner: &Inner, function: &FunctionRef) -> Result<(), Error> {
    match inner.registry.get(&key(function)) {
        Some(_) => Err(Error::AlreadyExists(format!("Function already exist: {}", function.name))),
        None => Ok(()),
    }
}

impl Inner {
    async fn create(
        self: &Arc<Self>,
        function: FunctionRef,
        args: CreateFunction,
        configuration: Configuration,
        code: CodeRef,
    ) -> Result<FunctionView, Error> {
        let mut configuration = waiting(Configuration { code, ..configuration }, false);
        self.prepare_early(&configuration).await?;
        let _changing = match &args.code_signing {
            Some(arn) => {
                let changing = self.signing.changing.lock().await;
                self.check_config(&function, arn)?;
                Some(changing)
            }
            None => None,
        };
        self.check_signatures(args.code_signing.as_deref(), &mut configuration).await?;
        let key = key(&function);
        let _lock = self.lock(&key).await;
        check_absent(self, &function)?;
        let mut new = Function {
            arn: self.arn(&function),
            tags: args.tags,
            next_version: 1,
            latest: Arc::new(Version::pending(configuration, None)),
            published: BTreeMap::new(),
            aliases: BTreeMap::new(),
            urls: BTreeMap::new(),
            permissions: Default::default(),
            concurrency: Default::default(),
            code_signing: args.code_signing,
            events: Events { life: base::RequestId::random().to_string(), ..Events::default() },
        };
        let number = args.publish.then(|| new.publish_latest(None, self.host.clock.now()));
        let shown = new.version(number.as_deref()).map_or_else(|| Arc::clone(&new.latest), Arc::clone);
        let view = new.view(&shown, number.as_deref());
        self.check_storage(None, &new)?;
        self.commit(&key, None, Some(new)).await?;
        self.queue.push(key);
        Ok(view)
    }
}
