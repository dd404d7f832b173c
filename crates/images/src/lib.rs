//! OCI and Docker images: fetched, checked, unpacked.
//!
//! An image comes from a registry ([`Reference::Registry`]), from a layout folder or from an archive of `docker save`,
//! and becomes a tree of files that a sandbox shows as its root. All of it is a stranger's: documents, archives and
//! the registry itself. So this is a crate of its own, which neither starts anything nor knows functions, and
//! the only one that speaks TLS as a client.
//!
//! - [`reference`]: names; [`manifest`]: what an image consists of, and which one of an index is for this machine.
//! - `source`: where bytes come from; `registry`: over HTTP. Every blob is checked against its digest and size while it
//!   streams, and a layer against the digest of its uncompressed archive besides.
//! - `tar`, `layer`: archives become trees, in a folder and nowhere else; `merge`: trees become an image.
//! - `store`: what is kept, shared and removed; `room`: how much; `turns`: who pulls when.
//! - [`build`]: the other way, from a folder to an image, which may be pushed.
//!
//! - `lazy`: images that functions start from before they are all there; `fuse`: how instances see those.
//!
//! Not here: file attributes, owners, devices (no instance could have them); mounting, which a [`Mounter`] does.

pub mod build;
mod digest;
mod error;
mod execution;
mod fuse;
mod layer;
mod lazy;
mod limits;
mod manifest;
mod merge;
mod pull;
mod reference;
mod registry;
mod room;
mod source;
mod store;
mod tar;
mod tree;
mod turns;

pub use digest::Digest;
pub use error::Error;
pub use execution::Execution;
pub use lazy::meter::{Meter, Outcome};
pub use lazy::{Listener, Mounter};
pub use pull::{Images, Pulled};
pub use reference::{Name, Reference};
pub use registry::Pushed;
pub use store::Stored;

use std::path::PathBuf;
use std::sync::Arc;

/// What the store is told.
pub struct Settings {
    /// Where layers and images are kept.
    pub dir: PathBuf,
    /// What every image gets.
    pub extras: Extras,
    /// Registries, `HOST[:PORT]`, that are spoken to without TLS. Those on loopback addresses need not be listed.
    pub plain_http: Vec<String>,
    /// A file like Docker's `config.json` with the registries' credentials. Read at each pull.
    pub credentials: Option<PathBuf>,
    /// Certificates (PEM) that registries may be vouched for by, besides the host's own.
    pub certificates: Option<PathBuf>,
    /// Folders of this machine that images may be taken from by path.
    pub local: Vec<PathBuf>,
    /// Shows images to instances before they are all there; absent: they are fetched whole.
    pub mounter: Option<Arc<dyn Mounter>>,
    /// Whether what such an image lacks is fetched in the background.
    pub completes: bool,
    /// Hears when parts of such an image cannot be had.
    pub listener: Option<Listener>,
    /// Counts what comes of such images.
    pub meter: Option<Arc<dyn Meter>>,
    /// Bytes that all layers together may take; those that come in parts count as if they were there.
    pub most_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            extras: Extras::default(),
            plain_http: Vec::new(),
            credentials: None,
            certificates: None,
            local: Vec::new(),
            mounter: None,
            completes: false,
            listener: None,
            meter: None,
            most_bytes: u64::MAX,
        }
    }
}

/// Files that every image gets, whatever it has in their place.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Paths and contents.
    pub files: Vec<(String, String)>,
    /// Lines of `/etc/passwd` and `/etc/group`, by path: added where the image has no such number.
    pub lines: Vec<(String, String)>,
}
