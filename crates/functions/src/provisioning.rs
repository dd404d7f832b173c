//! What of a function's versions is kept ready: asked for of a version itself, or of an alias that leads to it. A
//! version has one such configuration at most (Lambda: provisioned concurrency).

use std::collections::BTreeSet;

use crate::Error;
use crate::concurrency::Asked;
use crate::version::Function;

impl Function {
    /// What is asked of its concurrency, by version.
    pub(crate) fn asked(&self) -> Asked {
        let mut provisioned = self.concurrency.provisioned.clone();
        for (number, instances) in self.by_alias() {
            let sum: &mut u32 = provisioned.entry(number).or_default();
            *sum = sum.saturating_add(instances);
        }
        Asked { reserved: self.concurrency.reserved, provisioned }
    }

    /// Instances that aliases have kept ready, by version, as their calls are divided.
    fn by_alias(&self) -> impl Iterator<Item = (u64, u32)> {
        let configured = self.concurrency.by_alias.iter();
        let known = configured.filter_map(|(name, asked)| Some((self.aliases.get(name)?, asked.instances)));
        known.flat_map(|(alias, instances)| {
            let parts = alias.divided(instances);
            parts.filter_map(|(version, part)| Some((version.parse().ok()?, part)))
        })
    }

    /// What an alias has kept ready of each of its versions.
    pub(crate) fn parts(&self, alias: &str) -> Vec<(u64, u32)> {
        let instances = self.concurrency.by_alias.get(alias).map_or(0, |asked| asked.instances);
        let known = self.aliases.get(alias).into_iter().flat_map(|alias| alias.divided(instances));
        known.filter_map(|(version, part)| Some((version.parse().ok()?, part))).collect()
    }

    /// Whether each version is kept ready by one configuration at most, and none of them by `$LATEST`'s name.
    pub(crate) fn check_provisioned_once(&self) -> Result<(), Error> {
        let mut taken: BTreeSet<u64> = self.concurrency.provisioned.keys().copied().collect();
        for name in self.concurrency.by_alias.keys() {
            let Some(alias) = self.aliases.get(name) else { continue };
            for version in alias.versions() {
                let number = version.parse().map_err(|_| unpublished())?;
                if !taken.insert(number) {
                    return Err(Error::Conflict(
                        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
                            .into(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether an alias that leads to this version has something kept ready.
    pub(crate) fn is_provisioned_by_alias(&self, number: u64) -> bool {
        let configured = self.concurrency.by_alias.keys().filter_map(|name| self.aliases.get(name));
        let number = number.to_string();
        configured.flat_map(|alias| alias.versions()).any(|version| version == number)
    }
}

/// `$LATEST` has nothing kept ready.
pub(crate) fn unpublished() -> Error {
    Error::Invalid(
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.".into(),
    )
}
