//! Pulling: documents first, then the layers that are not there, then the image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::digest::Verified;
use crate::layer::{self, Budget, Notes};
use crate::reference::Reference;
use crate::registry::{Access, Connector, Credentials, Session};
use crate::source::{Found, LayerAt, Source};
use crate::store::{Lease, Store, Stored};
use crate::tree::Root;
use crate::{Digest, Error, Settings, limits, merge};

/// The store of images. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    connector: Connector,
    settings: Settings,
    pulls: Semaphore,
    /// Layers with the same first digit are made one at a time, so that two images make a common one once.
    layers: [tokio::sync::Mutex<()>; 16],
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
        let store = Store::open(&settings.dir)?;
        let connector = Connector::new(&settings.plain_http, settings.certificates.as_deref())?;
        let pulls = Semaphore::new(limits::PULLS_AT_ONCE);
        Ok(Self { inner: Arc::new(Inner { store, connector, settings, pulls, layers: Default::default() }) })
    }

    /// Removes every image but those whose id is wanted, and layers without an image. Once, before pulls. Blocking.
    pub fn sweep(&self, wanted: &dyn Fn(&Digest) -> bool) -> Result<(), Error> {
        self.inner.store.sweep(wanted)
    }

    /// An image that is there. Reads a small file.
    pub fn find(&self, id: &Digest) -> Option<Stored> {
        self.inner.store.find(id)
    }

    /// Removes an image, and the layers that only it has. Blocking.
    pub fn remove(&self, id: &Digest) -> Result<(), Error> {
        self.inner.store.remove(id)
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
    /// digest and no other. Dropping the future leaves nothing but what is whole.
    pub async fn pull(&self, reference: &str, pinned: Option<&Digest>) -> Result<Pulled, Error> {
        let reference = Reference::parse(reference)?;
        let _turn = self.inner.pulls.acquire().await;
        let pulled = tokio::time::timeout(limits::PULL, self.inner.pull(&reference, pinned)).await;
        pulled.unwrap_or_else(|_| {
            let minutes = limits::PULL.as_secs() / 60;
            Err(Error::Unreachable(format!("the image did not come within {minutes} minutes")))
        })
    }
}

impl Inner {
    async fn pull(&self, reference: &Reference, pinned: Option<&Digest>) -> Result<Pulled, Error> {
        let source = self.source(reference)?;
        let found = source.find(pinned).await?;
        let diffs: Vec<Digest> = found.layers.iter().map(|layer| layer.diff.clone()).collect();
        let lease = Arc::new(self.store.lease(&found.id, &diffs));
        let stored = match self.store.find(&found.id) {
            Some(stored) => stored,
            None => self.make(&source, &found, &diffs, &lease).await?,
        };
        let resolved = match reference {
            Reference::Registry(name) => name.resolved(&found.digest),
            Reference::Layout { folder, .. } => format!("oci:{}@{}", folder.display(), found.digest),
            Reference::Archive { file, .. } => format!("docker-archive:{}@{}", file.display(), found.digest),
        };
        Ok(Pulled {
            bytes: found.layers.iter().map(|layer| layer.size).sum(),
            id: found.id,
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

    /// Makes an image: its layers, then itself. What runs on when the future is dropped has the lease too, so that
    /// no layer goes away under it, and none that it makes stays.
    async fn make(
        &self,
        source: &Source,
        found: &Found,
        diffs: &[Digest],
        lease: &Arc<Lease>,
    ) -> Result<Stored, Error> {
        let mut budget = Budget::default();
        for layer in &found.layers {
            let notes = self.layer(source, layer, budget, lease).await?;
            budget = budget.less(&notes)?;
        }
        let lease = Arc::clone(lease);
        let (store, extras) = (Arc::clone(&self.store), self.settings.extras.clone());
        let (id, diffs, config) = (found.id.clone(), diffs.to_vec(), found.config.clone());
        blocking(move || {
            let staged = store.stage()?;
            let rootfs = Store::stage_rootfs(&staged)?;
            let layers: Vec<PathBuf> = diffs.iter().map(|diff| store.layer(diff)).collect();
            let parsed = crate::manifest::Config::parse(&config, diffs.len())?;
            let folder = parsed.config.as_ref().and_then(|given| given.working_dir.as_deref());
            merge::merge(layers.iter().map(PathBuf::as_path), &rootfs, folder, &extras)?;
            if Arc::strong_count(&lease) == 1 {
                return Err(Error::Unreachable("nobody waits for the image any more".to_owned()));
            }
            store.keep_image(staged, &id, &diffs, &config)?;
            let lost = || {
                Error::host("looking at an image that was just made")(io::Error::from(
                    io::ErrorKind::NotFound,
                ))
            };
            store.find(&id).ok_or_else(lost)
        })
        .await
    }

    /// Has a layer unpacked, and says how large it is. A download that breaks off is begun again.
    async fn layer(
        &self,
        source: &Source,
        layer: &LayerAt,
        budget: Budget,
        lease: &Arc<Lease>,
    ) -> Result<Notes, Error> {
        let first = layer.diff.hex().as_bytes().first().map_or(0, |digit| usize::from(*digit));
        let _one = self.layers[first % self.layers.len()].lock().await;
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
            unpack(blob, &layer, &staged.path, budget)?;
            store.keep_layer(staged, &layer.diff)
        })
        .await
    }
}

/// Unpacks a layer while it is checked. What the blob is comes before what is wrong with it.
fn unpack(blob: Box<dyn io::Read + Send>, layer: &LayerAt, into: &Path, budget: Budget) -> Result<(), Error> {
    let found = match &layer.blob {
        None => {
            let mut blob = blob;
            layer::unpack(&mut blob, into, budget)
        }
        Some(digest) => {
            let mut verified = Verified::new(blob, digest, layer.size);
            match layer::unpack(&mut verified, into, budget) {
                // What broke off says nothing about the blob.
                Err(error @ (Error::Full(_) | Error::Host { .. } | Error::Unreachable(_))) => {
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
