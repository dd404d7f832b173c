//! Digests, and readers that check what they pass on.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// `sha256:` and 64 hexadecimal digits (OCI image spec: Digests). Other algorithms are refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("sha256:").and_then(Self::from_hex)
    }

    /// From the digits alone.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let plain = digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        plain.then(|| Self(digits.to_owned()))
    }

    /// The digits alone: a plain file name.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:.80} is not a sha256 digest"))
    }
}

/// Reads a stream that has to be of a size and digest. One that is longer fails as soon as that is seen, the rest
/// with [`Verified::finish`].
pub(crate) struct Verified<R> {
    inner: R,
    hash: Sha256,
    left: u64,
    digest: Digest,
}

impl<R: Read> Verified<R> {
    pub(crate) fn new(inner: R, digest: &Digest, size: u64) -> Self {
        Self { inner, hash: Sha256::new(), left: size, digest: digest.clone() }
    }

    /// Reads what is left, and says whether it was what it should be.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        io::copy(&mut self, &mut io::sink()).map_err(Error::unreadable("a blob"))?;
        if self.left != 0 {
            return Err(self.wrong("it is shorter than its size says"));
        }
        let found = hex::encode(self.hash.clone().finalize());
        if found != self.digest.hex() {
            return Err(self.wrong(&format!("its bytes have the digest sha256:{found}")));
        }
        Ok(())
    }

    fn wrong(&self, problem: &str) -> Error {
        Error::Invalid(format!("the blob {} is not what its digest says: {problem}", self.digest))
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| self.wrong("it is longer than its size says").into_io())?;
        Ok(count)
    }
}

/// Reads a stream whose size is not known before, but bounded, and whose digest is checked at the end.
pub(crate) struct Bounded<R> {
    inner: R,
    hash: Sha256,
    left: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, most: u64) -> Self {
        Self { inner, hash: Sha256::new(), left: most }
    }

    /// Bytes that may still come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Reads what is left; the digest of all of it.
    pub(crate) fn finish(mut self) -> Result<Digest, Error> {
        io::copy(&mut self, &mut io::sink()).map_err(Error::unreadable("a layer"))?;
        Ok(Digest(hex::encode(self.hash.finalize())))
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| too_large().into_io())?;
        Ok(count)
    }
}

/// What an image may unpack to was reached.
pub(crate) fn too_large() -> Error {
    let most = crate::limits::IMAGE_BYTES >> 30;
    Error::Invalid(format!("the image is too large: unpacked it may have {most} GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], digest: &Digest, size: u64) -> Result<(), String> {
        Verified::new(bytes, digest, size).finish().map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_blob_says_is_checked() {
        let digest = Digest::of(b"hello");
        assert!(check(b"hello", &digest, 5).is_ok());
        assert!(check(b"hellx", &digest, 5).unwrap_err().contains("its bytes have the digest"));
        assert!(check(b"hello", &digest, 6).unwrap_err().contains("shorter"));
        assert!(check(b"hello", &digest, 4).unwrap_err().contains("longer"));
    }

    #[test]
    fn digests_are_plain() {
        assert!(Digest::parse(&Digest::of(b"").to_string()).is_some());
        for bad in ["", "sha256:", "sha512:00", "sha256:../../x", &format!("sha256:{}", "A".repeat(64))] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }
}
