//! CreateCodeSigningConfig, GetCodeSigningConfig, UpdateCodeSigningConfig, DeleteCodeSigningConfig,
//! ListCodeSigningConfigs, ListFunctionsByCodeSigningConfig; and which one a function has.

use std::sync::Arc;

use base::InstanceId;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam::Caller;

use super::book::Key;
use super::model::{
    CodeSigningConfig, CodeSigningConfigChange, CodeSigningConfigView, config_arn, parse_config,
};
use crate::model::{FunctionRef, Page};
use crate::service::{Functions, Inner};
use crate::{Error, limits, operations};

/// Characters after `csc-`.
const ID_CHARS: usize = 17;

impl Functions {
    /// Lambda API: CreateCodeSigningConfig.
    pub async fn create_code_signing_config(
        &self,
        caller: &Caller,
        args: CodeSigningConfigChange,
    ) -> Result<CodeSigningConfigView, Error> {
        operations::permit(caller, "CreateCodeSigningConfig", "*")?;
        let id = format!("csc-{}", &InstanceId::random().as_str()[..ID_CHARS]);
        let key = (caller.account.clone(), id);
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let _changing = inner.signing.changing.lock().await;
            if inner.signing.configs.count(&key.0) >= limits::CODE_SIGNING_CONFIGS {
                return Err(Error::Invalid(format!(
                    "The account has {} code signing configurations, which is the most.",
                    limits::CODE_SIGNING_CONFIGS
                )));
            }
            let config = CodeSigningConfig {
                description: args.description.unwrap_or_default(),
                publishers: args.publishers.unwrap_or_default(),
                enforce: args.enforce.unwrap_or(false),
                modified: inner.host.clock.now(),
            };
            inner.signing.configs.put(&inner.store, &key, Some(config.clone())).await?;
            Ok(inner.config_view(&key, config))
        })
        .await
    }

    /// Lambda API: GetCodeSigningConfig.
    pub fn code_signing_config(&self, caller: &Caller, arn: &str) -> Result<CodeSigningConfigView, Error> {
        let key = self.inner.permit_config(caller, "GetCodeSigningConfig", arn)?;
        let found = self.inner.signing.configs.get(&key).ok_or_else(|| not_found(arn))?;
        Ok(self.inner.config_view(&key, found))
    }

    /// Lambda API: UpdateCodeSigningConfig. Counts for what is deployed from then on.
    pub async fn update_code_signing_config(
        &self,
        caller: &Caller,
        arn: &str,
        args: CodeSigningConfigChange,
    ) -> Result<CodeSigningConfigView, Error> {
        let key = self.inner.permit_config(caller, "UpdateCodeSigningConfig", arn)?;
        let (inner, arn) = (Arc::clone(&self.inner), arn.to_owned());
        self.detached(async move {
            let _changing = inner.signing.changing.lock().await;
            let mut config = inner.signing.configs.get(&key).ok_or_else(|| not_found(&arn))?;
            config.description = args.description.unwrap_or(config.description);
            config.publishers = args.publishers.unwrap_or(config.publishers);
            config.enforce = args.enforce.unwrap_or(config.enforce);
            config.modified = inner.host.clock.now();
            inner.signing.configs.put(&inner.store, &key, Some(config.clone())).await?;
            Ok(inner.config_view(&key, config))
        })
        .await
    }

    /// Lambda API: DeleteCodeSigningConfig, of one that no function has.
    pub async fn delete_code_signing_config(&self, caller: &Caller, arn: &str) -> Result<(), Error> {
        let key = self.inner.permit_config(caller, "DeleteCodeSigningConfig", arn)?;
        let (inner, arn) = (Arc::clone(&self.inner), arn.to_owned());
        self.detached(async move {
            let _changing = inner.signing.changing.lock().await;
            inner.signing.configs.get(&key).ok_or_else(|| not_found(&arn))?;
            if !inner.functions_with(&key, &arn).is_empty() {
                return Err(Error::Conflict(
                    "Cannot delete the code signing configuration: functions are using it.".into(),
                ));
            }
            inner.signing.configs.put(&inner.store, &key, None).await
        })
        .await
    }

    /// Lambda API: ListCodeSigningConfigs.
    pub fn code_signing_configs(
        &self,
        caller: &Caller,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<CodeSigningConfigView>, Error> {
        operations::permit(caller, "ListCodeSigningConfigs", "*")?;
        let after = marker.map(read_marker).transpose()?;
        let limit = page_size(max_items);
        let account = &caller.account;
        let view = |id: &str, config: &CodeSigningConfig| {
            Some(self.inner.config_view(&(account.clone(), id.to_owned()), config.clone()))
        };
        Ok(cut(self.inner.signing.configs.page(account, after.as_deref(), limit + 1, view), limit))
    }

    /// Lambda API: ListFunctionsByCodeSigningConfig: ARNs.
    pub fn functions_by_code_signing_config(
        &self,
        caller: &Caller,
        arn: &str,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<String>, Error> {
        let key = self.inner.permit_config(caller, "ListFunctionsByCodeSigningConfig", arn)?;
        self.inner.signing.configs.get(&key).ok_or_else(|| not_found(arn))?;
        let after = marker.map(read_marker).transpose()?;
        let limit = page_size(max_items);
        let mut found = self.inner.functions_with(&key, arn);
        found.retain(|(name, _)| after.as_ref().is_none_or(|after| name > after));
        found.truncate(limit + 1);
        Ok(cut(found, limit))
    }

    /// Lambda API: PutFunctionCodeSigningConfig. Counts for what is deployed from then on.
    pub async fn put_function_code_signing(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        arn: &str,
    ) -> Result<(), Error> {
        let function = self.inner.permit_change(caller, "PutFunctionCodeSigningConfig", function)?;
        self.inner.check_config(&function, arn)?;
        self.change_code_signing(function, Some(arn.to_owned())).await
    }

    /// Lambda API: DeleteFunctionCodeSigningConfig.
    pub async fn delete_function_code_signing(
        &self,
        caller: &Caller,
        function: &FunctionRef,
    ) -> Result<(), Error> {
        let function = self.inner.permit_change(caller, "DeleteFunctionCodeSigningConfig", function)?;
        self.change_code_signing(function, None).await
    }

    /// Lambda API: GetFunctionCodeSigningConfig: an ARN, if it has one.
    pub fn function_code_signing(
        &self,
        caller: &Caller,
        function: &FunctionRef,
    ) -> Result<Option<String>, Error> {
        let function = self.inner.permit_change(caller, "GetFunctionCodeSigningConfig", function)?;
        Ok(self.inner.function(&function)?.code_signing.clone())
    }

    async fn change_code_signing(&self, function: FunctionRef, arn: Option<String>) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let _changing = inner.signing.changing.lock().await;
            let key = operations::key(&function);
            let _lock = inner.lock(&key).await;
            let old = inner.function(&function)?;
            if let Some(arn) = &arn {
                if old.latest.configuration.image.is_some() {
                    return Err(no_images());
                }
                inner.check_config(&function, arn)?;
            }
            let mut new = (*old).clone();
            new.code_signing = arn;
            inner.commit(&key, Some(&old), Some(new)).await
        })
        .await
    }
}

