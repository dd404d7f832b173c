//! Signing keys, and the cache that spares four HMACs a request.

use papaya::{Equivalent, HashMap};
use sha2::{Digest, Sha256};

use super::{ALGORITHM, TERMINATOR};
use crate::seal::mac;

/// Keys kept. One is 200 bytes; a key in use has one for each service and day.
const CACHED: usize = 4096;

/// What a signature is for: the part of a credential after the key's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// `20261120`
    pub date: String,
    /// `us-east-1`
    pub region: String,
    /// `lambda`
    pub service: String,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/{TERMINATOR}", self.date, self.region, self.service)
    }
}

/// The key that signs within a scope.
pub fn signing_key(secret: &str, scope: &Scope) -> [u8; 32] {
    let first = format!("AWS4{secret}");
    let parts = [scope.date.as_str(), &scope.region, &scope.service, TERMINATOR];
    let (date, rest) = (parts[0], &parts[1..]);
    let start = mac(first.as_bytes(), &[date.as_bytes()]);
    rest.iter().fold(start, |key, part| mac(&key, &[part.as_bytes()]))
}

/// What is signed: algorithm, time (`20261120T073738Z`), scope and the canonical request's hash.
pub fn string_to_sign(time: &str, scope: &Scope, canonical_request: &[u8]) -> String {
    let mut text = String::with_capacity(192);
    for part in [ALGORITHM, "\n", time, "\n"] {
        text.push_str(part);
    }
    for part in [scope.date.as_str(), &scope.region, &scope.service] {
        text.push_str(part);
        text.push('/');
    }
    for part in [TERMINATOR, "\n", &hex(&Sha256::digest(canonical_request))] {
        text.push_str(part);
    }
    text
}

/// Lower-case hexadecimal digits, without the detour over characters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    // The room is right, and digits are text.
    hex::encode_to_slice(bytes, &mut digits).ok();
    String::from_utf8(digits).unwrap_or_default()
}

/// The signature, in lower-case hexadecimal digits.
pub fn signature(signing_key: &[u8; 32], string_to_sign: &str) -> String {
    hex(&mac(signing_key, &[string_to_sign.as_bytes()]))
}

/// Signing keys that have proved right, by key id and scope.
#[derive(Default)]
pub(crate) struct SigningKeys {
    known: HashMap<(String, Scope), [u8; 32]>,
}

/// A look-up that copies nothing: hashes as the key of the map does.
#[derive(Hash)]
struct Wanted<'a>(&'a str, &'a Scope);

impl Equivalent<(String, Scope)> for Wanted<'_> {
    fn equivalent(&self, (id, scope): &(String, Scope)) -> bool {
        self.0 == id && self.1 == scope
    }
}

impl SigningKeys {
    /// The signing key, and whether it is not in the cache yet.
    pub(crate) fn get(&self, access_key_id: &str, secret: &str, scope: &Scope) -> ([u8; 32], bool) {
        match self.known.pin().get(&Wanted(access_key_id, scope)) {
            Some(key) => (*key, false),
            None => (signing_key(secret, scope), true),
        }
    }

    /// Keeps a key. A full cache is emptied: whoever still signs is back after one derivation.
    pub(crate) fn keep(&self, access_key_id: &str, scope: &Scope, key: [u8; 32]) {
        let known = self.known.pin();
        if known.len() >= CACHED {
            known.clear();
        }
        known.insert((access_key_id.to_owned(), scope.clone()), key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_stays_bounded() {
        let cache = SigningKeys::default();
        let scope = Scope { date: "20261120".into(), region: "us-east-1".into(), service: "lambda".into() };
        for number in 0..CACHED + 10 {
            cache.keep(&number.to_string(), &scope, [0; 32]);
        }
        assert!(cache.known.pin().len() <= 10);
        let last = (CACHED + 9).to_string();
        assert_eq!(cache.get(&last, "secret", &scope), ([0; 32], false), "the newest is still known");
    }
}
