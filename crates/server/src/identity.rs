//! Who this server is: its region and its first account, fixed at the first start.

use std::sync::Arc;

use anyhow::{Context, Result};
use base::{AccountId, Clock, Region};
use iam::{Bootstrap, Iam};
use store::Store;

use crate::config::FirstStart;
use crate::data_dir::DataDir;
use crate::tables;

/// The region, and the handle that knows the first account.
pub(crate) struct Identity {
    pub(crate) region: Region,
    pub(crate) iam: Iam,
}

/// Reads both, or makes them from what the operator said.
pub(crate) async fn open(
    store: &Store,
    data_dir: &DataDir,
    said: &FirstStart,
    clock: Arc<dyn Clock>,
) -> Result<Identity> {
    let account = match &said.account_id {
        Some(text) => Some(
            AccountId::parse(text)
                .with_context(|| format!("VIRGA_ACCOUNT_ID={text} is not twelve digits"))?,
        ),
        None => None,
    };
    let region = region(store, said.region.as_deref()).await?;
    let bootstrap = Bootstrap {
        access_key_id: said.access_key_id.clone(),
        secret_access_key: said.secret_access_key.clone(),
        account,
    };
    let iam = Iam::open(store.clone(), &data_dir.path("seal.key"), bootstrap, clock)
        .await
        .context("cannot read the keys")?;
    Ok(Identity { iam: iam.with_region(region.clone()), region })
}

async fn region(store: &Store, said: Option<&str>) -> Result<Region> {
    let wanted = match said {
        Some(text) => Region::parse(text).with_context(|| {
            format!("VIRGA_REGION={text} is not a region's name: lower-case letters, digits and dashes")
        })?,
        None => Region::default(),
    };
    let offered = wanted.clone();
    let kept: String = store
        .write(move |tx| -> Result<String, store::Error> {
            if let Some(kept) = tables::setting(tx, "region")? {
                return Ok(kept);
            }
            tables::set(tx, "region", offered.as_str())?;
            Ok(offered.as_str().to_owned())
        })
        .await?;
    if said.is_some() && kept != wanted.as_str() {
        tracing::warn!(
            region = kept,
            "VIRGA_REGION counts at the first start only; this server keeps its region"
        );
    }
    Region::parse(&kept).context("the database holds a region that cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_region_of_the_first_start_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("x.db"), &[tables::MIGRATIONS]).unwrap();
        assert_eq!(region(&store, Some("eu-west-3")).await.unwrap().as_str(), "eu-west-3");
        assert_eq!(region(&store, None).await.unwrap().as_str(), "eu-west-3");
        assert_eq!(region(&store, Some("us-west-2")).await.unwrap().as_str(), "eu-west-3");
        let error = region(&store, Some("No Region")).await.unwrap_err().to_string();
        assert!(error.contains("VIRGA_REGION=No Region"), "{error}");
    }
}
