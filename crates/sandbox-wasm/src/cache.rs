//! Compiled code on disk, so that a restart compiles nothing.
//!
//! A file holds native code that is mapped and run. So the directory is 0700 and the server's own, and a
//! file is loaded only if nobody else could write it and its SHA-256 is the one noted beside it when it was
//! written; it is opened once, and what was checked is what is mapped. A torn write, a full
//! disk or a flipped bit leads to compiling again, not to running what is left. Whoever can write here as
//! the server's user can run code as it anyway; the checksum is no defence against them.
//!
//! A name is PACKAGE-MODULE-ENGINE: of the package's digest, of the file in it, and of wasmtime's version and
//! settings. Files of another engine are removed at start, those of a package when it is forgotten; code that
//! still runs keeps its file's pages until its last instance is gone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use sandbox::{Artifact, Error};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const CODE: &str = "cwasm";
const SUM: &str = "sha256";

/// Names one piece of compiled code, whatever the engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(String);

/// How the names of a package's code begin. Hashed, so that whatever a digest is it can be part of a name.
fn prefix(digest: &str) -> String {
    format!("{}-", hex::encode(&Sha256::digest(digest)[..20]))
}

impl Key {
    /// Of the package and the module's path in it.
    pub(crate) fn of(artifact: &Artifact, module: &Path) -> Self {
        let module = Sha256::digest(module.as_os_str().as_encoded_bytes());
        Self(prefix(&artifact.digest) + &hex::encode(&module[..20]))
    }

    /// Whether it names code of this package.
    pub(crate) fn is_of(&self, digest: &str) -> bool {
        self.0.starts_with(&prefix(digest))
    }
}

/// The directory of compiled code.
pub(crate) struct Cache {
    dir: PathBuf,
    engine_id: String,
    serial: AtomicU64,
}

impl Cache {
    /// Makes the directory if need be and removes what this engine cannot use.
    pub(crate) fn open(dir: &Path, engine: &Engine) -> Result<Self, Error> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self {
            dir: dir.to_owned(),
            engine_id: format!("{:016x}", hasher.finish()),
            serial: AtomicU64::new(0),
        };
        cache.make_private().map_err(Error::host("making the directory of compiled WebAssembly"))?;
        cache.sweep().map_err(Error::host("clearing the directory of compiled WebAssembly"))?;
        Ok(cache)
    }

    fn make_private(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))
    }

    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let ours = path.extension().is_some_and(|e| e == CODE || e == SUM)
                && path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(&self.engine_id));
            if !ours && path.is_file() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Removes the code of a package, for every module that was ever run of it.
    pub(crate) fn forget(&self, digest: &str) -> io::Result<()> {
        let prefix = prefix(digest);
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn path(&self, key: &Key, extension: &str) -> PathBuf {
        self.dir.join(format!("{}-{}.{extension}", key.0, self.engine_id))
    }

    /// The compiled code, if it is there and whole.
    pub(crate) fn load(&self, engine: &Engine, key: &Key) -> Option<Component> {
        let path = self.path(key, CODE);
        let noted = fs::read_to_string(self.path(key, SUM)).ok()?;
        let file = open_own(&path).ok()?;
        if sum_of_file(&file).ok()? != noted {
            tracing::warn!(path = %path.display(), "compiled WebAssembly is damaged and is compiled again");
            return None;
        }
        match map(engine, &file) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = format!("{error:#}"), "compiled WebAssembly is not usable");
                None
            }
        }
    }

    /// The compiled code itself, if it is there and whole: for a process that must not be shown the file.
    pub(crate) fn read(&self, key: &Key) -> Option<Vec<u8>> {
        let noted = fs::read_to_string(self.path(key, SUM)).ok()?;
        let mut code = Vec::new();
        open_own(&self.path(key, CODE)).ok()?.read_to_end(&mut code).ok()?;
        (hex::encode(Sha256::digest(&code)) == noted).then_some(code)
    }

    /// Writes compiled code and loads it from there, so that its pages are the file's.
    pub(crate) fn store(&self, engine: &Engine, key: &Key, code: &[u8]) -> Result<Component, Error> {
        let path = self.path(key, CODE);
        self.replace(&path, code)
            .and_then(|()| self.replace(&self.path(key, SUM), hex::encode(Sha256::digest(code)).as_bytes()))
            .map_err(Error::host("writing compiled WebAssembly"))?;
        let failed = Error::host("loading compiled WebAssembly");
        let file = match open_own(&path) {
            Ok(file) => file,
            Err(error) => return Err(failed(error)),
        };
        // Read back rather than trusted: what is mapped is what was compiled, whatever happened in between.
        if sum_of_file(&file).ok() != Some(hex::encode(Sha256::digest(code))) {
            return Err(failed(io::Error::other("the file is not what was written")));
        }
        map(engine, &file).map_err(|error| failed(io::Error::other(format!("{error:#}"))))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("{}-{serial}.tmp", std::process::id()));
        let create = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let written = create.and_then(|mut file| file.write_all(bytes));
        let placed = written.and_then(|()| fs::rename(&temporary, path));
        if placed.is_err() {
            // Whatever is left of it goes at the next start at the latest.
            drop(fs::remove_file(&temporary));
        }
        placed
    }
}

/// Opens a file that nobody but this server's user can have written, or can write to.
fn open_own(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.uid() != geteuid().as_raw() || about.mode() & 0o022 != 0 {
        tracing::warn!(path = %path.display(), "compiled WebAssembly that others could write is not used");
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(file)
}

fn sum_of_file(mut file: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[allow(
    unsafe_code,
    reason = "wasmtime cannot check native code, so loading it is for the caller to vouch for"
)]
pub(crate) fn map(engine: &Engine, file: &impl AsRawFd) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what `Engine::precompile_component` gave to an engine of the same version and
    // settings: the name says so (wasmtime checks it again), the checksum says that they are unchanged, and
    // nobody but this server's user can write to the directory. Files are replaced by renaming, never
    // written in place, so a mapping does not change under the running code.
    // The name is that of the open file itself: what was summed up is what is mapped, though its name may
    // lead to another file by now.
    unsafe { Component::deserialize_file(engine, format!("/proc/self/fd/{}", file.as_raw_fd())) }
}
