//! One layer: from an archive to a tree of its own (OCI image spec: Image Layer Filesystem Changeset).
//!
//! A layer is unpacked by itself, not over those below it, so that images share it. What it takes away from them is
//! noted beside its tree and done when an image is put together.
//!
//! Ownership and rights are the server's to give: everything belongs to its user, folders are 0755, files 0644, or
//! 0755 with any execute bit, since the one user inside is neither root nor the file's owner and must be able to read
//! what that one could. No set-user-id bit, attribute or device comes out of an archive. Times of modification stay,
//! because caches such as Python's go by them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rustix::fs::{AtFlags, FileType, Timespec, Timestamps};
use rustix::io::Errno;

use crate::digest::Bounded;
use crate::room::{Paying, Taken};
use crate::tar::{Archive, Entry, Kind};
use crate::tree::{self, Plain, Root, hostile};
use crate::{Digest, Error, limits};

/// In a layer's folder: its files.
pub(crate) const TREE: &str = "tree";
/// In a layer's folder: what it takes away, and how large it is. Written last.
const NOTES: &str = "notes";

/// Names at the top of a layer that are about its archive (eStargz): whole or in parts, an image is the same without.
const RESERVED: [&str; 3] = ["stargz.index.json", ".prefetch.landmark", ".no.prefetch.landmark"];

/// What a layer says beside its files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// Bytes of its archive.
    pub(crate) bytes: u64,
    /// Entries of its archive, and folders that only the paths of others name.
    pub(crate) entries: u64,
    /// Paths that go.
    pub(crate) gone: Vec<PathBuf>,
    /// Folders of which nothing stays.
    pub(crate) opaque: Vec<PathBuf>,
}

/// What is left for an image's layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: limits::IMAGE_BYTES, entries: limits::ENTRIES }
    }
}

impl Budget {
    /// What is left after a layer.
    pub(crate) fn less(self, notes: &Notes) -> Result<Self, Error> {
        Ok(Self {
            bytes: self.bytes.checked_sub(notes.bytes).ok_or_else(crate::digest::too_large)?,
            entries: self.entries.checked_sub(notes.entries).ok_or_else(too_many)?,
        })
    }
}

fn too_many() -> Error {
    Error::Invalid(format!("the image has more than {} entries", limits::ENTRIES))
}

/// Unpacks a layer into an empty folder; the digest of the archive. Blocking. On failure the folder holds part of it.
pub(crate) fn unpack(
    compressed: &mut dyn Read,
    into: &Path,
    budget: Budget,
    taken: &mut Taken,
) -> Result<Digest, Error> {
    let mut layer = Unpacking::begin(into)?;
    let plain = Paying::new(decompressed(compressed)?, taken);
    let mut archive = Archive::new(Bounded::new(plain, budget.bytes));
    while let Some(entry) = archive.next()? {
        layer.notes.entries += 1;
        layer.add(&entry, &mut archive)?;
        if layer.notes.entries > budget.entries {
            return Err(too_many());
        }
    }
    let mut stream = archive.into_inner();
    // What fills the last record is a part of what the digest is about.
    io::copy(&mut stream, &mut io::sink()).map_err(Error::unreadable("a layer"))?;
    layer.notes.bytes = budget.bytes - stream.left();
    layer.notes.write(into)?;
    stream.finish()
}

/// How a layer is packed is told by its first bytes: media types lie, and what `docker save` writes has none.
pub(crate) fn decompressed(stream: &mut dyn Read) -> Result<Box<dyn Read + '_>, Error> {
    let mut first = Vec::new();
    stream.take(4).read_to_end(&mut first).map_err(Error::unreadable("a layer"))?;
    let gzip = first.starts_with(&[0x1f, 0x8b]);
    // A skippable frame may come before the first (RFC 8878, 3.1.2).
    let skippable = first.len() == 4 && first[0] & 0xf0 == 0x50 && first[1..] == [0x2a, 0x4d, 0x18];
    let zstd = skippable || first == [0x28, 0xb5, 0x2f, 0xfd];
    let whole = io::Cursor::new(first).chain(stream);
    if gzip {
        return Ok(Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(64 << 10, whole))));
    }
    if zstd {
        let mut decoder = zstd::stream::read::Decoder::new(whole).map_err(Error::host("starting zstd"))?;
        decoder.window_log_max(limits::ZSTD_WINDOW_LOG).map_err(Error::host("bounding zstd"))?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(whole))
}

