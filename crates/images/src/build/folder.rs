//! What of a folder goes into an image: a sorted list of names, without what is in the files.
//!
//! Files and folders, with whether a file is executable; everything else about them is dropped. Links stay links, and are
//! never followed: nothing of what they point to gets in. One that leads out of the folder is refused, as for a package:
//! what it means would not be where the code runs. Sockets, pipes and devices are refused.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::{Error, limits};

/// Something that goes into a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// From the folder that it was found in, with `/` between its names.
    pub path: Vec<u8>,
    pub(crate) from: PathBuf,
    pub(crate) kind: ItemKind,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ItemKind {
    Folder,
    File { executable: bool },
    Link(Vec<u8>),
}

impl Item {
    /// Whether it is a folder, the files in which are items of their own.
    pub fn is_folder(&self) -> bool {
        self.kind == ItemKind::Folder
    }

    /// The first name of its path.
    pub fn top(&self) -> &[u8] {
        self.path.split(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// What to do about something that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It goes in.
    Keep,
    /// It does not, nor does what is in it.
    Leave,
    /// It does not; what is in it is asked about.
    LookInside,
}

/// Lists a folder, in the order of an archive. `choose` is told the path relative to it, and the path of the host.
pub fn list(root: &Path, choose: &dyn Fn(&[u8], &Path) -> Choice) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    collect(root, &[], 0, choose, &mut items)?;
    items.sort();
    Ok(items)
}

/// Makes a copy of what was listed, in an empty folder. Blocking.
pub fn copy(items: &[Item], into: &Path) -> Result<(), Error> {
    for item in items {
        let to = into.join(OsStr::from_bytes(&item.path));
        let copied = match &item.kind {
            ItemKind::Folder => fs::create_dir(&to),
            ItemKind::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), &to),
            ItemKind::File { executable } => copy_file(&item.from, &to, *executable)?,
        };
        copied.map_err(Error::host(format!("copying {}", item.from.display())))?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, executable: bool) -> Result<io::Result<()>, Error> {
    let (mut content, _) = open(from)?;
    let mode = if executable { 0o755 } else { 0o644 };
    let copied = File::options().write(true).create_new(true).mode(mode).open(to);
    Ok(copied.and_then(|mut file| io::copy(&mut content, &mut file).map(drop)))
}

/// One file, as one of that name.
pub fn single(path: &Path, name: &str, executable: bool) -> Result<Vec<Item>, Error> {
    let about = fs::metadata(path).map_err(Error::host(format!("reading {}", path.display())))?;
    let executable = executable || about.permissions().mode() & 0o111 != 0;
    // What was named may be a link itself: what it points to is meant.
    let from = fs::canonicalize(path).map_err(Error::host(format!("reading {}", path.display())))?;
    Ok(vec![Item { path: name.as_bytes().to_vec(), from, kind: ItemKind::File { executable } }])
}

/// Adds what is in a folder. Whether any of it was.
fn collect(
    folder: &Path,
    inside: &[u8],
    depth: usize,
    choose: &dyn Fn(&[u8], &Path) -> Choice,
    items: &mut Vec<Item>,
) -> Result<bool, Error> {
    if depth >= limits::DEPTH {
        return Err(refused(folder, &format!("it lies in more than {} folders", limits::DEPTH)));
    }
    let reading = || format!("reading {}", folder.display());
    let before = items.len();
    for found in fs::read_dir(folder).map_err(Error::host(reading()))? {
        let found = found.map_err(Error::host(reading()))?;
        let (name, from) = (found.file_name(), found.path());
        let path = if inside.is_empty() { name.into_vec() } else { [inside, b"/", name.as_bytes()].concat() };
        let kind = found.file_type().map_err(Error::host(reading()))?;
        let choice = choose(&path, &from);
        if kind.is_dir() && choice != Choice::Leave {
            let any = collect(&from, &path, depth + 1, choose, items)?;
            if choice == Choice::Keep || any {
                items.push(Item { path, from, kind: ItemKind::Folder });
            }
        } else if choice == Choice::Keep {
            let kind = kind_of(&from, &path, kind)?;
            items.push(Item { path, from, kind });
        }
        if items.len() as u64 > limits::ENTRIES {
            return Err(refused(folder, &format!("an image has {} entries at most", limits::ENTRIES)));
        }
    }
    Ok(items.len() > before)
}

