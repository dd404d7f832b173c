//! Which server to talk to, with which keys: flags, then the AWS variables, then the data directory.
//!
//! The AWS variables count only where an endpoint is said too (`--endpoint` or `AWS_ENDPOINT_URL`): keys
//! meant for AWS itself are never used to sign for whatever the data directory points at.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Flags that every command which talks to a server takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Flags {
    /// The server's address, for example http://127.0.0.1:9080
    #[arg(long, global = true, value_name = "URL", help_heading = "Connection")]
    pub(crate) endpoint: Option<String>,
    /// Access key id
    #[arg(
        long,
        global = true,
        value_name = "ID",
        requires = "secret_access_key",
        help_heading = "Connection"
    )]
    pub(crate) access_key_id: Option<String>,
    /// Secret access key (other users of this machine can see it: prefer AWS_SECRET_ACCESS_KEY)
    #[arg(
        long,
        global = true,
        value_name = "SECRET",
        requires = "access_key_id",
        help_heading = "Connection"
    )]
    pub(crate) secret_access_key: Option<String>,
    /// Region
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    pub(crate) region: Option<String>,
    /// The server's data directory: its `credentials` are used where nothing else is said
    #[arg(long, global = true, value_name = "DIR", default_value = ".virga", help_heading = "Connection")]
    pub(crate) data: PathBuf,
    /// Print JSON for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Where to connect and how to sign.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    /// `http://host:port`, without a slash at its end.
    pub(crate) endpoint: String,
    /// Access key id.
    pub(crate) access_key_id: String,
    /// Secret.
    pub(crate) secret_access_key: String,
    /// For temporary keys.
    pub(crate) session_token: Option<String>,
    /// In the signature's scope.
    pub(crate) region: String,
}

const DEFAULT_REGION: &str = "us-east-1";

impl Connection {
    /// Reads flags, environment and file.
    pub(crate) fn resolve(flags: &Flags) -> Result<Self> {
        let text = std::fs::read_to_string(flags.data.join("credentials"));
        Self::from_parts(flags, |name| std::env::var(name).ok().filter(|value| !value.is_empty()), text)
    }

    fn from_parts(
        flags: &Flags,
        env: impl Fn(&str) -> Option<String>,
        text: io::Result<String>,
    ) -> Result<Self> {
        let file = |key: &str| text.as_ref().ok().and_then(|text| ini_value(text, key));
        let said = flags
            .endpoint
            .clone()
            .or_else(|| env("AWS_ENDPOINT_URL_LAMBDA"))
            .or_else(|| env("AWS_ENDPOINT_URL"));
        let env = |name: &str| said.as_ref().and_then(|_| env(name));
        let (id, secret, session_token) = if let (Some(id), Some(secret)) =
            (flags.access_key_id.clone(), flags.secret_access_key.clone())
        {
            (id, secret, None)
        } else if let (Some(id), Some(secret)) = (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
            (id, secret, env("AWS_SESSION_TOKEN"))
        } else if let (Some(id), Some(secret)) = (file("aws_access_key_id"), file("aws_secret_access_key")) {
            (id, secret, None)
        } else {
            bail!(no_keys(&flags.data, text.err()));
        };
        let endpoint = said
            .clone()
            .or_else(|| file("endpoint_url"))
            .unwrap_or_else(|| "http://127.0.0.1:9080".to_owned());
        let region = flags.region.clone().or_else(|| env("AWS_REGION")).or_else(|| env("AWS_DEFAULT_REGION"));
        let region = region.or_else(|| file("region")).unwrap_or_else(|| DEFAULT_REGION.to_owned());
        Ok(Self {
            endpoint: checked_endpoint(&endpoint)?,
            access_key_id: id,
            secret_access_key: secret,
            session_token,
            region,
        })
    }
}

