//! Unpacked layers and images on disk.
//!
//! ```text
//! layers/HEX/tree/      a layer's files         layers/HEX/notes     what it takes away
//! images/HEX/rootfs/    an image's files, hard links into layers     images/HEX/image.json
//! .staging/             what is being made; emptied at start
//! ```
//!
//! A layer is named by the digest of its uncompressed archive, an image by that of its configuration, which lists its
//! layers: whatever has that name has that content. Both appear by a rename, synced, so they are whole or absent,
//! whatever ended the server. A layer stays while an image has it or a pull needs it; an image while the owner of the
//! store says so ([`Images::sweep`], [`Images::remove`]) or a pull holds it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::layer::Notes;
use crate::manifest::Config;
use crate::room::{Room, Taken};
use crate::{Digest, Error, Execution};

const STAGING: &str = ".staging";
const LAYERS: &str = "layers";
const IMAGES: &str = "images";
/// In an image's folder: its files.
const ROOTFS: &str = "rootfs";
/// In an image's folder: its layers and configuration.
const RECORD: &str = "image.json";

/// The folders, and who uses what.
pub(crate) struct Store {
    dir: PathBuf,
    /// What layers take.
    pub(crate) room: Arc<Room>,
    uses: Mutex<Uses>,
    /// Names what is being made.
    next: std::sync::atomic::AtomicU64,
}

/// How many need what.
#[derive(Default)]
struct Uses {
    /// Images and pulls.
    layers: HashMap<Digest, usize>,
    /// Pulls.
    leased: HashMap<Digest, usize>,
    /// Bytes of layers that are there.
    sizes: HashMap<Digest, u64>,
}

/// What is written beside an image's files.
#[derive(Serialize, Deserialize)]
struct Record {
    layers: Vec<Digest>,
    config: Box<RawValue>,
}

/// An image as it lies in the store.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its files.
    pub root: PathBuf,
    /// How it says it is run.
    pub execution: Execution,
}

