//! Packages on disk: blobs as uploaded, and the folders they unpack to.
//!
//! A package's folder is `code_dir/<digest>` and appears by a rename, so it is whole or absent. A package is
//! kept while a version refers to it or an upload has it pinned; both are counts under one short lock, and
//! files are made and removed under a lock per digest, so that a removal never meets a new upload of the
//! same bytes. What a crash leaves is removed when the store is opened.
//!
//! What back ends made of a package goes first and its blob last, so that as long as anything is left the next
//! start finds the digest.
//!
//! `code_dir` itself lies in the data directory, which only the server's user may enter; inside, everything is
//! readable by all, because instances run as other users and see it through a mount.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::AccountId;
use bytes::Bytes;
use parking_lot::Mutex;
use sandbox::{Artifact, Backend};
use sha2::{Digest, Sha256};
use store::Blobs;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::image::{self, ImageError, ImageProblem, Images, Pulled};
use crate::layers::AttachedLayer;
use crate::layers::tree::{self, Shown};
use crate::model::{CodeRef, Configuration, ImageCode};
use crate::package;
use crate::settings::Tags;
use crate::version;
use crate::{Error, limits};

/// Where half-unpacked packages are, inside `code_dir`.
const STAGING: &str = ".staging";

/// Cheap to share behind an `Arc`.
pub(crate) struct CodeStore {
    dir: PathBuf,
    blobs: Blobs,
    backends: Vec<Arc<dyn Backend>>,
    images: Option<Arc<dyn Images>>,
    unpacking: Arc<Semaphore>,
    counts: Mutex<HashMap<String, usize>>,
    file_locks: [tokio::sync::Mutex<()>; 16],
}

