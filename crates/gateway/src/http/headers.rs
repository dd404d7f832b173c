//! Headers of requests and responses that are passed on (RFC 9110 §7.6.1).

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// What belongs to one connection. `Expect` too: its 100 was answered on this side.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
    )
}

/// Takes out what must not be passed on. With `upgrade`, the two headers that ask for it stay.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    // Most requests carry none of them: one look is cheaper than a removal of each.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    let asked = if upgrade { headers.get(UPGRADE).cloned() } else { None };
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
    if let Some(protocol) = asked {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// The headers that `Connection` names, but for those that hold a message together: a sender must not be
/// able to take them away.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.eq_ignore_ascii_case("keep-alive") && !token.eq_ignore_ascii_case("close"))
        .filter_map(|token| HeaderName::try_from(token).ok())
        .filter(|name| ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, UPGRADE].contains(name))
        .collect()
}

/// Whether a request asks to leave HTTP (RFC 9110 §7.8).
pub(crate) fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// What the connection knows and the function does not, made once a connection.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The client's address.
    pub(crate) address: HeaderValue,
    /// The port it came in by.
    pub(crate) port: HeaderValue,
}

/// Names a call to its caller.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

static TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Says where a request came from. A list of earlier proxies is kept and added to; the rest is replaced. What
/// host and port were asked, `Host` itself says: it is passed on as it came, and nobody may say otherwise, or speak of
/// a request id that is not ours.
pub(crate) fn add_forwarded(headers: &mut HeaderMap, origin: &Origin) {
    let mut address = origin.address.clone();
    // Most requests carry none of them: one look is cheaper than asking for each.
    if headers.keys().any(|name| name.as_str().starts_with("x-forwarded-") || name == REQUEST_ID) {
        address = appended(headers, &origin.address);
        headers.remove(&FORWARDED_HOST);
        headers.remove(&FORWARDED_PORT);
        headers.remove(&REQUEST_ID);
    }
    headers.insert(FORWARDED_FOR.clone(), address);
    headers.insert(FORWARDED_PROTO.clone(), HeaderValue::from_static("http"));
}

/// The trace that a client gave (X-Ray: tracing header).
pub(crate) fn trace(headers: &HeaderMap) -> Option<String> {
    headers.get(&TRACE).and_then(|given| given.to_str().ok()).map(str::to_owned)
}

/// Passes a trace on.
pub(crate) fn set_trace(headers: &mut HeaderMap, trace: String) {
    // What is made of a header's text is one.
    if let Ok(trace) = HeaderValue::try_from(trace) {
        headers.insert(TRACE.clone(), trace);
    }
}

/// The port too, as events have it on Lambda.
pub(crate) fn add_port(headers: &mut HeaderMap, origin: &Origin) {
    headers.insert(FORWARDED_PORT.clone(), origin.port.clone());
}

fn appended(headers: &HeaderMap, address: &HeaderValue) -> HeaderValue {
    let mut list = Vec::new();
    for earlier in headers.get_all(&FORWARDED_FOR) {
        list.extend_from_slice(earlier.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(address.as_bytes());
    // Parts of legal values joined by legal characters are legal.
    HeaderValue::from_bytes(&list).unwrap_or_else(|_| address.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let mut map = headers(&[
            ("host", "x"),
            ("content-length", "3"),
            ("connection", "keep-alive, X-Secret, host, content-length"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut map, false);
        assert_eq!(names(&map), ["accept", "content-length", "host"]);
    }

    #[test]
    fn an_upgrade_keeps_its_two_headers_and_nothing_else() {
        let mut map =
            headers(&[("connection", "keep-alive, Upgrade, x-a"), ("x-a", "1"), ("upgrade", "websocket")]);
        assert!(asks_for_upgrade(&map));
        strip_hop_by_hop(&mut map, true);
        assert_eq!(names(&map), ["connection", "upgrade"]);
        assert_eq!(map[CONNECTION], "upgrade");
        assert!(!asks_for_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(!asks_for_upgrade(&headers(&[("connection", "upgrade")])));
    }

    #[test]
    fn the_origin_is_told() {
        let origin =
            Origin { address: HeaderValue::from_static("10.0.0.9"), port: HeaderValue::from_static("9080") };
        let mut map = headers(&[
            ("host", "h:9080"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "elsewhere"),
            ("x-forwarded-port", "1"),
            ("x-amzn-requestid", "forged"),
        ]);
        add_forwarded(&mut map, &origin);
        assert_eq!(map["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 10.0.0.9");
        assert_eq!(map.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(map["x-forwarded-proto"], "http");
        assert!(!map.contains_key("x-forwarded-host"));
        assert_eq!(map["host"], "h:9080");
        assert!(!map.contains_key("x-forwarded-port"));
        assert!(!map.contains_key("x-amzn-requestid"));
        add_port(&mut map, &origin);
        assert_eq!(map["x-forwarded-port"], "9080");
        let mut map = headers(&[("host", "h")]);
        add_forwarded(&mut map, &origin);
        assert_eq!((&map["x-forwarded-for"], map.len()), (&origin.address, 3));
    }
}
