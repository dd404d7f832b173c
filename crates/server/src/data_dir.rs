//! The data directory: its layout, its lock, its credentials file.
//!
//! ```text
//! virga.db       truth (SQLite)          seal.key     what secrets in it are sealed with
//! blobs/         packages as uploaded    code/        packages unpacked
//! messages/      large payloads of events that wait
//! wasm-cache/    compiled guests         runtime/     what is put into sandboxes
//! images/        container images, unpacked
//! logs/          function logs           tmp/         emptied at start
//! credentials    the first keys, in the form of AWS's shared credentials file
//! lock           held while a server runs; names its process
//! ```
//!
//! Everything but `virga.db`, `seal.key`, `blobs/`, `messages/`, `logs/` and `credentials` can be made again.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;

/// A data directory that this process alone serves from.
pub(crate) struct DataDir {
    root: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes what is missing and takes the lock.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        make_folder(root)?;
        let root = fs::canonicalize(root).with_context(|| format!("cannot open {}", root.display()))?;
        close_to_others(&root)?;
        let lock = take_lock(&root)?;
        let tmp = root.join("tmp");
        if tmp.exists() {
            fs::remove_dir_all(&tmp).with_context(|| format!("cannot empty {}", tmp.display()))?;
        }
        let data_dir = Self { root, _lock: lock };
        for folder in ["blobs", "messages", "code", "images", "wasm-cache", "runtime", "logs", "tmp"] {
            make_folder(&data_dir.path(folder))?;
        }
        Ok(data_dir)
    }

    /// A path inside it; absolute.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The directory itself; absolute.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes the credentials file with mode 0600: whole or not at all, and on the disk when this returns.
    pub(crate) fn write_credentials(
        &self,
        credentials: &iam::Credentials,
        region: &str,
        endpoint: &str,
    ) -> Result<()> {
        let text = format!(
            "# The first keys of this server. Use them with: \
             AWS_SHARED_CREDENTIALS_FILE={path} AWS_CONFIG_FILE={path}\n\
             [default]\n\
             aws_access_key_id = {id}\n\
             aws_secret_access_key = {secret}\n\
             region = {region}\n\
             endpoint_url = {endpoint}\n",
            path = self.path("credentials").display(),
            id = credentials.access_key_id,
            secret = credentials.secret_access_key,
        );
        let (part, whole) = (self.path("tmp/credentials"), self.path("credentials"));
        write_private(&part, text.as_bytes())
            .and_then(|()| fs::rename(&part, &whole))
            .and_then(|()| File::open(&self.root)?.sync_all())
            .with_context(|| format!("cannot write {}", whole.display()))
    }
}

fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// A folder that was there before may have been open to others.
fn close_to_others(root: &Path) -> Result<()> {
    let cannot = || format!("cannot make {} private", root.display());
    let mode = fs::metadata(root).with_context(cannot)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(folder = %root.display(), "the data directory was open to other users; its mode is 0700 now");
        fs::set_permissions(root, Permissions::from_mode(0o700)).with_context(cannot)?;
    }
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A record lock, not `flock`: it belongs to this process and is not inherited by those that it forks, so
/// that it is free the moment this process is gone, however it went.
fn take_lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).unwrap_or_default();
            bail!("another server uses {}: process {}", root.display(), pid.trim());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_it_makes_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("a/b");
        let data_dir = DataDir::open(&root).unwrap();
        for folder in ["", "blobs", "messages", "code", "wasm-cache", "runtime", "logs", "tmp"] {
            assert_eq!(mode(&data_dir.path(folder)), 0o700, "{folder}");
        }
        let keys = iam::Credentials {
            access_key_id: "AKIAEXAMPLE".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: None,
            expires: None,
        };
        data_dir.write_credentials(&keys, "us-east-1", "http://127.0.0.1:1").unwrap();
        assert_eq!(mode(&data_dir.path("credentials")), 0o600);
        let text = fs::read_to_string(data_dir.path("credentials")).unwrap();
        assert!(text.contains("\n[default]\naws_access_key_id = AKIAEXAMPLE\n"), "{text}");
    }

    #[test]
    fn an_existing_folder_is_closed_and_its_tmp_emptied() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("tmp")).unwrap();
        fs::write(root.path().join("tmp/left"), "x").unwrap();
        let data_dir = DataDir::open(root.path()).unwrap();
        assert!(!data_dir.path("tmp/left").exists());
        assert_eq!(mode(root.path()), 0o700);
        let holder = fs::read_to_string(root.path().join("lock")).unwrap();
        assert_eq!(holder.trim(), std::process::id().to_string());
    }
}
