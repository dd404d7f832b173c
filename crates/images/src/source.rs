//! Where an image's bytes come from: one interface over registries, layouts and archives.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::digest::Verified;
use crate::manifest::{self, Descriptor, Document, Manifest};
use crate::registry::Session;
use crate::tar::{Archive, Kind};
use crate::tree::{Plain, Root};
use crate::{Digest, Error, limits};

/// A layer as it is to be fetched.
#[derive(Debug, Clone)]
pub(crate) struct LayerAt {
    /// Of its uncompressed archive.
    pub(crate) diff: Digest,
    /// Of what is sent; an archive of `docker save` does not say.
    pub(crate) blob: Option<Digest>,
    /// What the manifest says that it is; empty where nothing says so.
    pub(crate) media_type: String,
    /// Bytes of what is sent.
    pub(crate) size: u64,
    /// Where it begins in an archive of `docker save`.
    pub(crate) at: u64,
    /// Of its table of contents, where it can be fetched in parts.
    pub(crate) toc: Option<Digest>,
}

/// An image's documents, checked.
pub(crate) struct Found {
    /// Of its manifest, or of its configuration where there is none.
    pub(crate) digest: Digest,
    /// Of its configuration: what the image is called by in the store.
    pub(crate) id: Digest,
    /// The configuration's bytes.
    pub(crate) config: Vec<u8>,
    /// The lowest first.
    pub(crate) layers: Vec<LayerAt>,
}

/// An opened source.
pub(crate) enum Source {
    Registry(Box<Session>),
    Layout { root: Arc<Root>, tag: Option<String> },
    Archive { file: Arc<File>, tag: Option<String> },
}

impl Source {
    /// Reads the documents of the image, by a digest that it must have where one is given.
    pub(crate) async fn find(&self, pinned: Option<&Digest>) -> Result<Found, Error> {
        match self {
            Self::Registry(session) => {
                let (bytes, digest) = session.manifest(pinned).await?;
                let (manifest, digest) = match manifest::parse(&bytes)? {
                    Document::Manifest(manifest) => (manifest, digest),
                    Document::Index(all) => {
                        let chosen = manifest::choose(&all)?;
                        let (bytes, _) = session.manifest(Some(&chosen.digest)).await?;
                        // What was asked for stays the name: the same index on every machine.
                        (only_manifest(&bytes)?, digest)
                    }
                };
                let config = session.small_blob(&manifest.config).await?;
                found(digest, manifest, config)
            }
            Self::Layout { root, tag } => {
                let (root, tag, pinned) = (Arc::clone(root), tag.clone(), pinned.cloned());
                blocking(move || find_in_layout(&root, tag.as_deref(), pinned.as_ref())).await
            }
            Self::Archive { file, tag } => {
                let (file, tag) = (Arc::clone(file), tag.clone());
                let found = blocking(move || find_in_archive(&file, tag.as_deref())).await?;
                match pinned {
                    Some(pinned) if *pinned != found.digest => Err(changed()),
                    _ => Ok(found),
                }
            }
        }
    }

    /// Opens a layer's bytes, as they are sent.
    pub(crate) async fn open(&self, layer: &LayerAt) -> Result<Box<dyn Read + Send>, Error> {
        match self {
            Self::Registry(session) => {
                let digest = layer.blob.as_ref().unwrap_or(&layer.diff);
                Ok(Box::new(session.blob(digest).await?))
            }
            Self::Layout { root, .. } => {
                let digest = layer.blob.as_ref().unwrap_or(&layer.diff);
                Ok(Box::new(open_blob(root, digest)?))
            }
            Self::Archive { file, .. } => {
                Ok(Box::new(Part { file: Arc::clone(file), at: layer.at, left: layer.size }))
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::host("reading an image")(io::Error::other(error))))
}

fn changed() -> Error {
    Error::NotFound(
        "what is there now is another image than the one that was deployed: deploy it again".into(),
    )
}

fn only_manifest(bytes: &[u8]) -> Result<Manifest, Error> {
    match manifest::parse(bytes)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(Error::Invalid("an index points to another index".to_owned())),
    }
}

