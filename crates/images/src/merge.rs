//! Putting an image together: the trees of its layers become one.
//!
//! Files are hard links to those of the layers, so an image costs folders and names, and pages in memory are shared
//! by all images that have a layer. Nothing is written to a file afterwards: what differs from the layers is made anew.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::layer::{Notes, TREE};
use crate::lazy::index;
use crate::tree::{self, Root};
use crate::{Error, Extras, limits};

/// What instances mount on.
const PLACES: [&str; 3] = ["proc", "dev", "tmp"];
/// Bytes of an image's list of users that are looked at.
const USERS_BYTES: u64 = 1 << 20;

/// Merges layers, the lowest first, into an empty folder. Blocking.
pub(crate) fn merge<'a>(
    layers: impl Iterator<Item = &'a Path>,
    into: &Path,
    working_directory: Option<&str>,
) -> Result<(), Error> {
    fs::set_permissions(into, Permissions::from_mode(0o755))
        .map_err(Error::host("making an image's folder"))?;
    let root = Root::open(into)?;
    let mut room = limits::IMAGE_BYTES;
    for layer in layers {
        let notes = Notes::read(layer)?;
        room = room.saturating_sub(notes.bytes);
        // What is not there yet cannot be copied.
        let mut none = 0;
        let room = if index::is_partial(layer) { &mut none } else { &mut room };
        take_away(&root, &notes)?;
        let tree = open_folder(rustix::fs::CWD, layer.join(TREE).as_os_str())?;
        put_over(tree.as_fd(), root.as_fd(), room)?;
    }
    for place in PLACES {
        tree::make_folder_at(root.as_fd(), OsStr::new(place))?;
    }
    if let Some(folder) = working_directory.and_then(|path| tree::Plain::parse(path.as_bytes()).ok()) {
        make_if_possible(&root, &folder)?;
    }
    Ok(())
}

