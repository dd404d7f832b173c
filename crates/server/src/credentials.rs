//! The file with the first keys: written once, since nothing else tells them.
//!
//! That it was written is noted in the database, and only after it is on the disk. A server that dies before the
//! note, whenever that is, writes the file at its next start; a file that its owner removed stays away.

use std::io::IsTerminal;

use anyhow::Result;
use iam::Iam;
use store::Store;

use crate::data_dir::DataDir;
use crate::tables;

/// The setting that says so.
const WRITTEN: &str = "credentials_written";

/// Writes the credentials file if it never was; later only brings one that is still there up to date.
pub(crate) async fn keep(
    store: &Store,
    data_dir: &DataDir,
    iam: &Iam,
    region: &str,
    url: &str,
) -> Result<()> {
    let file = data_dir.path("credentials");
    let written: Option<String> = store.read(|tx| tables::setting(tx, WRITTEN)).await?;
    if written.is_some() && !file.exists() {
        return Ok(());
    }
    let keys = iam.first_credentials();
    data_dir.write_credentials(&keys, region, url)?;
    if written.is_some() {
        return Ok(());
    }
    store.write(|tx| tables::set(tx, WRITTEN, "yes")).await?;
    tracing::info!(account = %iam.first_account(), file = %file.display(), "first start: the keys are in this file");
    if std::io::stderr().is_terminal() {
        eprintln!("access key: {}\nsecret key: {}", keys.access_key_id, keys.secret_access_key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use base::SystemClock;
    use iam::Bootstrap;

    use super::*;

    /// What a start does up to the keys; the server may die after it.
    async fn opened(root: &Path) -> (DataDir, Store, Iam) {
        let data_dir = DataDir::open(root).unwrap();
        let schema = [iam::MIGRATIONS, tables::MIGRATIONS];
        let store = Store::open(&data_dir.path("virga.db"), &schema).unwrap();
        let key_file = data_dir.path("seal.key");
        let iam = Iam::open(store.clone(), &key_file, Bootstrap::default(), Arc::new(SystemClock)).await;
        (data_dir, store, iam.unwrap())
    }

    async fn start(root: &Path, url: &str) -> Option<String> {
        let (data_dir, store, iam) = opened(root).await;
        keep(&store, &data_dir, &iam, "us-east-1", url).await.unwrap();
        let text = std::fs::read_to_string(data_dir.path("credentials")).ok();
        let secret = iam.first_credentials().secret_access_key;
        assert!(text.as_ref().is_none_or(|text| text.contains(&secret)));
        text
    }

    #[tokio::test]
    async fn a_start_that_was_cut_short_is_made_up_for() {
        let root = tempfile::tempdir().unwrap();
        drop(opened(root.path()).await);
        assert!(start(root.path(), "http://one").await.unwrap().contains("http://one"));
        // The file without the note is written once more, with the same keys.
        let root = tempfile::tempdir().unwrap();
        let (data_dir, _, iam) = opened(root.path()).await;
        data_dir.write_credentials(&iam.first_credentials(), "us-east-1", "http://one").unwrap();
        assert!(start(root.path(), "http://two").await.unwrap().contains("http://two"));
    }

    #[tokio::test]
    async fn a_file_that_was_removed_stays_away() {
        let root = tempfile::tempdir().unwrap();
        assert!(start(root.path(), "http://one").await.is_some());
        assert!(start(root.path(), "http://two").await.unwrap().contains("http://two"), "kept up to date");
        std::fs::remove_file(root.path().join("credentials")).unwrap();
        assert_eq!(start(root.path(), "http://three").await, None);
    }
}
