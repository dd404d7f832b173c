//! Pulling: documents first, then the layers that are not there, then the image.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Verified;
use crate::layer::{self, Budget, Notes};
use crate::lazy::partial::Partial;
use crate::lazy::plan::{Plan, Planned};
use crate::lazy::view::View;
use crate::lazy::{self, Lazy, index};
use crate::reference::{Name, Reference};
use crate::registry::{Access, Connector, Credentials, Session};
use crate::room::Taken;
use crate::source::{Found, LayerAt, Source};
use crate::store::{Lease, Staged, Store, Stored};
use crate::tree::Root;
use crate::turns::{Locks, Turns};
use crate::{Digest, Error, Settings, limits, merge};

/// The store of images. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    lazy: Arc<Lazy>,
    connector: Connector,
    settings: Settings,
    pulls: Turns,
    /// What one account wants twice is made once.
    layers: Locks,
    images: Locks,
    /// Images that are put in their place.
    keeping: Locks,
}

/// An image that was pulled. As long as this is kept it is not removed.
pub struct Pulled {
    /// What it is called by in the store.
    pub id: Digest,
    /// Of its manifest or index.
    pub digest: Digest,
    /// The reference that means this very image for good, where it is in a registry.
    pub resolved: String,
    /// Bytes of its layers as they are sent.
    pub bytes: u64,
    /// Where it is.
    pub stored: Stored,
    _lease: Arc<Lease>,
}

impl Images {
    /// Opens the store; what was being made when the server died is gone afterwards. Blocking.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let store = Store::open(&settings.dir, settings.most_bytes)?;
        let connector = Connector::new(&settings.plain_http, settings.certificates.as_deref())?;
        let lazy = Arc::new(Lazy::new(&store, &connector, &settings)?);
        let (pulls, layers, images, keeping) = Default::default();
        let inner = Inner { store, lazy, connector, settings, pulls, layers, images, keeping };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Removes every image but those whose id is wanted, and layers without an image, and goes on with those that were not
    /// all there. Once, before pulls, inside a runtime. Blocking.
    pub fn sweep(&self, wanted: &dyn Fn(&Digest) -> bool) -> Result<(), Error> {
        self.inner.store.sweep(wanted)?;
        self.inner.lazy.resume()
    }

    /// How long instances have waited for bytes of an image; `None` of one that is all there. Waits at the same time
    /// count once.
    pub fn waited(&self, id: &Digest) -> Option<std::time::Duration> {
        self.inner.lazy.waited(id)
    }

    /// An image that is there. Reads a small file.
    pub fn find(&self, id: &Digest) -> Option<Stored> {
        self.inner.store.find(id)
    }

    /// Removes an image, and the layers that only it has. Blocking.
    pub fn remove(&self, id: &Digest) -> Result<(), Error> {
        self.inner.store.remove(id)?;
        if self.inner.store.find(id).is_none() {
            self.inner.lazy.forget(id);
        }
        Ok(())
    }

    /// Checks a reference without asking anybody.
    pub fn check(&self, reference: &str) -> Result<(), Error> {
        match Reference::parse(reference)? {
            Reference::Registry(_) => Ok(()),
            Reference::Layout { folder: path, .. } | Reference::Archive { file: path, .. } => {
                self.inner.local(&path).map(drop)
            }
        }
    }

    /// Fetches and unpacks an image; what is there already is not fetched again. With `pinned`, the image of this
    /// digest and no other. Pulls of one account never wait for those of another. Dropping the future leaves nothing but what
    /// is whole.
    pub async fn pull(
        &self,
        account: &str,
        reference: &str,
        pinned: Option<&Digest>,
    ) -> Result<Pulled, Error> {
        let reference = Reference::parse(reference)?;
        let _turn = self.inner.pulls.take(account).await;
        let pulled = tokio::time::timeout(limits::PULL, self.inner.pull(account, &reference, pinned)).await;
        pulled.unwrap_or_else(|_| {
            let minutes = limits::PULL.as_secs() / 60;
            Err(Error::Unreachable(format!("the image did not come within {minutes} minutes")))
        })
    }
}

