//! Making images, without a daemon: folders become layers upon a base.
//!
//! The same folder gives the same image, byte for byte: [`list`] sorts, `archive` writes nothing that differs from one machine
//! to another, `document` is pure. The layers of a base are passed on as they are, and are only fetched for somebody who
//! lacks them; what is made lies in files without a name (`spool`) until it is written somewhere (`write`) or pushed
//! (`registry::push`).
//!
//! Not here: running anything. What has to be compiled or installed is so before.

mod archive;
pub(crate) mod document;
mod folder;
mod ignore;
mod parts;
mod reindex;
mod spool;
mod write;

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

pub use folder::{Choice, Item, copy, list, single};
pub use ignore::Ignore;

use crate::digest::Verified;
use crate::registry::{Access, Connector, Credentials, Pushed, Session};
use crate::source::{Found, LayerAt, Source};
use crate::tree::Root;
use crate::{Digest, Error, Reference, limits, manifest};
use document::Listed;
use spool::FromStart;

/// Makes images and takes them somewhere.
pub struct Workshop {
    connector: Connector,
    credentials: Option<PathBuf>,
    scratch: PathBuf,
}

/// What a workshop is told.
#[derive(Debug, Default)]
pub struct WorkshopSettings {
    /// A file like Docker's `config.json` with the registries' credentials.
    pub credentials: Option<PathBuf>,
    /// Certificates (PEM) that registries may be vouched for by, besides the host's own.
    pub certificates: Option<PathBuf>,
    /// Registries, `HOST[:PORT]`, that are spoken to without TLS. Those on loopback addresses need not be listed.
    pub plain_http: Vec<String>,
    /// A folder with room for layers on their way.
    pub scratch: PathBuf,
}

/// An image to build upon.
pub struct Base {
    source: Arc<Source>,
    layers: Vec<LayerAt>,
    config: Value,
    /// The configuration's bytes.
    document: Vec<u8>,
    /// In place of layers, what was made of them.
    anew: Vec<Option<Blob>>,
    /// What it runs when nothing else is said; may be empty.
    pub entrypoint: Vec<String>,
    /// The entry point's arguments, or the command line where there is no entry point.
    pub command: Vec<String>,
}

/// How an image is run: what is absent is the base's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// Added to the base's, in this order; the same name replaces.
    pub env: Vec<(String, String)>,
    /// In its place the base's command means nothing, and goes.
    pub entrypoint: Option<Vec<String>>,
    /// The entry point's arguments.
    pub command: Option<Vec<String>>,
    /// The working directory.
    pub folder: Option<String>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// TCP ports that are listened at.
    pub ports: Vec<u16>,
    /// Labels.
    pub labels: Vec<(String, String)>,
}

/// What is to be made.
pub struct Recipe {
    /// Absent: from scratch.
    pub base: Option<Base>,
    /// A layer each, the lowest first.
    pub layers: Vec<Vec<Item>>,
    /// Where in the image they go: `app`, `var/task`.
    pub into: String,
    /// How it is run.
    pub run: Run,
}

/// An image that was made. What only it has is gone with it.
pub struct Made {
    /// Of its manifest.
    pub digest: Digest,
    /// Bytes of its layers, compressed, those of the base among them.
    pub bytes: u64,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
}

/// Some bytes of an image, wherever they are.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) diff: Digest,
    pub(crate) size: u64,
    media_type: &'static str,
    /// Of its table of contents, if it is a layer that has one.
    toc: Option<Digest>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Bytes(Bytes),
    File(Arc<std::fs::File>),
    Base(Arc<Source>, LayerAt),
}

impl Workshop {
    /// Blocking.
    pub fn new(settings: WorkshopSettings) -> Result<Self, Error> {
        let connector = Connector::new(&settings.plain_http, settings.certificates.as_deref())?;
        Ok(Self { connector, credentials: settings.credentials, scratch: settings.scratch })
    }

    /// Finds an image to build upon and reads its documents; its layers stay where they are.
    pub async fn base(&self, reference: &str) -> Result<Base, Error> {
        let source = match Reference::parse(reference)? {
            Reference::Registry(name) => Source::Registry(Box::new(self.session(name, Access::Pull)?)),
            Reference::Layout { folder, tag } => Source::Layout { root: Arc::new(Root::open(&folder)?), tag },
            Reference::Archive { file, tag } => {
                let opened = std::fs::File::open(&file);
                let opened = opened.map_err(Error::host(format!("opening {}", file.display())))?;
                Source::Archive { file: Arc::new(opened), tag }
            }
        };
        self.read(source).await
    }

