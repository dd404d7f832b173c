//! What comes out of the sandbox that compiles: files in a memory file.
//!
//! The sandbox has no folder of the host's to write to, which nothing would bound: it is handed a file of a fixed
//! size, whose pages count as its memory. It has run a function's code, so nothing in it is believed; a parcel is
//! opened once the sandbox is gone. Its form, in little-endian numbers:
//!
//! ```text
//! u32 files, u32 bytes that follow     written last; zero files where there is nothing, and why in the bytes' place
//! for each: u16 bytes of its name, u32 bytes of its content, name, content
//! ```

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags};

/// Bytes of a parcel.
pub(super) const MOST_BYTES: u64 = 32 << 20;
/// Files in it: a package that is not bundled may load thousands of modules.
const MOST_FILES: u32 = 10_000;
/// Bytes of a name.
const LONGEST_NAME: usize = 200;
/// Its head.
const HEAD: usize = 8;

/// An empty parcel, which its writer cannot make larger.
pub(super) fn empty() -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("compiled", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, MOST_BYTES)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// Whether nothing is in it yet.
pub(super) fn is_empty(parcel: &OwnedFd) -> io::Result<bool> {
    let mut files = [0_u8; 4];
    rustix::io::pread(parcel, &mut files, 0)?;
    Ok(files == [0; 4])
}

/// Why a parcel cannot be opened.
#[derive(Debug)]
pub(super) enum Unfit {
    /// Nothing was put in: there was nothing, or more than a parcel holds.
    Empty,
    /// It is none.
    Malformed,
    /// The host failed.
    Host(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

/// Writes what is in a parcel to a new folder, for everybody to read; how many bytes. Blocking. The files are not synced:
/// Node looks at the sums of what it reads, and a torn one costs what there would be without.
pub(super) fn open(parcel: OwnedFd, folder: &Path) -> Result<u64, Unfit> {
    let parcel = File::from(parcel);
    let mut head = [0_u8; HEAD];
    parcel.read_exact_at(&mut head, 0)?;
    let mut rest = Rest(&head);
    let (files, bytes) = (rest.number()?, rest.number()?);
    if files == 0 {
        return Err(Unfit::Empty);
    }
    if files > MOST_FILES || u64::from(bytes) + HEAD as u64 > MOST_BYTES {
        return Err(Unfit::Malformed);
    }
    let mut content = vec![0_u8; bytes as usize];
    parcel.read_exact_at(&mut content, HEAD as u64)?;
    make_folder(folder)?;
    let mut rest = Rest(&content);
    for _ in 0..files {
        let (name, content) = rest.file()?;
        write(folder, name, content)?;
    }
    Ok(u64::from(bytes))
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Unfit> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Unfit::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, Unfit> {
        let bytes = self.take(4)?.try_into().map_err(|_| Unfit::Malformed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn short(&mut self) -> Result<u16, Unfit> {
        let bytes = self.take(2)?.try_into().map_err(|_| Unfit::Malformed)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn file(&mut self) -> Result<(&'a str, &'a [u8]), Unfit> {
        let (name, content) = (usize::from(self.short()?), self.number()? as usize);
        let name = std::str::from_utf8(self.take(name)?).map_err(|_| Unfit::Malformed)?;
        Ok((name, self.take(content)?))
    }
}

/// Node's own layout: a folder for its version and flags, and files in that.
fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), Unfit> {
    let (version, file) = name.split_once('/').ok_or(Unfit::Malformed)?;
    if name.len() > LONGEST_NAME || !is_plain(version) || !is_plain(file) {
        return Err(Unfit::Malformed);
    }
    let version = folder.join(version);
    if !version.is_dir() {
        make_folder(&version)?;
    }
    // A name that comes twice is refused.
    let mut file = File::create_new(version.join(file))?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    Ok(())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    // Read by a mapped user, whatever the server's umask is.
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

/// A name of one component that hides nothing.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut content = Vec::new();
        for (name, text) in files {
            content.extend((name.len() as u16).to_le_bytes());
            content.extend((text.len() as u32).to_le_bytes());
            content.extend(name.as_bytes());
            content.extend(*text);
        }
        let mut all = (files.len() as u32).to_le_bytes().to_vec();
        all.extend((content.len() as u32).to_le_bytes());
        all.extend(content);
        all
    }

    /// What a folder then holds.
    fn opened(bytes: &[u8]) -> Result<Vec<String>, Unfit> {
        let parcel = empty().unwrap();
        File::from(parcel.try_clone().unwrap()).write_all_at(bytes, 0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new");
        open(parcel, &folder)?;
        let mut names = Vec::new();
        for version in fs::read_dir(&folder).unwrap().flatten() {
            for file in fs::read_dir(version.path()).unwrap().flatten() {
                let text = fs::read_to_string(file.path()).unwrap();
                let mode = file.metadata().unwrap().permissions().mode() & 0o777;
                let name = format!("{}/{}", version.file_name().display(), file.file_name().display());
                names.push(format!("{name} {mode:o} {text}"));
            }
        }
        names.sort();
        Ok(names)
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let parcel =
            packed(&[("v22-x64/0768533d", b"code"), ("v22-x64/71d7158e.cache", b""), ("v23/a", b"x")]);
        let expect = ["v22-x64/0768533d 644 code", "v22-x64/71d7158e.cache 644 ", "v23/a 644 x"];
        assert_eq!(opened(&parcel).unwrap(), expect);
    }

    #[test]
    fn nothing_in_it_is_believed() {
        assert!(matches!(opened(&[]), Err(Unfit::Empty)));
        for name in ["../../x", "a/../b", "a/b/c", "/etc/x", "a", "a/", "/b", ".a/b", "a/.b", "a/b\0"] {
            assert!(matches!(opened(&packed(&[(name, b"x")])), Err(Unfit::Malformed)), "{name:?}");
        }
        let good = packed(&[("v/a", b"content")]);
        for (at, byte) in [(0, 2), (1, 0xff), (4, 3), (7, 0xff), (8, 0xff), (12, 1)] {
            let mut wrong = good.clone();
            wrong[at] = byte;
            assert!(matches!(opened(&wrong), Err(Unfit::Malformed)), "byte {at}");
        }
        assert!(matches!(opened(&packed(&[("v/a", b"1"), ("v/a", b"2")])), Err(Unfit::Host(_))), "twice");
    }

    #[test]
    fn its_writer_cannot_make_it_larger() {
        let parcel = File::from(empty().unwrap());
        assert!(parcel.set_len(MOST_BYTES + 1).is_err() && parcel.set_len(1).is_err());
        assert!(parcel.write_all_at(b"xx", MOST_BYTES - 1).is_err());
        assert!(rustix::fs::fcntl_add_seals(&parcel, SealFlags::WRITE).is_err(), "nor seal it");
    }
}
