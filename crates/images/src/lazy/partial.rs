//! A layer that comes in parts: what is there of it, and what of it is on its way.
//!
//! A part is *there* once its bytes lie in the layer's tree and have had the digest that the table of contents says. Nobody
//! reads a file of it otherwise than through [`Partial::fetch`] first. Parts that lie next to each other in the blob are asked
//! for together, and whoever needs one that somebody else has asked for waits for that.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use flate2::read::GzDecoder;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use tokio::sync::watch;

use super::index::{self, Index};
use super::remote::{Remote, Urgency};
use super::toc::Part;
use super::touched::Touched;
use crate::layer::TREE;
use crate::tree::Plain;
use crate::{Digest, Error, limits};

/// After a restart: it may be there.
const UNKNOWN: u8 = 0;
const MISSING: u8 = 1;
const THERE: u8 = 2;
/// Parts that are looked at before a run begins: what is not known to be missing is in none.
const LOOK_AHEAD: usize = 32;

/// A layer, shared by all images that have it.
pub(crate) struct Partial {
    /// Where its bytes are.
    pub(crate) index: Index,
    dir: PathBuf,
    tree: rustix::fd::OwnedFd,
    files: Vec<Spread>,
    parts: Vec<Part>,
    /// Whose part it is.
    owners: Vec<u32>,
    /// Parts as they lie in the blob, and where each is in that.
    order: Vec<u32>,
    ranks: Vec<u32>,
    states: Vec<AtomicU8>,
    /// Parts that are not known to be there.
    left: AtomicUsize,
    flights: Mutex<HashMap<u32, Flight>>,
    /// What was used of it.
    pub(crate) touched: Mutex<Touched>,
}

/// A file with content.
#[derive(Debug)]
pub(crate) struct Spread {
    path: PathBuf,
    /// Of the tree's file system.
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    parts: Range<usize>,
}