    async fn read(&self, source: Source) -> Result<Base, Error> {
        let source = Arc::new(source);
        let Found { config, layers, .. } = source.find(None).await?;
        let parsed = manifest::Config::parse(&config, layers.len())?.config.unwrap_or_default();
        let (config, document) = (manifest::read(&config, "configuration")?, config);
        let mut named = Vec::with_capacity(layers.len());
        for layer in layers {
            named.push(if layer.blob.is_some() { layer } else { self.identify(&source, layer).await? });
        }
        let (entrypoint, command) = (parsed.entrypoint.unwrap_or_default(), parsed.cmd.unwrap_or_default());
        let anew = named.iter().map(|_| None).collect();
        Ok(Base { source, layers: named, config, document, anew, entrypoint, command })
    }

    /// Writes a base's large layers anew, so that functions start before they are there. They are not the base's any more.
    pub async fn with_index(&self, mut base: Base) -> Result<Base, Error> {
        for (at, layer) in base.layers.iter().enumerate() {
            if layer.toc.is_some() || layer.size < limits::PARTIAL_BYTES {
                continue;
            }
            let blob = Blob::of_base(Some(Arc::clone(&base.source)), layer)?;
            let (mut content, scratch) = (blob.open().await?, self.scratch.clone());
            let (packed, diff) = blocking(move || {
                let made = reindex::reindex(&mut content, &scratch);
                // What broke off, or found no room, says nothing about the blob; else what the blob is comes first.
                if !matches!(made, Err(Error::Full(_) | Error::Unreachable(_))) {
                    content.finish()?;
                }
                made
            })
            .await?;
            if diff != layer.diff {
                return Err(Error::Invalid(format!(
                    "a layer of the base is not {}, as its configuration says",
                    layer.diff
                )));
            }
            // A table cannot say every name.
            if packed.toc.is_some() {
                base.config["rootfs"]["diff_ids"][at] = packed.diff.to_string().into();
                base.anew[at] = Some(Blob::of_layer(packed));
            }
        }
        Ok(base)
    }

    /// Takes an image of a layout as it is, to be written or pushed elsewhere.
    pub async fn take(&self, folder: &std::path::Path, tag: &str) -> Result<Made, Error> {
        let source = Source::Layout { root: Arc::new(Root::open(folder)?), tag: Some(tag.to_owned()) };
        let base = self.read(source).await?;
        let layers = base.layers.iter().map(|layer| Blob::of_base(Some(Arc::clone(&base.source)), layer));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        Ok(Made::new(base.document, layers))
    }

    /// Gives a layer of an archive, which says only what it unpacks to, the digest and type of its bytes.
    async fn identify(&self, source: &Source, layer: LayerAt) -> Result<LayerAt, Error> {
        let mut content = source.open(&layer).await?;
        blocking(move || {
            let mut hashing = spool::Hashing::new(io::sink());
            let mut start = Vec::new();
            content.by_ref().take(4).read_to_end(&mut start).map_err(Error::unreadable("a layer"))?;
            io::copy(&mut start.chain(&mut content), &mut hashing).map_err(Error::unreadable("a layer"))?;
            let (_, digest, size) = hashing.finish();
            let media_type = match start[..] {
                [0x1f, 0x8b, ..] => document::LAYER_GZIP,
                [0x28, 0xb5, 0x2f, 0xfd] => document::LAYER_ZSTD,
                _ => document::LAYER_PLAIN,
            };
            Ok(LayerAt { blob: Some(digest), size, media_type: media_type.to_owned(), ..layer })
        })
        .await
    }

    /// Makes an image.
    pub async fn make(&self, recipe: Recipe) -> Result<Made, Error> {
        let scratch = self.scratch.clone();
        blocking(move || {
            let Recipe { base, layers, into, run } = recipe;
            let mut blobs = Vec::new();
            for (layer, anew) in base.iter().flat_map(|base| base.layers.iter().zip(&base.anew)) {
                let source = base.as_ref().map(|base| Arc::clone(&base.source));
                blobs.push(match anew {
                    Some(anew) => anew.clone(),
                    None => Blob::of_base(source, layer)?,
                });
            }
            let first = blobs.len();
            for items in &layers {
                blobs.push(Blob::of_layer(spool::pack(items, &into, &scratch)?));
            }
            if blobs.len() > limits::LAYERS {
                return Err(Error::Invalid(format!("the image has more than {} layers", limits::LAYERS)));
            }
            let added: Vec<Digest> = blobs[first..].iter().map(|blob| blob.diff.clone()).collect();
            let config = document::config(base.as_ref().map(|base| &base.config), &added, &run)?;
            Ok(Made::new(config, blobs))
        })
        .await
    }

