//! Certificates that others' must lead to.

use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, Der, TrustAnchor};

/// Where distributions keep the certificates that they trust.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Who vouches for others. Empty, nobody does.
#[derive(Debug, Clone)]
pub struct Roots(RootCertStore);

impl Default for Roots {
    fn default() -> Self {
        Self(RootCertStore::empty())
    }
}

impl Roots {
    /// Adds those of the host. Reads a file of some hundred kilobytes; a host that has none adds nobody.
    pub fn add_hosts(&mut self) -> io::Result<()> {
        if let Some(bundle) = BUNDLES.iter().map(Path::new).find(|path| path.exists()) {
            // One that cannot be parsed vouches for nobody; distributions ship a few that are odd.
            self.0.add_parsable_certificates(certificates(bundle)?);
        }
        Ok(())
    }

    /// Adds those of a file (PEM), each of which must make sense, and one of which must be there.
    pub fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let all = certificates(path)?;
        if all.is_empty() {
            return Err(odd(path, "there is no certificate in it"));
        }
        all.into_iter().try_for_each(|one| self.0.add(one).map_err(|error| odd(path, error)))
    }

    /// What [`Roots::from_bytes`] reads: for each its name, its key and its constraints, the length before each. Much
    /// shorter than the certificates.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for root in &self.0.roots {
            let constraints = root.name_constraints.as_ref().map_or(&[][..], |constraints| constraints);
            for part in [&root.subject[..], &root.subject_public_key_info, constraints] {
                // Far below: they were read from a file of some hundred kilobytes.
                bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                bytes.extend(part);
            }
        }
        bytes
    }

    /// What [`Roots::to_bytes`] made.
    pub fn from_bytes(mut bytes: &[u8]) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        while !bytes.is_empty() {
            let mut part = || -> Option<Der<'static>> {
                let (length, rest) = bytes.split_first_chunk()?;
                let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                bytes = rest;
                Some(Der::from(part.to_vec()))
            };
            let (Some(subject), Some(subject_public_key_info), Some(constraints)) = (part(), part(), part())
            else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let name_constraints = (!constraints.is_empty()).then_some(constraints);
            roots.roots.push(TrustAnchor { subject, subject_public_key_info, name_constraints });
        }
        Ok(Self(roots))
    }

    pub(crate) fn store(&self) -> RootCertStore {
        self.0.clone()
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let bytes = std::fs::read(path).map_err(|error| io::Error::new(error.kind(), told(path, &error)))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    all.map_err(|error| odd(path, error))
}

fn odd(path: &Path, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, told(path, what))
}

fn told(path: &Path, what: impl std::fmt::Display) -> String {
    format!("reading certificates from {}: {what}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a name and a key, as they would be in a certificate.
    fn roots() -> Roots {
        let part = |text: &str| Der::from(text.as_bytes().to_vec());
        let root = |name: &str, constraints: Option<&str>| TrustAnchor {
            subject: part(name),
            subject_public_key_info: part(&format!("{name}'s key")),
            name_constraints: constraints.map(part),
        };
        Roots(RootCertStore { roots: vec![root("one", None), root("two", Some("example"))] })
    }

    #[test]
    fn bytes_are_read_as_written() {
        let roots = roots();
        let bytes = roots.to_bytes();
        assert_eq!(Roots::from_bytes(&bytes).unwrap().0.roots, roots.0.roots);
        let whole =
            [bytes.len(), Roots(RootCertStore { roots: roots.0.roots[..1].to_vec() }).to_bytes().len(), 0];
        for length in (0..bytes.len()).filter(|length| !whole.contains(length)) {
            assert!(Roots::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_an_operator_names_must_make_sense() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let refused = |what: &str| {
            let error = Roots::default().add_file(&path).unwrap_err().to_string();
            assert!(error.contains("ca.pem") && error.contains(what), "{error}");
        };
        refused("No such file");
        for (text, what) in [
            ("no PEM", "there is no certificate in it"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", ""),
            ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "invalid peer certificate"),
        ] {
            std::fs::write(&path, text).unwrap();
            refused(what);
        }
    }
}
