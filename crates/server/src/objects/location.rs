//! Where an object is: the operator's endpoint, and a bucket and key of whoever asks, which must not lead elsewhere.

use anyhow::{Context, Result, bail};
use functions::ObjectRef;
use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What S3's signatures take as it is (RFC 3986: unreserved), and slashes within keys.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const KEY: &AsciiSet = &PART.remove(b'/');

/// The operator's URL: `http[s]://HOST[:PORT]`.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    encrypted: bool,
    host: String,
    port: u16,
    /// As the URL has it.
    authority: String,
    /// Whether a bucket is a part of the host's name rather than of the path.
    virtual_hosts: bool,
}

impl Endpoint {
    pub(super) fn parse(url: &str, virtual_hosts: bool) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("--package-store: {url} is no URL"))?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => bail!("--package-store: {url} begins with neither https:// nor http://"),
        };
        let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if authority.contains('@') || host.is_empty() {
            bail!(
                "--package-store: {url} must be a host without a user; credentials are in a file of their own"
            );
        }
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            bail!("--package-store: {url} must end with the host: buckets are below it");
        }
        if virtual_hosts && host.parse::<std::net::IpAddr>().is_ok() {
            bail!("--package-store-virtual-hosts: a bucket's name cannot be a part of the address {host}");
        }
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        Ok(Self { encrypted, host, port, authority, virtual_hosts })
    }

    /// Whether TLS is spoken.
    pub(super) fn encrypted(&self) -> bool {
        self.encrypted
    }

    /// What is connected to, whatever the object.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The `Host` and the target of the request for an object.
    pub(super) fn locate(&self, object: &ObjectRef) -> Result<(String, Uri)> {
        let key = utf8_percent_encode(&object.key, KEY);
        let query = object
            .version
            .as_ref()
            .map_or_else(String::new, |version| format!("?versionId={}", utf8_percent_encode(version, PART)));
        let (authority, path) = if self.virtual_hosts {
            if !is_label(&object.bucket) {
                bail!("the bucket's name {} cannot be a part of a host's", object.bucket);
            }
            (format!("{}.{}", object.bucket, self.authority), format!("/{key}{query}"))
        } else {
            let bucket = utf8_percent_encode(&object.bucket, PART);
            (self.authority.clone(), format!("/{bucket}/{key}{query}"))
        };
        Ok((authority, path.parse()?))
    }
}

/// Lower case letters, digits, dots and hyphens (S3: bucket naming rules).
fn is_label(bucket: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !bucket.is_empty() && bucket.bytes().all(plain) && !bucket.starts_with('.') && !bucket.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bucket: &str, key: &str, version: Option<&str>) -> ObjectRef {
        ObjectRef { bucket: bucket.into(), key: key.into(), version: version.map(str::to_owned) }
    }

    fn located(url: &str, virtual_hosts: bool, object: &ObjectRef) -> Result<String> {
        let endpoint = Endpoint::parse(url, virtual_hosts)?;
        let (authority, target) = endpoint.locate(object)?;
        Ok(format!("{}:{} {authority} {target}", endpoint.host, endpoint.port))
    }

    #[test]
    fn objects_are_below_the_endpoint() {
        let plain = object("code", "a/b c.zip", None);
        assert_eq!(
            located("http://127.0.0.1:9000", false, &plain).unwrap(),
            "127.0.0.1:9000 127.0.0.1:9000 /code/a/b%20c.zip"
        );
        assert_eq!(
            located("https://s3.example/", true, &plain).unwrap(),
            "s3.example:443 code.s3.example /a/b%20c.zip"
        );
        let version = object("code", "a", Some("v/1=?"));
        assert!(
            located("https://s3.example", false, &version)
                .unwrap()
                .ends_with("/code/a?versionId=v%2F1%3D%3F")
        );
    }

    #[test]
    fn names_lead_nowhere_else() {
        for (bucket, key) in [
            ("x@evil.example", "k"),
            ("evil.example/x", "k"),
            ("x", "../../other/k"),
            ("x", "?list-type=2"),
            ("x", "k#frag"),
            ("..", "k"),
            ("x\r\nHost: evil", "k\r\nX: y"),
        ] {
            let found = located("https://s3.example", false, &object(bucket, key, None)).unwrap();
            let (before, target) = found.split_once(" /").unwrap();
            assert_eq!(before, "s3.example:443 s3.example", "{bucket} {key}");
            assert!(!target.contains(['?', '#', '@', '\r', '\n']), "{target}");
            assert!(
                located("https://s3.example", true, &object(bucket, key, None)).is_err() || bucket == "x"
            );
        }
    }

    #[test]
    fn an_endpoint_is_a_host() {
        for bad in [
            "s3.example",
            "ftp://s3.example",
            "https://user:secret@s3.example",
            "https://s3.example/bucket",
            "https://s3.example?x",
            "https://",
        ] {
            assert!(Endpoint::parse(bad, false).is_err(), "{bad}");
        }
        assert!(Endpoint::parse("http://127.0.0.1:1", true).is_err());
        assert!(Endpoint::parse("http://[::1]:1", false).is_ok_and(|endpoint| endpoint.host == "::1"));
    }
}
