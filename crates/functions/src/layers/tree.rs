//! Several layers as one tree: what `/opt` shows to functions that have the same ones in the same order.
//!
//! The first comes lowest; where two have something of one name, the later's is there, and folders of one name are one
//! (Lambda unpacks layers one over the other). Files are hard links, so that a tree costs folders and names alone. No
//! link of a layer is followed.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::AttachedLayer;

/// What the keys of trees begin with.
const KEY: &str = "layers-";

/// What `/opt` shows is called: nothing, the one layer's package, or a merged tree.
pub(crate) enum Shown {
    Nothing,
    /// A package's digest.
    One(String),
    /// The key of a tree.
    Several(String),
}

/// What a function with these layers is shown.
pub(crate) fn shown(layers: &[AttachedLayer]) -> Shown {
    match layers {
        [] => Shown::Nothing,
        [one] => Shown::One(one.code.digest.clone()),
        several => {
            let mut hash = Sha256::new();
            several.iter().for_each(|layer| hash.update(layer.code.digest.as_bytes()));
            Shown::Several(format!("{KEY}{}", hex::encode(hash.finalize())))
        }
    }
}

/// Whether a key is a merged tree's.
pub(crate) fn is_key(key: &str) -> bool {
    key.starts_with(KEY)
}

/// Everything that these layers need to be kept: their packages, and the tree.
pub(crate) fn keys(layers: &[AttachedLayer]) -> impl Iterator<Item = String> {
    let tree = match shown(layers) {
        Shown::Several(key) => Some(key),
        Shown::Nothing | Shown::One(_) => None,
    };
    layers.iter().map(|layer| layer.code.digest.clone()).chain(tree)
}

/// Bytes of a folder's files. Blocking.
pub(crate) fn weigh(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += weigh(&entry.path())?;
        } else if kind.is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// What a path of the tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    /// A file of a layer.
    File(PathBuf),
    /// A symbolic link's text.
    Link(PathBuf),
}

/// Lays these folders over each other, the first lowest, into an empty one. Blocking.
pub(crate) fn merge(layers: &[PathBuf], into: &Path) -> io::Result<()> {
    let mut nodes = BTreeMap::new();
    for layer in layers {
        lay_over(&mut nodes, layer, Path::new(""))?;
    }
    // Folders come before what is in them, as `BTreeMap` orders paths.
    nodes.iter().try_for_each(|(path, node)| make(&into.join(path), node))
}

fn lay_over(nodes: &mut BTreeMap<PathBuf, Node>, layer: &Path, folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(layer.join(folder))? {
        let entry = entry?;
        let (path, kind) = (folder.join(entry.file_name()), entry.file_type()?);
        let node = if kind.is_dir() {
            Node::Folder
        } else if kind.is_symlink() {
            Node::Link(fs::read_link(entry.path())?)
        } else {
            Node::File(entry.path())
        };
        put(nodes, &path, node);
        if kind.is_dir() {
            lay_over(nodes, layer, &path)?;
        }
    }
    Ok(())
}

/// Puts a node in place of whatever is there, but a folder for a folder.
fn put(nodes: &mut BTreeMap<PathBuf, Node>, path: &Path, node: Node) {
    if nodes.get(path) == Some(&Node::Folder) {
        if node == Node::Folder {
            return;
        }
        let below: Vec<PathBuf> = nodes
            .range(path.to_owned()..)
            .take_while(|(other, _)| other.starts_with(path))
            .map(|(other, _)| other.clone())
            .collect();
        for other in below {
            nodes.remove(&other);
        }
    }
    nodes.insert(path.to_owned(), node);
}

