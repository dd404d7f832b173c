//! Layers that are made: an archive, compressed, in a file without a name.
//!
//! The file is removed as soon as it is open. So whatever happens to the build, nothing of it is left, and a layer of any
//! size needs a few buffers of memory.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::archive::Writer;
use super::folder::{self, Item, ItemKind};
use super::parts::{Ended, Members, Output, Table};
use crate::{Digest, Error, limits};

/// A layer that was made.
pub(crate) struct Packed {
    /// Of its archive.
    pub(crate) diff: Digest,
    /// Compressed.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Of its table of contents.
    pub(crate) toc: Option<Digest>,
    pub(crate) file: Arc<File>,
}

/// Passes bytes on, and knows their digest and number.
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    pub(crate) count: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// What it writes to.
    pub(crate) fn inner_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    pub(crate) fn finish(self) -> (W, Digest, u64) {
        let digest = Digest::from_hex(&hex::encode(self.hash.finalize()));
        // Sixty-four digits.
        (self.inner, digest.unwrap_or_else(|| Digest::of(b"")), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file from its beginning, whoever else reads it.
pub(crate) struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl FromStart {
    pub(crate) fn new(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), at: 0 }
    }
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A file without a name, in a folder for such things.
pub(crate) fn nameless(scratch: &Path) -> Result<File, Error> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let making = || format!("making a file in {}", scratch.display());
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = scratch.join(format!(".virga-build-{}-{number}", std::process::id()));
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path).map_err(Error::host(making()))?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::host(making())(error)),
        }
    }
}

/// Makes a layer of what was listed, at a path of the image (`app`, `var/task`). Blocking.
pub(crate) fn pack(items: &[Item], into: &str, scratch: &Path) -> Result<Packed, Error> {
    let file = Hashing::new(io::BufWriter::with_capacity(64 << 10, nameless(scratch)?));
    let mut archive = Writer::new(Hashing::new(Members::new(file)));
    let mut table = Table::new();
    let packing = || Error::host("packing a layer");
    let mut around = String::new();
    for name in into.split('/').filter(|name| !name.is_empty()) {
        around = if around.is_empty() { name.to_owned() } else { format!("{around}/{name}") };
        table.folder(around.as_bytes());
        archive.folder(around.as_bytes()).map_err(packing())?;
    }
    let mut left = limits::IMAGE_BYTES;
    for item in items {
        add(&mut archive, &mut table, item, &around, &mut left)?;
    }
    let Ended { out, diff, digest, size, toc } = table.end(archive).map_err(packing())?;
    let mut file = out.into_inner().map_err(|error| packing()(error.into_error()))?;
    file.rewind().map_err(packing())?;
    Ok(Packed { diff, digest, size, toc, file: Arc::new(file) })
}

fn add<W: Write>(
    archive: &mut Writer<Output<W>>,
    table: &mut Table,
    item: &Item,
    around: &str,
    left: &mut u64,
) -> Result<(), Error> {
    let path = [around.as_bytes(), b"/", &item.path].concat();
    let added = match &item.kind {
        ItemKind::Folder => {
            table.folder(&path);
            archive.folder(&path)
        }
        ItemKind::Link(target) => {
            table.link(&path, target);
            archive.link(&path, target)
        }
        ItemKind::File { executable } => {
            let (mut file, size) = folder::open(&item.from)?;
            *left = left.checked_sub(size).ok_or_else(crate::digest::too_large)?;
            table.file(&path, *executable, size);
            let mut whole = Hashing::new(io::sink());
            let added = archive.file_in_parts(&path, *executable, size, &mut file, &mut |out, at, bytes| {
                let offset = out.inner_mut().cut()?.count;
                table.part(at, bytes, size, offset);
                whole.write_all(bytes)?;
                out.write_all(bytes)
            });
            table.file_ends(&whole.finish().1);
            added
        }
    };
    added.map_err(Error::host(format!("packing {}", item.from.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::build::folder::{Choice, list};
    use crate::lazy::toc;

    fn packed(change: impl FnOnce(&Path)) -> Packed {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("a"), "hello").unwrap();
        fs::write(root.join("sub/b"), vec![7; 100_000]).unwrap();
        change(&root);
        let items = list(&root, &|_, _| Choice::Keep).unwrap();
        let made = pack(&items, "var/task", dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left in the scratch folder");
        made
    }

    #[test]
    fn the_same_files_give_the_same_layer() {
        let one = packed(|_| {});
        let two = packed(|root| {
            let old = File::options().write(true).open(root.join("a")).unwrap();
            old.set_modified(std::time::UNIX_EPOCH).unwrap();
            fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o4600)).unwrap();
        });
        assert_eq!((&one.digest, &one.diff, one.size), (&two.digest, &two.diff, two.size));
        for other in [
            packed(|root| fs::write(root.join("a"), "hellO").unwrap()),
            packed(|root| fs::rename(root.join("a"), root.join("A")).unwrap()),
            packed(|root| fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o700)).unwrap()),
            packed(|root| fs::create_dir(root.join("empty")).unwrap()),
        ] {
            assert_ne!((&one.digest, &one.diff), (&other.digest, &other.diff));
        }
    }

    #[test]
    fn what_is_packed_is_what_the_digests_say() {
        let made = packed(|_| {});
        let mut bytes = Vec::new();
        FromStart::new(&made.file).read_to_end(&mut bytes).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (made.digest, made.size));
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(Digest::of(&plain), made.diff);
        let mut archive = crate::tar::Archive::new(&plain[..]);
        let mut paths = Vec::new();
        while let Some(entry) = archive.next().unwrap() {
            paths.push(String::from_utf8(entry.path).unwrap());
        }
        assert_eq!(
            paths,
            ["var/", "var/task/", "var/task/a", "var/task/sub/", "var/task/sub/b", "stargz.index.json"],
            "folders come before what is in them"
        );
    }

    #[test]
    fn the_table_says_where_everything_is() {
        let content: Vec<u8> =
            (0..2_500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let made = packed(|root| fs::write(root.join("big"), &content).unwrap());
        let mut bytes = Vec::new();
        FromStart::new(&made.file).read_to_end(&mut bytes).unwrap();
        let blob = bytes.len();
        let place = toc::place(&bytes[blob - 51..], made.size).unwrap();
        let text = toc::text(&bytes[usize::try_from(place).unwrap()..blob - 51], &made.toc.unwrap()).unwrap();
        let table = toc::parse(&text, place).unwrap();
        let big = table.entries.iter().find(|listed| listed.entry.path == b"var/task/big").unwrap();
        assert_eq!((big.entry.size, big.parts.len()), (2_500_000, 3));
        let mut seen = Vec::new();
        for part in &table.parts[big.parts.clone()] {
            let at = usize::try_from(part.offset).unwrap();
            let until = at + usize::try_from(part.room).unwrap();
            let mut plain = Vec::new();
            let member = flate2::read::GzDecoder::new(&bytes[at..until]);
            member.take(part.size).read_to_end(&mut plain).unwrap();
            assert_eq!(Digest::of(&plain), part.digest);
            seen.extend(plain);
        }
        assert!(seen == content);
    }

    #[test]
    fn names_that_no_table_can_say_are_packed_without_one() {
        use std::os::unix::ffi::OsStrExt;
        let made = packed(|root| fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap());
        assert_eq!(made.toc, None);
    }
}
