//! A package as the tree of files that it unpacks to, and that tree's digest.
//!
//! The digest is SHA-256 over [`HEAD`] and, in the order of the paths' bytes, one record for each folder, file and link:
//! a letter (`d` a folder, `f` a file, `x` a file that may be executed, `l` a link), a space, the path, NUL, the SHA-256 of
//! the content (of a link: of its target; of a folder: nothing) in hexadecimal, NUL. A path is plain names joined by
//! slashes, so no record can be read as another. Folders that paths imply are records too: an empty folder cannot be
//! slipped in. Times, owners and how the zip was packed do not count.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Envelope, Error, FILE, FILE_BYTES};

const HEAD: &[u8] = b"virga-package-tree-1\0";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    File { executable: bool, hash: [u8; 32] },
    Link { hash: [u8; 32] },
}

/// What a package unpacks to, but for its signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<Vec<u8>, Node>);

impl Tree {
    /// Reads a package that was unpacked: by whom it was has seen to it that it is a legal one.
    pub fn of_folder(root: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        tree.add_folder(root, b"")?;
        Ok(tree)
    }

    /// The signature that lies in an unpacked package, if there is one.
    pub fn signature_in(root: &Path) -> Result<Option<Envelope>, Error> {
        let at = root.join(FILE);
        match fs::symlink_metadata(&at) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(about) if !about.is_file() => return Err(Error::Signature("it is no file".into())),
            Ok(_) => {}
        }
        let mut text = Vec::new();
        fs::File::open(at)?.take(FILE_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > FILE_BYTES {
            return Err(Error::Signature("it is too long".into()));
        }
        Envelope::parse(&text).map(Some)
    }

    fn add_folder(&mut self, folder: &Path, path: &[u8]) -> Result<(), Error> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let path = join(path, name.as_bytes());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.0.insert(path.clone(), Node::Folder);
                self.add_folder(&entry.path(), &path)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.link(path, target.as_os_str().as_bytes());
            } else {
                let file = fs::File::open(entry.path())?;
                let executable = file.metadata()?.permissions().mode() & 0o111 != 0;
                self.file(path, executable, file)?;
            }
        }
        Ok(())
    }

    /// A folder, and those around it.
    pub(crate) fn folder(&mut self, path: Vec<u8>) {
        if !path.is_empty() {
            self.around(&path);
            self.0.insert(path, Node::Folder);
        }
    }

    pub(crate) fn file(
        &mut self,
        path: Vec<u8>,
        executable: bool,
        mut content: impl Read,
    ) -> Result<(), Error> {
        if path == FILE.as_bytes() {
            return Ok(());
        }
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            match content.read(&mut chunk)? {
                0 => break,
                count => hasher.update(&chunk[..count]),
            }
        }
        self.around(&path);
        self.0.insert(path, Node::File { executable, hash: hasher.finalize().into() });
        Ok(())
    }

    pub(crate) fn link(&mut self, path: Vec<u8>, target: &[u8]) {
        self.around(&path);
        self.0.insert(path, Node::Link { hash: Sha256::digest(target).into() });
    }

    /// The folders that a path implies.
    fn around(&mut self, path: &[u8]) {
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.0.entry(path[..end].to_vec()).or_insert(Node::Folder);
        }
    }

    /// `sha256:` and 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(HEAD);
        for (path, node) in &self.0 {
            let (letter, hash) = match node {
                Node::Folder => (b"d ", None),
                Node::File { executable: false, hash } => (b"f ", Some(hash)),
                Node::File { executable: true, hash } => (b"x ", Some(hash)),
                Node::Link { hash } => (b"l ", Some(hash)),
            };
            hasher.update(letter);
            hasher.update(path);
            hasher.update([0]);
            hasher.update(hash.map(hex::encode).unwrap_or_default());
            hasher.update([0]);
        }
        format!("sha256:{}", hex::encode(hasher.finalize()))
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lib/deep")).unwrap();
        fs::write(dir.path().join("lib/deep/a.py"), "a").unwrap();
        fs::write(dir.path().join("app.py"), "app").unwrap();
        symlink("deep/a.py", dir.path().join("lib/link.py")).unwrap();
        dir
    }

    fn digest(dir: &tempfile::TempDir) -> String {
        Tree::of_folder(dir.path()).unwrap().digest()
    }

    #[test]
    fn all_that_a_function_sees_counts() {
        let whole = digest(&folder());
        type Change = fn(&Path);
        let changes: [(&str, Change); 8] = [
            ("content", |at| fs::write(at.join("app.py"), "apq").unwrap()),
            ("a name", |at| fs::rename(at.join("app.py"), at.join("apq.py")).unwrap()),
            ("a file more", |at| fs::write(at.join("more"), "").unwrap()),
            ("a file less", |at| fs::remove_file(at.join("app.py")).unwrap()),
            ("an empty folder", |at| fs::create_dir(at.join("json")).unwrap()),
            ("may be executed", |at| {
                fs::set_permissions(at.join("app.py"), fs::Permissions::from_mode(0o755)).unwrap();
            }),
            ("a link's target", |at| {
                fs::remove_file(at.join("lib/link.py")).unwrap();
                symlink("../app.py", at.join("lib/link.py")).unwrap();
            }),
            ("a file for a link", |at| {
                fs::remove_file(at.join("lib/link.py")).unwrap();
                fs::write(at.join("lib/link.py"), "deep/a.py").unwrap();
            }),
        ];
        for (what, change) in changes {
            let dir = folder();
            assert_eq!(digest(&dir), whole);
            change(dir.path());
            assert_ne!(digest(&dir), whole, "{what}");
        }
    }

    #[test]
    fn the_signature_is_no_part_of_what_it_signs() {
        let dir = folder();
        let before = digest(&dir);
        fs::write(dir.path().join(FILE), "anything").unwrap();
        assert_eq!(digest(&dir), before);
        // Elsewhere the name means nothing.
        fs::write(dir.path().join("lib").join(FILE), "anything").unwrap();
        assert_ne!(digest(&dir), before);
    }

    #[test]
    fn what_is_no_signature_is_not_taken_for_none() {
        let dir = folder();
        assert!(Tree::signature_in(dir.path()).unwrap().is_none());
        symlink("app.py", dir.path().join(FILE)).unwrap();
        assert!(matches!(Tree::signature_in(dir.path()), Err(Error::Signature(_))));
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::write(dir.path().join(FILE), vec![b' '; FILE_BYTES as usize + 1]).unwrap();
        assert!(matches!(Tree::signature_in(dir.path()), Err(Error::Signature(_))));
        // A folder or a link in its place is part of the tree.
        let before = digest(&dir);
        fs::remove_file(dir.path().join(FILE)).unwrap();
        symlink("app.py", dir.path().join(FILE)).unwrap();
        assert_ne!(digest(&dir), before);
    }
}
