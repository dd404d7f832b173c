//! Names of images: in a registry, in a folder of the server's machine, in a file there.

use std::fmt;
use std::path::PathBuf;

use crate::{Digest, Error};

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// In a registry.
    Registry(Name),
    /// `oci:FOLDER[:TAG]`: an OCI image layout.
    Layout {
        /// Absolute.
        folder: PathBuf,
        /// `org.opencontainers.image.ref.name`; absent where the layout has one image.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:NAME:TAG]`: what `docker save` writes.
    Archive {
        /// Absolute.
        file: PathBuf,
        /// One of its `RepoTags`; absent where it has one image.
        tag: Option<String>,
    },
}

/// An image of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Host, and port where one is given.
    pub registry: String,
    /// Path.
    pub repository: String,
    /// `latest` where neither tag nor digest is given.
    pub tag: Option<String>,
    /// Wins over the tag.
    pub digest: Option<Digest>,
}

/// Bytes of a whole reference; names alone may have 255.
const REFERENCE_BYTES: usize = 1024;

/// Where names without a registry are.
const DOCKER_HUB: &str = "docker.io";

impl Reference {
    /// Reads one, as Docker and Podman write them (distribution's `reference` grammar; containers-transports(5)).
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > REFERENCE_BYTES || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(bad(text, "it is too long or has characters that no name has"));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (folder, tag) = split_path(rest);
            let folder = absolute(text, folder)?;
            return Ok(Self::Layout { folder, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (file, tag) = split_path(rest);
            let file = absolute(text, file)?;
            return Ok(Self::Archive { file, tag });
        }
        let text = text.strip_prefix("docker://").unwrap_or(text);
        Name::parse(text).map(Self::Registry)
    }
}

/// The path ends at the first colon.
fn split_path(rest: &str) -> (&str, Option<String>) {
    match rest.split_once(':') {
        Some((path, tag)) if !tag.is_empty() => (path, Some(tag.to_owned())),
        _ => (rest.trim_end_matches(':'), None),
    }
}

fn absolute(text: &str, path: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok(path) } else { Err(bad(text, "its path is not absolute")) }
}

impl Name {
    fn parse(text: &str) -> Result<Self, Error> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest)
                    .ok_or_else(|| bad(text, "what follows the @ is not sha256: and 64 digits"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it, a port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(text, "its tag is not one"));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            _ if path.contains('/') => (DOCKER_HUB, path.to_owned()),
            _ => (DOCKER_HUB, format!("library/{path}")),
        };
        if !is_authority(registry) {
            return Err(bad(text, "its registry is not HOST or HOST:PORT"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(bad(text, "a name has lower-case letters, digits, and . _ - between them"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// The host and port to connect to; Docker Hub's API is not at its name.
    pub(crate) fn authority(&self) -> &str {
        if self.registry == DOCKER_HUB { "registry-1.docker.io" } else { &self.registry }
    }

    /// What a manifest is asked for by.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same image, by its digest.
    pub(crate) fn at(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The same image for good.
    pub(crate) fn resolved(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// Docker's rule for what is a host and not the first part of a path.
fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => {
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", port.strip_prefix(':').or((!port.is_empty()).then_some("?")))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
    };
    host.len() <= 253
        && host.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port))
}

fn is_component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| plain(*b))
        && bytes.last().is_some_and(|b| plain(*b))
        && bytes.iter().all(|b| plain(*b) || b"._-".contains(b))
        && !text.contains("..")
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn bad(text: &str, problem: &str) -> Error {
    let shown: String = text.chars().take(200).flat_map(char::escape_default).collect();
    Error::Reference(format!("{shown} does not name an image: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let shown = match Reference::parse(text) {
            Ok(Reference::Registry(name)) => name.to_string(),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expect), "{text}: {shown}");
    }

    #[test]
    fn names_are_read_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        check("alpine", "docker.io/library/alpine:latest");
        check("grafana/grafana:10.1", "docker.io/grafana/grafana:10.1");
        check("localhost/x", "localhost/x:latest");
        check("127.0.0.1:5000/a/b_c:V1.2-x", "127.0.0.1:5000/a/b_c:V1.2-x");
        check("[::1]:5000/a", "[::1]:5000/a:latest");
        check("docker://ghcr.io/a/b", "ghcr.io/a/b:latest");
        check(&format!("ghcr.io/a/b:x@{digest}"), &format!("ghcr.io/a/b@{digest}"));
        check("oci:/srv/layout", r#"Layout { folder: "/srv/layout", tag: None }"#);
        check("oci:/srv/layout:v1", r#"Layout { folder: "/srv/layout", tag: Some("v1") }"#);
        check("docker-archive:/a.tar:n:t", r#"Archive { file: "/a.tar", tag: Some("n:t") }"#);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "A",
            "a:",
            "a:b:c/d",
            "a b",
            "a/../b",
            "a//b",
            "host.x:99999/a",
            "host.x:/a",
            "u:p@host.x/a",
            "x@sha256:12",
            "a/-b",
            "oci:relative",
            "docker-archive:x.tar",
            "[::1/a",
            "ho st.x/a",
            "host.x/a?b",
            "host.x/a%2e",
        ] {
            check(bad, "does not name an image");
        }
    }
}
