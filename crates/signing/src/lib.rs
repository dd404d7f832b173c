//! Signed packages: what is signed, how a signature travels with its package, and whether it holds.
//!
//! A package is signed as the tree of files that it unpacks to ([`Tree`]), not as the bytes of its zip: packing it again
//! changes nothing, and the signature lies inside as one file, [`FILE`], which is no part of the tree. That file is a DSSE
//! envelope ([`Envelope`]) around a [`Statement`]: whose profile signed, under which job, when, and the tree's digest.
//! Keys are Ed25519 ([`PrivateKey`], [`PublicKey`]), in the PEM forms that OpenSSL reads and writes.
//!
//! Shared by the command that signs and the server that checks, so that there is one meaning of a tree. Whom to trust,
//! expiry and revocation are the server's (`functions`). docs/code-signing.md has the format.

mod envelope;
mod key;
mod tree;
mod zips;

pub use envelope::{Envelope, Statement};
pub use key::{PrivateKey, PublicKey};
pub use tree::Tree;
pub use zips::sign;

/// Where a package's signature is.
pub const FILE: &str = ".virga-signature.json";

/// Bytes of a signature file that are read: an envelope has less than two thousand.
pub const FILE_BYTES: u64 = 16 << 10;

/// What cannot be read as a key, a package or a signature.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an Ed25519 key in a form that is understood.
    #[error("{0}")]
    Key(String),
    /// Not a zip, or one with entries that no function's package has.
    #[error("the package cannot be read: {0}")]
    Package(String),
    /// Not a signature file.
    #[error("the signature cannot be read: {0}")]
    Signature(String),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<zip::result::ZipError> for Error {
    fn from(error: zip::result::ZipError) -> Self {
        Self::Package(error.to_string())
    }
}
