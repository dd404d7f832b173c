//! Sealing: what is secret leaves memory only encrypted.
//!
//! One master key of 32 random bytes lives in a file outside the database. Keys for each use are derived from
//! it, so that a secret sealed for one use opens for no other. Nonces are random; XChaCha20-Poly1305 has 192
//! bits of them, so that no number of sessions brings a repetition near.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{Error, random};

const NONCE: usize = 24;

/// The master key.
pub(crate) struct MasterKey([u8; 32]);

/// What a derived key is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use {
    /// Users' secret access keys in the database.
    Secrets,
    /// Session tokens.
    Sessions,
    /// Links that carry their own permission.
    Links,
    /// Functions' environment variables in the database.
    Environments,
    /// Handles of messages that were received.
    Receipts,
    /// Messages at rest.
    Messages,
    /// What events hold that wait for their functions.
    Events,
}

impl MasterKey {
    /// Reads the key file; makes it only when `may_create`, which is when nothing was sealed yet.
    pub(crate) fn open(file: &Path, may_create: bool) -> Result<Self, Error> {
        match fs::read(file) {
            Ok(bytes) => Ok(Self(bytes.try_into().map_err(|_| {
                Error::Key(format!("the key file {} does not hold exactly 32 bytes", file.display()))
            })?)),
            Err(error) if error.kind() == ErrorKind::NotFound && may_create => Self::create(file),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Key(format!(
                "the key file {} is missing, and the database's secrets cannot be read without it: restore it",
                file.display()
            ))),
            Err(error) => Err(Error::Key(format!("cannot read the key file {}: {error}", file.display()))),
        }
    }

    fn create(file: &Path) -> Result<Self, Error> {
        let key = random::bytes();
        write_new(file, &key)
            .map_err(|error| Error::Key(format!("cannot write the key file {}: {error}", file.display())))?;
        Ok(Self(key))
    }

    /// The key for one use.
    pub(crate) fn derive(&self, purpose: Use) -> [u8; 32] {
        let label: &[u8] = match purpose {
            Use::Secrets => b"virga secrets 1",
            Use::Sessions => b"virga sessions 1",
            Use::Links => b"virga links 1",
            Use::Environments => b"virga environments 1",
            Use::Receipts => b"virga receipts 1",
            Use::Messages => b"virga messages 1",
            Use::Events => b"virga events 1",
        };
        mac(&self.0, &[label])
    }
}

/// Seals and opens with one derived key.
pub(crate) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    pub(crate) fn new(master: &MasterKey, purpose: Use) -> Self {
        Self(XChaCha20Poly1305::new(&master.derive(purpose).into()))
    }

    /// Encrypts; what comes out opens only with the same `context`.
    pub(crate) fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let nonce = random::bytes::<NONCE>();
        let payload = Payload { msg: secret, aad: context.as_bytes() };
        // Fails only for messages of 256 GiB and more.
        let sealed = self.0.encrypt(&nonce.into(), payload).expect("what fits into memory can be sealed");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Decrypts, or `None` if the key or the context is another or a bit was changed.
    pub(crate) fn open(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        self.0.decrypt(&(*nonce).into(), Payload { msg: sealed, aad: context.as_bytes() }).ok()
    }
}

/// HMAC-SHA256 over the parts, one after the other.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length (RFC 2104 §2).
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Whole or not at all: a torn key file would lock its owner out.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_it_sealed_for_the_same_use_and_context() {
        let key = MasterKey([7; 32]);
        let sealer = Sealer::new(&key, Use::Secrets);
        let sealed = sealer.seal("AKIA1", b"secret");
        assert_eq!(sealer.open("AKIA1", &sealed).as_deref(), Some(b"secret".as_slice()));
        assert_ne!(sealed, sealer.seal("AKIA1", b"secret"), "nonces differ");
        assert_eq!(sealer.open("AKIA2", &sealed), None);
        assert_eq!(Sealer::new(&key, Use::Sessions).open("AKIA1", &sealed), None);
        assert_eq!(Sealer::new(&MasterKey([8; 32]), Use::Secrets).open("AKIA1", &sealed), None);
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert_eq!(sealer.open("AKIA1", &changed), None, "byte {position}");
        }
        assert_eq!(sealer.open("AKIA1", &sealed[..NONCE - 1]), None);
    }
}