impl Inner {
    async fn pull(
        &self,
        account: &str,
        reference: &Reference,
        pinned: Option<&Digest>,
    ) -> Result<Pulled, Error> {
        let source = self.source(reference)?;
        let found = source.find(pinned).await?;
        let plan = self.plan(&source, &found).await?;
        let lease = Arc::new(self.store.lease(&plan.id, &plan.names(&found)));
        let one = self.images.lock(format!("{account} {}", plan.id)).await;
        let stored = match self.store.find(&plan.id) {
            Some(stored) => stored,
            None => self.make(account, &source, reference, &found, &plan, &lease).await?,
        };
        drop(one);
        let resolved = match reference {
            Reference::Registry(name) => name.resolved(&found.digest),
            Reference::Layout { folder, .. } => format!("oci:{}@{}", folder.display(), found.digest),
            Reference::Archive { file, .. } => format!("docker-archive:{}@{}", file.display(), found.digest),
        };
        Ok(Pulled {
            bytes: found.layers.iter().map(|layer| layer.size).sum(),
            id: plan.id,
            digest: found.digest,
            resolved,
            stored,
            _lease: lease,
        })
    }

    fn source(&self, reference: &Reference) -> Result<Source, Error> {
        match reference {
            Reference::Registry(name) => {
                let credentials = match &self.settings.credentials {
                    Some(path) => Credentials::read(path)?,
                    None => Credentials::default(),
                };
                let login = credentials.find(&name.registry);
                let session = Session::new(self.connector.clone(), name.clone(), login, Access::Pull);
                Ok(Source::Registry(Box::new(session)))
            }
            Reference::Layout { folder, tag } => {
                let root = Arc::new(Root::open(&self.local(folder)?)?);
                Ok(Source::Layout { root, tag: tag.clone() })
            }
            Reference::Archive { file, tag } => {
                let path = self.local(file)?;
                let file =
                    fs::File::open(&path).map_err(Error::host(format!("opening {}", path.display())))?;
                Ok(Source::Archive { file: Arc::new(file), tag: tag.clone() })
            }
        }
    }

    /// The real path of something that may be taken from this machine. What lies elsewhere does not exist.
    fn local(&self, path: &Path) -> Result<PathBuf, Error> {
        if self.settings.local.is_empty() {
            return Err(Error::Denied(
                "this server takes no images by path: push it to a registry, or start the server with --local-images \
                 FOLDER"
                    .to_owned(),
            ));
        }
        let inside = |real: &PathBuf| {
            self.settings
                .local
                .iter()
                .any(|allowed| allowed.canonicalize().is_ok_and(|allowed| real.starts_with(allowed)))
        };
        path.canonicalize().ok().filter(inside).ok_or_else(|| {
            let shown = path.display();
            Error::NotFound(format!(
                "{shown} does not exist, or not in a folder that the server takes images from"
            ))
        })
    }

    /// Whether it may be begun before it is all there.
    async fn plan(&self, source: &Source, found: &Found) -> Result<Plan, Error> {
        let parts = match source {
            Source::Registry(session) => match self.lazy.room() {
                Some(room) => lazy::plan::plan(session, found, &self.store, room).await?,
                None => None,
            },
            _ => None,
        };
        Ok(parts.unwrap_or_else(|| Plan::whole(found)))
    }

