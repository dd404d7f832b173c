//! The signature file: a DSSE envelope (Dead Simple Signing Envelope, v1) around a statement about a tree.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Error, PrivateKey, PublicKey};

/// What the payload is.
const PAYLOAD_TYPE: &str = "application/vnd.virga.package-signature.v1+json";

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement {
    /// Whose signature this is: the ARN of a version of a signing profile.
    pub profile_version_arn: String,
    /// Names this one signature, so that it can be revoked alone.
    pub job_arn: String,
    /// The digest of the package's tree ([`crate::Tree::digest`]).
    pub tree: String,
    /// When it was signed, by the signer's clock: milliseconds since 1970.
    pub signed_at_ms: i64,
    /// From when on it is not to be trusted, if the signer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
}

/// A statement with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signature: Vec<u8>,
    statement: Statement,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
    sig: String,
}

impl Envelope {
    /// Signs a statement.
    pub fn sign(statement: Statement, key: &PrivateKey) -> Result<Self, Error> {
        let payload = serde_json::to_vec(&statement).map_err(|error| Error::Signature(error.to_string()))?;
        let signature = key.sign(&encoded(&payload));
        Ok(Self { payload, signature, statement })
    }

    /// Reads a signature file. Nothing is believed of it yet.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        let bad = |what: &str| Error::Signature(what.to_owned());
        let document: Document = serde_json::from_slice(file).map_err(|_| bad("it is no envelope"))?;
        if document.payload_type != PAYLOAD_TYPE {
            return Err(bad("it is about another kind of thing"));
        }
        let [signature] = &document.signatures[..] else { return Err(bad("it needs one signature")) };
        let payload = STANDARD.decode(document.payload).map_err(|_| bad("its payload is not base64"))?;
        let signature = STANDARD.decode(&signature.sig).map_err(|_| bad("its signature is not base64"))?;
        let statement = serde_json::from_slice(&payload).map_err(|_| bad("its payload is no statement"))?;
        Ok(Self { payload, signature, statement })
    }

    /// The signature file.
    pub fn to_file(&self) -> String {
        let document = Document {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&self.payload),
            signatures: vec![Signature {
                keyid: Some(self.statement.profile_version_arn.clone()),
                sig: STANDARD.encode(&self.signature),
            }],
        };
        // Texts in structs cannot fail to serialize.
        serde_json::to_string(&document).unwrap_or_default()
    }

    /// What it says, whoever signed it.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Whether the holder of this key signed the statement.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        key.verifies(&encoded(&self.payload), &self.signature)
    }
}

/// DSSE's pre-authentication encoding: what is signed is the payload with its type and both lengths.
fn encoded(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn statement(tree: &str) -> Statement {
        Statement {
            profile_version_arn: "arn:aws:signer:us-east-1:123456789012:/signing-profiles/us/abcdefghij"
                .into(),
            job_arn: "arn:aws:signer:us-east-1:123456789012:/signing-jobs/1".into(),
            tree: tree.into(),
            signed_at_ms: 1_795_160_258_123,
            expires_at_ms: None,
        }
    }

    #[test]
    fn a_file_says_what_was_signed_and_by_whom() {
        let key = PrivateKey::generate().unwrap();
        let made = Envelope::sign(statement("t"), &key).unwrap();
        let read = Envelope::parse(made.to_file().as_bytes()).unwrap();
        assert_eq!((read.statement(), read.is_by(&key.public())), (&statement("t"), true));
        assert!(!read.is_by(&PrivateKey::generate().unwrap().public()));
    }

    #[test]
    fn a_statement_that_was_changed_is_nobody_s() {
        let key = PrivateKey::generate().unwrap();
        let made = Envelope::sign(statement("t"), &key).unwrap();
        let forged = Envelope { payload: serde_json::to_vec(&statement("u")).unwrap(), ..made };
        assert!(!Envelope::parse(forged.to_file().as_bytes()).unwrap().is_by(&key.public()));
    }

    #[test]
    fn other_files_are_refused() {
        let file = Envelope::sign(statement("t"), &PrivateKey::generate().unwrap()).unwrap().to_file();
        for (from, to) in
            [("v1+json", "v2+json"), ("\"sig\":\"", "\"sig\":\"*"), ("{", "{\"more\":1,"), ("[", "[1,")]
        {
            let changed = file.replacen(from, to, 1);
            assert!(changed != file && Envelope::parse(changed.as_bytes()).is_err(), "{changed}");
        }
        assert!(Envelope::parse(b"").is_err());
    }
}
