//! Images that functions start from before they are all there.
//!
//! A layer whose archive was written for it (eStargz, as `virga build` does) has a table of contents at its end, and a digest
//! of that in the manifest. From the table alone the layer's tree is made, its files as holes ([`index`]); the image is put together
//! of links as always (`merge`), and shown to instances through a file system that has the bytes there before it gives them
//! ([`view`], `fuse`). A layer without a table, or a small one, is fetched whole before.
//!
//! Once everything has come, in the background or because it was used, the image is one like any other: the file system is taken
//! away from in front of the tree, and instances that start from then on see the tree itself. Instances that run keep what
//! they have.
//!
//! Invariants: bytes reach an instance only after they had the digest that the table says, and the table the one that the manifest
//! says. A layer made so is never taken for one that was checked by its archive's digest: they have different names in the store,
//! and so have images. Where the file system cannot be shown, or a registry gives no parts, images are fetched whole.

mod bring;
pub(crate) mod index;
pub(crate) mod meter;
pub(crate) mod partial;
pub(crate) mod plan;
pub(crate) mod remote;
#[cfg(test)]
mod tests;
pub(crate) mod toc;
mod touched;
pub(crate) mod view;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::reference::{Name, Reference};
use crate::registry::Connector;
use crate::store::Store;
use crate::{Digest, Error, Settings, fuse, limits};
use meter::Meter;
use partial::Partial;
use remote::Remote;
use touched::Touched;
use view::View;

/// In an image's folder: where the parts that it lacks come from. Removed when it lacks none.
const ORIGIN: &str = "parts-from";
/// In an image's folder: its files where they could not be shown, so that nobody takes holes for content.
const HOLLOW: &str = "hollow";
/// In the store's folder: what was used of layers.
const TOUCHED: &str = "touched";

/// Shows file systems of this process to instances: what only a privileged process can do.
pub trait Mounter: Send + Sync {
    /// Puts a file system over a folder, as instances see it and nobody else; the device that its requests come from.
    ///
    /// # Errors
    /// The host cannot do it.
    fn mount(&self, folder: &Path) -> io::Result<OwnedFd>;

    /// Takes it away again for instances that start from now on.
    ///
    /// # Errors
    /// There is none.
    fn unmount(&self, folder: &Path) -> io::Result<()>;
}

/// Hears, for an image, what went wrong with its parts.
pub type Listener = Arc<dyn Fn(&Digest, &str) + Send + Sync>;

/// The images that are not all there.
pub(crate) struct Lazy {
    store: Arc<Store>,
    connector: Connector,
    credentials: Option<PathBuf>,
    mounter: Option<Arc<dyn Mounter>>,
    completes: bool,
    listener: Option<Listener>,
    meter: Arc<dyn Meter>,
    touched: PathBuf,
    /// Whether the host can show them; found out at start.
    mountable: AtomicBool,
    shown: Mutex<HashMap<Digest, Shown>>,
    layers: Mutex<HashMap<Digest, Weak<Partial>>>,
}