impl Store {
    /// Opens or makes the folder; what was being made when the server died is gone afterwards.
    /// Layers take no more than so many bytes.
    pub(crate) fn open(dir: &Path, most_bytes: u64) -> Result<Arc<Self>, Error> {
        let opening = || format!("opening {}", dir.display());
        let staging = dir.join(STAGING);
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(Error::host(opening()))?;
        }
        for folder in [dir.to_owned(), staging, dir.join(LAYERS), dir.join(IMAGES)] {
            fs::create_dir_all(&folder).map_err(Error::host(opening()))?;
            // Instances run as other users, and see images through a mount; the data directory itself is closed.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
                .map_err(Error::host(opening()))?;
        }
        let room = Room::new(most_bytes);
        Ok(Arc::new(Self { dir: dir.to_owned(), room, uses: Mutex::default(), next: 0.into() }))
    }

    /// Removes every image but these, then every layer that no image has. Once, before anything is pulled.
    pub(crate) fn sweep(&self, keep: &dyn Fn(&Digest) -> bool) -> Result<(), Error> {
        let mut uses = Uses::default();
        for (name, path) in self.list(IMAGES)? {
            let record = name.as_ref().filter(|id| keep(id)).and_then(|id| self.record(id).ok());
            match record {
                Some(record) => {
                    record.layers.into_iter().for_each(|layer| *uses.layers.entry(layer).or_default() += 1);
                }
                None => self.remove_folder(&path)?,
            }
        }
        for (name, path) in self.list(LAYERS)? {
            match name.filter(|name| uses.layers.contains_key(name)) {
                Some(name) => drop(uses.sizes.insert(name, Notes::read(&path)?.bytes)),
                None => self.remove_folder(&path)?,
            }
        }
        self.room.set(uses.sizes.values().sum());
        *self.uses.lock() = uses;
        Ok(())
    }

    fn list(&self, kind: &str) -> Result<Vec<(Option<Digest>, PathBuf)>, Error> {
        let listing = || format!("listing {kind}");
        let mut found = Vec::new();
        for entry in fs::read_dir(self.dir.join(kind)).map_err(Error::host(listing()))? {
            let entry = entry.map_err(Error::host(listing()))?;
            found.push((entry.file_name().to_str().and_then(Digest::from_hex), entry.path()));
        }
        Ok(found)
    }

    /// Out of sight first, so that a half-removed one is never taken for a whole.
    fn remove_folder(&self, path: &Path) -> Result<(), Error> {
        let hidden = self.staging_path();
        match fs::rename(path, &hidden) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::host("removing what is not used")(error)),
        }
        fs::remove_dir_all(&hidden).map_err(Error::host("removing what is not used"))
    }

    fn staging_path(&self) -> PathBuf {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.dir.join(STAGING).join(number.to_string())
    }

    /// A layer's folder.
    pub(crate) fn layer(&self, diff: &Digest) -> PathBuf {
        self.dir.join(LAYERS).join(diff.hex())
    }

    /// An image's folder.
    pub(crate) fn image(&self, id: &Digest) -> PathBuf {
        self.dir.join(IMAGES).join(id.hex())
    }

    fn record(&self, id: &Digest) -> Result<Record, Error> {
        let path = self.image(id).join(RECORD);
        let bytes = fs::read(&path).map_err(Error::host("reading an image's record"))?;
        let reading =
            |error: serde_json::Error| Error::host("reading an image's record")(io::Error::from(error));
        serde_json::from_slice(&bytes).map_err(reading)
    }

    /// The images, with their folders.
    pub(crate) fn images(&self) -> Result<Vec<(Digest, PathBuf)>, Error> {
        Ok(self.list(IMAGES)?.into_iter().filter_map(|(id, folder)| Some((id?, folder))).collect())
    }

    /// An image's layers.
    pub(crate) fn layers_of(&self, id: &Digest) -> Result<Vec<Digest>, Error> {
        self.record(id).map(|record| record.layers)
    }

    /// An image's files, in its folder.
    pub(crate) fn rootfs(image: &Path) -> PathBuf {
        image.join(ROOTFS)
    }

    /// An image that is there.
    pub(crate) fn find(&self, id: &Digest) -> Option<Stored> {
        let record = self.record(id).ok()?;
        let config = Config::parse(record.config.get().as_bytes(), record.layers.len()).ok()?;
        Some(Stored { root: self.image(id).join(ROOTFS), execution: Execution::of(&config) })
    }

    /// Keeps an image and its layers, there or to come, from being removed.
    pub(crate) fn lease(self: &Arc<Self>, id: &Digest, layers: &[Digest]) -> Lease {
        let mut uses = self.uses.lock();
        *uses.leased.entry(id.clone()).or_default() += 1;
        layers.iter().for_each(|layer| *uses.layers.entry(layer.clone()).or_default() += 1);
        Lease { store: Arc::clone(self), id: id.clone(), layers: layers.to_vec() }
    }

    /// Removes an image, and the layers that only it had. One that a pull holds stays. Blocking.
    pub(crate) fn remove(&self, id: &Digest) -> Result<(), Error> {
        let (record, hidden) = {
            let uses = self.uses.lock();
            if uses.leased.contains_key(id) {
                return Ok(());
            }
            let Ok(record) = self.record(id) else { return Ok(()) };
            let hidden = self.staging_path();
            fs::rename(self.image(id), &hidden).map_err(Error::host("removing an image"))?;
            (record, hidden)
        };
        fs::remove_dir_all(&hidden).map_err(Error::host("removing an image"))?;
        self.let_go(&record.layers)
    }

    /// Removes the layers that nobody needs any more.
    fn let_go(&self, layers: &[Digest]) -> Result<(), Error> {
        for layer in layers {
            let hidden = self.staging_path();
            let bytes = {
                let mut uses = self.uses.lock();
                let Some(count) = uses.layers.get_mut(layer) else { continue };
                *count -= 1;
                if *count > 0 {
                    continue;
                }
                uses.layers.remove(layer);
                let bytes = uses.sizes.remove(layer).unwrap_or(0);
                // Under the lock, so that a pull that comes now makes it anew.
                match fs::rename(self.layer(layer), &hidden) {
                    Ok(()) => bytes,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(Error::host("removing a layer")(error)),
                }
            };
            fs::remove_dir_all(&hidden).map_err(Error::host("removing a layer"))?;
            self.room.give_back(bytes);
        }
        Ok(())
    }

    /// A folder to make something in.
    pub(crate) fn stage(&self) -> Result<Staged, Error> {
        let path = self.staging_path();
        fs::create_dir(&path).map_err(Error::host("making a folder"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Error::host("making a folder"))?;
        Ok(Staged { path })
    }

    /// Puts a layer in its place, for which room was taken. Its lease is the caller's. Blocking.
    pub(crate) fn keep_layer(&self, staged: Staged, diff: &Digest, taken: Taken) -> Result<(), Error> {
        let bytes = Notes::read(&staged.path)?.bytes;
        if staged.rename_to(&self.layer(diff))? {
            self.uses.lock().sizes.insert(diff.clone(), bytes);
            taken.keep(bytes);
        }
        Ok(())
    }

    /// A folder for the files of an image that is being made.
    pub(crate) fn stage_rootfs(staged: &Staged) -> Result<PathBuf, Error> {
        let rootfs = staged.path.join(ROOTFS);
        fs::create_dir(&rootfs).map_err(Error::host("making a folder"))?;
        Ok(rootfs)
    }

    /// Puts an image in its place; its lease is the caller's. Blocking.
    pub(crate) fn keep_image(
        &self,
        staged: Staged,
        id: &Digest,
        layers: &[Digest],
        config: &[u8],
    ) -> Result<(), Error> {
        let writing =
            |error: serde_json::Error| Error::host("writing an image's record")(io::Error::from(error));
        let config = serde_json::from_slice(config).map_err(writing)?;
        let record = serde_json::to_vec(&Record { layers: layers.to_vec(), config }).map_err(writing)?;
        fs::write(staged.path.join(RECORD), record).map_err(Error::host("writing an image's record"))?;
        staged.sync()?;
        let mut uses = self.uses.lock();
        let place = self.image(id);
        if place.exists() {
            // Made by another pull meanwhile.
            drop(uses);
            return staged.discard();
        }
        fs::rename(&staged.path, &place).map_err(Error::host("keeping an image"))?;
        layers.iter().for_each(|layer| *uses.layers.entry(layer.clone()).or_default() += 1);
        drop(uses);
        staged.kept(&place)
    }
}

