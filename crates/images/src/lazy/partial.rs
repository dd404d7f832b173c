//! A layer that comes in parts: what is there of it, and what of it is on its way.
//!
//! A part is *there* once its bytes lie in the layer's tree and have had the digest that the table of contents says, and it is
//! for good. Nobody
//! reads a file of it otherwise than through [`Partial::fetch`] first. Parts that lie next to each other in the blob are asked
//! for together, and whoever needs one that somebody else has asked for waits for that.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::bring::Flight;
use super::index::{self, Index};
use super::remote::{Remote, Urgency};
use super::toc::Part;
use super::touched::Touched;
use crate::layer::TREE;
use crate::tree::Plain;
use crate::{Digest, Error};

/// What is known of a part. After a restart: nothing.
const UNKNOWN: u8 = 0;
const MISSING: u8 = 1;
const THERE: u8 = 2;
/// Parts that are looked at before a run begins: what is not known to be missing is in none.
const LOOK_AHEAD: usize = 32;

/// A layer, shared by all images that have it.
pub(crate) struct Partial {
    /// Where its bytes are.
    pub(crate) index: Index,
    /// How much its table lists.
    pub(crate) entries: u64,
    dir: PathBuf,
    tree: rustix::fd::OwnedFd,
    files: Vec<Spread>,
    pub(super) parts: Vec<Part>,
    /// Whose part it is.
    owners: Vec<u32>,
    /// Parts as they lie in the blob, and where each is in that.
    pub(super) order: Vec<u32>,
    pub(super) ranks: Vec<u32>,
    states: Vec<AtomicU8>,
    /// Parts that are not known to be there.
    left: AtomicUsize,
    pub(super) flights: Mutex<HashMap<u32, Flight>>,
    /// What was used of it.
    pub(crate) touched: Mutex<Touched>,
}

/// A file with content.
#[derive(Debug)]
pub(crate) struct Spread {
    pub(super) path: PathBuf,
    /// Of the tree's file system.
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    parts: Range<usize>,
}

impl Partial {
    /// Opens a layer of the store; `fresh` where nothing of its files can be there. Blocking.
    pub(crate) fn open(dir: &Path, touched: Touched, fresh: bool) -> Result<Self, Error> {
        let (index, toc) = index::read(dir)?;
        let opening = || "opening a layer's files";
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tree = rustix::fs::open(dir.join(TREE), flags, Mode::empty()).map_err(Error::host(opening()))?;
        let mut files = Vec::new();
        let mut owners = Vec::with_capacity(toc.parts.len());
        let mut inodes = std::collections::HashSet::new();
        for listed in toc.entries.iter().filter(|listed| !listed.parts.is_empty()) {
            let file = spread(&tree, &listed.entry, listed.parts.clone())?;
            if !inodes.insert(file.inode) {
                return Err(crate::tree::hostile(&listed.entry.path, "its index lists it twice"));
            }
            owners.extend(listed.parts.clone().map(|_| u32::try_from(files.len()).unwrap_or(u32::MAX)));
            files.push(file);
        }
        let count = toc.parts.len();
        let mut order: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
        order.sort_by_key(|part| (toc.parts[*part as usize].offset, toc.parts[*part as usize].inner));
        let mut ranks = vec![0; count];
        order.iter().zip(0..).for_each(|(part, rank)| ranks[*part as usize] = rank);
        let state = if fresh { MISSING } else { UNKNOWN };
        Ok(Self {
            index,
            entries: toc.entries.len().max(count) as u64,
            dir: dir.to_owned(),
            tree,
            files,
            parts: toc.parts,
            owners,
            order,
            ranks,
            states: (0..count).map(|_| AtomicU8::new(state)).collect(),
            left: count.into(),
            flights: Mutex::default(),
            touched: Mutex::new(touched),
        })
    }

    /// Its files that have content.
    pub(crate) fn files(&self) -> &[Spread] {
        &self.files
    }

    /// The parts that some bytes of a file are in.
    pub(crate) fn parts_of(&self, file: &Spread, from: u64, length: u64) -> Range<usize> {
        let all = &self.parts[file.parts.clone()];
        let until = from.saturating_add(length).min(file.size);
        let first = all.partition_point(|part| part.at + part.size <= from);
        let last = all.partition_point(|part| part.at < until);
        file.parts.start + first..file.parts.start + last.max(first)
    }

    /// Whether all of these are there.
    pub(crate) fn are_there(&self, parts: Range<usize>) -> bool {
        self.states[parts].iter().all(|state| state.load(Ordering::Acquire) == THERE)
    }

    pub(super) fn is_there(&self, part: usize) -> bool {
        self.states[part].load(Ordering::Acquire) == THERE
    }

    /// Whether it is known that it is not there.
    pub(super) fn is_missing(&self, part: usize) -> bool {
        self.states[part].load(Ordering::Acquire) == MISSING
    }

