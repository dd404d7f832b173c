//! Makes the zip that is uploaded: the same tree gives the same bytes.
//!
//! Entries are sorted, times fixed, permissions reduced to "executable or not"; so a package's digest
//! says whether anything changed. Links inside the tree stay links, a link out of it is an error: its
//! target would not exist where the function runs. Version control and caches are left out.

use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::dependencies::Resolved;

/// Folders that no function needs: version control, caches, what `virga` itself keeps.
const LEFT_OUT: [&str; 10] = [
    ".git",
    ".hg",
    ".svn",
    ".virga",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".DS_Store",
    ".cache",
];

/// Whether something is no part of any function: by its name, or because it is a server's data directory, whatever that
/// is called. Its keys are no function's.
pub(crate) fn is_left_out(path: &Path) -> bool {
    let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| LEFT_OUT.contains(&name));
    named || path.join("seal.key").exists()
}

/// Bytes of files, unpacked: Lambda's own limit on a package (Lambda quotas: 250 MB).
const MAX_UNPACKED_BYTES: u64 = 250 << 20;

/// Bytes of the zip: what CreateFunction takes (Lambda quotas: 50 MB).
const MAX_ZIPPED_BYTES: usize = 50 << 20;

/// What goes into a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Files {
    /// A folder's whole content.
    Folder(PathBuf),
    /// One file.
    One {
        /// Where it is.
        path: PathBuf,
        /// What it is called in the package.
        name: String,
        /// Whether it is made executable.
        executable: bool,
    },
    /// A zip that somebody else made.
    Ready(PathBuf),
}

/// A package.
pub(crate) struct Package {
    /// The zip.
    pub(crate) zip: Vec<u8>,
    /// Files in it; `None` for a zip that somebody else made.
    pub(crate) count: Option<usize>,
}

impl Package {
    /// Makes it.
    pub(crate) fn build(files: &Files) -> Result<Self> {
        Self::with(files, None)
    }

    /// Makes it, with dependencies that were resolved for a folder.
    pub(crate) fn with(files: &Files, resolved: Option<&Resolved>) -> Result<Self> {
        let package = match files {
            Files::Ready(path) => {
                let zip = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                Self { zip, count: None }
            }
            Files::One { path, name, executable } => {
                let mut entries = vec![Entry::file(path.clone(), name.clone())?];
                entries[0].executable |= executable;
                Self::pack(&entries)?
            }
            Files::Folder(root) => {
                let mut entries = Vec::new();
                collect(root, root, is_left_out, &mut entries)?;
                if let Some(resolved) = resolved {
                    add(resolved, &mut entries)?;
                }
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                if entries.is_empty() {
                    bail!("{} holds no files", root.display());
                }
                Self::pack(&entries)?
            }
        };
        if package.zip.len() > MAX_ZIPPED_BYTES {
            bail!("the package is {} MB as a zip; a function's may be 50 MB", package.zip.len() >> 20);
        }
        Ok(package)
    }

    /// Lambda's `CodeSha256`.
    pub(crate) fn sha256(&self) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&self.zip))
    }

    /// Makes it of texts.
    pub(crate) fn of(files: &[(String, &[u8])]) -> Result<Self> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            writer.start_file(name.as_str(), options().unix_permissions(0o644))?;
            writer.write_all(bytes)?;
        }
        Ok(Self { zip: writer.finish()?.into_inner(), count: Some(files.len()) })
    }

    fn pack(entries: &[Entry]) -> Result<Self> {
        let total: u64 = entries.iter().map(|entry| entry.size).sum();
        if total > MAX_UNPACKED_BYTES {
            bail!("the files are {} MB together; a function's code may be 250 MB", total >> 20);
        }
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for entry in entries {
            entry.write(&mut writer).with_context(|| format!("cannot pack {}", entry.path.display()))?;
        }
        Ok(Self { zip: writer.finish()?.into_inner(), count: Some(entries.len()) })
    }
}

