//! What a proxy takes out of a message before it passes it on (RFC 9110 §7.6.1), and how a request is
//! written to an HTTP/1.1 server.

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, TE, UPGRADE};
use http::{HeaderMap, Request, Uri, Version};

/// Whether a message asks for, or agrees to, another protocol on its connection.
pub(super) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let agreed = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    agreed.then(|| protocol.clone())
}

/// Makes a request fit to be sent: hop-by-hop headers out, origin form, HTTP/1.1, `Host` as received.
/// Says whether it asks for another protocol.
pub(super) fn outgoing<B>(request: &mut Request<B>) -> bool {
    // Most requests carry none of them: one look is cheaper than asking for each.
    let ends_here = request.headers().keys().any(is_hop_by_hop);
    let upgrades = ends_here && hop(request.headers_mut());
    *request.version_mut() = Version::HTTP_11;
    origin_form(request);
    // HTTP/1.0 knows no `Host`; without one an HTTP/1.1 server refuses the request.
    request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("localhost"));
    upgrades
}

/// Takes out of a request what ends here, and says anew what goes for the next hop too.
fn hop(headers: &mut HeaderMap) -> bool {
    let upgrade = upgrade_of(headers);
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    strip(headers);
    let upgrades = upgrade.is_some();
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    upgrades
}

/// Makes a response fit to be passed on. `switched`: it is a 101, whose `Upgrade` means the client.
pub(super) fn incoming(headers: &mut HeaderMap, switched: bool) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let upgrade = if switched { headers.get(UPGRADE).cloned() } else { None };
    strip(headers);
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// What belongs to one connection, beside what `Connection` names. `Expect` too: whoever accepted the request has
/// answered it when it reads the body.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
    )
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        // What is common names no header.
        .filter(|token| !token.eq_ignore_ascii_case("keep-alive") && !token.eq_ignore_ascii_case("close"))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        // A peer must not be able to make a proxy drop what the message is framed or routed by.
        .filter(|name| !matches!(name.as_str(), "host" | "content-length"))
        .collect();
    for name in named {
        headers.remove(name);
    }
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

/// The members of a list header.
pub(super) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Turns an absolute target into origin form, keeping its authority as `Host`. What HTTP/2 received has it.
fn origin_form<B>(request: &mut Request<B>) {
    let Some(authority) = request.uri().authority() else { return };
    let host = HeaderValue::from_str(authority.as_str()).ok();
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    if let Some(host) = host
        && !request.headers().contains_key(HOST)
    {
        request.headers_mut().insert(HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri(uri).version(Version::HTTP_2);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    fn sent(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut request = request("/", headers);
        outgoing(&mut request);
        let pairs = request.headers().iter();
        pairs.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn check(given: &[(&str, &str)], expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(sent(given), expected);
    }

    #[test]
    fn hop_by_hop_headers_stay_on_their_hop() {
        check(
            &[
                ("host", "a.example"),
                ("connection", "close, X-Mine"),
                ("x-mine", "1"),
                ("x-other", "2"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("transfer-encoding", "chunked"),
                ("expect", "100-continue"),
                ("trailer", "x"),
            ],
            &[("host", "a.example"), ("x-other", "2")],
        );
    }

    #[test]
    fn framing_cannot_be_stripped_by_a_connection_header() {
        check(
            &[("host", "a"), ("content-length", "3"), ("connection", "content-length, host")],
            &[("host", "a"), ("content-length", "3")],
        );
    }

    #[test]
    fn an_upgrade_passes() {
        let websocket = [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        check(&websocket, &[("host", "a"), ("upgrade", "websocket"), ("connection", "upgrade")]);
        check(&[("host", "a"), ("upgrade", "h2c")], &[("host", "a")]);
    }

    #[test]
    fn readiness_for_trailers_passes() {
        let trailers = [("host", "a"), ("te", "gzip, trailers")];
        check(&trailers, &[("host", "a"), ("te", "trailers"), ("connection", "te")]);
        check(&[("host", "a"), ("te", "gzip")], &[("host", "a")]);
    }

    #[test]
    fn targets_become_origin_form() {
        for (uri, target, host) in [
            ("https://b.example:1/x?y=%20", "/x?y=%20", Some("b.example:1")),
            ("http://b.example", "/", Some("b.example")),
            ("/plain?q", "/plain?q", Some("localhost")),
        ] {
            let mut request = request(uri, &[]);
            outgoing(&mut request);
            assert_eq!(request.uri().to_string(), target);
            assert_eq!(request.headers().get(HOST).map(|value| value.to_str().unwrap()), host);
            assert_eq!(request.version(), Version::HTTP_11);
        }
    }

    #[test]
    fn only_a_switching_response_keeps_its_upgrade() {
        for (switched, left) in [(true, 2), (false, 0)] {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            incoming(&mut headers, switched);
            assert_eq!(headers.len(), left);
        }
    }
}
