//! Zip packages: what is accepted, and how it becomes a folder.
//!
//! Two passes over an archive that may be hostile. `plan` reads the directory alone and decides what every
//! entry would become ([`plan`]); only a plan without a fault is carried out (`unpack`). Sizes in headers
//! refuse early, but the bound that counts is on the bytes that really come out of the decompressor.
//!
//! Not here: where folders live and who may remove them (`code`).

#[cfg(test)]
mod fuzz;
mod plan;
mod unpack;

pub(crate) use unpack::unpack;

use crate::Error;

/// What Lambda says about a zip that it cannot read.
fn unreadable() -> Error {
    Error::InvalidPackage(
        "Could not unzip uploaded file. Please check your file, then try to upload again.".into(),
    )
}

/// What Lambda says about a package that unpacks to too much.
fn too_large() -> Error {
    Error::CodeTooLarge(format!("Unzipped size must be smaller than {} bytes", crate::limits::UNZIPPED_BYTES))
}

/// A package that is readable and must not be unpacked, with the entry at fault.
fn hostile(entry: &str, problem: &str) -> Error {
    let shown: String = entry.chars().take(200).flat_map(char::escape_default).collect();
    Error::InvalidPackage(format!("The package cannot be used: {shown}: {problem}."))
}
