//! Every layer in memory. Not on the way of a call: an instance's layers are in its function's configuration.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use base::{AccountId, LayerArn};
use parking_lot::RwLock;

use super::model::LayerVersion;
use super::tables;
use crate::Error;

/// Account and name.
pub(super) type Key = (AccountId, String);

/// A name with its versions.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    /// The number given last; 0 before the first.
    pub(super) last: u64,
    pub(super) versions: BTreeMap<u64, Arc<LayerVersion>>,
}

/// The snapshot. Changes are made one at a time, under `changing`, after the database has them.
#[derive(Default)]
pub(crate) struct Shelf {
    layers: RwLock<BTreeMap<Key, Layer>>,
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Shelf {
    /// Fills an empty one with what the tables hold.
    pub(crate) fn load(&self, all: tables::Everything) -> Result<(), Error> {
        let mut layers = self.layers.write();
        for (account, name, next) in all.layers {
            let last = u64::try_from(next - 1).map_err(Error::internal)?;
            layers.insert((owner(&account)?, name), Layer { last, ..Layer::default() });
        }
        for (place, document) in all.versions {
            let version: LayerVersion = serde_json::from_str(&document).map_err(Error::internal)?;
            let layer = layers.entry((owner(&place.account)?, place.name)).or_default();
            let number = u64::try_from(place.version).map_err(Error::internal)?;
            layer.versions.insert(number, Arc::new(version));
        }
        Ok(())
    }

    /// A version; `found` sees it while it cannot be removed.
    pub(super) fn with<T>(&self, arn: &LayerArn, found: impl FnOnce(&Arc<LayerVersion>) -> T) -> Option<T> {
        let layers = self.layers.read();
        let layer = layers.get(&(arn.account.clone(), arn.name.clone()))?;
        layer.versions.get(&arn.version?).map(found)
    }

    pub(super) fn get(&self, arn: &LayerArn) -> Option<Arc<LayerVersion>> {
        self.with(arn, Arc::clone)
    }

    /// A layer as it is now.
    pub(super) fn layer(&self, key: &Key) -> Option<Layer> {
        self.layers.read().get(key).cloned()
    }

    pub(super) fn put(&self, key: &Key, number: u64, version: Arc<LayerVersion>) {
        let mut layers = self.layers.write();
        let layer = layers.entry(key.clone()).or_default();
        layer.last = layer.last.max(number);
        layer.versions.insert(number, version);
    }

    pub(super) fn remove(&self, key: &Key, number: u64) {
        if let Some(layer) = self.layers.write().get_mut(key) {
            layer.versions.remove(&number);
        }
    }

    /// An account's layers in name order, after a name; what `pick` makes of each, at most so many.
    pub(super) fn page<T>(
        &self,
        account: &AccountId,
        after: Option<&str>,
        limit: usize,
        pick: impl Fn(&str, &Layer) -> Option<T>,
    ) -> Vec<T> {
        let layers = self.layers.read();
        let start = match after {
            Some(name) => Bound::Excluded((account.clone(), name.to_owned())),
            None => Bound::Included((account.clone(), String::new())),
        };
        let own = layers.range((start, Bound::Unbounded)).take_while(|((owner, _), _)| owner == account);
        own.filter_map(|((_, name), layer)| pick(name, layer)).take(limit).collect()
    }

    /// Bytes of the packages of an account's layer versions.
    pub(crate) fn code_bytes(&self, account: &AccountId) -> u64 {
        let layers = self.layers.read();
        let from = layers.range((account.clone(), String::new())..);
        let own = from.take_while(|((owner, _), _)| owner == account).map(|(_, layer)| layer);
        own.flat_map(|layer| layer.versions.values()).map(|version| version.code.size).sum()
    }

    /// Packages that layer versions need, each as often as it is.
    pub(crate) fn digests(&self) -> Vec<String> {
        let layers = self.layers.read();
        let versions = layers.values().flat_map(|layer| layer.versions.values());
        versions.map(|version| version.code.digest.clone()).collect()
    }
}

fn owner(account: &str) -> Result<AccountId, Error> {
    AccountId::parse(account)
        .ok_or_else(|| Error::internal(format!("the owner {account} of a layer is no account")))
}