/// Docker makes a working directory that is not there.
fn make_if_possible(root: &Root, folder: &tree::Plain) -> Result<(), Error> {
    let names: Vec<OsString> = folder.to_path().iter().map(OsStr::to_owned).collect();
    match root.make_folders(&names, &mut 0) {
        // Something else is there: whoever starts it hears of that.
        Ok(_) | Err(Error::Invalid(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a layer takes away of those below. Folders that links lead to are not meant (overlayfs does not see them).
fn take_away(root: &Root, notes: &Notes) -> Result<(), Error> {
    let absent = |error: &Errno| matches!(*error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
    for path in &notes.gone {
        let (Some(around), Some(name)) = (path.parent(), path.file_name()) else { continue };
        match root.folder_without_links(around) {
            Ok(folder) => tree::remove_at(folder.as_fd(), name)?,
            Err(error) if absent(&error) => {}
            Err(error) => return Err(Error::host("opening a folder")(error)),
        }
    }
    for path in &notes.opaque {
        match root.folder_without_links(path) {
            Ok(folder) => empty(folder.as_fd())?,
            Err(error) if absent(&error) => {}
            Err(error) => return Err(Error::host("opening a folder")(error)),
        }
    }
    Ok(())
}

fn empty(folder: BorrowedFd<'_>) -> Result<(), Error> {
    let readable = open_folder(folder, OsStr::new("."))?;
    for (name, _) in entries(&readable)? {
        tree::remove_at(folder, &name)?;
    }
    Ok(())
}

/// Lays one tree over another. No deeper than a layer's paths may be. `room` is what copies may take.
fn put_over(from: BorrowedFd<'_>, to: BorrowedFd<'_>, room: &mut u64) -> Result<(), Error> {
    for (name, kind) in entries(from)? {
        if kind == FileType::Directory {
            tree::make_folder_at(to, &name)?;
            let (from, to) = (open_folder(from, &name)?, open_folder(to, &name)?);
            put_over(from.as_fd(), to.as_fd(), room)?;
            continue;
        }
        match rustix::fs::linkat(from, &name, to, &name, AtFlags::empty()) {
            Err(Errno::EXIST) => {
                tree::remove_at(to, &name)?;
                link_or_copy(from, to, &name, kind, room)?;
            }
            Err(_) => link_or_copy(from, to, &name, kind, room)?,
            Ok(()) => {}
        }
    }
    Ok(())
}

fn link_or_copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    room: &mut u64,
) -> Result<(), Error> {
    match rustix::fs::linkat(from, name, to, name, AtFlags::empty()) {
        Ok(()) => Ok(()),
        // A file has as many names as the file system can count (ext4: 65,000).
        // A layer may use them all up, with names of its own.
        Err(Errno::MLINK) if kind == FileType::RegularFile => copy(from, to, name, room),
        Err(error) => Err(Error::host("linking a layer's file into an image")(error)),
    }
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, room: &mut u64) -> Result<(), Error> {
    let doing = || "copying a layer's file into an image";
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(Error::host(doing()))?;
    let mut source = File::from(opened);
    let found = rustix::fs::fstat(&source).map_err(Error::host(doing()))?;
    let size = u64::try_from(found.st_size).unwrap_or(0);
    *room = room.checked_sub(size).ok_or_else(crate::digest::too_large)?;
    let mut copy = tree::create_at(to, name)?;
    std::io::copy(&mut source, &mut copy).map_err(Error::host(doing()))?;
    copy.set_permissions(Permissions::from_mode(found.st_mode & 0o777)).map_err(Error::host(doing()))?;
    let modified = Timespec { tv_sec: found.st_mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: modified, last_modification: modified };
    rustix::fs::futimens(&copy, &times).map_err(Error::host(doing()))
}

/// Adds files that every instance has the same, and its user among the image's. The lists of users must be there
/// whole. Blocking.
pub(crate) fn furnish(root: &Root, extras: &Extras) -> Result<(), Error> {
    for (path, text) in &extras.files {
        replace(root, path, text.as_bytes())?;
    }
    for (path, line) in &extras.lines {
        let mut text = Vec::new();
        match root.file(Path::new(path)) {
            Ok(file) => {
                file.take(USERS_BYTES)
                    .read_to_end(&mut text)
                    .map_err(Error::host("reading the image's users"))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // A folder of that name, or a chain of links: the program sees what its image says.
            Err(_) => continue,
        }
        // The third field is the number, of users and of groups.
        let number = |line: &[u8]| line.split(|b| *b == b':').nth(2).map(<[u8]>::to_vec);
        if text.split(|b| *b == b'\n').any(|other| number(other) == number(line.as_bytes())) {
            continue;
        }
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend(line.as_bytes());
        text.push(b'\n');
        replace(root, path, &text)?;
    }
    Ok(())
}

fn replace(root: &Root, path: &str, text: &[u8]) -> Result<(), Error> {
    let plain = tree::Plain::parse(path.as_bytes())?;
    let Some((folders, name)) = plain.split() else { return Ok(()) };
    let folder = root.make_folders(folders, &mut 0)?;
    tree::remove_at(folder.as_fd(), name)?;
    let mut file = tree::create_at(folder.as_fd(), name)?;
    let doing = || format!("writing {path} of an image");
    file.write_all(text).map_err(Error::host(doing()))?;
    file.set_permissions(Permissions::from_mode(0o644)).map_err(Error::host(doing()))
}

/// A folder itself, to be listed.
fn open_folder(around: BorrowedFd<'_>, name: &OsStr) -> Result<rustix::fd::OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(around, name, flags, Mode::empty()).map_err(Error::host("opening a folder"))
}

/// What a folder holds.
fn entries(folder: impl AsFd) -> Result<Vec<(OsString, FileType)>, Error> {
    let doing = || "listing a folder";
    let mut found = Vec::new();
    for entry in Dir::read_from(&folder).map_err(Error::host(doing()))? {
        let entry = entry.map_err(Error::host(doing()))?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => tree::kind_at(folder.as_fd(), name)?.unwrap_or(FileType::Unknown),
            known => known,
        };
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_bounded() {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::write(from.path().join("file"), [7; 60]).unwrap();
        let [source, target] = [&from, &to].map(|folder| Root::open(folder.path()).unwrap());
        let mut room = 100;
        copy(source.as_fd(), target.as_fd(), OsStr::new("file"), &mut room).unwrap();
        assert_eq!((fs::read(to.path().join("file")).unwrap(), room), (vec![7; 60], 40));
        fs::remove_file(to.path().join("file")).unwrap();
        let error = copy(source.as_fd(), target.as_fd(), OsStr::new("file"), &mut room).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
        assert!(!to.path().join("file").exists());
    }
}
