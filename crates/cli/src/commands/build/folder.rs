//! Folders of a build's own, that go with it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A folder that only this user can look into, and that is removed in the end.
pub(super) struct Own(PathBuf);

impl Own {
    /// Makes one.
    pub(super) fn new(scratch: &Path) -> Result<Self> {
        for number in 0..1000 {
            let folder = scratch.join(format!("virga-build-{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", folder.display())),
            }
        }
        bail!("{} holds too many folders of builds", scratch.display())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.0).is_err() {
            // Go's modules, for one, are in folders that nothing can be removed from.
            server::steps::make_writable(&self.0);
            if let Err(error) = std::fs::remove_dir_all(&self.0) {
                eprintln!("warning: {} could not be removed: {error}", self.0.display());
            }
        }
    }
}