/// Pairs the layers of a manifest with those of its configuration.
fn found(digest: Digest, manifest: Manifest, config: Vec<u8>) -> Result<Found, Error> {
    let parsed = manifest::Config::parse(&config, manifest.layers.len())?;
    let layers = manifest.layers.into_iter().zip(parsed.rootfs.diff_ids).map(|(layer, diff)| LayerAt {
        diff,
        toc: layer.toc(),
        media_type: layer.media_type,
        size: layer.size,
        blob: Some(layer.digest),
        at: 0,
    });
    Ok(Found { digest, id: manifest.config.digest, config, layers: layers.collect() })
}

/// Reads a blob that is small, and checks it.
fn small(reader: impl Read, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>, Error> {
    if descriptor.size > most {
        return Err(Error::Invalid(format!("the blob {} is too large", descriptor.digest)));
    }
    let mut verified = Verified::new(reader, &descriptor.digest, descriptor.size);
    let mut bytes = Vec::new();
    verified.read_to_end(&mut bytes).map_err(Error::unreadable("a blob"))?;
    verified.finish()?;
    Ok(bytes)
}

// OCI image layout.

fn find_in_layout(root: &Root, tag: Option<&str>, pinned: Option<&Digest>) -> Result<Found, Error> {
    let mut text = Vec::new();
    let index = root.file(Path::new("index.json"));
    let index = index.map_err(|error| no_such("the folder is no OCI layout: index.json", &error))?;
    index.take(limits::MANIFEST_BYTES).read_to_end(&mut text).map_err(Error::host("reading index.json"))?;
    let Document::Index(all) = manifest::parse(&text)? else {
        return Err(Error::Invalid("index.json is not an index".to_owned()));
    };
    let named: Vec<&Descriptor> =
        all.iter().filter(|each| tag.is_none_or(|tag| each.name() == Some(tag))).collect();
    let chosen = match named[..] {
        [] => return Err(Error::NotFound("the layout has no image of this name".to_owned())),
        [only] => only,
        _ => manifest::choose(&all)?,
    };
    if pinned.is_some_and(|pinned| *pinned != chosen.digest) {
        return Err(changed());
    }
    let document = |descriptor: &Descriptor| {
        small(open_blob(root, &descriptor.digest)?, descriptor, limits::MANIFEST_BYTES)
    };
    let manifest = match manifest::parse(&document(chosen)?)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(all) => only_manifest(&document(manifest::choose(&all)?)?)?,
    };
    let config = small(open_blob(root, &manifest.config.digest)?, &manifest.config, limits::CONFIG_BYTES)?;
    found(chosen.digest.clone(), manifest, config)
}

/// Links in a layout lead to something inside it.
fn open_blob(root: &Root, digest: &Digest) -> Result<File, Error> {
    let path = Path::new("blobs/sha256").join(digest.hex());
    root.file(&path).map_err(|error| no_such(&format!("the layout lacks the blob {digest}"), &error))
}

fn no_such(what: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound(format!("{what} does not exist")),
        _ => Error::Invalid(format!("{what} cannot be opened: {error}")),
    }
}

// An archive of `docker save`.

