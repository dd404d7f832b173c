//! Ed25519 keys (RFC 8032) in the forms of RFC 8410: PKCS #8 for the private one, SubjectPublicKeyInfo for the public one.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Error;

/// What stands before the 32 bytes of a public key in its SubjectPublicKeyInfo (RFC 8410 §4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The key that signs. Its bytes are shown nowhere.
pub struct PrivateKey(Ed25519KeyPair);

impl PrivateKey {
    /// A new one.
    pub fn generate() -> Result<Self, Error> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| Error::Key("no key could be made".into()))
    }

    /// Reads PEM (`BEGIN PRIVATE KEY`), as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let der = unarmoured(text, "PRIVATE KEY")
            .ok_or_else(|| Error::Key("this is no private key in PEM (BEGIN PRIVATE KEY)".into()))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
        pair.map(Self).map_err(|_| Error::Key("this private key is not an Ed25519 one".into()))
    }

    /// PEM.
    pub fn to_pem(&self) -> Result<String, Error> {
        let document = self.0.to_pkcs8v1().map_err(|_| Error::Key("the key could not be written".into()))?;
        Ok(armoured(document.as_ref(), "PRIVATE KEY"))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// The key that checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads PEM (`BEGIN PUBLIC KEY`), or what is in it without the lines around.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let der = unarmoured(text, "PUBLIC KEY").or_else(|| STANDARD.decode(text.trim()).ok());
        let key = der.as_deref().and_then(|der| der.strip_prefix(&PUBLIC_PREFIX));
        match key.and_then(|key| <[u8; 32]>::try_from(key).ok()) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(Error::Key("this is no Ed25519 public key in PEM (BEGIN PUBLIC KEY)".into())),
        }
    }

    /// The content of the PEM form, in one line.
    pub fn to_line(&self) -> String {
        STANDARD.encode(self.der())
    }

    /// PEM.
    pub fn to_pem(&self) -> String {
        armoured(&self.der(), "PUBLIC KEY")
    }

    fn der(&self) -> Vec<u8> {
        [&PUBLIC_PREFIX[..], &self.0].concat()
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// RFC 7468: lines of 64 characters.
fn armoured(der: &[u8], label: &str) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII.
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn unarmoured(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, after) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (inside, _) = after.split_once(&format!("-----END {label}-----"))?;
    let plain: String = inside.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = PrivateKey::generate().unwrap();
        let again = PrivateKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
        for text in [key.public().to_pem(), key.public().to_line()] {
            assert_eq!(PublicKey::parse(&text).unwrap(), key.public(), "{text}");
        }
        let signed = key.sign(b"message");
        assert!(again.public().verifies(b"message", &signed));
        assert!(!again.public().verifies(b"massage", &signed));
        assert!(!PrivateKey::generate().unwrap().public().verifies(b"message", &signed));
    }

    /// RFC 8410 §10.3 and §10.1: its example keys.
    #[test]
    fn openssl_s_keys_are_read() {
        let private = "-----BEGIN PRIVATE KEY-----\n\
                       MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                       -----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
        assert_eq!(PrivateKey::from_pem(private).unwrap().public(), PublicKey::parse(public).unwrap());
        assert_eq!(PrivateKey::from_pem(private).unwrap().to_pem().unwrap(), private);
    }

    #[test]
    fn other_texts_are_no_keys() {
        let public = PrivateKey::generate().unwrap().public();
        assert!(PrivateKey::from_pem(&public.to_pem()).is_err());
        for bad in ["", "MCow", &public.to_line()[4..], "-----BEGIN PUBLIC KEY-----"] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
        // A key of another kind: P-256.
        let other = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
        assert!(PublicKey::parse(other).is_err());
    }
}