fn kind_of(from: &Path, path: &[u8], kind: fs::FileType) -> Result<ItemKind, Error> {
    if path.len() > limits::PATH_BYTES {
        return Err(refused(from, "its path is too long"));
    }
    let reading = || format!("reading {}", from.display());
    if kind.is_symlink() {
        let target = fs::read_link(from).map_err(Error::host(reading()))?;
        if !stays_inside(path, target.as_os_str()) {
            let target = target.display();
            let problem = format!(
                "it is a link out of the folder, to {target}: put a copy there instead, or leave it out"
            );
            return Err(refused(from, &problem));
        }
        return Ok(ItemKind::Link(target.into_os_string().into_vec()));
    }
    if !kind.is_file() {
        return Err(refused(
            from,
            "it is a socket, a pipe or a device: an image holds files, folders and links",
        ));
    }
    let about = fs::symlink_metadata(from).map_err(Error::host(reading()))?;
    Ok(ItemKind::File { executable: about.permissions().mode() & 0o111 != 0 })
}

/// Whether a link at this path leads to somewhere in its folder, by names alone.
fn stays_inside(path: &[u8], target: &OsStr) -> bool {
    let mut depth = path.iter().filter(|byte| **byte == b'/').count();
    let target = target.as_bytes();
    if target.starts_with(b"/") {
        return false;
    }
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return false,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

/// Opens a file that was listed, and how large it is. What took its place meanwhile is not followed or waited for.
pub(crate) fn open(from: &Path) -> Result<(File, u64), Error> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(from);
    let file = file.map_err(Error::host(format!("opening {}", from.display())))?;
    let about = file.metadata().map_err(Error::host(format!("reading {}", from.display())))?;
    if !about.is_file() {
        let error = io::Error::other("it is no file any more");
        return Err(Error::host(format!("reading {}", from.display()))(error));
    }
    Ok((file, about.len()))
}

fn refused(path: &Path, problem: &str) -> Error {
    Error::Invalid(format!("{} cannot go into an image: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::symlink;

    use super::*;

    fn keep(_: &[u8], _: &Path) -> Choice {
        Choice::Keep
    }

    #[test]
    fn a_folder_is_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/empty")).unwrap();
        fs::write(root.join("a.b"), "").unwrap();
        fs::write(root.join(OsString::from_vec(b"\xff".to_vec())), "").unwrap();
        fs::write(root.join("a/set"), "x").unwrap();
        fs::set_permissions(root.join("a/set"), fs::Permissions::from_mode(0o4711)).unwrap();
        symlink("../a.b", root.join("a/link")).unwrap();
        let found = list(root, &keep).unwrap();
        let seen: Vec<_> = found.iter().map(|item| (item.path.as_slice(), &item.kind)).collect();
        let link = ItemKind::Link(b"../a.b".to_vec());
        let (plain, executable) = (ItemKind::File { executable: false }, ItemKind::File { executable: true });
        let expect: [(&[u8], &ItemKind); 6] = [
            (b"a", &ItemKind::Folder),
            (b"a.b", &plain),
            (b"a/empty", &ItemKind::Folder),
            (b"a/link", &link),
            (b"a/set", &executable),
            (b"\xff", &plain),
        ];
        assert_eq!(seen, expect);
    }

    #[test]
    fn links_out_and_special_files_are_refused() {
        for target in ["/etc/passwd", "../outside", "a/../../outside", "sub/../.."] {
            let dir = tempfile::tempdir().unwrap();
            symlink(target, dir.path().join("bad")).unwrap();
            let error = list(dir.path(), &keep).unwrap_err().to_string();
            assert!(error.contains("bad cannot go into an image: it is a link out of"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let error = list(dir.path(), &keep).unwrap_err().to_string();
        assert!(error.contains("pipe cannot go into an image: it is a socket, a pipe"), "{error}");
        assert!(open(&pipe).is_err(), "nobody waits for a pipe's other end");
        symlink("pipe", dir.path().join("link")).unwrap();
        assert!(open(&dir.path().join("link")).is_err(), "no link is followed");
    }

    #[test]
    fn what_is_left_out_takes_its_content_along_unless_some_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["gone/deep", "some/deep", "none/deep"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
            fs::write(dir.path().join(path).join("x"), "").unwrap();
        }
        let choose = |path: &[u8], _: &Path| match path {
            b"gone" => Choice::Leave,
            b"some/deep/x" => Choice::Keep,
            _ => Choice::LookInside,
        };
        let found = list(dir.path(), &choose).unwrap();
        let paths: Vec<&[u8]> = found.iter().map(|item| item.path.as_slice()).collect();
        assert_eq!(paths, [&b"some"[..], b"some/deep", b"some/deep/x"]);
    }
}