    /// Writes an image into an OCI layout, under a name; others in it stay. Nothing is left of what fails.
    pub async fn write_layout(&self, made: &Made, folder: &std::path::Path, tag: &str) -> Result<(), Error> {
        write::layout(made, folder, tag).await
    }

    /// Writes what `docker load` reads. A file that is there is replaced once the new one is whole.
    pub async fn write_archive(
        &self,
        made: &Made,
        file: &std::path::Path,
        tags: &[String],
    ) -> Result<(), Error> {
        write::archive(made, file, tags, &self.scratch).await
    }

    /// Pushes an image: what the registry has already is not sent.
    pub async fn push(&self, made: &Made, reference: &str) -> Result<Pushed, Error> {
        let Reference::Registry(name) = Reference::parse(reference)? else {
            return Err(Error::Reference(format!("{reference} is in no registry: it cannot be pushed to")));
        };
        if name.digest.is_some() {
            return Err(Error::Reference(format!(
                "{reference}: an image is pushed under a tag, not a digest"
            )));
        }
        self.session(name, Access::Push)?.push(made).await
    }

    fn session(&self, name: crate::Name, access: Access) -> Result<Session, Error> {
        let credentials = match &self.credentials {
            Some(path) => Credentials::read(path)?,
            None => Credentials::default(),
        };
        let login = credentials.find(&name.registry);
        Ok(Session::new(self.connector.clone(), name, login, access))
    }
}

impl Made {
    fn new(config: Vec<u8>, layers: Vec<Blob>) -> Self {
        let listed = layers.iter().map(|blob| Listed {
            media_type: blob.media_type,
            digest: &blob.digest,
            size: blob.size,
            toc: blob.toc.as_ref(),
        });
        let manifest = document::manifest(&config, &listed.collect::<Vec<_>>());
        let digest = Digest::of(&config);
        let config = Blob {
            diff: digest.clone(),
            digest,
            size: config.len() as u64,
            media_type: document::CONFIG,
            toc: None,
            content: Content::Bytes(config.into()),
        };
        let bytes = layers.iter().map(|layer| layer.size).sum();
        Self { digest: Digest::of(&manifest), bytes, manifest, config, layers }
    }

    /// How many layers it has, those of its base among them.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Everything that a manifest needs to be there, each once.
    pub(crate) fn blobs(&self) -> Vec<&Blob> {
        let mut all: Vec<&Blob> = Vec::new();
        for blob in self.layers.iter().chain([&self.config]) {
            if !all.iter().any(|other| other.digest == blob.digest) {
                all.push(blob);
            }
        }
        all
    }
}

impl Blob {
    fn of_layer(packed: spool::Packed) -> Self {
        let spool::Packed { diff, digest, size, toc, file } = packed;
        Self { digest, diff, size, media_type: document::LAYER_GZIP, toc, content: Content::File(file) }
    }

    fn of_base(source: Option<Arc<Source>>, layer: &LayerAt) -> Result<Self, Error> {
        let lost = || Error::Invalid("a layer of the base has no digest".to_owned());
        Ok(Self {
            digest: layer.blob.clone().ok_or_else(lost)?,
            diff: layer.diff.clone(),
            size: layer.size,
            media_type: document::layer_type(&layer.media_type)?,
            toc: layer.toc.clone(),
            content: Content::Base(source.ok_or_else(lost)?, layer.clone()),
        })
    }

    /// Its bytes. Those of a base are a stranger's: whoever reads them to the end calls [`Verified::finish`].
    pub(crate) async fn open(&self) -> Result<Verified<Box<dyn Read + Send>>, Error> {
        let content: Box<dyn Read + Send> = match &self.content {
            Content::Bytes(bytes) => Box::new(io::Cursor::new(bytes.clone())),
            Content::File(file) => Box::new(FromStart::new(file)),
            Content::Base(source, layer) => source.open(layer).await?,
        };
        Ok(Verified::new(content, &self.digest, self.size))
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::host("building an image")(io::Error::other(error))))
}

/// A layer of these files: its bytes, and the digest of its table of contents.
#[cfg(test)]
pub(crate) fn pack_for_tests(items: &[Item], into: &str, scratch: &std::path::Path) -> (Vec<u8>, Digest) {
    let packed = spool::pack(items, into, scratch).unwrap();
    let mut bytes = Vec::new();
    FromStart::new(&packed.file).read_to_end(&mut bytes).unwrap();
    (bytes, packed.toc.unwrap())
}
