//! Making files inside a folder, and nowhere else.
//!
//! Every path that comes from an archive is taken apart into plain names, and the folder around it is opened by the
//! kernel with the tree's root as its root (`openat2`, `RESOLVE_IN_ROOT`): a link, whatever it says, leads to
//! something inside. The last name is never followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Error, limits};

/// How folders are opened: to look up names in.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// What every folder may be: instances run as other users.
const FOLDER_MODE: u32 = 0o755;

/// How often a look-up is tried that renames elsewhere get in the way of. Each takes some microseconds.
const AGAIN: usize = 1000;

/// What is said of an entry below more than [`limits::DEPTH`] folders.
const TOO_DEEP: &str = "it lies in too many folders";

/// The folder that everything is made in.
pub(crate) struct Root(OwnedFd);

/// A path of an archive: plain names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Plain(Vec<OsString>);

impl Plain {
    /// Reads one. `/` in front does not matter, as everything is inside; `..` is refused.
    pub(crate) fn parse(path: &[u8]) -> Result<Self, Error> {
        if path.len() > limits::PATH_BYTES {
            return Err(hostile(path, "its path is too long"));
        }
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(hostile(path, "its path leads out of the image")),
                name if name.contains(&0) => return Err(hostile(path, "its path holds a zero byte")),
                name if name.len() > limits::NAME_BYTES => {
                    return Err(hostile(path, "a name in its path is too long"));
                }
                name => names.push(OsString::from_vec(name.to_vec())),
            }
        }
        if names.len() > limits::DEPTH {
            return Err(hostile(path, TOO_DEEP));
        }
        Ok(Self(names))
    }

    /// The folders around it, and its own name. `None` is the root.
    pub(crate) fn split(&self) -> Option<(&[OsString], &OsStr)> {
        self.0.split_last().map(|(name, folders)| (folders, name.as_os_str()))
    }

    /// Relative.
    pub(crate) fn to_path(&self) -> PathBuf {
        self.0.iter().collect()
    }
}

impl Root {
    /// Opens a folder of the host.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let opened = rustix::fs::open(folder, FOLDER, Mode::empty());
        opened.map(Self).map_err(Error::host(format!("opening {}", folder.display())))
    }

    /// Opens the folder that these names lead to, and makes what is missing of it; each is counted in `made`. One that
    /// links lead to must not lie deeper than a path may say.
    pub(crate) fn make_folders(&self, names: &[OsString], made: &mut u64) -> Result<OwnedFd, Error> {
        let path: PathBuf = names.iter().collect();
        match self.folder_without_links(&path) {
            // Where no link is, the path shows how deep it is.
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) => {}
            Err(_) => match self.folder(&path) {
                Ok(found) => return self.not_too_deep(found, &path),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(unopened(&path, error)),
            },
        }
        let mut so_far = PathBuf::new();
        for name in names {
            let around = self.folder(&so_far).map_err(|error| unopened(&so_far, error))?;
            match rustix::fs::mkdirat(&around, name, Mode::from_raw_mode(FOLDER_MODE)) {
                Ok(()) => {
                    *made += 1;
                    own_mode(around.as_fd(), name)?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::host("making a folder")(error)),
            }
            so_far.push(name);
        }
        let found = self.folder(&path).map_err(|error| unopened(&path, error))?;
        self.not_too_deep(found, &path)
    }

    /// A link to a deep folder, and another one from there, would make trees deeper than whoever walks them has stack
    /// and descriptors for.
    fn not_too_deep(&self, folder: OwnedFd, path: &Path) -> Result<OwnedFd, Error> {
        let names = |fd: BorrowedFd<'_>| {
            let place = format!("/proc/self/fd/{}", fd.as_raw_fd());
            fs::read_link(place).map(|real| real.components().count())
        };
        // The kernel cannot say a path that is longer than paths may be.
        match (names(self.as_fd()), names(folder.as_fd())) {
            (Ok(root), Ok(found)) if found < root + limits::DEPTH => Ok(folder),
            _ => Err(hostile(path.as_os_str().as_bytes(), TOO_DEEP)),
        }
    }

    /// Opens a folder that is there; links lead to something inside.
    pub(crate) fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.resolve(path, FOLDER, ResolveFlags::empty())
    }

    /// Opens a folder that is there and that no link leads to.
    pub(crate) fn folder_without_links(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.resolve(path, FOLDER, ResolveFlags::NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let mut opened = Err(Errno::AGAIN);
        // openat2(2): a rename anywhere on the host, while a link's `..` is looked up, has it try again.
        for _ in 0..AGAIN {
            opened = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve);
            if !matches!(opened, Err(Errno::AGAIN)) {
                break;
            }
        }
        opened
    }

    /// Opens a file that is there, for reading; links lead to something inside.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(self.resolve(path, flags, ResolveFlags::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// The folder itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is at a name, not following it: the kind of file, if there is one.