/// What a file's content comes from.
pub(crate) trait Content {
    /// Makes an empty file what it is to be.
    fn fill(&mut self, file: &mut fs::File) -> Result<(), Error>;
}

impl<R: Read> Content for Archive<R> {
    fn fill(&mut self, file: &mut fs::File) -> Result<(), Error> {
        let mut chunk = [0; 64 << 10];
        loop {
            let count = self.read(&mut chunk).map_err(Error::unreadable("a layer"))?;
            if count == 0 {
                return Ok(());
            }
            io::Write::write_all(file, &chunk[..count]).map_err(Error::host("writing a file of an image"))?;
        }
    }
}

/// A file of so many bytes that come later: a hole.
struct Later(u64);

impl Content for Later {
    fn fill(&mut self, file: &mut fs::File) -> Result<(), Error> {
        file.set_len(self.0).map_err(Error::host("making a file of an image"))
    }
}

/// Makes a layer's tree in an empty folder from what its index lists: whole, but for the files' content. Blocking.
pub(crate) fn outline<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    into: &Path,
    budget: Budget,
) -> Result<Notes, Error> {
    let mut layer = Unpacking::begin(into)?;
    for entry in entries {
        layer.notes.entries += 1;
        layer.notes.bytes = layer.notes.bytes.saturating_add(entry.size);
        if layer.notes.bytes > budget.bytes {
            return Err(crate::digest::too_large());
        }
        layer.add(entry, &mut Later(entry.size))?;
        if layer.notes.entries > budget.entries {
            return Err(too_many());
        }
    }
    layer.notes.write(into)?;
    Ok(layer.notes)
}

/// A layer on its way.
struct Unpacking {
    root: Root,
    notes: Notes,
    /// Bytes of the paths that it takes away.
    gone_bytes: usize,
}

impl Unpacking {
    fn begin(into: &Path) -> Result<Self, Error> {
        let tree = into.join(TREE);
        fs::create_dir(&tree).map_err(Error::host("making a layer's folder"))?;
        fs::set_permissions(&tree, Permissions::from_mode(0o755))
            .map_err(Error::host("making a layer's folder"))?;
        Ok(Self { root: Root::open(&tree)?, notes: Notes::default(), gone_bytes: 0 })
    }

    fn add(&mut self, entry: &Entry, content: &mut dyn Content) -> Result<(), Error> {
        let path = Plain::parse(&entry.path)?;
        let Some((folders, name)) = path.split() else {
            return match entry.kind {
                Kind::Folder => Ok(()),
                _ => Err(hostile(&entry.path, "it has no name")),
            };
        };
        if folders.is_empty() && RESERVED.iter().any(|reserved| name == *reserved) {
            return Ok(());
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.take_away(&entry.path, folders, hidden);
        }
        // Folders that have no entry of their own take as much room as those that have.
        let folder = self.root.make_folders(folders, &mut self.notes.entries)?;
        let folder = folder.as_fd();
        match &entry.kind {
            Kind::Folder => tree::make_folder_at(folder, name),
            Kind::File => write_file(folder, name, entry, content),
            Kind::SymbolicLink(target) => {
                check_target(&entry.path, target)?;
                tree::remove_at(folder, name)?;
                rustix::fs::symlinkat(target.as_slice(), folder, name).map_err(Error::host("making a link"))
            }
            Kind::HardLink(target) => self.link(&entry.path, target, folder, name),
            // `/dev` is made for every instance, and nobody waits at the other end of a pipe.
            Kind::Special => Ok(()),
        }
    }

    /// A whiteout: something of the layers below goes.
    fn take_away(&mut self, entry: &[u8], folders: &[OsString], hidden: &[u8]) -> Result<(), Error> {
        if self.notes.gone.len() + self.notes.opaque.len() >= limits::WHITEOUTS {
            return Err(hostile(entry, "the layer takes too much away"));
        }
        self.gone_bytes += entry.len();
        if self.gone_bytes > limits::WHITEOUT_BYTES {
            return Err(hostile(entry, "the layer takes too much away"));
        }
        let folder: PathBuf = folders.iter().collect();
        match hidden {
            b".wh..opq" => self.notes.opaque.push(folder),
            // Of aufs itself.
            hidden if hidden.starts_with(b".wh.") => {}
            b"" | b"." | b".." => return Err(hostile(entry, "it takes away something outside")),
            hidden => self.notes.gone.push(folder.join(OsStr::from_bytes(hidden))),
        }
        Ok(())
    }

