//! The reconciler that makes `Pending` versions callable and finishes updates.
//!
//! It takes keys from a queue, looks at what is unsettled about the function *now*, prepares it, and writes the
//! outcome down if nothing changed meanwhile. Recovery after a crash is the same code: every unsettled
//! function is queued when the service opens.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sandbox::{Artifact, Isolation, Prepared, Runtime};
use tokio::sync::{Notify, Semaphore};

use crate::image::{self, ImageError};
use crate::model::{CodeRef, Configuration, ImageCode, Reason};
use crate::pool::Target;
use crate::registry::Key;
use crate::service::Inner;
use crate::settings;
use crate::version::{self, Function, Settled, Version};
use crate::{Error, limits};

/// Functions that have something unsettled; each once.
#[derive(Default)]
pub(crate) struct Queue {
    keys: Mutex<BTreeSet<Key>>,
    pushed: Notify,
}

impl Queue {
    pub(crate) fn push(&self, key: Key) {
        self.keys.lock().insert(key);
        self.pushed.notify_one();
    }

    async fn next(&self) -> Key {
        loop {
            if let Some(key) = self.keys.lock().pop_first() {
                return key;
            }
            self.pushed.notified().await;
        }
    }
}

/// Settles functions until the service is gone. Images wait for strangers' registries, which take their time, and
/// have a lane of their own: nobody else waits with them.
pub(crate) async fn preparer(service: Weak<Inner>, queue: Arc<Queue>) {
    let images = Arc::new(Queue::default());
    let most = limits::PREPARING_AT_ONCE;
    tokio::select! {
        () = lane(service.clone(), queue, most, Some(Arc::clone(&images))) => {}
        () = lane(service, images, limits::FETCHING_AT_ONCE, None) => {}
    }
}

/// One lane: so many at once. With `images`, functions of images are put there instead.
async fn lane(service: Weak<Inner>, queue: Arc<Queue>, most: usize, images: Option<Arc<Queue>>) {
    let permits = Arc::new(Semaphore::new(most));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let key = queue.next().await;
        let Some(service) = service.upgrade() else { return };
        let (queue, images) = (Arc::clone(&queue), images.clone());
        tokio::spawn(async move {
            let Some(function) = service.registry.get(&key) else { return };
            if let Some(images) = images.filter(|_| has_image(&function)) {
                images.push(key);
            } else if !service.settle(&key, &function).await {
                drop(service);
                tokio::time::sleep(limits::PREPARE_AGAIN).await;
                queue.push(key);
            }
            drop(permit);
        });
    }
}

fn has_image(function: &Function) -> bool {
    function.versions().any(|version| version.unsettled() && version.configuration.image.is_some())
}

impl Inner {
    /// Settles a function as it was just now. Whether nothing is left to do.
    async fn settle(self: &Arc<Self>, key: &Key, function: &Function) -> bool {
        let mut settled = true;
        let unsettled = function.versions().filter(|version| version.unsettled());
        for version in unsettled.map(Arc::clone).collect::<Vec<_>>() {
            let mut held = Vec::new();
            let outcome = match self.bring_about(&version.configuration, function, &mut held).await {
                Ok(prepared) => Some(Ok(prepared)),
                Err(Obstacle::Reason(reason)) => Some(Err(reason)),
                Err(Obstacle::NotYet(text)) => {
                    tracing::info!(function = %function.arn, reason = text, "preparing waits");
                    None
                }
            };
            settled &= match outcome {
                Some(outcome) => self.conclude(key, function, &version, outcome).await,
                None => false,
            };
            for digest in held {
                self.code.release(&digest);
                self.code.collect(&digest).await;
            }
        }
        settled
    }

    /// Puts what preparing came to in force. Whether that is done.
    async fn conclude(
        self: &Arc<Self>,
        key: &Key,
        function: &Function,
        version: &Arc<Version>,
        outcome: Result<Settled, Reason>,
    ) -> bool {
        let ready = version.settled(&function.arn, outcome);
        self.warm(version, &ready).await;
        let Err(error) = self.write_down(key, version, ready).await else { return true };
        let detail = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(function = %function.arn, %error, detail, "the outcome of preparing could not be kept");
        false
    }

    /// Fetches what has to be fetched and prepares it. What is `held` of packages is to be released once the outcome is
    /// written down, so that a function deleted meanwhile leaves nothing that was made of it.
    async fn bring_about(
        &self,
        configuration: &Configuration,
        function: &Function,
        held: &mut Vec<String>,
    ) -> Result<Settled, Obstacle> {
        let mut configuration = configuration.clone();
        for digest in version::digests(&configuration) {
            self.code.retain(&digest);
            held.push(digest);
        }
        if let Some(code) = &configuration.image
            && (configuration.code.digest.is_empty() || self.code.artifact(&configuration).is_err())
        {
            let pulled = self.code.pull(&function.arn.account, code).await.map_err(ImageError::reason)?;
            held.push(image::key(&pulled.id));
            configuration.code = CodeRef { digest: image::key(&pulled.id), size: pulled.bytes };
            let (resolved, digest) = (Some(pulled.resolved), Some(pulled.digest));
            configuration.image = Some(ImageCode { resolved, digest, ..code.clone() });
            let known = self.code.guessed_tags(&configuration, &function.tags);
            let settings =
                settings::resolve(&Runtime::Image, &known, &self.host.bounds, &function.arn.account);
            configuration.settings =
                settings.map_err(|error| ImageError::invalid(error.to_string()).reason())?;
        }
        let is_image = configuration.image.is_some();
        match self.prepare(&configuration).await {
            Ok((prepared, artifact)) => Ok(Settled { configuration, prepared, artifact }),
            Err(sandbox::Error::Invalid(text)) if is_image => Err(ImageError::invalid(text).reason().into()),
            Err(sandbox::Error::NotYet(text)) => Err(Obstacle::NotYet(text)),
            Err(error) => Err(reason(&error).into()),
        }
    }