impl Inner {
    /// Whether there is such a configuration for a function: one of its own account.
    pub(crate) fn check_config(&self, function: &FunctionRef, arn: &str) -> Result<(), Error> {
        let key = self.config_key(arn).filter(|(account, _)| *account == function.account);
        let found = key.and_then(|key| self.signing.configs.get(&key));
        found.map(drop).ok_or_else(|| missing(arn))
    }

    fn config_key(&self, arn: &str) -> Option<Key> {
        parse_config(arn).filter(|(account, id)| config_arn(&self.host.region, account, id) == arn)
    }

    fn permit_config(&self, caller: &Caller, action: &str, arn: &str) -> Result<Key, Error> {
        operations::permit(caller, action, arn)?;
        let key = self.config_key(arn).ok_or_else(|| not_found(arn))?;
        Ok(key)
    }

    fn config_view(&self, key: &Key, config: CodeSigningConfig) -> CodeSigningConfigView {
        let arn = config_arn(&self.host.region, &key.0, &key.1);
        CodeSigningConfigView { id: key.1.clone(), arn, config }
    }

    /// Names and ARNs of the functions that have a configuration, by name. It looks at every function of the account,
    /// which nobody waits for but who lists or deletes.
    fn functions_with(&self, key: &Key, arn: &str) -> Vec<(String, String)> {
        let all = self.registry.all();
        let own = all.iter().filter(|((account, _), _)| *account == key.0);
        let having = own.filter(|(_, function)| function.code_signing.as_deref() == Some(arn));
        having.map(|((_, name), function)| (name.clone(), function.arn.to_string())).collect()
    }
}

/// What an image function is told.
pub(crate) fn no_images() -> Error {
    Error::Invalid(
        "CodeSigningConfigArn is not supported for functions created with container images.".into(),
    )
}

/// What a function is told that is to have a configuration that is not there.
pub(super) fn missing(arn: &str) -> Error {
    Error::CodeSigningConfigNotFound(cannot_be_found(arn))
}

fn not_found(arn: &str) -> Error {
    Error::NotFound(cannot_be_found(arn))
}

fn cannot_be_found(arn: &str) -> String {
    format!(
        "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
    )
}

fn page_size(max_items: usize) -> usize {
    if max_items == 0 { limits::PAGE_ITEMS } else { max_items.min(limits::PAGE_ITEMS) }
}

pub(super) fn cut<T>(mut found: Vec<(String, T)>, limit: usize) -> Page<T> {
    let more = found.len() > limit;
    found.truncate(limit);
    let next_marker = found.last().filter(|_| more).map(|(name, _)| URL_SAFE_NO_PAD.encode(name));
    Page { items: found.into_iter().map(|(_, item)| item).collect(), next_marker }
}

pub(super) fn read_marker(marker: &str) -> Result<String, Error> {
    let text = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Error::Invalid("The marker was not made by this listing.".into()))
}