fn make(at: &Path, node: &Node) -> io::Result<()> {
    match node {
        Node::Folder => {
            fs::create_dir(at)?;
            // Whatever the server's umask is: instances run as other users.
            fs::set_permissions(at, Permissions::from_mode(0o755))
        }
        // A file has so many names at most as the file system allows.
        Node::File(from) => fs::hard_link(from, at).or_else(|_| fs::copy(from, at).map(drop)),
        Node::Link(target) => symlink(target, at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CodeRef;

    /// A folder of files with their texts; a name that ends in `/` is a folder, `>` makes a link.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let at = dir.path().join(name.trim_end_matches('/'));
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            match text.strip_prefix('>') {
                _ if name.ends_with('/') => fs::create_dir_all(&at).unwrap(),
                Some(target) => symlink(target, &at).unwrap(),
                None => fs::write(&at, text).unwrap(),
            }
        }
        dir
    }

    fn merged(layers: &[&[(&str, &str)]]) -> tempfile::TempDir {
        let layers: Vec<_> = layers.iter().map(|files| folder(files)).collect();
        let paths: Vec<_> = layers.iter().map(|layer| layer.path().to_owned()).collect();
        let into = tempfile::tempdir().unwrap();
        merge(&paths, into.path()).unwrap();
        into
    }

    #[test]
    fn later_layers_win_and_folders_are_one() {
        let tree = merged(&[
            &[("bin/a", "1"), ("bin/b", "1"), ("lib", "file"), ("x/deep/y", "1"), ("x.d", "1")],
            &[("bin/b", "2"), ("lib/c", "2"), ("x", "now a file"), ("empty/", "")],
        ]);
        let read = |name: &str| fs::read_to_string(tree.path().join(name)).unwrap();
        assert_eq!([read("bin/a"), read("bin/b"), read("lib/c")], ["1", "2", "2"]);
        assert_eq!((read("x"), read("x.d")), ("now a file".into(), "1".into()));
        assert!(tree.path().join("empty").is_dir());
        assert_eq!(weigh(tree.path()).unwrap(), 1 + 1 + 1 + 10 + 1);
    }

    #[test]
    fn links_are_kept_and_never_followed() {
        let outside = folder(&[("kept", "safe")]);
        let out = format!(">{}", outside.path().display());
        let tree = merged(&[&[("a", &out), ("b", ">c")], &[("a/kept", "mine")]]);
        assert_eq!(fs::read_to_string(outside.path().join("kept")).unwrap(), "safe");
        assert_eq!(fs::read_to_string(tree.path().join("a/kept")).unwrap(), "mine");
        assert_eq!(fs::read_link(tree.path().join("b")).unwrap(), Path::new("c"));
    }

    #[test]
    fn files_are_linked_not_copied() {
        use std::os::unix::fs::MetadataExt;
        let (one, two) = (folder(&[("f", "x")]), folder(&[("g", "y")]));
        let into = tempfile::tempdir_in(one.path().parent().unwrap()).unwrap();
        merge(&[one.path().to_owned(), two.path().to_owned()], into.path()).unwrap();
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(one.path().join("f")), inode(into.path().join("f")));
    }

    #[test]
    fn a_tree_is_named_by_what_it_shows() {
        let layer = |digest: &str, arn: &str| AttachedLayer {
            arn: arn.into(),
            code: CodeRef { digest: digest.into(), size: 1 },
            unpacked_bytes: 1,
            signature: None,
        };
        let key = |layers: &[AttachedLayer]| match shown(layers) {
            Shown::Several(key) => key,
            Shown::One(digest) => digest,
            Shown::Nothing => String::new(),
        };
        let (a, b) = (layer("aa", "1"), layer("bb", "2"));
        assert_eq!((key(&[]).as_str(), key(std::slice::from_ref(&a)).as_str()), ("", "aa"));
        assert_ne!(key(&[a.clone(), b.clone()]), key(&[b.clone(), a.clone()]), "order counts");
        assert_eq!(key(&[a.clone(), b.clone()]), key(&[layer("aa", "3"), layer("bb", "4")]), "names do not");
        assert!(is_key(&key(&[a.clone(), b.clone()])) && !is_key("aa"));
        assert_eq!(keys(&[a, b]).count(), 3);
    }
}