/// Parts that were asked for: nothing yet, or how it ended.
type Flight = watch::Receiver<Option<Result<(), Arc<Error>>>>;

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
        let flights: Vec<Flight> = parts.filter_map(|part| self.flight(part, remote, urgency)).collect();
        for mut flight in flights {
            let ended = flight.wait_for(Option::is_some).await.map(|ended| ended.clone());
            match ended {
                Ok(Some(ended)) => ended?,
                // Only a runtime that goes down drops it.
                _ => return Err(Arc::new(Error::Unreachable("the server is stopping".to_owned()))),
            }
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
            if self.states[part].load(Ordering::Acquire) != THERE {
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
            if let Some(flight) = self.flight_among(part, &ranks, remote) {
                flights.push(flight);
            }
        }
        for mut flight in flights {
            if let Ok(Some(ended)) = flight.wait_for(Option::is_some).await.map(|ended| ended.clone()) {
                ended?;
            }
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
                let state = if layer.has(part) { THERE } else { MISSING };
                layer.settle(part, state);
            }
        });
        looked
            .await
            .map_err(|error| Arc::new(Error::host("looking at a layer")(std::io::Error::other(error))))
    }

    /// A part that was just looked at, or has come.
    fn settle(&self, part: usize, state: u8) {
        let before = self.states[part].swap(state, Ordering::AcqRel);
        if before != THERE && state == THERE {
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

    fn open_file(&self, part: usize, flags: OFlags) -> Result<File, Error> {
        let path = &self.files[self.owners[part] as usize].path;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.tree, path, flags, Mode::empty());
        opened.map(File::from).map_err(Error::host("opening a file of a layer"))
    }

    /// Where a part is on its way; it is sent for, with its neighbours, if it is not. `None` if it is there.
    fn flight(self: &Arc<Self>, part: usize, remote: &Arc<Remote>, urgency: Urgency) -> Option<Flight> {
        let mut flights = self.flights.lock();
        if self.states[part].load(Ordering::Acquire) == THERE {
            return None;
        }
        if let Some(flight) = flights.get(&self.number(part)) {
            return Some(flight.clone());
        }
        let rank = self.ranks[part] as usize;
        let most = match urgency {
            Urgency::Whenever => limits::RUN_BYTES,
            Urgency::Now if self.is_read_on(rank) => limits::RUN_BYTES,
            Urgency::Now => limits::AHEAD_BYTES,
        };
        let run = self.run(rank, most, &flights, |_| true);
        Some(self.send_for(run, remote, urgency, &mut flights))
    }

    /// The same, with no neighbours but those among `ranks`, which are sorted.
    fn flight_among(self: &Arc<Self>, part: usize, ranks: &[u32], remote: &Arc<Remote>) -> Option<Flight> {
        let mut flights = self.flights.lock();
        if self.states[part].load(Ordering::Acquire) == THERE {
            return None;
        }
        if let Some(flight) = flights.get(&self.number(part)) {
            return Some(flight.clone());
        }
        let rank = self.ranks[part] as usize;
        let wanted = |rank: usize| u32::try_from(rank).is_ok_and(|rank| ranks.binary_search(&rank).is_ok());
        let run = self.run(rank, limits::RUN_BYTES, &flights, wanted);
        Some(self.send_for(run, remote, Urgency::Now, &mut flights))
    }

    fn number(&self, part: usize) -> u32 {
        u32::try_from(part).unwrap_or(u32::MAX)
    }

    /// Whether the parts before it in the blob are there: then whoever reads goes on.
    fn is_read_on(&self, rank: usize) -> bool {
        let before = &self.order[rank.saturating_sub(2)..rank];
        before.len() == 2
            && before.iter().all(|part| self.states[*part as usize].load(Ordering::Acquire) == THERE)
    }

    /// A missing part and those behind it that are missing too, as long as they are close.
    fn run(
        &self,
        first: usize,
        most: u64,
        flights: &HashMap<u32, Flight>,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<u32> {
        let start = self.parts[self.order[first] as usize].offset;
        let mut end = start;
        let mut run = Vec::new();
        for (rank, number) in self.order.iter().enumerate().skip(first) {
            let part = &self.parts[*number as usize];
            let is_missing = self.states[*number as usize].load(Ordering::Acquire) == MISSING;
            if rank > first {
                let is_close = part.offset <= end + limits::GAP_BYTES;
                let fits = part.offset + part.room - start <= most;
                if !is_missing || flights.contains_key(number) || !is_close || !fits || !wanted(rank) {
                    break;
                }
            }
            end = end.max(part.offset + part.room);
            run.push(*number);
        }
        run
    }

    fn send_for(
        self: &Arc<Self>,
        run: Vec<u32>,
        remote: &Arc<Remote>,
        urgency: Urgency,
        flights: &mut HashMap<u32, Flight>,
    ) -> Flight {
        let (ended, flight) = watch::channel(None);
        run.iter().for_each(|part| drop(flights.insert(*part, flight.clone())));
        let (layer, remote) = (Arc::clone(self), Arc::clone(remote));
        // A task of its own: others wait for these parts too, whoever gives up.
        tokio::spawn(async move {
            let outcome = layer.bring(&run, &remote, urgency).await.map_err(Arc::new);
            if let Err(error) = &outcome {
                remote.trouble(error);
            }
            let mut flights = layer.flights.lock();
            run.iter().for_each(|part| drop(flights.remove(part)));
            ended.send_replace(Some(outcome));
        });
        flight
    }

    /// Fetches a run, checks it and puts it where it belongs. What broke off, or came wrong, is tried again.
    async fn bring(
        self: &Arc<Self>,
        run: &[u32],
        remote: &Arc<Remote>,
        urgency: Urgency,
    ) -> Result<(), Error> {
        let _turn = remote.turn(urgency).await;
        let from = run.iter().map(|part| self.parts[*part as usize].offset).min().unwrap_or(0);
        let end =
            run.iter().map(|part| &self.parts[*part as usize]).map(|part| part.offset + part.room).max();
        let length = end.unwrap_or(from) - from;
        let tried = async {
            let mut pause = limits::RETRY_AFTER;
            let mut attempt = 1;
            loop {
                let outcome = match remote.range(&self.index.blob, from, length).await {
                    Ok(bytes) => self.put(run, from, bytes).await,
                    Err(error) => Err(error),
                };
                match outcome {
                    Err(Error::Unreachable(_)) if attempt < limits::PART_ATTEMPTS => {}
                    // It may have been damaged on its way.
                    Err(Error::Invalid(_)) if attempt == 1 => {}
                    other => return other,
                }
                attempt += 1;
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        };
        tokio::time::timeout(limits::PART_PATIENCE, tried).await.unwrap_or_else(|_| {
            let seconds = limits::PART_PATIENCE.as_secs();
            Err(Error::Unreachable(format!("a part of the image did not come within {seconds} s")))
        })
    }

    async fn put(self: &Arc<Self>, run: &[u32], from: u64, bytes: bytes::Bytes) -> Result<(), Error> {
        let (layer, run) = (Arc::clone(self), run.to_vec());
        let put = tokio::task::spawn_blocking(move || {
            run.iter().try_for_each(|part| layer.put_one(*part as usize, from, &bytes))
        });
        put.await.unwrap_or_else(|error| Err(Error::host("unpacking a part")(std::io::Error::other(error))))
    }

    fn put_one(&self, number: usize, from: u64, bytes: &[u8]) -> Result<(), Error> {
        let part = &self.parts[number];
        let file = &self.files[self.owners[number] as usize];
        let plain = unpacked(part, from, bytes)?;
        if Digest::of(&plain) != part.digest {
            return Err(Error::Invalid(format!(
                "a part of {} is not what the image's index says: {} is listed, it has {}",
                file.path.display(),
                part.digest,
                Digest::of(&plain)
            )));
        }
        let opened = self.open_file(number, OFlags::WRONLY)?;
        opened.write_all_at(&plain, part.at).map_err(Error::host("writing a file of an image"))?;
        let modified = Timespec { tv_sec: file.modified, tv_nsec: 0 };
        let times = Timestamps { last_access: modified, last_modification: modified };
        // A time that the file system cannot hold is no reason to refuse it.
        let _ = rustix::fs::futimens(&opened, &times);
        self.settle(number, THERE);
        Ok(())
    }
}

/// The bytes of a part, out of a stretch of the blob that begins at `from`.
fn unpacked(part: &Part, from: u64, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let wrong = |text: &str| Error::Invalid(format!("a part of the image cannot be unpacked: {text}"));
    let member = usize::try_from(part.offset - from).ok().and_then(|at| bytes.get(at..));
    let mut plain = GzDecoder::new(member.ok_or_else(|| wrong("it is not there"))?);
    let skipped = std::io::copy(&mut plain.by_ref().take(part.inner), &mut std::io::sink());
    skipped.map_err(|error| wrong(&error.to_string()))?;
    let mut out = Vec::new();
    plain.take(part.size).read_to_end(&mut out).map_err(|error| wrong(&error.to_string()))?;
    Ok(out)
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
