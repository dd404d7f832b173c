//! Who we are to a registry.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Access;
use crate::{Error, limits};

/// A name and a password. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    user: String,
    password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// RFC 7617.
    pub(crate) fn basic(&self) -> HeaderValue {
        let encoded = STANDARD.encode(format!("{}:{}", self.user, self.password));
        let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
            // Base64 has nothing that a header may not have.
            .unwrap_or_else(|_| HeaderValue::from_static("Basic"));
        value.set_sensitive(true);
        value
    }
}

/// The registries' credentials: Docker's `config.json`, of which `auths` counts.
#[derive(Default)]
pub(crate) struct Credentials(HashMap<String, Login>);

impl Credentials {
    /// Reads the file. What it says stays out of the error.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let reading = || format!("reading the registries' credentials from {}", path.display());
        let file = std::fs::File::open(path).map_err(Error::host(reading()))?;
        let mut text = Vec::new();
        file.take(limits::MANIFEST_BYTES).read_to_end(&mut text).map_err(Error::host(reading()))?;
        Self::parse(&text).ok_or_else(|| {
            Error::host(reading())(std::io::Error::other("it is not in the form of Docker's config.json"))
        })
    }

    fn parse(text: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            auth: Option<String>,
            username: Option<String>,
            password: Option<String>,
        }
        let file: File = serde_json::from_slice(text).ok()?;
        let mut all = HashMap::new();
        for (registry, entry) in file.auths {
            let login = match entry {
                Entry { username: Some(user), password: Some(password), .. } => Login { user, password },
                Entry { auth: Some(auth), .. } if !auth.is_empty() => {
                    let decoded = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
                    let (user, password) = decoded.split_once(':')?;
                    // Docker pads old files with zero bytes.
                    let password = password.trim_end_matches('\0');
                    Login { user: user.to_owned(), password: password.to_owned() }
                }
                // Kept by a helper program, which we do not run.
                _ => continue,
            };
            // A key with a path comes after the one without, which stands for the whole host.
            all.entry(host_of(&registry).to_owned()).or_insert(login);
        }
        Some(Self(all))
    }

    /// Those for a registry.
    pub(crate) fn find(&self, registry: &str) -> Option<Login> {
        self.0.get(registry).cloned()
    }
}

/// Keys may be URLs, and Docker Hub has a name of its own there.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// What a registry asks for (RFC 9110, 11.6.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads the first challenge of a header; one of another kind is none.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = rest.trim_start();
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match key.trim() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// Where a token is asked for. The scope is what we need, whatever the registry says.
pub(crate) fn token_uri(realm: &str, service: Option<&str>, repository: &str, access: Access) -> Option<Uri> {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mark = if realm.contains('?') { '&' } else { '?' };
    let actions = if access == Access::Push { "pull,push" } else { "pull" };
    let scope = escaped(&format!("repository:{repository}:{actions}"));
    let service = service.map(|service| format!("service={}&", escaped(service))).unwrap_or_default();
    let uri: Uri = format!("{realm}{mark}{service}scope={scope}").parse().ok()?;
    uri.authority().is_some().then_some(uri)
}

/// The header for the token in a token service's answer.
pub(crate) fn bearer(body: &[u8]) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        let header =
            r#"Bearer realm="https://auth.x/token",service="reg x",scope="repository:a/b:pull,push""#;
        assert_eq!(Challenge::parse(header), bearer("https://auth.x/token", Some("reg x")));
        assert_eq!(Challenge::parse("bearer realm=http://x"), bearer("http://x", None));
        assert_eq!(Challenge::parse(r#"Basic realm="r""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse(r#"Bearer service="x""#), None);
        let uri = |access| token_uri("https://auth.x/token", Some("a b"), "n/m", access).unwrap().to_string();
        let pull = "https://auth.x/token?service=a%20b&scope=repository%3An%2Fm%3Apull";
        assert_eq!((uri(Access::Pull), uri(Access::Push)), (pull.to_owned(), format!("{pull}%2Cpush")));
    }

    #[test]
    fn credentials_are_dockers() {
        let auth = STANDARD.encode("me:pa:ss");
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},
                "r.x:5000":{{"username":"u","password":"p"}},"helped.x":{{}}}},"credsStore":"desktop"}}"#
        );
        let all = Credentials::parse(text.as_bytes()).unwrap();
        let login = |user: &str, password: &str| Some(Login { user: user.into(), password: password.into() });
        assert!(all.find("docker.io") == login("me", "pa:ss"));
        assert!(all.find("r.x:5000") == login("u", "p"));
        assert!(all.find("helped.x").is_none() && all.find("other.x").is_none());
        for order in [["r.x", "r.x/team"], ["r.x/team", "r.x"]] {
            let entry = |key| format!(r#""{key}":{{"username":"{key}","password":"p"}}"#);
            let text = format!(r#"{{"auths":{{{}}}}}"#, order.map(entry).join(","));
            assert!(Credentials::parse(text.as_bytes()).unwrap().find("r.x") == login("r.x", "p"));
        }
        assert!(Credentials::parse(b"nonsense").is_none());
        assert_eq!(format!("{:?}", all.find("docker.io")), "Some(Login)");
    }
}