    /// Whether everything is.
    pub(crate) fn is_whole(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Writes down that it is. Blocking.
    pub(crate) fn complete(&self) -> Result<(), Error> {
        index::complete(&self.dir)
    }

    /// Remembers that parts were used.
    pub(crate) fn touch(&self, parts: Range<usize>) {
        let mut touched = self.touched.lock();
        for part in parts {
            touched.add(part, self.parts[part].size);
        }
    }

    /// Has parts there, whoever brings them.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        parts: Range<usize>,
        remote: &Arc<Remote>,
        urgency: Urgency,
    ) -> Result<(), Arc<Error>> {
        self.look(parts.clone()).await?;
        let flight = |part| Some((part, self.flight(part, remote, urgency)?));
        let flights: Vec<(usize, Flight)> = parts.filter_map(flight).collect();
        for (part, flight) in flights {
            self.land(part, flight).await?;
        }
        Ok(())
    }

    /// Has everything there that is missing, a run at a time.
    pub(crate) async fn fetch_all(self: &Arc<Self>, remote: &Arc<Remote>) -> Result<(), Arc<Error>> {
        for rank in 0..self.order.len() {
            if rank.is_multiple_of(LOOK_AHEAD) {
                let next = &self.order[rank..self.order.len().min(rank + LOOK_AHEAD)];
                let next: Vec<usize> = next.iter().map(|part| *part as usize).collect();
                self.look_at(&next).await?;
            }
            let part = self.order[rank] as usize;
            if !self.is_there(part) {
                remote.quiet().await;
                self.fetch(part..part + 1, remote, Urgency::Whenever).await?;
            }
        }
        Ok(())
    }

    /// Has those there that earlier starts used, in their order, several runs at once.
    pub(crate) async fn fetch_touched(self: &Arc<Self>, remote: &Arc<Remote>) -> Result<(), Arc<Error>> {
        let wanted: Vec<usize> =
            self.touched.lock().before().iter().copied().filter(|part| *part < self.parts.len()).collect();
        // As they lie in the blob, so that neighbours come together.
        let mut ranks: Vec<u32> = wanted.iter().map(|part| self.ranks[*part]).collect();
        ranks.sort_unstable();
        self.look_at(&wanted).await?;
        let mut flights = Vec::new();
        for part in wanted {
            flights.extend(self.flight_among(part, &ranks, remote).map(|flight| (part, flight)));
        }
        for (part, flight) in flights {
            self.land(part, flight).await?;
        }
        Ok(())
    }

    /// Finds out what a crash or restart left of parts.
    async fn look(self: &Arc<Self>, parts: Range<usize>) -> Result<(), Arc<Error>> {
        let unknown = |part: &usize| self.states[*part].load(Ordering::Acquire) == UNKNOWN;
        let parts: Vec<usize> = parts.filter(unknown).collect();
        self.look_at(&parts).await
    }

    async fn look_at(self: &Arc<Self>, parts: &[usize]) -> Result<(), Arc<Error>> {
        let unknown = |part: &usize| self.states[*part].load(Ordering::Acquire) == UNKNOWN;
        let parts: Vec<usize> = parts.iter().copied().filter(unknown).collect();
        if parts.is_empty() {
            return Ok(());
        }
        let layer = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            for part in parts {
                layer.settle(part, layer.has(part));
            }
        });
        looked
            .await
            .map_err(|error| Arc::new(Error::host("looking at a layer")(std::io::Error::other(error))))
    }

    /// A part that was just looked at, or has come. Who looked before it came changes nothing any more.
    pub(super) fn settle(&self, part: usize, is_there: bool) {
        let state = &self.states[part];
        if !is_there {
            let _ = state.compare_exchange(UNKNOWN, MISSING, Ordering::AcqRel, Ordering::Acquire);
        } else if state.swap(THERE, Ordering::AcqRel) != THERE {
            self.left.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn has(&self, part: usize) -> bool {
        let Part { at, size, digest, .. } = &self.parts[part];
        let Ok(file) = self.open_file(part, OFlags::RDONLY) else { return false };
        // A hole is not read through.
        if rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(*at)).is_ok_and(|data| data >= at + size) {
            return false;
        }
        let Ok(length) = usize::try_from(*size) else { return false };
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, *at).is_ok() && Digest::of(&bytes) == *digest
    }

    /// The file that a part is of.
    pub(super) fn owner(&self, part: usize) -> &Spread {
        &self.files[self.owners[part] as usize]
    }

    pub(super) fn open_file(&self, part: usize, flags: OFlags) -> Result<File, Error> {
        let path = &self.owner(part).path;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.tree, path, flags, Mode::empty());
        opened.map(File::from).map_err(Error::host("opening a file of a layer"))
    }
}

/// A file of the tree, which has to be the one that the table means: no link leads to it, and it has its size.
fn spread(
    tree: &rustix::fd::OwnedFd,
    entry: &crate::tar::Entry,
    parts: Range<usize>,
) -> Result<Spread, Error> {
    let path = Plain::parse(&entry.path)?.to_path();
    let other = || crate::tree::hostile(&entry.path, "something else is in its place");
    for around in path.ancestors().skip(1).filter(|around| !around.as_os_str().is_empty()) {
        let found = rustix::fs::statat(tree, around, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| other())?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Err(other());
        }
    }
    let found = rustix::fs::openat(
        tree,
        if path.as_os_str().is_empty() { OsStr::new(".") } else { path.as_os_str() },
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let found = File::from(found.map_err(|_| other())?).metadata().map_err(|_| other())?;
    if !found.is_file() || found.len() != entry.size {
        return Err(other());
    }
    Ok(Spread { path, inode: found.ino(), size: entry.size, modified: entry.modified, parts })
}
