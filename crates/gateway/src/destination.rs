//! Where a request goes, by host and path alone: a pure function.
//!
//! Function-URL hosts come first: a forged `Authorization` header must not divert a user's traffic into an
//! API, and an API's client must not reach a function.

use std::borrow::Cow;

/// Where to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Destination<'a> {
    /// `ID.lambda-url.REGION.localhost`
    UrlId(Cow<'a, str>),
    /// `/_fn/NAME/…`
    UrlPath {
        /// The function's name.
        name: &'a str,
        /// What the function sees: begins with a slash.
        rest: &'a str,
    },
    /// The host is a function URL's, of nobody here.
    Nobody,
    /// Everything else.
    Api,
}

/// The prefix of URLs by path.
const PREFIX: &str = "/_fn/";
/// Characters of a function URL's id.
const ID_LENGTH: usize = 32;

/// Finds it. `host` may carry a port; `paths` says whether URLs by path exist (on loopback only: paths share
/// one origin, so that one function's page could read another's).
pub(crate) fn destination<'a>(host: &'a str, path: &'a str, region: &str, paths: bool) -> Destination<'a> {
    if let Some(dot) = host.find('.')
        && let Some(rest) = strip_ascii_prefix(&host[dot..], ".lambda-url.")
    {
        return by_host(&host[..dot], rest, region);
    }
    if !paths {
        return Destination::Api;
    }
    match path.strip_prefix(PREFIX) {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let tail = if end == rest.len() { "/" } else { &rest[end..] };
            Destination::UrlPath { name: &rest[..end], rest: tail }
        }
        None => Destination::Api,
    }
}

fn by_host<'a>(label: &'a str, rest: &str, region: &str) -> Destination<'a> {
    let domain = rest.split_once(':').map_or(rest, |(domain, _)| domain);
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let ours = strip_ascii_prefix(domain, region).is_some_and(|tail| tail.eq_ignore_ascii_case(".localhost"));
    let shape = label.len() == ID_LENGTH && label.bytes().all(|b| b.is_ascii_alphanumeric());
    match ours && shape {
        true if label.bytes().any(|b| b.is_ascii_uppercase()) => {
            Destination::UrlId(label.to_ascii_lowercase().into())
        }
        true => Destination::UrlId(label.into()),
        false => Destination::Nobody,
    }
}

fn strip_ascii_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "abcdefghijklmnopqrstuvwxyz012345";

    #[test]
    fn hosts_come_before_paths() {
        let hosts = [
            format!("{ID}.lambda-url.us-east-1.localhost:9080"),
            format!("{ID}.lambda-url.us-east-1.localhost"),
            format!("{ID}.lambda-url.us-east-1.localhost."),
            format!("{}.LAMBDA-URL.US-EAST-1.LOCALHOST:9080", ID.to_uppercase()),
        ];
        for host in &hosts {
            assert_eq!(
                destination(host, "/_fn/x/", "us-east-1", true),
                Destination::UrlId(ID.into()),
                "{host}"
            );
        }
    }

    #[test]
    fn other_urls_are_nobodys() {
        for host in [
            format!("{ID}.lambda-url.eu-west-1.localhost"),
            format!("{ID}.lambda-url.us-east-1.example.com"),
            format!("{ID}.lambda-url.us-east-1.localhost.example.com"),
            "short.lambda-url.us-east-1.localhost".to_owned(),
            ".lambda-url.us-east-1.localhost".to_owned(),
        ] {
            assert_eq!(destination(&host, "/", "us-east-1", true), Destination::Nobody, "{host}");
        }
    }

    #[test]
    fn paths_name_functions_on_loopback_only() {
        let path = |name, rest| Destination::UrlPath { name, rest };
        for (request, expect) in [
            ("/_fn/hello", path("hello", "/")),
            ("/_fn/hello/", path("hello", "/")),
            ("/_fn/hello/a/b%20c", path("hello", "/a/b%20c")),
            ("/_fn/hello//x", path("hello", "//x")),
            ("/_fn/", path("", "/")),
            ("/_fn", Destination::Api),
            ("/2015-03-31/functions", Destination::Api),
        ] {
            assert_eq!(destination("localhost:9080", request, "us-east-1", true), expect, "{request}");
        }
        assert_eq!(destination("10.0.0.1:9080", "/_fn/hello", "us-east-1", false), Destination::Api);
    }
}
