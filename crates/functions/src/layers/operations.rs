//! PublishLayerVersion, ListLayers, ListLayerVersions, GetLayerVersion, DeleteLayerVersion.

use std::sync::Arc;

use base::LayerArn;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use iam::Caller;

use super::model::{LayerFilter, LayerPage, LayerVersion, LayerView, PublishLayer};
use super::policy::Policy;
use super::shelf::Key;
use super::tables::{self, Place};
use super::{not_found, number, tree};
use crate::claims::check_storage;
use crate::model::{CodeRef, Page};
use crate::service::{Functions, Inner};
use crate::{Error, limits, objects, operations, validate};

impl Functions {
    /// Lambda API: PublishLayerVersion. Answers once the version is durable and can be used.
    pub async fn publish_layer(&self, caller: &Caller, args: PublishLayer) -> Result<LayerView, Error> {
        let arn = LayerArn {
            region: self.inner.host.region.clone(),
            account: caller.account.clone(),
            name: args.name.clone(),
            version: None,
        };
        operations::permit(caller, "PublishLayerVersion", &arn.to_string())?;
        validate::layer_name(&args.name)?;
        let inner = Arc::clone(&self.inner);
        let zip = objects::obtain(inner.objects.as_ref(), args.content.clone()).await?;
        let turn = inner.code.turn().await?;
        self.detached(async move {
            let pin = inner.code.take_in(turn, zip).await?;
            let published = inner.publish_layer(arn, args, pin.code.clone()).await;
            pin.let_go().await;
            published
        })
        .await
    }

    /// Lambda API: ListLayers: the caller's own, each with the newest version that the filter takes.
    pub fn layers(
        &self,
        caller: &Caller,
        filter: &LayerFilter,
        page: &LayerPage,
    ) -> Result<Page<LayerView>, Error> {
        operations::permit(caller, "ListLayers", "*")?;
        let after = page.marker.as_deref().map(read_marker).transpose()?;
        let limit = page_size(page.max_items);
        let found = self.inner.shelf.page(&caller.account, after.as_deref(), limit + 1, |name, layer| {
            let newest = layer.versions.iter().rev().find(|(_, version)| filter.takes(version));
            newest.map(|(number, version)| LayerView {
                arn: LayerArn {
                    region: self.inner.host.region.clone(),
                    account: caller.account.clone(),
                    name: name.to_owned(),
                    version: Some(*number),
                },
                version: Arc::clone(version),
            })
        });
        Ok(cut(found, limit, |view| view.arn.name.clone()))
    }

    /// Lambda API: ListLayerVersions: the newest first. Of a layer that is not there, none.
    pub fn layer_versions(
        &self,
        caller: &Caller,
        layer: &LayerArn,
        filter: &LayerFilter,
        page: &LayerPage,
    ) -> Result<Page<LayerView>, Error> {
        operations::permit(caller, "ListLayerVersions", &layer.to_string())?;
        let below = match &page.marker {
            Some(marker) => read_marker(marker)?.parse().map_err(|_| bad_marker())?,
            None => u64::MAX,
        };
        let limit = page_size(page.max_items);
        let found = self.inner.shelf.layer(&key(layer)).unwrap_or_default();
        let found = found.versions.range(..below).rev().filter(|(_, version)| filter.takes(version));
        let views = found.take(limit + 1).map(|(number, version)| LayerView {
            arn: layer.versioned(*number),
            version: Arc::clone(version),
        });
        Ok(cut(views.collect(), limit, |view| view.arn.version.unwrap_or_default().to_string()))
    }

    /// Lambda API: GetLayerVersion, GetLayerVersionByArn. Also for accounts that the version's policy lets in.
    pub fn layer_version(&self, caller: &Caller, arn: &LayerArn) -> Result<LayerView, Error> {
        number(arn)?;
        self.inner.permit_layer(caller, "GetLayerVersion", arn)?;
        let version = self.inner.shelf.get(arn).ok_or_else(not_found)?;
        Ok(LayerView { arn: arn.clone(), version })
    }

