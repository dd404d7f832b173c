//! Content-addressed files: packages, and later every body too large for a row.
//!
//! A blob is written to a temporary file, synced, renamed to its name and its folders synced: so a name that
//! exists always has all its bytes, and a name that was returned survives a crash of the host. Two levels of
//! folders by the first digits keep each folder small. Names are checked before they become paths.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::error::io_error;

/// Cheap to clone. A blob's name is the SHA-256 of its bytes, 64 hexadecimal digits.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Numbers the temporary files; one process owns the folder.
    next: AtomicU64,
}

impl Blobs {
    /// Opens or makes the folder and removes what an interrupted `put` left.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let inner = Inner { dir: dir.to_owned(), next: AtomicU64::new(0) };
        let unfinished = inner.unfinished();
        make_folder(dir)?;
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("clear", &unfinished, error))?,
            _ => make_folder(&unfinished)?,
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Stores the bytes durably (file and folder synced) and returns their name.
    pub async fn put(&self, bytes: Bytes) -> Result<String, Error> {
        self.blocking(move |inner| inner.put(&bytes)).await
    }

    /// The bytes, or `None` if there is no such blob. Bytes that no longer match their name are an error.
    pub async fn get(&self, digest: &str) -> Result<Option<Bytes>, Error> {
        let digest = digest.to_owned();
        self.blocking(move |inner| inner.get(&digest)).await
    }

    /// Where the blob's file is. For what is not a digest: a path in the folder at which nothing ever is.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.inner.path(digest).unwrap_or_else(|| self.inner.dir.join("invalid"))
    }

    /// Removes the blob, if it is there.
    pub async fn remove(&self, digest: &str) -> Result<(), Error> {
        let Some(path) = self.inner.path(digest) else { return Ok(()) };
        self.blocking(move |_| match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path, error)),
            _ => Ok(()),
        })
        .await
    }

    /// The names of all blobs, in order.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        self.blocking(Inner::list).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|lost| Err(Error::Stopped(lost.to_string())))
    }
}

impl Inner {
    fn put(&self, bytes: &[u8]) -> Result<String, Error> {
        let digest = hex::encode(Sha256::digest(bytes));
        let path = self.dir.join(&digest[..2]).join(&digest[2..4]).join(&digest);
        // A blob of another length is damaged; it is replaced.
        if !fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64) {
            self.write(&path, bytes)?;
        }
        // Even for a blob that was there: another `put` may have renamed it and not have synced yet.
        for folder in path.ancestors().skip(1).take(3) {
            File::open(folder).and_then(|open| open.sync_all()).map_err(|e| failed("sync", folder, e))?;
        }
        Ok(digest)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.unfinished().join(number.to_string());
        let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
        written.map_err(|error| {
            // The error is what matters; what is left is removed at the next start.
            let _ = fs::remove_file(&temporary);
            failed("write", path, error)
        })
    }

    fn get(&self, digest: &str) -> Result<Option<Bytes>, Error> {
        let Some(path) = self.path(digest) else { return Ok(None) };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, error)),
        };
        if hex::encode(Sha256::digest(&bytes)) != digest {
            let damaged = std::io::Error::new(ErrorKind::InvalidData, "its bytes do not match its name");
            return Err(failed("trust", &path, damaged));
        }
        Ok(Some(bytes.into()))
    }

    fn list(&self) -> Result<Vec<String>, Error> {
        let mut digests = Vec::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|error| failed("list", &folder, error))? {
                let name = entry.map_err(|error| failed("list", &folder, error))?.file_name();
                match name.to_str() {
                    Some(digest) if is_digest(digest) => digests.push(digest.to_owned()),
                    Some(name) if name.len() == 2 => folders.push(folder.join(name)),
                    _ => {}
                }
            }
        }
        digests.sort_unstable();
        Ok(digests)
    }

    fn path(&self, digest: &str) -> Option<PathBuf> {
        is_digest(digest).then(|| self.dir.join(&digest[..2]).join(&digest[2..4]).join(digest))
    }

    fn unfinished(&self) -> PathBuf {
        self.dir.join("unfinished")
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| failed("make", folder, e))
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(what: &str, path: &Path, source: std::io::Error) -> Error {
    io_error(|| format!("blobs: cannot {what} {}", path.display()))(source)
}