impl CodeStore {
    /// Opens or makes the folder; what was being unpacked when the server died is gone afterwards.
    pub(crate) fn open(
        dir: PathBuf,
        blobs: Blobs,
        backends: Vec<Arc<dyn Backend>>,
        images: Option<Arc<dyn Images>>,
    ) -> Result<Self, Error> {
        fs::create_dir_all(&dir).map_err(Error::internal)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(Error::internal)?;
        let staging = dir.join(STAGING);
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(Error::internal)?;
        }
        fs::create_dir(&staging).map_err(Error::internal)?;
        Ok(Self {
            dir,
            blobs,
            backends,
            images,
            unpacking: Arc::new(Semaphore::new(limits::UNPACKING_AT_ONCE)),
            counts: Mutex::default(),
            file_locks: Default::default(),
        })
    }

    /// The folder of a package.
    pub(crate) fn folder(&self, digest: &str) -> PathBuf {
        self.dir.join(digest)
    }

    /// Whoever fetches images.
    pub(crate) fn images(&self) -> Result<&Arc<dyn Images>, Error> {
        self.images.as_ref().ok_or_else(|| Error::Invalid("This server takes no container images.".into()))
    }

    /// What a configuration runs. Fails for an image that is not there.
    pub(crate) fn artifact(&self, configuration: &Configuration) -> Result<Artifact, Error> {
        let digest = &configuration.code.digest;
        match image::id_of(digest) {
            Some(id) => {
                let found = self.images()?.find(id);
                let found =
                    found.ok_or_else(|| Error::internal(format!("the image {id} is not in the store")))?;
                Ok(image::artifact(configuration, found))
            }
            None => {
                let artifact = version::artifact(configuration, self.folder(digest))?;
                Ok(Artifact { layers: self.shown_of(&configuration.layers), ..artifact })
            }
        }
    }

    /// What `/opt` shows, where there are layers.
    fn shown_of(&self, layers: &[AttachedLayer]) -> Option<PathBuf> {
        match tree::shown(layers) {
            Shown::Nothing => None,
            Shown::One(key) | Shown::Several(key) => Some(self.folder(&key)),
        }
    }

    /// The tags, with what the image lets us guess where it is there.
    pub(crate) fn guessed_tags(&self, configuration: &Configuration, tags: &Tags) -> Tags {
        let id = image::id_of(&configuration.code.digest);
        let found = id.zip(self.images.as_ref()).and_then(|(id, images)| images.find(id));
        match found {
            Some(found) => {
                let ports = found.ports.clone();
                image::guessed(tags, &image::artifact(configuration, found), &ports)
            }
            None => tags.clone(),
        }
    }

    /// Fetches an image for an account, or the very one that was fetched before. It stays until what is counted for it here
    /// ([`CodeStore::release`] of its key) is taken back.
    pub(crate) async fn pull(&self, account: &AccountId, code: &ImageCode) -> Result<Pulled, ImageError> {
        let unavailable =
            |error: Error| ImageError { problem: ImageProblem::Invalid, text: error.to_string() };
        let images = self.images().map_err(unavailable)?;
        let pulled = images.pull(account, &code.uri, code.digest.as_deref()).await?;
        let key = image::key(&pulled.id);
        self.retain(&key);
        // A removal that saw no use for it is over after this, and has left it alone, since the pull holds it.
        drop(self.file_lock(&key).lock().await);
        Ok(pulled)
    }

    /// The package as uploaded.
    pub(crate) async fn package(&self, digest: &str) -> Result<Bytes, Error> {
        self.blobs.get(digest).await?.ok_or_else(|| Error::internal(format!("package {digest} is missing")))
    }

    /// Counts one more version that refers to the package.
    pub(crate) fn retain(&self, digest: &str) {
        *self.counts.lock().entry(digest.to_owned()).or_default() += 1;
    }

    /// Counts one fewer. Nothing is removed before [`CodeStore::collect`].
    pub(crate) fn release(&self, digest: &str) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                counts.remove(digest);
            }
        }
    }

    fn is_referred_to(&self, digest: &str) -> bool {
        self.counts.lock().contains_key(digest)
    }

    /// Waits until a package may be unpacked. Wait for it in the caller's own task, where the wait and the package
    /// end with a caller who hangs up: what runs regardless is then bounded.
    pub(crate) async fn turn(&self) -> Result<Turn, Error> {
        Arc::clone(&self.unpacking).acquire_owned().await.map_err(Error::internal)
    }

    /// Checks a package without keeping anything of it.
    pub(crate) async fn check(&self, turn: Turn, zip: Bytes) -> Result<CodeRef, Error> {
        let (code, staged) = self.unpack(turn, zip).await?;
        staged.discard().await;
        Ok(code)
    }

    /// Takes a package in: durable as a blob, unpacked in its folder. It stays while the pin or a version does.
    pub(crate) async fn take_in(self: &Arc<Self>, turn: Turn, zip: Bytes) -> Result<Pin, Error> {
        let (code, staged) = self.unpack(turn, zip.clone()).await?;
        self.retain(&code.digest);
        let pin = Pin { store: Arc::clone(self), code };
        let kept = self.keep(zip, &pin.code.digest, staged).await;
        match kept {
            Ok(()) => Ok(pin),
            Err(error) => {
                pin.let_go().await;
                Err(error)
            }
        }
    }

    async fn keep(&self, zip: Bytes, digest: &str, staged: Staged) -> Result<(), Error> {
        let _files = self.file_lock(digest).lock().await;
        self.blobs.put(zip).await?;
        let folder = self.folder(digest);
        if folder.exists() {
            staged.discard().await;
            return Ok(());
        }
        staged.rename_to(&folder)
    }

    /// Makes the folder of a package that is referred to again from the blob, if it is not there.
    pub(crate) async fn restore(&self, digest: &str) -> Result<(), Error> {
        let _files = self.file_lock(digest).lock().await;
        let folder = self.folder(digest);
        if folder.exists() {
            return Ok(());
        }
        // What was collected meanwhile must not come back: nobody would remove it.
        if !self.is_referred_to(digest) {
            return Err(Error::internal(format!("package {digest} is not in use any more")));
        }
        let (code, staged) = self.unpack(self.turn().await?, self.package(digest).await?).await?;
        if code.digest != digest {
            return Err(Error::internal(format!("package {digest} does not hold what its name says")));
        }
        staged.rename_to(&folder)
    }

    /// Makes what `/opt` shows of these layers, where it is not there.
    pub(crate) async fn restore_layers(&self, layers: &[AttachedLayer]) -> Result<(), Error> {
        for layer in layers {
            self.restore(&layer.code.digest).await?;
        }
        let Shown::Several(key) = tree::shown(layers) else { return Ok(()) };
        let _files = self.file_lock(&key).lock().await;
        let folder = self.folder(&key);
        if folder.exists() {
            return Ok(());
        }
        if !self.is_referred_to(&key) {
            return Err(Error::internal(format!("{key} is not in use any more")));
        }
        let from: Vec<PathBuf> = layers.iter().map(|layer| self.folder(&layer.code.digest)).collect();
        let (staged, turn) = (Staged::new(&self.dir)?, self.turn().await?);
        let merged = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            tree::merge(&from, &staged.path).map_err(Error::internal)?;
            staged.sync()?;
            Ok::<_, Error>(staged)
        });
        merged.await.map_err(Error::internal)??.rename_to(&folder)
    }

    /// Removes the package if nothing refers to it any more.
    pub(crate) async fn collect(&self, digest: &str) {
        let _files = self.file_lock(digest).lock().await;
        if self.is_referred_to(digest) {
            return;
        }
        if let Some(id) = image::id_of(digest) {
            self.remove_image(id).await;
            return;
        }
        if tree::is_key(digest) {
            if let Err(error) = remove_folder(self.folder(digest)).await {
                tracing::warn!(digest, %error, "a tree of unused layers could not be removed");
            }
            return;
        }
        self.forget(digest).await;
        let folder = self.folder(digest);
        if let Err(error) = remove_folder(folder).await {
            tracing::warn!(digest, %error, "the folder of an unused package could not be removed");
        }
        if let Err(error) = self.blobs.remove(digest).await {
            tracing::warn!(digest, %error, "an unused package could not be removed");
        }
    }

    async fn remove_image(&self, id: &str) {
        let (Some(images), id) = (self.images.clone(), id.to_owned()) else { return };
        // It fails only where the runtime is going down, and then the next start does it.
        let _ = tokio::task::spawn_blocking(move || images.remove(&id)).await;
    }

    async fn sweep_images(&self, referenced: &HashSet<String>) -> Result<(), Error> {
        let Some(images) = self.images.clone() else { return Ok(()) };
        let wanted = referenced.iter().filter_map(|key| image::id_of(key)).map(str::to_owned).collect();
        let swept =
            tokio::task::spawn_blocking(move || images.sweep(&wanted)).await.map_err(Error::internal)?;
        swept.map_err(|error| Error::internal(error.text))
    }

    /// Removes every package but these, and makes missing folders again. At start.
    pub(crate) async fn sweep(&self, referenced: &HashSet<String>) -> Result<(), Error> {
        self.sweep_images(referenced).await?;
        let unused: Vec<String> =
            self.blobs.list().await?.into_iter().filter(|digest| !referenced.contains(digest)).collect();
        for digest in &unused {
            self.forget(digest).await;
        }
        self.sweep_folders(referenced).await?;
        for digest in &unused {
            self.blobs.remove(digest).await?;
        }
        Ok(())
    }

    async fn sweep_folders(&self, referenced: &HashSet<String>) -> Result<(), Error> {
        let mut present = HashSet::new();
        for entry in fs::read_dir(&self.dir).map_err(Error::internal)? {
            let name = entry.map_err(Error::internal)?.file_name().to_string_lossy().into_owned();
            if name == STAGING {
                continue;
            }
            if referenced.contains(&name) {
                present.insert(name);
            } else {
                remove_folder(self.dir.join(&name)).await.map_err(Error::internal)?;
            }
        }
        // Trees of layers are made once their layers are there.
        let is_package = |key: &&String| image::id_of(key).is_none() && !tree::is_key(key);
        let packages = referenced.difference(&present).filter(is_package);
        for digest in packages {
            if let Err(error) = self.restore(digest).await {
                tracing::error!(digest, %error, "a package could not be unpacked again");
            }
        }
        Ok(())
    }

    /// Has every back end remove what it made of a package.
    async fn forget(&self, digest: &str) {
        let (backends, digest) = (self.backends.clone(), digest.to_owned());
        let forgotten = tokio::task::spawn_blocking(move || {
            backends.iter().for_each(|backend| backend.forget(&digest));
        });
        // It fails only where the runtime is going down, and then the next start does it.
        let _ = forgotten.await;
    }

    async fn unpack(&self, turn: Turn, zip: Bytes) -> Result<(CodeRef, Staged), Error> {
        let staged = Staged::new(&self.dir)?;
        // The folder's guard goes with the work, and so does the turn: a caller that gives up ends neither.
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            package::unpack(&zip, &staged.path)?;
            staged.sync()?;
            let digest = hex::encode(Sha256::digest(&zip));
            Ok((CodeRef { digest, size: zip.len() as u64 }, staged))
        })
        .await
        .map_err(Error::internal)?
    }

    fn file_lock(&self, digest: &str) -> &tokio::sync::Mutex<()> {
        let first = image::id_of(digest).unwrap_or(digest).bytes().next().unwrap_or_default();
        &self.file_locks[usize::from(first) % self.file_locks.len()]
    }
}

