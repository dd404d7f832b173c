//! What is written beside the tree of a layer that is not all there.
//!
//! ```text
//! layers/HEX/partial     which blob, and where its table of contents begins
//! layers/HEX/toc.json    the table itself
//! ```
//!
//! The tree has every folder, link and file with its size; what has not come of a file is a hole. What has come is not
//! written down anywhere: it is what has the digest that the table says. So nothing has to be synced while a function
//! runs, and whatever a crash leaves is found out by looking. `partial` goes once everything is there and synced, and the layer
//! is one like any other.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::toc::{self, Toc};
use crate::layer::{self, Budget, Notes};
use crate::{Digest, Error, limits};

const PARTIAL: &str = "partial";
const TABLE: &str = "toc.json";

/// Where a layer's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// The compressed layer.
    pub(crate) blob: Digest,
    /// Bytes of it.
    pub(crate) size: u64,
    /// Where its table of contents begins.
    pub(crate) end: u64,
    /// Of the table's text.
    pub(crate) toc: Digest,
}

impl Index {
    /// What the layer is called by in the store. Not by the digest of its archive, which nobody has checked: two images
    /// that name the same table and blob have the same files, whatever else they say.
    pub(crate) fn key(blob: &Digest, toc: &Digest) -> Digest {
        Digest::of(format!("in parts: {blob} by {toc}").as_bytes())
    }
}

/// Whether a layer of the store is not all there.
pub(crate) fn is_partial(layer: &Path) -> bool {
    layer.join(PARTIAL).exists()
}

/// Makes a layer without its files' content, in an empty folder. Blocking.
pub(crate) fn outline(index: &Index, text: &[u8], into: &Path, budget: Budget) -> Result<Notes, Error> {
    let toc = toc::parse(text, index.end)?;
    let notes = layer::outline(toc.entries.iter().map(|listed| &listed.entry), into, budget)?;
    let writing = |error: io::Error| Error::host("writing a layer's index")(error);
    fs::write(into.join(TABLE), text).map_err(writing)?;
    let index = serde_json::to_vec(index).map_err(|error| writing(error.into()))?;
    fs::write(into.join(PARTIAL), index).map_err(writing)?;
    Ok(notes)
}

/// Reads what is beside a layer's tree, and checks it again. Blocking.
pub(crate) fn read(layer: &Path) -> Result<(Index, Toc), Error> {
    let reading = || "reading a layer's index";
    let index = fs::read(layer.join(PARTIAL)).map_err(Error::host(reading()))?;
    let index: Index =
        serde_json::from_slice(&index).map_err(|error| Error::host(reading())(io::Error::from(error)))?;
    let about = fs::metadata(layer.join(TABLE)).map_err(Error::host(reading()))?;
    if about.len() > limits::TOC_BYTES {
        return Err(damaged());
    }
    let text = fs::read(layer.join(TABLE)).map_err(Error::host(reading()))?;
    if Digest::of(&text) != index.toc {
        return Err(damaged());
    }
    let toc = toc::parse(&text, index.end)?;
    Ok((index, toc))
}

/// Says that all of a layer is there. Blocking, and syncs it.
pub(crate) fn complete(layer: &Path) -> Result<(), Error> {
    let doing = || "completing a layer";
    let folder = fs::File::open(layer).map_err(Error::host(doing()))?;
    rustix::fs::syncfs(&folder).map_err(Error::host(doing()))?;
    match fs::remove_file(layer.join(PARTIAL)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::host(doing())(error)),
        _ => {}
    }
    // Without the other it means nothing.
    let _ = fs::remove_file(layer.join(TABLE));
    folder.sync_all().map_err(Error::host(doing()))
}

fn damaged() -> Error {
    Error::host("reading a layer's index")(io::Error::from(io::ErrorKind::InvalidData))
}
