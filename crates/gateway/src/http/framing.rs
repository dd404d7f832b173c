//! What hyper lets through and a proxy must not pass on (RFC 9112 §3.2, §6.1).
//!
//! hyper already refuses a bad Content-Length, two different ones, a chunked coding that is not last, spaces
//! before colons and line folding; and where both framings are there it takes the chunked one, drops the other
//! and ends the connection, so that nothing behind it can read the request differently.

use http::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use http::{Method, Uri, Version};

/// Why a request is malformed, or nothing.
pub(crate) fn objection(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Option<&'static str> {
    if method == Method::CONNECT {
        return Some("CONNECT is not served here.");
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Some("There is more than one Host."),
        (Some(host), None) if !host.as_bytes().iter().all(is_in_hosts) => {
            return Some("The Host is not a host's name.");
        }
        (None, _) if version == Version::HTTP_11 && uri.authority().is_none() => {
            return Some("There is no Host.");
        }
        _ => {}
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => None,
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => None,
        // The chunks are taken apart here, and another coding underneath would lose its name.
        _ => Some("Only the transfer coding chunked is understood."),
    }
}

/// RFC 3986 §3.2: what a host and a port are written with; a user's name and its `@` are no part of them.
fn is_in_hosts(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_requests_are_told_apart() {
        for (method, uri, version, headers, fine) in [
            ("GET", "/", Version::HTTP_11, &[("host", "a")][..], true),
            ("GET", "/", Version::HTTP_10, &[], true),
            ("GET", "/", Version::HTTP_11, &[], false),
            ("GET", "http://a/", Version::HTTP_11, &[], true),
            ("GET", "/", Version::HTTP_11, &[("host", "a"), ("host", "b")], false),
            ("GET", "/", Version::HTTP_11, &[("host", "a"), ("host", "a")], false),
            ("GET", "/", Version::HTTP_11, &[("host", "[::1]:9080")], true),
            ("GET", "/", Version::HTTP_11, &[("host", "")], true),
            ("GET", "/", Version::HTTP_11, &[("host", "a b")], false),
            ("GET", "/", Version::HTTP_11, &[("host", "a/b")], false),
            ("GET", "/", Version::HTTP_11, &[("host", "user@a")], false),
            ("CONNECT", "a:1", Version::HTTP_11, &[("host", "a")], false),
            ("POST", "/", Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "Chunked")], true),
            ("POST", "/", Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "gzip, chunked")], false),
            (
                "POST",
                "/",
                Version::HTTP_11,
                &[("host", "a"), ("transfer-encoding", "identity"), ("transfer-encoding", "chunked")],
                false,
            ),
        ] {
            let mut request = http::Request::builder().method(method).uri(uri).version(version);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let head = request.body(()).unwrap().into_parts().0;
            let found = objection(&head.method, &head.uri, head.version, &head.headers);
            assert_eq!(found.is_none(), fine, "{method} {uri} {headers:?}: {found:?}");
        }
    }
}