    /// Does the back end's once-a-version work.
    pub(crate) async fn prepare(
        &self,
        configuration: &Configuration,
    ) -> Result<(Prepared, Artifact), sandbox::Error> {
        let invalid = |error: Error| sandbox::Error::Invalid(error.to_string());
        let isolation = configuration.settings.isolation;
        let artifact = self.code.artifact(configuration).map_err(invalid)?;
        let backend = self.host.backend(isolation).ok_or_else(|| {
            sandbox::Error::Unavailable(format!("This server has no isolation {}.", name(isolation)))
        })?;
        if configuration.image.is_none() {
            let restored = self.code.restore(&configuration.code.digest).await;
            let failed = |error| sandbox::Error::Host {
                context: "restoring the package".into(),
                source: std::io::Error::other(error),
            };
            restored.map_err(failed)?;
            self.code.restore_layers(&configuration.layers).await.map_err(failed)?;
        }
        let prepared = backend.prepare(&artifact).await?;
        Ok((prepared, artifact))
    }

    /// Preparing that is quick is done before the answer, so that a runtime which the host lacks is refused at once.
    pub(crate) async fn prepare_early(&self, configuration: &Configuration) -> Result<(), Error> {
        if self.host.backend(configuration.settings.isolation).is_none() {
            let isolation = name(configuration.settings.isolation);
            return Err(Error::Invalid(format!("This server has no isolation {isolation}.")));
        }
        if let Some(code) = &configuration.image {
            let checked = self.code.images()?.check(&code.uri);
            checked.map_err(|error| Error::Invalid(error.reason().text))?;
        }
        match configuration.settings.isolation {
            Isolation::Wasm => Ok(()),
            // Fetched first.
            Isolation::Process if configuration.code.digest.is_empty() => Ok(()),
            Isolation::Process | Isolation::Static => match self.prepare(configuration).await {
                Ok(_) => self.check_layers_fit(configuration).await,
                Err(sandbox::Error::Invalid(text)) => Err(Error::InvalidRuntime(text)),
                Err(sandbox::Error::Unavailable(text) | sandbox::Error::NotYet(text)) => {
                    Err(Error::Unavailable(text))
                }
                Err(error @ sandbox::Error::Host { .. }) => Err(Error::internal(error)),
            },
        }
    }

    /// Has an instance of a changed version up before calls go to it, where there is one of what it replaces.
    async fn warm(&self, before: &Version, after: &Version) {
        let (Some(before), Some(after)) = (&before.target, &after.target) else { return };
        if !Arc::ptr_eq(before, after) && before.is_in_use() {
            after.warm(&self.host, limits::WARMED_WITHIN).await;
        }
    }

    async fn write_down(
        self: &Arc<Self>,
        key: &Key,
        prepared: &Arc<Version>,
        settled: Version,
    ) -> Result<(), Error> {
        let _lock = self.lock(key).await;
        let Some(old) = self.registry.get(key) else {
            self.abandon(prepared, settled);
            return Ok(());
        };
        let number = &prepared.configuration.version;
        let current = old.version(Some(number));
        if !current.is_some_and(|current| Arc::ptr_eq(current, prepared)) {
            // Changed meanwhile; whoever changed it has queued it again.
            self.abandon(prepared, settled);
            return Ok(());
        }
        let made = settled.clone();
        let settled = Arc::new(settled);
        let mut new = (*old).clone();
        match number.parse() {
            Ok(number) => {
                new.published.insert(number, settled);
            }
            Err(_) => new.latest = settled,
        }
        let done = self.commit(key, Some(&old), Some(new)).await;
        if done.is_err() {
            // It is tried again, with instances of its own.
            self.abandon(prepared, made);
        }
        done
    }
}

impl Inner {
    /// Stops what was warmed up of a version that will not be.
    fn abandon(&self, before: &Version, after: Version) {
        let kept =
            |target: &Arc<Target>| before.target.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, target));
        if let Some(target) = after.target.filter(|target| !kept(target)) {
            tokio::spawn(async move { target.retire().await });
        }
    }
}

/// Why a version is not prepared.
enum Obstacle {
    /// It cannot be.
    Reason(Reason),
    /// The host cannot say yet.
    NotYet(String),
}

impl From<Reason> for Obstacle {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

fn reason(error: &sandbox::Error) -> Reason {
    match error {
        sandbox::Error::Invalid(text) => Reason { code: "InvalidRuntime".into(), text: text.clone() },
        sandbox::Error::Unavailable(text) | sandbox::Error::NotYet(text) => {
            Reason { code: "InternalError".into(), text: text.clone() }
        }
        sandbox::Error::Host { .. } => {
            let detail = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, detail, "preparing a version failed");
            Reason { code: "InternalError".into(), text: "Preparing the function failed on the host.".into() }
        }
    }
}

fn name(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Process => "process",
        Isolation::Wasm => "wasm",
        Isolation::Static => "static",
    }
}