    /// A layer version's package, as it was uploaded.
    pub async fn layer_package(&self, caller: &Caller, arn: &LayerArn) -> Result<Bytes, Error> {
        let view = self.layer_version(caller, arn)?;
        self.inner.code.package(&view.version.code.digest).await
    }

    /// Lambda API: DeleteLayerVersion. One that is not there is deleted already; functions that have it keep it.
    pub async fn delete_layer_version(&self, caller: &Caller, arn: &LayerArn) -> Result<(), Error> {
        number(arn)?;
        operations::permit(caller, "DeleteLayerVersion", &arn.to_string())?;
        let (inner, arn) = (Arc::clone(&self.inner), arn.clone());
        self.detached(async move { inner.delete_layer_version(&arn).await }).await
    }
}

impl Inner {
    async fn publish_layer(
        &self,
        layer: LayerArn,
        args: PublishLayer,
        code: CodeRef,
    ) -> Result<LayerView, Error> {
        let folder = self.code.folder(&code.digest);
        let signature = self.signature_of(&folder).await?;
        let weighed = tokio::task::spawn_blocking(move || tree::weigh(&folder)).await;
        let version = LayerVersion {
            description: args.description,
            license: args.license,
            runtimes: args.runtimes,
            architectures: args.architectures,
            created: self.host.clock.now(),
            code,
            unpacked_bytes: weighed.map_err(Error::internal)?.map_err(Error::internal)?,
            signature,
            policy: Policy::default(),
        };
        let _changing = self.shelf.changing.lock().await;
        let before = self.code_bytes(&layer.account);
        check_storage(before, before + version.code.size, self.host.bounds.scaling.account_code_bytes)?;
        let key = key(&layer);
        let number = self.shelf.layer(&key).map_or(0, |layer| layer.last) + 1;
        let arn = layer.versioned(number);
        let version = Arc::new(version);
        self.write_layer(&arn, &version).await?;
        self.code.retain(&version.code.digest);
        self.shelf.put(&key, number, Arc::clone(&version));
        Ok(LayerView { arn, version })
    }

    /// Makes a version durable. Under the shelf's lock.
    pub(super) async fn write_layer(&self, arn: &LayerArn, version: &LayerVersion) -> Result<(), Error> {
        let (place, document) = (place(arn)?, serde_json::to_string(version).map_err(Error::internal)?);
        self.store.write(move |tx| tables::put(tx, &place, &document).map_err(Error::from)).await
    }

    async fn delete_layer_version(&self, arn: &LayerArn) -> Result<(), Error> {
        let _changing = self.shelf.changing.lock().await;
        let Some(version) = self.shelf.get(arn) else { return Ok(()) };
        let place = place(arn)?;
        self.store.write(move |tx| tables::remove(tx, &place).map_err(Error::from)).await?;
        self.shelf.remove(&key(arn), number(arn)?);
        self.code.release(&version.code.digest);
        self.code.collect(&version.code.digest).await;
        Ok(())
    }
}

pub(super) fn key(arn: &LayerArn) -> Key {
    (arn.account.clone(), arn.name.clone())
}

fn place(arn: &LayerArn) -> Result<Place, Error> {
    let version = i64::try_from(number(arn)?).map_err(Error::internal)?;
    Ok(Place { account: arn.account.to_string(), name: arn.name.clone(), version })
}

fn page_size(max_items: usize) -> usize {
    if max_items == 0 { limits::PAGE_ITEMS } else { max_items.min(limits::PAGE_ITEMS) }
}

fn cut(mut found: Vec<LayerView>, limit: usize, at: impl Fn(&LayerView) -> String) -> Page<LayerView> {
    let more = found.len() > limit;
    found.truncate(limit);
    let next_marker = found.last().filter(|_| more).map(|view| URL_SAFE_NO_PAD.encode(at(view)));
    Page { items: found, next_marker }
}

fn read_marker(marker: &str) -> Result<String, Error> {
    let text = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(bad_marker)
}

fn bad_marker() -> Error {
    Error::Invalid("The marker was not made by this listing.".into())
}
