//! Where images are written to: OCI layouts, and archives as `docker save` makes them.
//!
//! Everything appears by a rename, the index last. What was made of something that failed is taken away again, but for blobs
//! that were there before.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::archive::Writer;
use super::spool::{self, FromStart, Hashing};
use super::{Blob, Made, blocking, document};
use crate::digest::Verified;
use crate::{Digest, Error, layer, limits};

/// What is taken away unless all goes well, the last first.
#[derive(Default)]
struct Undo(Vec<PathBuf>);

impl Undo {
    fn done(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // What cannot be removed was never whole, or is a folder that somebody else put something into.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

/// Makes a folder, with those around it.
fn make_folder(path: &Path, undo: &mut Undo) -> Result<(), Error> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    // The last ancestor of a relative path is nothing, and is there.
    missing.retain(|path| !path.as_os_str().is_empty());
    for path in missing.into_iter().rev() {
        fs::create_dir(path).map_err(Error::host(format!("making {}", path.display())))?;
        undo.0.push(path.to_owned());
    }
    Ok(())
}

/// Beside a file, a name for it while it is not whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

/// Writes a file so that it is there whole or not at all.
fn whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<(), Error> {
    let writing = || Error::host(format!("writing {}", path.display()));
    let temporary = beside(path);
    let mut undo = Undo::default();
    let file = File::options().write(true).create_new(true).open(&temporary);
    let file = file.map_err(Error::host(format!("making {}", temporary.display())))?;
    undo.0.push(temporary.clone());
    let mut out = BufWriter::with_capacity(64 << 10, file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|error| writing()(error.into_error()))?;
    file.sync_all().map_err(writing())?;
    fs::rename(&temporary, path).map_err(writing())?;
    undo.done();
    Ok(())
}

/// Writes a blob, checked.
fn copy(content: Verified<Box<dyn Read + Send>>, out: &mut dyn Write) -> Result<(), Error> {
    let mut content = content;
    io::copy(&mut content, out).map_err(Error::host("writing a blob"))?;
    content.finish()
}

pub(super) async fn layout(made: &Made, folder: &Path, tag: &str) -> Result<(), Error> {
    let mut undo = Undo::default();
    let blobs = folder.join("blobs/sha256");
    let before = read_index(folder)?;
    let index = document::index(before.as_deref(), tag, &made.manifest)?;
    make_folder(&blobs, &mut undo)?;
    let marker = folder.join("oci-layout");
    if !marker.exists() {
        whole(&marker, |out| put(out, br#"{"imageLayoutVersion":"1.0.0"}"#))?;
        undo.0.push(marker);
    }
    for blob in made.blobs() {
        let path = blobs.join(blob.digest.hex());
        if fs::symlink_metadata(&path).is_ok_and(|about| about.is_file() && about.len() == blob.size) {
            continue;
        }
        let content = blob.open().await?;
        undo.0.push(path.clone());
        blocking(move || whole(&path, |out| copy(content, out))).await?;
    }
    let manifest = blobs.join(made.digest.hex());
    if !manifest.exists() {
        undo.0.push(manifest.clone());
    }
    whole(&manifest, |out| put(out, &made.manifest))?;
    whole(&folder.join("index.json"), |out| put(out, &index))?;
    undo.done();
    Ok(())
}

fn put(out: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    out.write_all(bytes).map_err(Error::host("writing a document"))
}

/// The index of a layout that is there; a folder with other things in it is none, and is left alone.
fn read_index(folder: &Path) -> Result<Option<Vec<u8>>, Error> {
    let shown = folder.display();
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::host(format!("reading {shown}"))(error)),
        Ok(mut found) => {
            if found.next().is_some() && !folder.join("oci-layout").is_file() {
                return Err(Error::Invalid(format!("{shown} is neither empty nor an OCI layout")));
            }
        }
    }
    let path = folder.join("index.json");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::host(format!("reading {}", path.display()))(error)),
    };
    let mut text = Vec::new();
    let read = file.take(limits::MANIFEST_BYTES).read_to_end(&mut text);
    read.map_err(Error::host(format!("reading {}", path.display())))?;
    Ok(Some(text))
}

pub(super) async fn archive(made: &Made, file: &Path, tags: &[String], scratch: &Path) -> Result<(), Error> {
    let mut layers = Vec::new();
    for blob in &made.layers {
        let (content, blob, scratch) = (blob.open().await?, blob.clone(), scratch.to_owned());
        layers.push(blocking(move || unpacked(content, &blob, &scratch)).await?);
    }
    let mut config = Vec::new();
    made.config.open().await?.read_to_end(&mut config).map_err(Error::unreadable("a blob"))?;
    let (file, tags, id) = (file.to_owned(), tags.to_vec(), made.config.digest.clone());
    blocking(move || {
        let mut undo = Undo::default();
        if let Some(around) = file.parent() {
            make_folder(around, &mut undo)?;
        }
        whole(&file, |out| {
            saved(out, &config, &id, &layers, &tags).map_err(Error::host("writing an archive"))
        })?;
        undo.done();
        Ok(())
    })
    .await
}

/// A layer's archive as it is inside.
struct Unpacked {
    diff: Digest,
    size: u64,
    file: Arc<File>,
}

/// Docker's archives have layers uncompressed, and a header says first how large each is.
fn unpacked(
    mut content: Verified<Box<dyn Read + Send>>,
    blob: &Blob,
    scratch: &Path,
) -> Result<Unpacked, Error> {
    let mut out = Hashing::new(BufWriter::with_capacity(64 << 10, spool::nameless(scratch)?));
    let copied = layer::decompressed(&mut content).and_then(|plain| {
        io::copy(&mut plain.take(limits::IMAGE_BYTES), &mut out).map_err(Error::host("unpacking a layer"))
    });
    // What broke off, or found no room, says nothing about the blob; else what the blob is comes before what is wrong with it.
    if let Err(error @ (Error::Full(_) | Error::Unreachable(_))) = copied {
        return Err(error);
    }
    content.finish()?;
    copied?;
    let (file, diff, size) = out.finish();
    if diff != blob.diff {
        return Err(Error::Invalid(format!(
            "a layer of the base is not {}, as its configuration says",
            blob.diff
        )));
    }
    let file = file.into_inner().map_err(|error| Error::host("unpacking a layer")(error.into_error()))?;
    Ok(Unpacked { diff, size, file: Arc::new(file) })
}

fn saved(
    out: &mut dyn Write,
    config: &[u8],
    id: &Digest,
    layers: &[Unpacked],
    tags: &[String],
) -> io::Result<()> {
    let mut archive = Writer::new(out);
    let name = |digest: &Digest, ending: &str| format!("{}.{ending}", digest.hex());
    let names: Vec<String> = layers.iter().map(|layer| name(&layer.diff, "tar")).collect();
    let manifest = json!([{ "Config": name(id, "json"), "RepoTags": tags, "Layers": names }]).to_string();
    for (at, (layer, name)) in layers.iter().zip(&names).enumerate() {
        // Two layers with the same content are one file.
        if !names[..at].contains(name) {
            archive.file(name.as_bytes(), false, layer.size, &mut FromStart::new(&layer.file))?;
        }
    }
    archive.file(name(id, "json").as_bytes(), false, config.len() as u64, &mut &*config)?;
    archive.file(b"manifest.json", false, manifest.len() as u64, &mut manifest.as_bytes())?;
    archive.end().map(drop)
}