/// Keeps an image and its layers from being removed.
pub(crate) struct Lease {
    store: Arc<Store>,
    id: Digest,
    layers: Vec<Digest>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        {
            let mut uses = self.store.uses.lock();
            if let Some(count) = uses.leased.get_mut(&self.id) {
                *count -= 1;
                if *count == 0 {
                    uses.leased.remove(&self.id);
                }
            }
        }
        let (store, layers) = (Arc::clone(&self.store), std::mem::take(&mut self.layers));
        let let_go = move || {
            if let Err(error) = store.let_go(&layers) {
                let detail = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, detail, "an unused layer could not be removed");
            }
        };
        // Removing a tree may take a while.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(let_go)),
            Err(_) => let_go(),
        }
    }
}

/// A folder under staging; removed with the value unless it was renamed away.
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
}

impl Staged {
    fn sync(&self) -> Result<(), Error> {
        let folder = fs::File::open(&self.path).map_err(Error::host("syncing"))?;
        // One call for all files, of which an image may have a hundred thousand.
        rustix::fs::syncfs(&folder).map_err(Error::host("writing an image to the disk"))
    }

    /// Whether it came to be there by this.
    fn rename_to(self, place: &Path) -> Result<bool, Error> {
        self.sync()?;
        match fs::rename(&self.path, place) {
            Ok(()) => self.kept(place).map(|()| true),
            // Another pull was faster; what has this name has this content.
            Err(_) if place.is_dir() => self.discard().map(|()| false),
            Err(error) => Err(Error::host("keeping a layer")(error)),
        }
    }

    /// After the rename: the name is to be on the disk too.
    fn kept(self, place: &Path) -> Result<(), Error> {
        let around = place.parent().unwrap_or(place);
        let folder = fs::File::open(around).map_err(Error::host("syncing"))?;
        folder.sync_all().map_err(Error::host("writing an image to the disk"))
    }

    fn discard(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.path).map_err(Error::host("removing a folder"))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "a staging folder could not be removed"),
        }
    }
}