/// One file or link.
struct Entry {
    path: PathBuf,
    name: String,
    size: u64,
    executable: bool,
    link: Option<String>,
}

impl Entry {
    fn file(path: PathBuf, name: String) -> Result<Self> {
        let about = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if !about.is_file() {
            bail!("{} is neither a file nor a folder nor a link", path.display());
        }
        let executable = about.permissions().mode() & 0o111 != 0;
        Ok(Self { path, name, size: about.len(), executable, link: None })
    }

    fn link(root: &Path, path: PathBuf, name: String) -> Result<Self> {
        let target = std::fs::read_link(&path)?;
        let text = target.to_str().filter(|_| stays_inside(&name, &target));
        let Some(text) = text else {
            bail!(
                "{} points out of {}, to {}: put a copy there instead of a link",
                path.display(),
                root.display(),
                target.display()
            );
        };
        let link = Some(text.to_owned());
        Ok(Self { path, name, size: 0, executable: false, link })
    }

    fn write(&self, writer: &mut ZipWriter<Cursor<Vec<u8>>>) -> Result<()> {
        let options = options();
        if let Some(target) = &self.link {
            writer.add_symlink(self.name.as_str(), target, options.unix_permissions(0o777))?;
            return Ok(());
        }
        let mode = if self.executable { 0o755 } else { 0o644 };
        writer.start_file(self.name.as_str(), options.unix_permissions(mode))?;
        writer.write_all(&std::fs::read(&self.path)?)?;
        Ok(())
    }
}

/// The same for every entry.
fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .last_modified_time(zip::DateTime::default())
        .compression_method(CompressionMethod::Deflated)
}

/// Puts what was resolved in the place of what the folder has of it.
fn add(resolved: &Resolved, entries: &mut Vec<Entry>) -> Result<()> {
    let mut made = Vec::new();
    // Whatever a package calls its folders, it is a part of the package.
    collect(&resolved.folder, &resolved.folder, |_| false, &mut made)?;
    let replaced = |name: &str| {
        let below = name.strip_prefix(resolved.replaces).is_some_and(|rest| rest.starts_with('/'));
        below || made.iter().any(|entry| entry.name == name)
    };
    entries.retain(|entry| !replaced(&entry.name));
    entries.append(&mut made);
    Ok(())
}

/// Adds everything below `folder` but what is called so, without following links.
fn collect(root: &Path, folder: &Path, left_out: fn(&Path) -> bool, entries: &mut Vec<Entry>) -> Result<()> {
    for item in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let item = item?;
        let path = item.path();
        if left_out(&path) {
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let name = relative
            .to_str()
            .with_context(|| format!("{}: the name is not UTF-8", path.display()))?
            .to_owned();
        let kind = item.file_type()?;
        if kind.is_dir() {
            collect(root, &path, left_out, entries)?;
        } else if kind.is_symlink() {
            entries.push(Entry::link(root, path, name)?);
        } else {
            entries.push(Entry::file(path, name)?);
        }
    }
    Ok(())
}

