//! Requests and answers that nobody would make, by the thousand: every request becomes an event of the documented shape,
//! which holds the body as it was; every answer becomes a legal response or is refused, and never another's framing.
//!
//! A fixed beginning makes the runs of the unit tests the same every time. `VIRGA_FUZZ_RUNS` has further ones, each from a
//! number of its own, which a failure tells; CONTRIBUTING.md says how.

use base::{RequestId, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use sandbox::Body;
use serde_json::Value;

use super::request::{Circumstances, event};
use super::{answer, streamed};

/// Runs of an ordinary test.
const RUNS: u64 = 3_000;

fn runs() -> u64 {
    RUNS + std::env::var("VIRGA_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(0)
}

/// Numbers that look random (xorshift64*; Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn new(run: u64) -> Self {
        Self(run.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The remainder fits.
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most))
            .map(|_| [b'a', b' ', b';', b'=', b',', b'"', 0xc3, 0xa4, 0xff, 0, b'\r', b'\n'][self.below(12)])
            .collect()
    }
}

const TARGETS: &[&str] =
    &["/", "/a%20b", "/%ff%00", "//x//", "/?", "/?a", "/?a=1&a=2&=&&b", "/?%ff=%zz", "/x?a=%2C&A=1", "*"];
const NAMES: &[&str] = &[
    "cookie",
    "Cookie",
    "content-type",
    "content-encoding",
    "x-a",
    "X-A",
    "host",
    "user-agent",
    "accept",
    "x-\u{7f}",
];
const KINDS: &[&str] =
    &["text/plain", "application/json; charset=x", "image/png", "application/x+json", "TEXT/HTML", ";", ""];

fn check_request(run: u64) {
    let mut dice = Dice::new(run);
    let mut builder =
        Request::builder().method(dice.one(&["GET", "POST", "OPTIONS", "M-SEARCH"])).uri(dice.one(TARGETS));
    for _ in 0..dice.below(6) {
        let name = dice.one(NAMES);
        let value = if dice.below(3) == 0 { dice.one(KINDS).as_bytes().to_vec() } else { dice.bytes(12) };
        // What is no header does not get this far.
        let legal = http::HeaderValue::from_bytes(&value).is_ok() && http::HeaderName::try_from(name).is_ok();
        if legal {
            builder = builder.header(name, value);
        }
    }
    let body = Bytes::from(dice.bytes(20));
    let Ok(request) = builder.body(()) else { return };
    let head = request.into_parts().0;
    let path = head.uri.path().to_owned();
    let circumstances = Circumstances {
        url_id: "id",
        domain: "id.lambda-url.us-east-1.localhost",
        path: &path,
        source_ip: "127.0.0.1",
        id: RequestId::random(),
        time: Timestamp(1_795_160_258_123),
        signer: None,
    };
    let made = event(&head, &body, &circumstances);
    let made: Value = serde_json::from_slice(&made).unwrap_or_else(|error| panic!("run {run}: {error}"));
    assert_eq!((&made["version"], &made["rawPath"]), (&"2.0".into(), &path.as_str().into()), "run {run}");
    let text = made["body"].as_str().unwrap_or_default();
    let held = match made["isBase64Encoded"].as_bool().unwrap() {
        true => STANDARD.decode(text).unwrap(),
        false => text.as_bytes().to_vec(),
    };
    assert_eq!(held, body, "run {run}: the body is another");
    let names = head.headers.keys().filter(|name| *name != "cookie").count();
    assert_eq!(made["headers"].as_object().unwrap().len(), names, "run {run}");
    assert!(made["headers"].as_object().unwrap().values().all(Value::is_string), "run {run}");
}

#[test]
fn every_request_is_an_event() {
    (0..runs()).for_each(check_request);
}

const VALUES: &[&str] = &[
    "null",
    "true",
    "200",
    "\"204\"",
    "99",
    "101",
    "600",
    "-1",
    "2e2",
    "1.5",
    "\"\"",
    "\"x\"",
    "\"a\\r\\nb: c\"",
    "[]",
    "{}",
    "[\"a=1\",\"b\"]",
    "[1]",
    "\"R0lG\"",
    "\"%%\"",
    "{\"Content-Length\":\"9\",\"a\":1,\"b\":null}",
    "{\"Transfer-Encoding\":\"chunked\"}",
    "{\"connection\":\"x-a\",\"x-a\":\"1\"}",
    "{\"a\":[1,2]}",
    "{\"\":\"x\"}",
    "{\"set-cookie\":\"c\"}",
    "\"\u{0}\"",
    "1e999",
];

/// An answer that has the members of a response, or others, and may be spoilt.
fn told(dice: &mut Dice) -> Vec<u8> {
    let members: Vec<String> = (0..dice.below(6))
        .map(|_| {
            let name = dice.one(&["statusCode", "headers", "cookies", "body", "isBase64Encoded", "other"]);
            format!("\"{name}\":{}", dice.one(VALUES))
        })
        .collect();
    let mut bytes = format!("{{{}}}", members.join(",")).into_bytes();
    if dice.below(4) == 0 && !bytes.is_empty() {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
    bytes
}

fn check_response(made: Result<Response<Body>, &'static str>, run: u64) -> bool {
    let Ok(response) = made else { return false };
    assert!((200..600).contains(&response.status().as_u16()), "run {run}");
    for name in ["content-length", "transfer-encoding", "connection"] {
        assert!(!response.headers().contains_key(name), "run {run}: {name}");
    }
    assert!(response.headers().contains_key("content-type"), "run {run}");
    true
}

#[test]
fn every_answer_is_a_response_or_refused() {
    let (mut made, mut heads) = (0, 0);
    for run in 0..runs() {
        let mut dice = Dice::new(run);
        let mut bytes = told(&mut dice);
        made += u64::from(check_response(answer::response(&Bytes::from(bytes.clone())), run));
        bytes.extend(vec![0; dice.below(12)]);
        bytes.extend(dice.bytes(8));
        let kind = dice.one(&["application/vnd.awslambda.http-integration-response", "text/plain", "a\nb"]);
        let streamed = streamed::whole(Some(kind), &Bytes::from(bytes));
        heads += u64::from(streamed.is_some_and(|streamed| check_response(streamed, run)));
    }
    assert!(made > RUNS / 10 && heads > RUNS / 10, "{made}, {heads}: nearly all were refused");
}
