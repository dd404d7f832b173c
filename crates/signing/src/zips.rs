//! Zips: their tree, and the same zip with a signature in it.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::{Envelope, Error, FILE, PrivateKey, Statement, Tree};

/// Bytes that one entry may have unpacked (Lambda quotas: 250 MB of a whole package).
const ENTRY_BYTES: u64 = 250 << 20;

/// The types that Unix modes tell apart.
const TYPE: u32 = 0o170_000;
const LINK: u32 = 0o120_000;
const FOLDER: u32 = 0o040_000;

impl Tree {
    /// What a zip unpacks to. For whoever made the zip: a server checks what it unpacked itself.
    pub fn of_zip(zip: &[u8]) -> Result<Self, Error> {
        let mut archive = ZipArchive::new(Cursor::new(zip))?;
        let mut tree = Self::default();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index)?;
            let name = entry.name()?.into_owned();
            let path = path(&name)?;
            let mode = entry.unix_mode().unwrap_or(0);
            match mode & TYPE {
                FOLDER => tree.folder(path),
                LINK => {
                    let mut target = Vec::new();
                    entry.by_ref().take(4096).read_to_end(&mut target)?;
                    tree.link(path, &target);
                }
                _ if name.ends_with('/') => tree.folder(path),
                _ => tree.file(path, mode & 0o111 != 0, entry.take(ENTRY_BYTES))?,
            }
        }
        Ok(tree)
    }
}

/// An entry's name as plain names joined by slashes.
fn path(name: &str) -> Result<Vec<u8>, Error> {
    let bad = || Error::Package(format!("{name:?} leads out of the package"));
    if name.starts_with('/') || name.contains(['\\', '\0']) {
        return Err(bad());
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(bad()),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/").into_bytes())
}

/// The same package with a signature. One that was in it is replaced. `statement` is told the tree's digest.
pub fn sign(
    zip: &[u8],
    key: &PrivateKey,
    statement: impl FnOnce(String) -> Statement,
) -> Result<Vec<u8>, Error> {
    let envelope = Envelope::sign(statement(Tree::of_zip(zip)?.digest()), key)?;
    let mut archive = ZipArchive::new(Cursor::new(zip))?;
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        if path(&entry.name()?)? != FILE.as_bytes() {
            writer.raw_copy_file(entry)?;
        }
    }
    let options = SimpleFileOptions::default()
        .last_modified_time(zip::DateTime::default())
        .compression_method(CompressionMethod::Stored)
        .unix_permissions(0o644);
    writer.start_file(FILE, options)?;
    writer.write_all(envelope.to_file().as_bytes())?;
    Ok(writer.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::envelope::tests::statement;

    fn options() -> SimpleFileOptions {
        SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
    }

    fn zip() -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("./lib//a.py", options().unix_permissions(0o644)).unwrap();
        writer.write_all(b"a").unwrap();
        writer.start_file("bootstrap", options().unix_permissions(0o755)).unwrap();
        writer.write_all(b"#!/bin/sh").unwrap();
        writer.add_symlink("lib/link", "a.py", options()).unwrap();
        writer.add_directory("empty/", options()).unwrap();
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_zip_and_what_it_unpacks_to_are_one_tree() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lib")).unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::write(dir.path().join("lib/a.py"), "a").unwrap();
        symlink("a.py", dir.path().join("lib/link")).unwrap();
        fs::write(dir.path().join("bootstrap"), "#!/bin/sh").unwrap();
        fs::set_permissions(dir.path().join("bootstrap"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Tree::of_zip(&zip()).unwrap(), Tree::of_folder(dir.path()).unwrap());
    }

    #[test]
    fn signing_changes_no_file_and_can_be_done_again() {
        let key = PrivateKey::generate().unwrap();
        let before = Tree::of_zip(&zip()).unwrap();
        let once = sign(&zip(), &key, |tree| statement(&tree)).unwrap();
        let twice = sign(&once, &key, |tree| statement(&tree)).unwrap();
        for signed in [&once, &twice] {
            assert_eq!(Tree::of_zip(signed).unwrap(), before);
            let mut archive = ZipArchive::new(Cursor::new(signed)).unwrap();
            let mut text = Vec::new();
            archive.by_name(FILE).unwrap().read_to_end(&mut text).unwrap();
            let envelope = Envelope::parse(&text).unwrap();
            assert!(envelope.is_by(&key.public()));
            assert_eq!(envelope.statement().tree, before.digest());
        }
        assert_eq!(once, twice);
    }

    #[test]
    fn what_is_no_package_is_not_signed() {
        let key = PrivateKey::generate().unwrap();
        assert!(sign(b"nonsense", &key, |tree| statement(&tree)).is_err());
        for bad in ["../x", "/x", "a\\b"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
