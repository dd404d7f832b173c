//! From the ARNs that a function is given to what it has of its layers, and the rules of that.

use std::collections::HashSet;
use std::sync::Arc;

use base::LayerArn;
use iam::Caller;

use super::{AttachedLayer, LayerVersion, tree};
use crate::code::CodeStore;
use crate::model::Configuration;
use crate::service::Inner;
use crate::{Error, limits};

/// What a function is to have of its layers. None of it is removed while this is held.
pub(crate) struct Attached {
    pub(crate) layers: Vec<AttachedLayer>,
    keys: Vec<String>,
    store: Arc<CodeStore>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let (store, keys) = (Arc::clone(&self.store), std::mem::take(&mut self.keys));
        keys.iter().for_each(|key| store.release(key));
        // Where the runtime is going down, the next start does it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for key in keys {
                    store.collect(&key).await;
                }
            });
        }
    }
}

impl Inner {
    /// Looks layers up that a function is to have (Lambda API: CreateFunction, `Layers`).
    pub(crate) fn attach(&self, caller: &Caller, arns: &[LayerArn]) -> Result<Attached, Error> {
        check_list(arns)?;
        let mut attached = Attached { layers: Vec::new(), keys: Vec::new(), store: Arc::clone(&self.code) };
        for arn in arns {
            if arn.region != self.host.region {
                return Err(Error::Invalid(format!(
                    "Layers are not in the same region as the function. Layers are expected to be in region {}.",
                    self.host.region
                )));
            }
            self.permit_layer(caller, "GetLayerVersion", arn)?;
            // Counted before a deletion of the version can see that nobody has it.
            let found = self.shelf.with(arn, |version| {
                self.code.retain(&version.code.digest);
                attached.keys.push(version.code.digest.clone());
                attached_as(arn, version)
            });
            let missing = || Error::Invalid(format!("Layer version {arn} does not exist."));
            attached.layers.push(found.ok_or_else(missing)?);
        }
        if let tree::Shown::Several(key) = tree::shown(&attached.layers) {
            self.code.retain(&key);
            attached.keys.push(key);
        }
        Ok(attached)
    }

    /// Refuses a package and layers that are too large together. Both are unpacked.
    pub(crate) async fn check_layers_fit(&self, configuration: &Configuration) -> Result<(), Error> {
        if configuration.layers.is_empty() {
            return Ok(());
        }
        let folder = self.code.folder(&configuration.code.digest);
        let own = tokio::task::spawn_blocking(move || tree::weigh(&folder)).await;
        let own = own.map_err(Error::internal)?.map_err(Error::internal)?;
        let all = own + configuration.layers.iter().map(|layer| layer.unpacked_bytes).sum::<u64>();
        if all <= limits::UNZIPPED_BYTES {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "Function code combined with layers exceeds the maximum allowed size of {} bytes. The actual size is {all} \
             bytes.",
            limits::UNZIPPED_BYTES
        )))
    }
}

fn attached_as(arn: &LayerArn, version: &LayerVersion) -> AttachedLayer {
    AttachedLayer {
        arn: arn.to_string(),
        code: version.code.clone(),
        unpacked_bytes: version.unpacked_bytes,
        signature: version.signature.clone(),
    }
}

fn check_list(arns: &[LayerArn]) -> Result<(), Error> {
    if arns.len() > limits::LAYERS {
        return Err(Error::Invalid(format!("Cannot reference more than {} layers.", limits::LAYERS)));
    }
    let mut seen = HashSet::new();
    if !arns.iter().all(|arn| seen.insert(arn.unversioned())) {
        return Err(Error::Invalid(
            "Two different versions of the same layer are not allowed to be referenced in the same function"
                .into(),
        ));
    }
    Ok(())
}

/// What a configuration with layers may be.
pub(crate) fn check(configuration: &Configuration) -> Result<(), Error> {
    let isolation = configuration.settings.isolation;
    if configuration.layers.is_empty() || isolation == sandbox::Isolation::Process {
        return Ok(());
    }
    Err(Error::Invalid(
        "Layers are for functions that run as processes: WebAssembly and static sites have no /opt.".into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arns(texts: &[String]) -> Vec<LayerArn> {
        texts.iter().map(|text| LayerArn::parse(text).unwrap()).collect()
    }

    fn arn(name: &str, version: u64) -> String {
        format!("arn:aws:lambda:us-east-1:123456789012:layer:{name}:{version}")
    }

    #[test]
    fn five_different_layers_and_no_more() {
        let many = |count: usize| arns(&(0..count).map(|n| arn(&n.to_string(), 1)).collect::<Vec<_>>());
        assert!(check_list(&many(5)).is_ok());
        let refused = check_list(&many(6)).unwrap_err().to_string();
        assert_eq!(refused, "Cannot reference more than 5 layers.");
        for versions in [[1, 2], [1, 1]] {
            let refused = check_list(&arns(&versions.map(|version| arn("x", version)))).unwrap_err();
            assert!(refused.to_string().contains("Two different versions of the same layer"));
        }
    }
}
