//! PublishVersion.

use std::sync::Arc;

use base::Timestamp;
use base64::Engine;
use iam::Caller;

use super::{check_changeable, check_revision, key, new_revision, state_text, waiting};
use crate::Error;
use crate::model::{Configuration, FunctionRef, FunctionView, PublishVersion, State};
use crate::pool::Target;
use crate::service::{Functions, Inner};
use crate::version::{Function, Version};

impl Functions {
    /// Lambda API: PublishVersion; unchanged code and configuration answer the version published last.
    pub async fn publish(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        args: PublishVersion,
    ) -> Result<FunctionView, Error> {
        let function = self.inner.permit_change(caller, "PublishVersion", function)?;
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.publish(&function, args).await }).await
    }
}

impl Inner {
    async fn publish(
        self: &Arc<Self>,
        function: &FunctionRef,
        args: PublishVersion,
    ) -> Result<FunctionView, Error> {
        let key = key(function);
        let _lock = self.lock(&key).await;
        let old = self.function(function)?;
        check_changeable(&old)?;
        check_revision(&old, args.revision_id.as_deref())?;
        let latest = &old.latest.configuration;
        if latest.state == State::Failed {
            return Err(Error::Conflict(state_text(State::Failed)));
        }
        check_code(latest, args.code_sha256.as_deref())?;
        if let Some((number, version)) = old.published_already() {
            return Ok(old.view(version, Some(&number.to_string())));
        }
        let mut new = (*old).clone();
        let number = new.publish_latest(args.description, self.host.clock.now());
        let version = new.version(Some(&number)).map_or_else(|| Arc::clone(&new.latest), Arc::clone);
        let view = new.view(&version, Some(&number));
        let unsettled = version.unsettled();
        self.check_storage(Some(&old), &new)?;
        self.commit(&key, Some(&old), Some(new)).await?;
        if unsettled {
            self.queue.push(key);
        }
        Ok(view)
    }
}

fn check_code(latest: &Configuration, given: Option<&str>) -> Result<(), Error> {
    let current = match &latest.image {
        // Lambda's own form for images.
        Some(image) => image.digest.clone().unwrap_or_default(),
        None => {
            let digest = hex::decode(&latest.code.digest).map_err(Error::internal)?;
            base64::engine::general_purpose::STANDARD.encode(digest)
        }
    };
    match given {
        Some(given) if given != current => Err(Error::Invalid(format!(
            "CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({current}). Please try again with the \
             CodeSHA256 in $LATEST."
        ))),
        _ => Ok(()),
    }
}

impl Version {
    /// Whether this is what publishing `latest` would make: everything that a call could notice, and the
    /// description.
    pub(super) fn was_published_from(&self, latest: &Configuration) -> bool {
        let frozen = &*self.configuration;
        let like_latest = Configuration {
            version: latest.version.clone(),
            description: self.source_description.clone().unwrap_or_default(),
            last_modified: latest.last_modified,
            revision_id: latest.revision_id.clone(),
            state: latest.state,
            state_reason: latest.state_reason.clone(),
            update_status: latest.update_status,
            update_reason: latest.update_reason.clone(),
            runtime_management: latest.runtime_management.clone(),
            // What an earlier server published says nothing of them.
            setting_tags: frozen.setting_tags.clone().or_else(|| latest.setting_tags.clone()),
            ..frozen.clone()
        };
        like_latest == *latest
    }
}

impl Function {
    /// The version published last, if publishing `$LATEST` would make the same again. One that failed does not
    /// stand in the way of another attempt.
    pub(super) fn published_already(&self) -> Option<(u64, &Arc<Version>)> {
        let (number, version) = self.published.last_key_value()?;
        let usable = version.configuration.state != State::Failed;
        (usable && version.was_published_from(&self.latest.configuration)).then_some((*number, version))
    }

    /// Freezes `$LATEST` under the next number, which is the answer. What waits to be prepared waits in the
    /// frozen version too.
    pub(crate) fn publish_latest(&mut self, description: Option<String>, now: Timestamp) -> String {
        let latest = &self.latest;
        let number = self.next_version.to_string();
        let mut configuration = Configuration {
            version: number.clone(),
            last_modified: now,
            revision_id: new_revision(),
            ..(*latest.configuration).clone()
        };
        if let Some(description) = description {
            configuration.description = description;
        }
        let settled = latest.serving.is_none() && !latest.unsettled();
        let parts = latest.target.as_ref().zip(latest.prepared).filter(|_| settled);
        let mut version = match parts {
            Some((target, prepared)) => {
                let configuration = Arc::new(configuration);
                let artifact = target.plan().artifact.clone();
                let target = Target::new(&self.arn, Arc::clone(&configuration), artifact, prepared);
                Version {
                    configuration,
                    serving: None,
                    prepared: Some(prepared),
                    source_description: None,
                    target: Some(Arc::new(target)),
                }
            }
            None => Version::pending(waiting(configuration, false), None),
        };
        version.source_description = Some(latest.configuration.description.clone());
        self.published.insert(self.next_version, Arc::new(version));
        self.next_version += 1;
        number
    }
}