    fn link(&self, entry: &[u8], target: &[u8], folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        let missing = || hostile(entry, "it is a hard link to something that is not in its layer");
        let path = Plain::parse(target)?;
        let Some((folders, target)) = path.split() else { return Err(missing()) };
        let around: PathBuf = folders.iter().collect();
        let around = self.root.folder(&around).map_err(|_| missing())?;
        let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let found = rustix::fs::statat(&around, target, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(hostile(entry, "it is a hard link to a folder"));
        }
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            // To itself, or said twice.
            Ok(there) if same(&there, &found) => return Ok(()),
            _ => tree::remove_at(folder, name)?,
        }
        match rustix::fs::linkat(&around, target, folder, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(missing()),
            Err(Errno::MLINK) => Err(hostile(entry, "its file has too many names")),
            Err(error) => Err(Error::host("making a hard link")(error)),
        }
    }
}

fn check_target(entry: &[u8], target: &[u8]) -> Result<(), Error> {
    if target.is_empty() || target.contains(&0) || target.len() > limits::PATH_BYTES {
        return Err(hostile(entry, "its target is no path"));
    }
    Ok(())
}

fn write_file(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    entry: &Entry,
    content: &mut dyn Content,
) -> Result<(), Error> {
    tree::remove_at(folder, name)?;
    let mut file = tree::create_at(folder, name)?;
    content.fill(&mut file)?;
    let mode = if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 };
    file.set_permissions(Permissions::from_mode(mode)).map_err(Error::host("setting a file's rights"))?;
    let modified = Timespec { tv_sec: entry.modified, tv_nsec: 0 };
    let times = Timestamps { last_access: modified, last_modification: modified };
    // A time that the file system cannot hold is no reason to refuse an image.
    let _ = rustix::fs::futimens(&file, &times);
    Ok(())
}

impl Notes {
    fn write(&self, layer: &Path) -> Result<(), Error> {
        let mut text = format!("{} {}\0", self.bytes, self.entries).into_bytes();
        for (mark, paths) in [(b'-', &self.gone), (b'o', &self.opaque)] {
            for path in paths {
                text.push(mark);
                text.extend(path.as_os_str().as_bytes());
                text.push(0);
            }
        }
        fs::write(layer.join(NOTES), text).map_err(Error::host("writing a layer's notes"))
    }

    /// Reads those of an unpacked layer.
    pub(crate) fn read(layer: &Path) -> Result<Self, Error> {
        let text = fs::read(layer.join(NOTES)).map_err(Error::host("reading a layer's notes"))?;
        let damaged = || Error::host("reading a layer's notes")(io::Error::from(io::ErrorKind::InvalidData));
        let mut records = text.split(|byte| *byte == 0);
        let sizes = records.next().and_then(|first| std::str::from_utf8(first).ok()?.split_once(' '));
        let (bytes, entries) = sizes.ok_or_else(damaged)?;
        let mut notes = Self {
            bytes: bytes.parse().map_err(|_| damaged())?,
            entries: entries.parse().map_err(|_| damaged())?,
            ..Self::default()
        };
        for record in records {
            let path = |rest: &[u8]| PathBuf::from(OsString::from_vec(rest.to_vec()));
            match record {
                [b'-', rest @ ..] => notes.gone.push(path(rest)),
                [b'o', rest @ ..] => notes.opaque.push(path(rest)),
                [] => {}
                _ => return Err(damaged()),
            }
        }
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::tests::file;

    #[test]
    fn folders_that_no_entry_names_are_counted() {
        let unpacked = |entries: u64| {
            let folder = tempfile::tempdir().unwrap();
            let names = ["a", "b"].map(|top| file(&format!("{top}/{}x", "d/".repeat(40)), b""));
            let archive = [names.concat(), vec![0; 1024]].concat();
            let budget = Budget { bytes: 1 << 20, entries };
            let mut taken = crate::room::Room::new(u64::MAX).taken();
            unpack(&mut &archive[..], folder.path(), budget, &mut taken)
                .map_err(|error| error.to_string())?;
            Notes::read(folder.path()).map(|notes| notes.entries).map_err(|error| error.to_string())
        };
        assert_eq!(unpacked(84), Ok(84), "two files, each in 41 folders");
        assert!(unpacked(83).unwrap_err().contains("entries"));
    }
}