/// The right to unpack one package.
pub(crate) type Turn = OwnedSemaphorePermit;

/// Keeps a package that no version refers to yet.
pub(crate) struct Pin {
    store: Arc<CodeStore>,
    pub(crate) code: CodeRef,
}

impl Pin {
    /// Gives the pin up; the package goes unless a version refers to it by now.
    pub(crate) async fn let_go(self) {
        self.store.release(&self.code.digest);
        self.store.collect(&self.code.digest).await;
    }
}

/// A folder under staging; removed with the value unless it was renamed away.
struct Staged {
    path: PathBuf,
}

impl Staged {
    fn new(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(STAGING).join(base::RequestId::random().to_string());
        fs::create_dir(&path).map_err(Error::internal)?;
        let staged = Self { path };
        fs::set_permissions(&staged.path, fs::Permissions::from_mode(0o755)).map_err(Error::internal)?;
        Ok(staged)
    }

    /// A folder that has its final name is whole even after a crash of the host. One call for all of its files,
    /// of which a package may have tens of thousands.
    fn sync(&self) -> Result<(), Error> {
        let folder = fs::File::open(&self.path).map_err(Error::internal)?;
        rustix::fs::syncfs(&folder).map_err(Error::internal)
    }

    /// Removes the folder off the async threads.
    async fn discard(self) {
        // It fails only where the runtime is going down, and then the next start cleans up.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    fn rename_to(self, folder: &Path) -> Result<(), Error> {
        fs::rename(&self.path, folder).map_err(Error::internal)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "a staging folder could not be removed"),
        }
    }
}

async fn remove_folder(folder: PathBuf) -> std::io::Result<()> {
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(folder)).await;
    match removed.map_err(std::io::Error::other)? {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn package() -> Bytes {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        writer.start_file("index.py", zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(b"x").unwrap();
        writer.finish().unwrap().into_inner().into()
    }

    #[tokio::test]
    async fn a_folder_is_made_again_once_and_only_for_what_is_referred_to() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
        let code = CodeStore::open(dir.path().join("code"), blobs.clone(), Vec::new(), None).unwrap();
        let digest = blobs.put(package()).await.unwrap();
        assert!(code.restore(&digest).await.is_err(), "a version that waited for this was deleted");
        assert!(!code.folder(&digest).exists());
        code.retain(&digest);
        let (first, second) = tokio::join!(code.restore(&digest), code.restore(&digest));
        assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
        assert!(code.folder(&digest).join("index.py").exists());
        assert_eq!(fs::read_dir(code.dir.join(STAGING)).unwrap().count(), 0);
    }
}