/// An image that is shown, and what goes on for it.
struct Shown {
    view: Arc<View>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Lazy {
    pub(crate) fn new(store: &Arc<Store>, connector: &Connector, settings: &Settings) -> Result<Self, Error> {
        let touched = settings.dir.join(TOUCHED);
        fs::create_dir_all(&touched).map_err(Error::host("making a folder"))?;
        touched::tidy(&touched);
        Ok(Self {
            store: Arc::clone(store),
            connector: connector.clone(),
            credentials: settings.credentials.clone(),
            mounter: settings.mounter.clone(),
            completes: settings.completes,
            listener: settings.listener.clone(),
            meter: settings.meter.clone().unwrap_or_else(|| Arc::new(meter::Nobody)),
            touched,
            mountable: AtomicBool::new(false),
            shown: Mutex::default(),
            layers: Mutex::default(),
        })
    }

    /// How much an image may list that is begun before it is all there: all of them have a thread, descriptors and memory here.
    /// `None` where there can be no further one.
    pub(crate) fn room(&self) -> Option<u64> {
        if !self.mountable.load(Ordering::Relaxed) {
            return None;
        }
        let shown = self.shown.lock();
        let entries = shown.values().map(|shown| shown.view.entries()).sum::<u64>();
        (shown.len() < limits::SHOWN).then(|| limits::SHOWN_ENTRIES.saturating_sub(entries))
    }

    /// How long instances have waited for bytes of an image; `None` if it is all there.
    pub(crate) fn waited(&self, id: &Digest) -> Option<Duration> {
        self.shown.lock().get(id).map(|shown| shown.view.remote.waited())
    }

    /// Where an image's parts come from, as [`Lazy::resume`] reads it. In the folder of an image that is being made.
    pub(crate) fn note_origin(image: &Path, name: &str) -> Result<(), Error> {
        fs::write(image.join(ORIGIN), name).map_err(Error::host("writing where an image is from"))
    }

    /// Finds out whether the host can do it, and goes on with the images that were not complete. Once, at start.
    /// Blocking.
    pub(crate) fn resume(self: &Arc<Self>) -> Result<(), Error> {
        let Some(mounter) = &self.mounter else { return self.resume_all() };
        let staged = self.store.stage()?;
        match mounter.mount(&staged.path) {
            Ok(device) => {
                drop(device);
                let _ = mounter.unmount(&staged.path);
                self.mountable.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::info!(%error, "images are fetched whole: the host shows no file systems of ours")
            }
        }
        drop(staged);
        self.resume_all()
    }

    fn resume_all(self: &Arc<Self>) -> Result<(), Error> {
        for (id, folder) in self.store.images()? {
            let Ok(origin) = fs::read_to_string(folder.join(ORIGIN)) else { continue };
            if let Err(error) = self.resume_one(&id, &folder, &origin) {
                let detail = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(image = %id, %error, detail, "an image cannot be completed");
                // Nobody may see it as it is.
                let _ = fs::rename(Store::rootfs(&folder), folder.join(HOLLOW));
            }
        }
        Ok(())
    }

    fn resume_one(self: &Arc<Self>, id: &Digest, folder: &Path, origin: &str) -> Result<(), Error> {
        let Reference::Registry(name) = Reference::parse(origin)? else {
            return Err(Error::Reference(format!("{origin} is in no registry")));
        };
        let (rootfs, hollow) = (Store::rootfs(folder), folder.join(HOLLOW));
        if hollow.is_dir() {
            fs::rename(&hollow, &rootfs).map_err(Error::host("moving an image's files"))?;
        }
        let mut layers = Vec::new();
        for layer in self.store.layers_of(id)? {
            if index::is_partial(&self.store.layer(&layer)) {
                layers.push(self.layer(&layer, false)?);
            }
        }
        let view = Arc::new(View::open(id, &rootfs, layers, self.remote(id, &name))?);
        self.show(view, folder)
    }

    /// A layer of the store that is not all there.
    pub(crate) fn layer(&self, key: &Digest, fresh: bool) -> Result<Arc<Partial>, Error> {
        let mut layers = self.layers.lock();
        if let Some(layer) = layers.get(key).and_then(Weak::upgrade) {
            return Ok(layer);
        }
        layers.retain(|_, layer| layer.strong_count() > 0);
        let touched = Touched::read(&self.touched, key);
        let layer = Arc::new(Partial::open(&self.store.layer(key), touched, fresh)?);
        layers.insert(key.clone(), Arc::downgrade(&layer));
        Ok(layer)
    }

    /// Where an image's parts come from.
    pub(crate) fn remote(&self, id: &Digest, name: &Name) -> Arc<Remote> {
        let (listener, id) = (self.listener.clone(), id.clone());
        let complain = move |text: &str| {
            if let Some(listener) = &listener {
                listener(&id, text);
            }
        };
        let (connector, credentials) = (self.connector.clone(), self.credentials.clone());
        let meter = Arc::clone(&self.meter);
        Arc::new(Remote::new(connector, name.clone(), credentials, Arc::new(complain), meter))
    }

    /// Shows an image of the store to instances, and has it completed. Where the host cannot show it, it is out of sight until
    /// it is complete. Blocking.
    pub(crate) fn show(self: &Arc<Self>, view: Arc<View>, folder: &Path) -> Result<(), Error> {
        let rootfs = Store::rootfs(folder);
        let mounted = match &self.mounter {
            Some(mounter) => mounter.mount(&rootfs),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        let served = mounted.and_then(|device| fuse::serve(device, view.clone(), Handle::current()));
        let is_hidden = served.is_err();
        if let Err(error) = served {
            tracing::warn!(image = %view.id, %error, "an image cannot be shown before it is complete");
            fs::rename(&rootfs, folder.join(HOLLOW)).map_err(Error::host("hiding an image's files"))?;
        }
        let keeper = tokio_spawn(keep(Arc::clone(self), Arc::downgrade(&view), folder.to_owned()));
        let completer = tokio_spawn(complete(Arc::downgrade(&view), self.completes || is_hidden));
        let id = view.id.clone();
        self.shown.lock().insert(id, Shown { view, tasks: vec![keeper, completer] });
        Ok(())
    }

    /// An image is about to be removed.
    pub(crate) fn forget(&self, id: &Digest) {
        let shown = self.shown.lock().remove(id);
        if let Some(shown) = shown {
            shown.view.layers.iter().for_each(|layer| layer.touched.lock().keep());
        }
    }

    /// All of an image has come: from now on it is one like any other. Blocking.
    fn finish(&self, view: &View, folder: &Path) -> Result<(), Error> {
        for layer in &view.layers {
            layer.complete()?;
        }
        let finishing = || Error::host("completing an image");
        let rootfs = Store::rootfs(folder);
        if folder.join(HOLLOW).is_dir() {
            fs::rename(folder.join(HOLLOW), &rootfs).map_err(|error| finishing()(error))?;
        }
        fs::remove_file(folder.join(ORIGIN)).map_err(|error| finishing()(error))?;
        if let Some(mounter) = &self.mounter {
            // There may be none; who starts meanwhile sees the same files either way.
            let _ = mounter.unmount(&rootfs);
        }
        tracing::info!(image = %view.id, bytes = view.remote.fetched(), "an image is complete");
        Ok(())
    }
}

fn tokio_spawn(work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    Handle::current().spawn(work).abort_handle()
}

/// Writes down what is used, and sees when all has come.
async fn keep(lazy: Arc<Lazy>, view: Weak<View>, folder: PathBuf) {
    let mut pause = limits::KEEP;
    loop {
        tokio::time::sleep(pause).await;
        let Some(view) = view.upgrade() else { return };
        let is_whole = view.is_whole();
        if !is_whole && !view.layers.iter().any(|layer| layer.touched.lock().has_changed()) {
            continue;
        }
        let (lazy, folder) = (Arc::clone(&lazy), folder.clone());
        let kept = tokio::task::spawn_blocking(move || {
            view.layers.iter().for_each(|layer| layer.touched.lock().keep());
            if is_whole && let Err(error) = lazy.finish(&view, &folder) {
                let detail = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(image = %view.id, %error, detail, "an image that is complete could not be kept so");
                return false;
            }
            if is_whole {
                lazy.shown.lock().remove(&view.id);
            }
            is_whole
        });
        if kept.await.unwrap_or(true) {
            return;
        }
        if is_whole {
            pause = limits::COMPLETE_AGAIN;
        }
    }
}

/// Fetches what earlier instances used, then, where it is wanted, the rest, for as long as it takes.
async fn complete(view: Weak<View>, all: bool) {
    let mut pause = limits::RETRY_AFTER;
    loop {
        let Some(view) = view.upgrade() else { return };
        match bring(&view, all).await {
            Ok(()) => return,
            Err(error) => tracing::info!(image = %view.id, %error, "an image is completed later"),
        }
        drop(view);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(limits::COMPLETE_AGAIN);
    }
}

async fn bring(view: &Arc<View>, all: bool) -> Result<(), Arc<Error>> {
    for layer in &view.layers {
        layer.fetch_touched(&view.remote).await?;
    }
    if all {
        for layer in &view.layers {
            layer.fetch_all(&view.remote).await?;
        }
    }
    Ok(())
}
