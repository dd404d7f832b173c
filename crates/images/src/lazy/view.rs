//! An image that is not all there, as instances see it.
//!
//! The image's tree is on the disk like any other, only that some of its files have holes. This shows that tree through
//! [`crate::fuse`], and has the bytes there before it gives them. A file belongs to a layer by its inode, since images are hard links.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::partial::Partial;
use super::remote::{Remote, Urgency};
use crate::fuse::{Attributes, Bytes, Entry, Name, ROOT, Tree};
use crate::{Digest, Error};

/// Files that are kept open, and folders whose lists are kept.
const OPEN_FILES: usize = 32;
const LISTS: usize = 4;

/// An image's files, and where what is missing of them comes from.
pub(crate) struct View {
    /// Of the image.
    pub(crate) id: Digest,
    root: OwnedFd,
    pub(crate) layers: Vec<Arc<Partial>>,
    pub(crate) remote: Arc<Remote>,
    /// By inode: of which layer, and which of its files.
    spread: HashMap<u64, (usize, usize)>,
    nodes: Mutex<Nodes>,
    files: Mutex<Vec<(u64, Arc<File>)>>,
    lists: Mutex<Vec<(u64, Arc<Vec<Name>>)>>,
}

/// What the kernel calls things. Nothing is ever forgotten: there are as many as the image has entries, and those of all images
/// that are shown are bounded.
struct Nodes {
    /// From [`ROOT`] on.
    all: Vec<Node>,
    by_inode: HashMap<u64, u64>,
}

/// One of them, by its name in the folder around it.
struct Node {
    around: u64,
    name: Box<OsStr>,
    inode: u64,
}

impl Nodes {
    fn get(&self, node: u64) -> Option<&Node> {
        self.all.get(usize::try_from(node.checked_sub(ROOT)?).ok()?)
    }

    /// Where it is in the tree.
    fn path(&self, node: u64) -> Option<(PathBuf, u64)> {
        let inode = self.get(node)?.inode;
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            let Node { around, name, .. } = self.get(at)?;
            names.push(name);
            at = *around;
        }
        Some((names.into_iter().rev().map(AsRef::<OsStr>::as_ref).collect(), inode))
    }
}

impl View {
    /// Opens an image's tree. Blocking.
    pub(crate) fn open(
        id: &Digest,
        root: &Path,
        layers: Vec<Arc<Partial>>,
        remote: Arc<Remote>,
    ) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opening = || Error::host("opening an image's files");
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| opening()(error))?;
        let found = rustix::fs::fstat(&root).map_err(|error| opening()(error))?;
        let mut spread = HashMap::new();
        for (at, layer) in layers.iter().enumerate() {
            let files = layer.files().iter().enumerate();
            spread.extend(files.map(|(file, about)| (about.inode, (at, file))));
        }
        let nodes = Nodes {
            all: vec![Node { around: ROOT, name: OsStr::new("").into(), inode: found.st_ino }],
            by_inode: HashMap::from([(found.st_ino, ROOT)]),
        };
        Ok(Self {
            id: id.clone(),
            root,
            layers,
            remote,
            spread,
            nodes: Mutex::new(nodes),
            files: Mutex::default(),
            lists: Mutex::default(),
        })
    }

    /// Has a file there whole, by its inode. One of no layer that comes in parts is.
    pub(crate) async fn fetch_whole(&self, inode: u64) -> Result<(), Arc<Error>> {
        let Some((layer, file)) = self.spread.get(&inode) else { return Ok(()) };
        let layer = &self.layers[*layer];
        let file = &layer.files()[*file];
        layer.fetch(layer.parts_of(file, 0, file.size), &self.remote, Urgency::Now).await
    }

    /// How much it lists, as far as its layers come in parts.
    pub(crate) fn entries(&self) -> u64 {
        self.layers.iter().map(|layer| layer.entries).sum()
    }

    /// Whether nothing is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.layers.iter().all(|layer| layer.is_whole())
    }

    fn path(&self, node: u64) -> Result<(PathBuf, u64), Errno> {
        self.nodes.lock().path(node).ok_or(Errno::STALE)
    }

    fn attributes_at(&self, path: &Path) -> Result<Attributes, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let found = rustix::fs::statat(&self.root, path, flags)?;
        let spread = self.spread.get(&found.st_ino).map(|(layer, file)| &self.layers[*layer].files()[*file]);
        Ok(Attributes {
            inode: found.st_ino,
            size: u64::try_from(found.st_size).unwrap_or(0),
            // While bytes are written the file's own is another, for a moment.
            modified: spread.map_or(found.st_mtime, |file| file.modified),
            mode: found.st_mode,
            links: u32::try_from(found.st_nlink).unwrap_or(u32::MAX),
        })
    }

    fn file(&self, node: u64, path: &Path) -> Result<Arc<File>, Errno> {
        if let Some((_, file)) = self.files.lock().iter().find(|(other, _)| *other == node) {
            return Ok(Arc::clone(file));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = Arc::new(File::from(rustix::fs::openat(&self.root, path, flags, Mode::empty())?));
        let mut files = self.files.lock();
        if files.len() == OPEN_FILES {
            files.remove(0);
        }
        files.push((node, Arc::clone(&file)));
        Ok(file)
    }

    fn list_at(&self, path: &Path) -> Result<Vec<Name>, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&self.root, path, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            names.push(Name { name, inode: entry.ino(), kind: entry.file_type() });
        }
        names.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(names)
    }
}

