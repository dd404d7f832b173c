//! A package in a worker's own folder: the same files by further names.
//!
//! A worker sees one folder of the host, with the packages that it runs and no others. Its files are hard links to
//! the server's unpacked package, so they cost no space; the mount makes them read-only.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

/// Makes an empty folder that every user may read, whatever the umask.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Makes `to`, with everything that `from` has.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    make(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (here, there) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link(&here, &there)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&here)?, &there)?;
        } else if fs::hard_link(&here, &there).is_err() {
            // Too many links, or a file system without them.
            fs::copy(&here, &there)?;
        }
    }
    Ok(())
}

/// Removes the folder, somewhere where it may block.
pub(super) fn remove(folder: std::path::PathBuf) {
    let remove = move || {
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::debug!(folder = %folder.display(), %error, "a worker's folder could not be removed");
        }
    };
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(remove)),
        Err(_) => remove(),
    }
}
