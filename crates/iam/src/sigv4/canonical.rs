//! The canonical request: the one text that client and server both derive from a request.

use std::borrow::Cow;

use http::header::HOST;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::S3;

/// Everything but RFC 3986's unreserved characters (the rule `UriEncode`).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// The parts of a request that are signed, as they stand on the wire.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// The path, still encoded.
    pub path: &'a str,
    /// The query, still encoded, without `?`.
    pub query: &'a str,
    /// Names in lower case with values in the order they came.
    pub headers: Vec<(Cow<'a, str>, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// Reads the head of a request. HTTP/2's `:authority` stands in for a `Host` header that is absent.
    pub fn of(head: &'a Parts) -> Self {
        let named = head.headers.iter().map(|(name, value)| (Cow::from(name.as_str()), value.as_bytes()));
        let mut headers: Vec<_> = named.collect();
        if let (false, Some(authority)) = (head.headers.contains_key(HOST), head.uri.authority()) {
            headers.push((HOST.as_str().into(), authority.as_str().as_bytes()));
        }
        Self {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers,
        }
    }

    /// The values of a header.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| *value)
    }

    /// The query's names and values, decoded. A `+` is a space, as the form encoding that services read has it.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (Cow<'a, [u8]>, Cow<'a, [u8]>)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
    }
}

/// The canonical request up to its last line, which is the payload's hash. `signed` are lower-case names in
/// order.
pub fn canonical_head(request: &Request<'_>, signed: &[&str], service: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(request.method.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(canonical_path(request.path, service).as_bytes());
    text.push(b'\n');
    text.extend_from_slice(canonical_query(request).as_bytes());
    text.push(b'\n');
    for name in signed {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        join_values(request, name, &mut text);
        text.push(b'\n');
    }
    text.push(b'\n');
    for (index, name) in signed.iter().enumerate() {
        if index > 0 {
            text.push(b';');
        }
        text.extend_from_slice(name.as_bytes());
    }
    text.push(b'\n');
    text
}

/// Completes a canonical request with the payload's hash.
pub fn with_payload(mut head: Vec<u8>, payload: &str) -> Vec<u8> {
    head.extend_from_slice(payload.as_bytes());
    head
}

/// S3 takes the path as it is, encoded once. Every other service removes dot segments and empty ones and
/// encodes what the client has encoded already a second time.
fn canonical_path<'a>(path: &'a str, service: &str) -> Cow<'a, str> {
    if is_canonical(path) {
        return path.into();
    }
    if service == S3 {
        let decoded: Cow<'_, [u8]> = percent_decode_str(path).into();
        return percent_encode(&decoded, ENCODED_IN_PATH).to_string().into();
    }
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let slash = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    percent_encode(format!("/{}{slash}", kept.join("/")).as_bytes(), ENCODED_IN_PATH).to_string().into()
}

/// Whether a path is in its canonical form as it came: most are.
fn is_canonical(path: &str) -> bool {
    let mut before = 0;
    let unchanged = path.bytes().all(|byte| {
        let segment_begins = std::mem::replace(&mut before, byte) == b'/';
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => true,
            // No empty segments and no dot segments.
            b'/' | b'.' => !segment_begins,
            _ => false,
        }
    });
    unchanged && path.starts_with('/')
}

/// Encoded anew and sorted by encoded name, then value; a presigned request's signature does not sign itself.
fn canonical_query(request: &Request<'_>) -> String {
    if request.query.is_empty() {
        return String::new();
    }
    let encode = |bytes: &[u8]| percent_encode(bytes, ENCODED).to_string();
    let signed = request.pairs().filter(|(name, _)| name.as_ref() != b"X-Amz-Signature");
    let mut pairs: Vec<_> = signed.map(|(name, value)| (encode(&name), encode(&value))).collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Appends the values of one name joined by commas, each trimmed and with every run of white space as one space.
fn join_values(request: &Request<'_>, name: &str, joined: &mut Vec<u8>) {
    for (index, value) in request.values(name).enumerate() {
        if index > 0 {
            joined.push(b',');
        }
        let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for (index, word) in words.enumerate() {
            if index > 0 {
                joined.push(b' ');
            }
            joined.extend_from_slice(word);
        }
    }
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).collect());
    }
    percent_decode_str(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_twice_but_for_s3() {
        let arn = "/2015-03-31/functions/arn%3Aaws%3Alambda/invocations";
        assert_eq!(canonical_path(arn, "lambda"), "/2015-03-31/functions/arn%253Aaws%253Alambda/invocations");
        assert_eq!(canonical_path("/bucket//a/../b%20c%2Fd", "s3"), "/bucket//a/../b%20c/d");
        assert_eq!(canonical_path("", "lambda"), "/");
        assert_eq!(canonical_path("/../..", "lambda"), "/");
        assert_eq!(canonical_path("/$LATEST/", "lambda"), "/%24LATEST/");
        for plain in ["/", "/a/b/", "/a.b/c-d_e~f/v1.2", "/2015-03-31/functions/f/invocations"] {
            for service in ["lambda", "s3"] {
                assert!(matches!(canonical_path(plain, service), Cow::Borrowed(same) if same == plain));
            }
        }
        for (path, canonical) in
            [("/a/./b", "/a/b"), ("/a//", "/a/"), ("//", "/"), ("/.a", "/.a"), ("/a b", "/a%20b")]
        {
            assert_eq!(canonical_path(path, "lambda"), canonical);
        }
    }

    fn query(query: &str) -> String {
        canonical_query(&Request { method: "GET", path: "/", query, headers: Vec::new() })
    }

    #[test]
    fn queries_have_one_form() {
        assert_eq!(query("b=2&a=1&a=0&&c"), "a=0&a=1&b=2&c=");
        assert_eq!(query("a=x%2fy&b=x+y&c=x%20y"), "a=x%2Fy&b=x%20y&c=x%20y");
        assert_eq!(query("a=%FF&X-Amz-Signature=1"), "a=%FF");
    }
}
