//! A request as an event (Lambda: function URLs, request payload format 2.0).

use std::borrow::Cow;
use std::collections::BTreeMap;

use base::{RequestId, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderMap};
use http::request::Parts;
use serde::Serialize;

use crate::access::Signer;

/// What the request itself does not say.
pub(crate) struct Circumstances<'a> {
    /// The URL's id: `apiId`.
    pub(crate) url_id: &'a str,
    /// The host that was asked, without its port.
    pub(crate) domain: &'a str,
    /// The path that the function sees.
    pub(crate) path: &'a str,
    /// The client's address.
    pub(crate) source_ip: &'a str,
    pub(crate) id: RequestId,
    pub(crate) time: Timestamp,
    /// Who signed it, where the URL asks for that.
    pub(crate) signer: Option<&'a Signer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Cow<'a, str>>,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'a str,
    api_id: &'a str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    http: Http<'a>,
    request_id: String,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
struct Authorizer<'a> {
    iam: Identity<'a>,
}

/// Who signed (Lambda: function URLs, `requestContext.authorizer.iam`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    access_key: &'a str,
    account_id: &'a str,
    caller_id: String,
    cognito_identity: Option<()>,
    principal_org_id: Option<()>,
    user_arn: String,
    user_id: String,
}

impl<'a> Identity<'a> {
    fn of(signer: &'a Signer) -> Self {
        let caller = &signer.caller;
        Self {
            access_key: &signer.access_key_id,
            account_id: caller.account.as_str(),
            caller_id: caller.id(),
            cognito_identity: None,
            principal_org_id: None,
            user_arn: caller.arn(),
            user_id: caller.id(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: &'a str,
    user_agent: Cow<'a, str>,
}

/// The event's JSON.
pub(crate) fn event(head: &Parts, body: &Bytes, circumstances: &Circumstances<'_>) -> Bytes {
    let query = head.uri.query().unwrap_or_default();
    let (body, is_base64_encoded) = body_member(&head.headers, body);
    let event = Event {
        version: "2.0",
        route_key: "$default",
        raw_path: circumstances.path,
        raw_query_string: query,
        cookies: cookies(&head.headers),
        headers: headers(&head.headers),
        query_string_parameters: query_parameters(query),
        request_context: request_context(head, circumstances),
        body,
        is_base64_encoded,
    };
    // Strings and numbers in structs cannot fail to serialize.
    serde_json::to_vec(&event).unwrap_or_default().into()
}

fn request_context<'a>(head: &'a Parts, circumstances: &Circumstances<'a>) -> RequestContext<'a> {
    let user_agent = head.headers.get(http::header::USER_AGENT);
    RequestContext {
        account_id: circumstances.signer.map_or("anonymous", |signer| signer.caller.account.as_str()),
        api_id: circumstances.url_id,
        domain_name: circumstances.domain,
        domain_prefix: circumstances.domain.split('.').next().unwrap_or_default(),
        authentication: circumstances.signer.map(|_| ()),
        authorizer: circumstances.signer.map(|signer| Authorizer { iam: Identity::of(signer) }),
        http: Http {
            method: head.method.as_str(),
            path: circumstances.path,
            protocol: if head.version == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            source_ip: circumstances.source_ip,
            user_agent: user_agent.map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default(),
        },
        request_id: circumstances.id.to_string(),
        route_key: "$default",
        stage: "$default",
        time: clf(circumstances.time),
        time_epoch: circumstances.time.as_millis(),
    }
}

/// Common log format: `20/Nov/2026:07:37:38 +0000`.
fn clf(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(time.as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

/// Names in lower case, as they are here anyway; values of one name joined by commas. Cookies are apart.
fn headers(map: &HeaderMap) -> BTreeMap<&str, Cow<'_, str>> {
    let mut out: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
    for (name, value) in map.iter().filter(|(name, _)| *name != COOKIE) {
        join(&mut out, name.as_str(), String::from_utf8_lossy(value.as_bytes()));
    }
    out
}

fn query_parameters(query: &str) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    let mut out = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        join(&mut out, name, value);
    }
    out
}

fn join<'a, K: Ord>(out: &mut BTreeMap<K, Cow<'a, str>>, name: K, value: Cow<'a, str>) {
    match out.entry(name) {
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(value);
        }
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            let joined = entry.get_mut().to_mut();
            joined.push(',');
            joined.push_str(&value);
        }
    }
}

fn cookies(map: &HeaderMap) -> Vec<Cow<'_, str>> {
    let mut out = Vec::new();
    for value in map.get_all(COOKIE) {
        match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => {
                out.extend(text.split(';').map(str::trim).filter(|c| !c.is_empty()).map(Cow::Borrowed))
            }
            Err(_) => out.push(String::from_utf8_lossy(value.as_bytes())),
        }
    }
    out
}