impl Tree for View {
    fn look_up(&self, folder: u64, name: &[u8]) -> Result<Option<Entry>, Errno> {
        let (around, _) = self.path(folder)?;
        let name = OsStr::from_bytes(name);
        let path = around.join(name);
        let attributes = match self.attributes_at(&path) {
            Ok(attributes) => attributes,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut nodes = self.nodes.lock();
        let node = match nodes.by_inode.get(&attributes.inode) {
            Some(node) => *node,
            None => {
                nodes.all.push(Node { around: folder, name: name.into(), inode: attributes.inode });
                let node = nodes.all.len() as u64;
                nodes.by_inode.insert(attributes.inode, node);
                node
            }
        };
        Ok(Some(Entry { node, attributes }))
    }

    fn attributes(&self, node: u64) -> Result<Attributes, Errno> {
        self.attributes_at(&self.path(node)?.0)
    }

    fn link(&self, node: u64) -> Result<Vec<u8>, Errno> {
        let (path, _) = self.path(node)?;
        rustix::fs::readlinkat(&self.root, &path, Vec::new()).map(std::ffi::CString::into_bytes)
    }

    fn list(&self, node: u64) -> Result<Arc<Vec<Name>>, Errno> {
        if let Some((_, list)) = self.lists.lock().iter().find(|(other, _)| *other == node) {
            return Ok(Arc::clone(list));
        }
        let list = Arc::new(self.list_at(&self.path(node)?.0)?);
        let mut lists = self.lists.lock();
        if lists.len() == LISTS {
            lists.remove(0);
        }
        lists.push((node, Arc::clone(&list)));
        Ok(list)
    }

    fn read(&self, node: u64, at: u64, size: u32) -> Result<Bytes, Errno> {
        let (path, inode) = self.path(node)?;
        let file = self.file(node, &path)?;
        let Some((layer, number)) = self.spread.get(&inode) else {
            return bytes(&file, at, size).map(Bytes::Now);
        };
        let layer = &self.layers[*layer];
        let parts = layer.parts_of(&layer.files()[*number], at, size.into());
        layer.touch(parts.clone());
        if layer.are_there(parts.clone()) {
            return bytes(&file, at, size).map(Bytes::Now);
        }
        let (layer, remote) = (Arc::clone(layer), Arc::clone(&self.remote));
        Ok(Bytes::Later(Box::pin(async move {
            let wait = remote.wait();
            layer.fetch(parts, &remote, Urgency::Now).await.map_err(|_| Errno::IO)?;
            drop(wait);
            bytes(&file, at, size)
        })))
    }
}

fn bytes(file: &File, at: u64, size: u32) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; size as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
