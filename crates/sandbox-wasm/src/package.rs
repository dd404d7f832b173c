//! Finds the module in an unpacked package and reads it within bounds.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use sandbox::{Artifact, Error};

/// The file that an artifact's handler names: the path within the package if there is such a file,
/// otherwise the only `.wasm` in the package's root.
pub(crate) fn module_path(artifact: &Artifact) -> Result<PathBuf, Error> {
    let named = Path::new(&artifact.handler);
    let inside =
        !artifact.handler.is_empty() && named.components().all(|c| matches!(c, Component::Normal(_)));
    if inside && artifact.dir.join(named).is_file() {
        return Ok(named.to_owned());
    }
    only_module(&artifact.dir)
}

fn only_module(dir: &Path) -> Result<PathBuf, Error> {
    let mut modules = Vec::new();
    let entries = fs::read_dir(dir).map_err(Error::host("reading the unpacked package"))?;
    for entry in entries {
        let entry = entry.map_err(Error::host("reading the unpacked package"))?;
        let path = PathBuf::from(entry.file_name());
        if path.extension().is_some_and(|e| e == "wasm") && entry.path().is_file() {
            modules.push(path);
        }
    }
    modules.sort();
    match modules.len() {
        1 => Ok(modules.remove(0)),
        0 => {
            Err(Error::Invalid("the package has no .wasm file in its root and its Handler names none".into()))
        }
        _ => {
            let names: Vec<_> = modules.iter().take(10).map(|path| path.display().to_string()).collect();
            Err(Error::Invalid(format!(
                "the package has several .wasm files ({}); name one as the Handler",
                names.join(", ")
            )))
        }
    }
}

/// Reads a module that is not larger than `limit` bytes.
pub(crate) fn read_module(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(Error::host("opening the module"))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::host("reading the module"))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Invalid(format!(
            "the module is larger than {} MiB, the most that is compiled here",
            limit >> 20
        )));
    }
    Ok(bytes)
}