    /// Makes an image: its layers, then itself. What runs on when the future is dropped has the lease too, so that
    /// no layer goes away under it, and none that it makes stays.
    async fn make(
        &self,
        account: &str,
        source: &Source,
        reference: &Reference,
        found: &Found,
        plan: &Plan,
        lease: &Arc<Lease>,
    ) -> Result<Stored, Error> {
        let mut budget = Budget::default();
        let mut partial = Vec::new();
        for (layer, planned) in found.layers.iter().zip(&plan.layers) {
            let notes = match planned {
                Some(planned) => {
                    let (notes, layer) = self.outline(planned, budget, lease).await?;
                    partial.extend(layer);
                    notes
                }
                None => self.layer(account, source, layer, budget, lease).await?,
            };
            budget = budget.less(&notes)?;
        }
        let names = plan.names(found);
        let (store, config) = (Arc::clone(&self.store), found.config.clone());
        let (staged, layers) = (self.store.stage()?, names.clone());
        let staged = blocking(move || {
            let rootfs = Store::stage_rootfs(&staged)?;
            let layers: Vec<PathBuf> = layers.iter().map(|layer| store.layer(layer)).collect();
            let parsed = crate::manifest::Config::parse(&config, layers.len())?;
            let folder = parsed.config.as_ref().and_then(|given| given.working_dir.as_deref());
            merge::merge(layers.iter().map(PathBuf::as_path), &rootfs, folder)?;
            Ok(staged)
        })
        .await?;
        let view = match reference {
            Reference::Registry(name) if !partial.is_empty() => {
                Some(self.view(&plan.id, name, found, partial, &staged).await?)
            }
            _ => None,
        };
        self.keep(staged, plan.id.clone(), names, found.config.clone(), view, lease).await
    }

    /// An image that is being made, as instances will see it. What is about to be changed of it is there.
    async fn view(
        &self,
        id: &Digest,
        name: &Name,
        found: &Found,
        layers: Vec<Arc<Partial>>,
        staged: &Staged,
    ) -> Result<Arc<View>, Error> {
        let (id, folder) = (id.clone(), staged.path.clone());
        let origin = name.resolved(&found.digest);
        let remote = self.lazy.remote(&id, &name.at(&found.digest));
        let lines: Vec<String> = self.settings.extras.lines.iter().map(|(path, _)| path.clone()).collect();
        let (view, lists) = blocking(move || {
            let rootfs = Store::rootfs(&folder);
            let view = View::open(&id, &rootfs, layers, remote)?;
            Lazy::note_origin(&folder, &origin)?;
            let root = Root::open(&rootfs)?;
            let about = lines.iter().filter_map(|path| root.file(Path::new(path)).ok()?.metadata().ok());
            let lists: Vec<u64> = about.map(|about| about.ino()).collect();
            Ok((Arc::new(view), lists))
        })
        .await?;
        for list in lists {
            view.fetch_whole(list).await.map_err(|error| error.again())?;
        }
        Ok(view)
    }

    /// Finishes an image and puts it in its place.
    async fn keep(
        &self,
        staged: Staged,
        id: Digest,
        names: Vec<Digest>,
        config: Vec<u8>,
        view: Option<Arc<View>>,
        lease: &Arc<Lease>,
    ) -> Result<Stored, Error> {
        let (store, lazy, lease) = (Arc::clone(&self.store), Arc::clone(&self.lazy), Arc::clone(lease));
        let extras = self.settings.extras.clone();
        let keeping = self.keeping.lock(id.to_string()).await;
        blocking(move || {
            let _keeping = keeping;
            // Another account's pull was faster.
            if let Some(stored) = store.find(&id) {
                return Ok(stored);
            }
            merge::furnish(&Root::open(&Store::rootfs(&staged.path))?, &extras)?;
            if Arc::strong_count(&lease) == 1 {
                return Err(Error::Unreachable("nobody waits for the image any more".to_owned()));
            }
            store.keep_image(staged, &id, &names, &config)?;
            if let Some(view) = view {
                lazy.show(view, &store.image(&id))?;
            }
            let lost = || {
                Error::host("looking at an image that was just made")(io::Error::from(
                    io::ErrorKind::NotFound,
                ))
            };
            store.find(&id).ok_or_else(lost)
        })
        .await
    }