fn no_keys(data: &Path, unread: Option<io::Error>) -> String {
    let file = data.join("credentials");
    let file = file.display();
    let why = match unread {
        None => format!("{file} holds none"),
        Some(error) if error.kind() == io::ErrorKind::NotFound => format!("there is no {file}"),
        Some(error) => format!("cannot read {file}: {error}"),
    };
    format!(
        "no keys: {why}. Start a server here with `virga serve`, name its data directory with --data, \
         or set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
}

fn checked_endpoint(text: &str) -> Result<String> {
    if text.starts_with("https://") {
        bail!("{text}: https is not built yet; use http through a tunnel");
    }
    let uri: http::Uri = text.parse().with_context(|| format!("{text} is not a URL"))?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
    let authority = authority.with_context(|| format!("{text} is not of the form http://HOST:PORT"))?;
    if uri.path() != "/" && !uri.path().is_empty() {
        bail!("{text}: the endpoint is a server's address, without a path");
    }
    Ok(format!("http://{authority}"))
}

/// A value of the `[default]` section.
fn ini_value(text: &str, key: &str) -> Option<String> {
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').trim();
        } else if section == "default"
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some(value.trim().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# made by virga\n[other]\nregion = no\n[default]\naws_access_key_id = AKIAFILE\n\
                        aws_secret_access_key = s=/+\nregion = eu-west-3\nendpoint_url = http://127.0.0.1:9999\n";

    fn resolve(flags: &Flags, env: &[(&str, &str)], file: Option<&str>) -> Result<Connection> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let file = file.map(str::to_owned).ok_or(io::ErrorKind::NotFound.into());
        Connection::from_parts(flags, env, file)
    }

    #[test]
    fn the_file_is_enough() {
        let found = resolve(&Flags::default(), &[], Some(FILE)).unwrap();
        assert_eq!(found.endpoint, "http://127.0.0.1:9999");
        assert_eq!((found.access_key_id.as_str(), found.secret_access_key.as_str()), ("AKIAFILE", "s=/+"));
        assert_eq!(found.region, "eu-west-3");
    }

    #[test]
    fn variables_come_before_the_file_when_an_endpoint_is_said() {
        let keys =
            [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_REGION", "us-west-2")];
        let found = resolve(&Flags::default(), &keys, Some(FILE)).unwrap();
        assert_eq!((found.access_key_id.as_str(), found.region.as_str()), ("AKIAFILE", "eu-west-3"));
        let with_endpoint = [&keys[..], &[("AWS_ENDPOINT_URL", "http://far:1/")]].concat();
        let found = resolve(&Flags::default(), &with_endpoint, Some(FILE)).unwrap();
        assert_eq!((found.access_key_id.as_str(), found.region.as_str()), ("AKIAENV", "us-west-2"));
        assert_eq!(found.endpoint, "http://far:1");
    }

    #[test]
    fn flags_come_first() {
        let flags = Flags {
            endpoint: Some("http://localhost:1".to_owned()),
            access_key_id: Some("AKIAFLAG".to_owned()),
            secret_access_key: Some("y".to_owned()),
            ..Flags::default()
        };
        let env = [
            ("AWS_ENDPOINT_URL", "http://far:1"),
            ("AWS_ACCESS_KEY_ID", "A"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
        ];
        let found = resolve(&flags, &env, Some(FILE)).unwrap();
        assert_eq!(
            (found.endpoint.as_str(), found.access_key_id.as_str()),
            ("http://localhost:1", "AKIAFLAG")
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let error = |flags: &Flags, file| resolve(flags, &[], file).err().unwrap().to_string();
        assert!(error(&Flags::default(), None).contains("there is no credentials. Start a server"));
        assert!(error(&Flags::default(), Some("[default]\n")).contains("credentials holds none"));
        let denied =
            Connection::from_parts(&Flags::default(), |_| None, Err(io::ErrorKind::PermissionDenied.into()));
        assert!(denied.err().unwrap().to_string().contains("cannot read credentials: permission denied"));
        for bad in ["https://x", "127.0.0.1:9080", "http://x/path", "ftp://x", ""] {
            let flags = Flags { endpoint: Some(bad.to_owned()), ..Flags::default() };
            assert!(error(&flags, Some(FILE)).len() > 10, "{bad}");
        }
    }
}