/// `manifest.json`, an entry an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What is where in an archive: offset and size, or a link to another entry.
enum Place {
    At(u64, u64),
    Link(PathBuf),
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads from a file and knows where it is; what is passed over is not read.
struct Scan<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Scan<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Images have a few hundred files in their archives.
const ARCHIVE_ENTRIES: usize = 10_000;

fn contents(file: &File) -> Result<HashMap<PathBuf, Place>, Error> {
    let mut all = HashMap::new();
    let mut archive = Archive::new(Scan { file, at: 0 });
    while let Some(entry) = archive.next()? {
        if all.len() == ARCHIVE_ENTRIES {
            return Err(Error::Invalid("the archive has too many entries".to_owned()));
        }
        let path = Plain::parse(&entry.path)?.to_path();
        match entry.kind {
            Kind::File => {
                let at = archive.reader().at;
                all.insert(path, Place::At(at, entry.size));
                archive.seek_over(|scan, bytes| scan.at = scan.at.saturating_add(bytes));
            }
            // Two images with one layer: it is there once.
            // One that is longer than any path leads nowhere.
            Kind::SymbolicLink(target) if target.len() <= limits::PATH_BYTES => {
                let around = path.parent().map(Path::to_owned).unwrap_or_default();
                let target = PathBuf::from(String::from_utf8_lossy(&target).into_owned());
                all.insert(path, Place::Link(normal(&around.join(target))));
            }
            _ => {}
        }
    }
    Ok(all)
}

/// Without `..`, by names alone: it is looked up in a list, not in a file system.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(out.pop()),
            std::path::Component::Normal(name) => out.push(name),
            _ => {}
        }
    }
    out
}

/// Where one file of an archive is.
fn place(all: &HashMap<PathBuf, Place>, name: &str) -> Result<(u64, u64), Error> {
    let mut path = normal(Path::new(name));
    for _ in 0..4 {
        match all.get(&path) {
            Some(Place::At(at, size)) => return Ok((*at, *size)),
            Some(Place::Link(target)) => path = target.clone(),
            None => break,
        }
    }
    Err(Error::Invalid(format!("the archive lacks {}", name.chars().take(200).collect::<String>())))
}

fn part(file: &File, (at, size): (u64, u64), most: u64) -> Result<Vec<u8>, Error> {
    if size > most {
        return Err(Error::Invalid("a document of the archive is too large".to_owned()));
    }
    let mut bytes = Vec::new();
    Scan { file, at }.take(size).read_to_end(&mut bytes).map_err(Error::host("reading an archive"))?;
    Ok(bytes)
}

fn find_in_archive(file: &File, tag: Option<&str>) -> Result<Found, Error> {
    let length = file.metadata().map_err(Error::host("reading an archive"))?.len();
    let all = contents(file)?;
    let manifest = place(&all, "manifest.json").map_err(|_| {
        Error::Invalid("the file is not one of `docker save`: it has no manifest.json".to_owned())
    })?;
    let text = part(file, manifest, limits::MANIFEST_BYTES)?;
    let images: Vec<Saved> = manifest::read(&text, "manifest.json")?;
    let is_named = |image: &&Saved| {
        let named = |tag: &str, other: &str| other == tag || other.ends_with(&format!("/{tag}"));
        tag.is_none_or(|tag| image.repo_tags.iter().flatten().any(|other| named(tag, other)))
    };
    let named: Vec<&Saved> = images.iter().filter(is_named).collect();
    let [image] = named[..] else {
        let problem = if named.is_empty() { "no image of this name" } else { "several images: name one" };
        return Err(Error::NotFound(format!("the archive has {problem}")));
    };
    if image.layers.len() > limits::LAYERS {
        return Err(Error::Invalid(format!("the image has more than {} layers", limits::LAYERS)));
    }
    let config = part(file, place(&all, &image.config)?, limits::CONFIG_BYTES)?;
    let parsed = manifest::Config::parse(&config, image.layers.len())?;
    let places = image.layers.iter().map(|name| place(&all, name)).collect::<Result<Vec<_>, _>>()?;
    if places.iter().any(|(at, size)| at.saturating_add(*size) > length) {
        return Err(Error::Invalid("the archive ends in the middle".to_owned()));
    }
    let layers = parsed.rootfs.diff_ids.into_iter().zip(places);
    let layers = layers.map(|(diff, (at, size))| LayerAt {
        diff,
        blob: None,
        media_type: String::new(),
        size,
        at,
        toc: None,
    });
    let id = Digest::of(&config);
    Ok(Found { digest: id.clone(), id, config, layers: layers.collect() })
}
