//! The runtime clients that Virga brings for Python and Node, put where sandboxes can see them.
//!
//! The files are part of the binary. They are written once to a folder named after their content, so that
//! servers of two versions on one data directory do not disturb each other; the folder is `/var/runtime`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where the clients are inside.
pub(crate) const INSIDE: &str = "/var/runtime";
/// What Python is started with.
pub(crate) const PYTHON: &str = "/var/runtime/python/bootstrap.py";
/// What Node is started with.
pub(crate) const NODE: &str = "/var/runtime/node/bootstrap.cjs";
/// The Python client's module, relative to the folder.
pub(crate) const PYTHON_MODULE: &str = "python/virga_runtime.py";

const FILES: [(&str, &str); 3] = [
    ("python/bootstrap.py", include_str!("clients/python/bootstrap.py")),
    (PYTHON_MODULE, include_str!("clients/python/virga_runtime.py")),
    ("node/bootstrap.cjs", include_str!("clients/node/bootstrap.cjs")),
];

/// Writes the clients below `runtime_dir` unless they are there, and returns their folder.
pub(crate) fn install(runtime_dir: &Path) -> io::Result<PathBuf> {
    let folder = runtime_dir.join(content_name());
    if folder.is_dir() {
        return Ok(folder);
    }
    let unfinished = runtime_dir.join(format!(".{}.{}", content_name(), std::process::id()));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    for (name, text) in FILES {
        let path = unfinished.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
            // Read by a mapped user, whatever the server's umask is.
            fs::set_permissions(parent, Permissions::from_mode(0o755))?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    match fs::rename(&unfinished, &folder) {
        Ok(()) => Ok(folder),
        // Another server was quicker.
        Err(_) if folder.is_dir() => fs::remove_dir_all(&unfinished).map(|()| folder),
        Err(error) => Err(error),
    }
}

fn content_name() -> String {
    let mut hash = Sha256::new();
    for (name, text) in FILES {
        for part in [name, text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex::encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_once() {
        let data = tempfile::tempdir().unwrap();
        let folder = install(data.path()).unwrap();
        let client = folder.join(PYTHON_MODULE);
        assert_eq!(fs::metadata(&client).unwrap().permissions().mode() & 0o777, 0o644);
        fs::write(folder.join("mark"), "").unwrap();
        assert_eq!(install(data.path()).unwrap(), folder);
        assert!(folder.join("mark").exists(), "it was written again");
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "nothing unfinished is left");
    }
}

#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod python_tests;