/// Whether a link called `name` with this target stays in the package.
fn stays_inside(name: &str, target: &Path) -> bool {
    let mut depth = name.matches('/').count();
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lib/deep")).unwrap();
        fs::create_dir_all(dir.path().join(".git")).unwrap();
        fs::write(dir.path().join(".git/HEAD"), "x").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("data/seal.key"), "secret").unwrap();
        fs::write(dir.path().join("lib/deep/b.py"), "b").unwrap();
        fs::write(dir.path().join("a.py"), "a").unwrap();
        fs::write(dir.path().join("bootstrap"), "#!/bin/sh").unwrap();
        fs::set_permissions(dir.path().join("bootstrap"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("deep/b.py", dir.path().join("lib/link.py")).unwrap();
        dir
    }

    fn content(package: &Package) -> BTreeMap<String, (u32, String)> {
        let mut archive = zip::ZipArchive::new(Cursor::new(&package.zip)).unwrap();
        let mut found = BTreeMap::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            found.insert(file.name().unwrap().into_owned(), (file.unix_mode().unwrap(), text));
        }
        found
    }

    #[test]
    fn holds_what_the_folder_holds() {
        let dir = tree();
        let found = content(&Package::build(&Files::Folder(dir.path().to_owned())).unwrap());
        let expect = [
            ("a.py", 0o100644, "a"),
            ("bootstrap", 0o100755, "#!/bin/sh"),
            ("lib/deep/b.py", 0o100644, "b"),
            ("lib/link.py", 0o120777, "deep/b.py"),
        ];
        let expect = expect.map(|(name, mode, text)| (name.to_owned(), (mode, text.to_owned())));
        assert_eq!(found, BTreeMap::from(expect));
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let (one, two) = (tree(), tree());
        let old = fs::File::options().write(true).open(two.path().join("a.py")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        let build = |dir: &tempfile::TempDir| Package::build(&Files::Folder(dir.path().to_owned())).unwrap();
        assert_eq!(build(&one).sha256(), build(&two).sha256());
        fs::write(two.path().join("a.py"), "A").unwrap();
        assert_ne!(build(&one).sha256(), build(&two).sha256());
    }

    #[test]
    fn a_link_out_of_the_tree_is_refused() {
        for target in ["/etc/passwd", "../outside", "lib/../../outside"] {
            let dir = tree();
            symlink(target, dir.path().join("bad")).unwrap();
            let error = Package::build(&Files::Folder(dir.path().to_owned())).err().unwrap().to_string();
            assert!(error.contains("points out of"), "{error}");
        }
    }

    #[test]
    fn what_was_resolved_replaces_what_was_there() {
        let (dir, made) = (tree(), tempfile::tempdir().unwrap());
        fs::create_dir_all(made.path().join("lib/new")).unwrap();
        fs::write(made.path().join("lib/new/c.py"), "c").unwrap();
        fs::create_dir(made.path().join("lib/.cache")).unwrap();
        fs::write(made.path().join("lib/.cache/d.py"), "d").unwrap();
        let names = |replaces: &'static str| {
            let resolved = Resolved { folder: made.path().to_owned(), replaces };
            let package = Package::with(&Files::Folder(dir.path().to_owned()), Some(&resolved)).unwrap();
            content(&package).into_keys().collect::<Vec<_>>()
        };
        let new = ["lib/.cache/d.py", "lib/new/c.py"];
        assert_eq!(names("lib"), [["a.py", "bootstrap"], new].concat());
        let all = [&["a.py", "bootstrap", new[0], "lib/deep/b.py", "lib/link.py"], &new[1..]].concat();
        assert_eq!(names("li"), all);
        fs::write(made.path().join("a.py"), "newer").unwrap();
        let resolved = Resolved { folder: made.path().to_owned(), replaces: "" };
        let package = Package::with(&Files::Folder(dir.path().to_owned()), Some(&resolved)).unwrap();
        let found = content(&package);
        assert_eq!((found.len(), found["a.py"].1.as_str()), (6, "newer"));
    }

    #[test]
    fn a_single_file_takes_its_name_and_mode() {
        let dir = tree();
        let files =
            Files::One { path: dir.path().join("a.py"), name: "bootstrap".to_owned(), executable: true };
        let found = content(&Package::build(&files).unwrap());
        assert_eq!(found["bootstrap"], (0o100755, "a".to_owned()));
    }

    #[test]
    fn a_zip_that_no_server_takes_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.zip");
        fs::File::create(&path).unwrap().set_len(MAX_ZIPPED_BYTES as u64 + (1 << 20)).unwrap();
        let error = Package::build(&Files::Ready(path)).err().unwrap().to_string();
        assert_eq!(error, "the package is 51 MB as a zip; a function's may be 50 MB");
    }

    #[test]
    fn an_empty_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Package::build(&Files::Folder(dir.path().to_owned())).is_err());
    }
}