/// Text as it is, everything else in base64. A type that says text does not make bytes so.
fn body_member<'a>(headers: &HeaderMap, body: &'a Bytes) -> (Option<Cow<'a, str>>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    match std::str::from_utf8(body) {
        Ok(text) if is_text(headers) => (Some(text.into()), false),
        _ => (Some(STANDARD.encode(body).into()), true),
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    let Some(kind) = headers.get(CONTENT_TYPE) else { return !encoded };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    let text = kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || ["application/json", "application/javascript", "application/xml"].contains(&kind.as_str());
    text && !encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn convert(method: &str, uri: &str, headers: &[(&str, &[u8])], body: &'static [u8]) -> Value {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let path = head.uri.path().to_owned();
        let circumstances = Circumstances {
            url_id: "abc",
            domain: "abc.lambda-url.us-east-1.localhost",
            path: &path,
            source_ip: "127.0.0.1",
            id: RequestId::parse("00000000-0000-4000-8000-000000000000").unwrap(),
            time: Timestamp(1_795_160_258_123),
            signer: None,
        };
        serde_json::from_slice(&event(&head, &Bytes::from_static(body), &circumstances)).unwrap()
    }

    #[test]
    fn the_whole_event() {
        let found = convert(
            "POST",
            "/my/p%20ath?a=1&b=x%20y&a=2&flag",
            &[
                ("Content-Type", b"application/json; charset=utf-8"),
                ("X-Many", b"one"),
                ("X-Many", b"two"),
                ("Cookie", b"c1=1; c2=2"),
                ("User-Agent", b"curl/8"),
            ],
            b"{\"k\":1}",
        );
        assert_eq!(
            found,
            json!({
                "version": "2.0",
                "routeKey": "$default",
                "rawPath": "/my/p%20ath",
                "rawQueryString": "a=1&b=x%20y&a=2&flag",
                "cookies": ["c1=1", "c2=2"],
                "headers": {
                    "content-type": "application/json; charset=utf-8",
                    "user-agent": "curl/8",
                    "x-many": "one,two",
                },
                "queryStringParameters": { "a": "1,2", "b": "x y", "flag": "" },
                "requestContext": {
                    "accountId": "anonymous",
                    "apiId": "abc",
                    "domainName": "abc.lambda-url.us-east-1.localhost",
                    "domainPrefix": "abc",
                    "http": {
                        "method": "POST",
                        "path": "/my/p%20ath",
                        "protocol": "HTTP/1.1",
                        "sourceIp": "127.0.0.1",
                        "userAgent": "curl/8",
                    },
                    "requestId": "00000000-0000-4000-8000-000000000000",
                    "routeKey": "$default",
                    "stage": "$default",
                    "time": "20/Nov/2026:07:37:38 +0000",
                    "timeEpoch": 1_795_160_258_123_i64,
                },
                "body": "{\"k\":1}",
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn nothing_is_left_out_rather_than_empty() {
        let found = convert("GET", "/", &[], b"");
        for member in ["body", "cookies", "queryStringParameters"] {
            assert!(found.get(member).is_none(), "{member}");
        }
        assert_eq!((&found["rawQueryString"], &found["isBase64Encoded"]), (&json!(""), &json!(false)));
    }

    #[test]
    fn bodies_are_text_or_base64_by_their_type() {
        for (kind, body, expect, encoded) in [
            (Some("text/plain"), &b"hi"[..], "hi", false),
            (Some("application/vnd.api+json"), b"{}", "{}", false),
            (Some("image/svg+xml"), b"<svg/>", "<svg/>", false),
            (Some("application/x-www-form-urlencoded"), b"a=1", "YT0x", true),
            (Some("application/octet-stream"), b"hi", "aGk=", true),
            (Some("text/plain"), b"\xff", "/w==", true),
            (None, b"hi", "hi", false),
            (None, b"\xff", "/w==", true),
        ] {
            let headers: Vec<(&str, &[u8])> =
                kind.iter().map(|kind| ("content-type", kind.as_bytes())).collect();
            let found = convert("POST", "/", &headers, body);
            assert_eq!(
                (found["body"].as_str(), found["isBase64Encoded"].as_bool()),
                (Some(expect), Some(encoded)),
                "{kind:?}"
            );
        }
        let zipped =
            convert("POST", "/", &[("content-type", b"text/plain"), ("content-encoding", b"gzip")], b"hi");
        assert_eq!(zipped["body"], "aGk=");
    }

    #[test]
    fn headers_that_are_not_utf8_do_not_break_the_event() {
        let found = convert("GET", "/", &[("x-odd", b"a\xffb"), ("cookie", b"c=\xff")], b"");
        assert_eq!(found["headers"]["x-odd"], "a\u{fffd}b");
        assert_eq!(found["cookies"][0], "c=\u{fffd}");
    }
}