pub(crate) fn kind_at(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Option<rustix::fs::FileType>, Error> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(rustix::fs::FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Error::host("looking at a file")(error)),
    }
}

/// Takes away what is at a name, a folder with all that is in it.
pub(crate) fn remove_at(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
    let removed = match kind_at(folder, name)? {
        None => Ok(()),
        Some(rustix::fs::FileType::Directory) => fs::remove_dir_all(reached(folder, name)),
        Some(_) => rustix::fs::unlinkat(folder, name, AtFlags::empty()).map_err(Into::into),
    };
    removed.map_err(Error::host("replacing a file"))
}

/// Makes a folder; what is there and is none gives way.
pub(crate) fn make_folder_at(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
    if kind_at(folder, name)? == Some(rustix::fs::FileType::Directory) {
        return Ok(());
    }
    remove_at(folder, name)?;
    rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(FOLDER_MODE))
        .map_err(Error::host("making a folder"))?;
    own_mode(folder, name)
}

/// Makes a file that is new, to be written.
pub(crate) fn create_at(folder: BorrowedFd<'_>, name: &OsStr) -> Result<File, Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600));
    made.map(File::from).map_err(Error::host("making a file"))
}

/// Whatever the server's umask took away.
fn own_mode(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
    rustix::fs::chmodat(folder, name, Mode::from_raw_mode(FOLDER_MODE), AtFlags::empty())
        .map_err(Error::host("making a folder"))
}

/// A name in an open folder, as a path of the host.
fn reached(folder: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

fn unopened(path: &Path, error: Errno) -> Error {
    match error {
        Errno::NOTDIR | Errno::LOOP | Errno::NOENT | Errno::NAMETOOLONG => {
            hostile(path.as_os_str().as_bytes(), "it lies under something that is not a folder")
        }
        error => Error::host("opening a folder")(error),
    }
}

/// An image that is readable and must not be unpacked, with the entry at fault.
pub(crate) fn hostile(entry: &[u8], problem: &str) -> Error {
    let shown: String =
        String::from_utf8_lossy(entry).chars().take(200).flat_map(char::escape_default).collect();
    Error::Invalid(format!("the image cannot be unpacked: {shown}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_elsewhere_do_not_matter() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
        std::os::unix::fs::symlink(format!("{}a/b", "../".repeat(60)), folder.path().join("a/b/c/link"))
            .unwrap();
        let root = Root::open(folder.path()).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let [one, two] = ["one", "two"].map(|name| other.path().join(name));
                fs::write(&one, b"").unwrap();
                while !over.load(Ordering::Relaxed) {
                    fs::rename(&one, &two).unwrap();
                    fs::rename(&two, &one).unwrap();
                }
            });
            let failed = (0..20_000).find_map(|_| root.folder(Path::new("a/b/c/link")).err());
            over.store(true, Ordering::Relaxed);
            assert_eq!(failed, None);
        });
    }

    #[test]
    fn paths_are_plain() {
        assert_eq!(Plain::parse(b"/./a//b/").unwrap().to_path(), Path::new("a/b"));
        assert!(Plain::parse(b"./").unwrap().split().is_none());
        for bad in [&b"../x"[..], b"a/../b", b"a\0b", &[b'n'; 256], &b"a/".repeat(200)] {
            assert!(Plain::parse(bad).is_err(), "{bad:?}");
        }
    }
}