    /// Has a layer that comes in parts in the store, and says how large it is; with the layer, unless all of it is there.
    async fn outline(
        &self,
        planned: &Planned,
        budget: Budget,
        lease: &Arc<Lease>,
    ) -> Result<(Notes, Option<Arc<Partial>>), Error> {
        let one = self.layers.lock(planned.key.to_string()).await;
        let (store, lazy, lease) = (Arc::clone(&self.store), Arc::clone(&self.lazy), Arc::clone(lease));
        let Planned { key, made_from, .. } = planned.clone();
        blocking(move || {
            let (_one, _lease) = (one, lease);
            let layer = store.layer(&key);
            let fresh = !layer.is_dir();
            if fresh {
                let gone = || Error::Unreachable("a layer was removed meanwhile".to_owned());
                let (index, text) = made_from.ok_or_else(gone)?;
                let staged = store.stage()?;
                let notes = index::outline(&index, &text, &staged.path, budget)?;
                let mut taken = store.room.taken();
                taken.more(notes.bytes)?;
                store.keep_layer(staged, &key, taken)?;
            }
            let notes = Notes::read(&layer)?;
            let partial =
                if index::is_partial(&layer) { lazy.layer(&key, fresh) } else { return Ok((notes, None)) };
            match partial {
                // Its last part came just now.
                Err(_) if !index::is_partial(&layer) => Ok((notes, None)),
                partial => Ok((notes, Some(partial?))),
            }
        })
        .await
    }

    /// Has a layer unpacked, and says how large it is. A download that breaks off is begun again.
    async fn layer(
        &self,
        account: &str,
        source: &Source,
        layer: &LayerAt,
        budget: Budget,
        lease: &Arc<Lease>,
    ) -> Result<Notes, Error> {
        let _one = self.layers.lock(format!("{account} {}", layer.diff)).await;
        let place = self.store.layer(&layer.diff);
        let mut pause = limits::RETRY_AFTER;
        let mut attempt = 1;
        while !place.is_dir() {
            match self.fetch(source, layer, budget, lease).await {
                Ok(()) => {}
                Err(Error::Unreachable(_)) if attempt < limits::ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        blocking(move || Notes::read(&place)).await
    }

    async fn fetch(
        &self,
        source: &Source,
        layer: &LayerAt,
        budget: Budget,
        lease: &Arc<Lease>,
    ) -> Result<(), Error> {
        let blob = source.open(layer).await?;
        let (store, layer, lease) = (Arc::clone(&self.store), layer.clone(), Arc::clone(lease));
        blocking(move || {
            let _lease = lease;
            let staged = store.stage()?;
            let mut taken = store.room.taken();
            unpack(blob, &layer, &staged.path, budget, &mut taken)?;
            store.keep_layer(staged, &layer.diff, taken)
        })
        .await
    }
}

/// Unpacks a layer while it is checked. What the blob is comes before what is wrong with it.
fn unpack(
    blob: Box<dyn io::Read + Send>,
    layer: &LayerAt,
    into: &Path,
    budget: Budget,
    taken: &mut Taken,
) -> Result<(), Error> {
    let found = match &layer.blob {
        None => {
            let mut blob = blob;
            layer::unpack(&mut blob, into, budget, taken)
        }
        Some(digest) => {
            let mut verified = Verified::new(blob, digest, layer.size);
            match layer::unpack(&mut verified, into, budget, taken) {
                // What broke off says nothing about the blob.
                Err(
                    error @ (Error::Full(_) | Error::Room(_) | Error::Host { .. } | Error::Unreachable(_)),
                ) => {
                    return Err(error);
                }
                outcome => {
                    verified.finish()?;
                    outcome
                }
            }
        }
    }?;
    if found != layer.diff {
        return Err(Error::Invalid(format!(
            "a layer is not what the image's configuration says: it lists {}, the layer has {found}",
            layer.diff
        )));
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::host("unpacking an image")(io::Error::other(error))))
}
