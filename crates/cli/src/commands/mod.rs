//! One file a command. Each is a client of the API that SDKs use; only `serve`, `doctor`, `new` and, unless it deploys,
//! `build` are not.

pub(crate) mod alias;
pub(crate) mod build;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod domain;
pub(crate) mod failed;
pub(crate) mod invoke;
pub(crate) mod layer;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod rollback;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod sign;
pub(crate) mod signer;
pub(crate) mod versions;

use anyhow::Result;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::client::Client;

/// What may stand in a path segment as it is (RFC 3986: unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Text as one segment of a path or one value of a query.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// `/2015-03-31/functions/NAME` with the rest behind it. `NAME:QUALIFIER` becomes a query.
pub(crate) fn function_path(function: &str, rest: &str) -> String {
    let qualified = (!function.starts_with("arn:")).then(|| function.split_once(':')).flatten();
    match qualified {
        Some((name, qualifier)) => {
            format!("/2015-03-31/functions/{}{rest}?Qualifier={}", segment(name), segment(qualifier))
        }
        None => format!("/2015-03-31/functions/{}{rest}", segment(function)),
    }
}

/// Every item of a listing of Lambda's, page by page; `member` is where the answers have them.
async fn pages(client: &Client, path: &str, member: &str) -> Result<Vec<Value>> {
    let (mut found, mut marker) = (Vec::new(), String::new());
    loop {
        let mut page = client.lambda(Method::GET, &format!("{path}?MaxItems=50{marker}"), None).await?;
        if let Value::Array(items) = page[member].take() {
            found.extend(items);
        }
        match page["NextMarker"].as_str() {
            Some(next) if !next.is_empty() => marker = format!("&Marker={}", segment(next)),
            _ => return Ok(found),
        }
    }
}

/// A member that is text, or nothing.
pub(crate) fn text<'a>(value: &'a serde_json::Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::function_path;

    #[test]
    fn names_and_qualifiers() {
        assert_eq!(function_path("hello", ""), "/2015-03-31/functions/hello");
        assert_eq!(function_path("hello:7", "/x"), "/2015-03-31/functions/hello/x?Qualifier=7");
        assert_eq!(function_path("a/../b", ""), "/2015-03-31/functions/a%2F..%2Fb");
        assert_eq!(function_path("arn:aws:x:1", ""), "/2015-03-31/functions/arn%3Aaws%3Ax%3A1");
    }
}
