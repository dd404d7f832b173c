//! Signatures and policies that nobody would write, by the thousand: whatever a stranger presents is read or refused, and
//! whatever a policy says, it is decided soon, a denial holds, and what is read twice is the same.
//!
//! A fixed beginning makes the runs of the unit tests the same every time. `VIRGA_FUZZ_RUNS` has further ones, each from a
//! number of its own, which a failure tells; CONTRIBUTING.md says how.

use base::{AccountId, Region, Timestamp};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::policy::{Context, Grants, Kind, Policies, Policy, Question, Resource, Who, decide};
use crate::sigv4::{self, Presented};

/// Runs of an ordinary test.
const RUNS: u64 = 4_000;

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

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Text that means something, with a few characters changed, cut out, doubled or cut off, one time in six.
    fn spoiled(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        if self.below(6) > 0 {
            return text.to_owned();
        }
        for _ in 0..=self.below(3) {
            if chars.is_empty() {
                break;
            }
            let at = self.below(chars.len());
            match self.below(4) {
                0 => {
                    chars[at] =
                        ['=', ',', ';', '/', ' ', '%', '\n', '"', '{', '*', '\u{e4}', '0'][self.below(12)]
                }
                1 => drop(chars.drain(at..(at + self.below(8)).min(chars.len()))),
                2 => {
                    let copy = chars[at..(at + self.below(24)).min(chars.len())].to_vec();
                    chars.splice(at..at, copy);
                }
                _ => chars.truncate(at),
            }
        }
        chars.into_iter().collect()
    }
}

const CREDENTIALS: &[&str] = &[
    "AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request",
    "AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request",
    "AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request",
    "a/b/c/d/e/f",
    "////",
    "",
];
const SIGNED: &[&str] =
    &["host", "host;x-amz-date", "date;host", "host;x;y", "host;host", "Host", "host;x\ny:", "x;host", ""];
const DATES: &[&str] = &[
    "20150830T123600Z",
    "20150830T123559Z",
    "Mon, 30 Aug 2015 12:36:00 GMT",
    "99991231T235959Z",
    "00000101T000000Z",
    "20150230T000000Z",
    "now",
    "",
];
const TARGETS: &[&str] =
    &["/", "/a//b/../c?x=1&x=0&%zz=%ff", "/%ff?a=b=c&&=&+", "/?%C3%A4=1", "/.//./..", "*", "/x?a"];

/// A request that is signed somehow, in the header or in the query.
fn request(dice: &mut Dice) -> http::request::Parts {
    let (credential, signed) = (dice.one(CREDENTIALS), dice.one(SIGNED));
    let (credential, signed) = (dice.spoiled(credential), dice.spoiled(signed));
    let date = dice.one(DATES);
    let date = dice.spoiled(date);
    let mut target = dice.one(TARGETS).to_owned();
    if dice.below(3) == 0 {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let expires = dice.one(&["60", "604800", "604801", "-1", "x", "99999999999999999999"]);
        target = format!(
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-SignedHeaders={}&X-Amz-Date={}\
             &X-Amz-Expires={expires}&X-Amz-Signature=00",
            encode(&credential),
            encode(&signed),
            encode(&date)
        );
    }
    let uri = target.parse::<http::Uri>().unwrap_or_default();
    let (mut head, ()) = http::Request::builder().uri(uri).body(()).unwrap().into_parts();
    let separator = dice.one(&[", ", ",", " ", ",, "]);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={credential}{separator}SignedHeaders={signed}{separator}Signature=00"
    );
    let authorization = dice.spoiled(&authorization);
    for (name, value) in [
        (AUTHORIZATION, authorization.as_str()),
        (HeaderName::from_static("x-amz-date"), date.as_str()),
        (HeaderName::from_static("host"), "example.com"),
        (HeaderName::from_static("x-amz-content-sha256"), "UNSIGNED-PAYLOAD"),
    ] {
        if dice.below(5) > 0
            && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
        {
            head.headers.append(name, value);
        }
    }
    head
}

fn check_signature(run: u64) -> bool {
    let head = request(&mut Dice::new(run));
    let request = sigv4::Request::of(&head);
    let Ok(presented) = Presented::read(&request) else { return false };
    let signed: Vec<&str> = presented.signed_headers.iter().map(String::as_str).collect();
    assert!(signed.is_sorted_by(|a, b| a < b), "run {run}: {signed:?}");
    let scope = &presented.scope;
    for part in [&presented.access_key_id, &scope.date, &scope.region, &scope.service] {
        assert!(!part.contains('/'), "run {run}: {part}");
    }
    // Only what is of one day and of a real time can be in force, and never for longer than a week.
    let in_force =
        |at: Timestamp| presented.check_time(at).is_ok() && presented.check_scope(&Region::default()).is_ok();
    let day = Timestamp::from_basic("20150830T123600Z").unwrap();
    for offset in [0_i64, 8 * 24 * 3_600_000, -3_600_000] {
        let at = Timestamp(day.as_millis() + offset);
        assert!(offset == 0 || !in_force(at) || scope.date != "20150830", "run {run}");
    }
    let ok = presented.check_signed_headers(&request).is_ok();
    assert!(!ok || signed.contains(&"host"), "run {run}");
    let canonical = sigv4::canonical_head(&request, &signed, &scope.service);
    // Method, path, query, a line for each header, an empty one, the headers' names.
    let lines = canonical.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 3 + signed.len() + 2, "run {run}: {}", String::from_utf8_lossy(&canonical));
    true
}

const ELEMENTS: &[&str] = &[
    r#""Effect":"Allow""#,
    r#""Effect":"Deny""#,
    r#""Action":"lambda:*""#,
    r#""Action":["lambda:Invoke*","*"]"#,
    r#""NotAction":"s3:Get?""#,
    r#""Action":"lambda:*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b""#,
    r#""Resource":"*""#,
    r#""Resource":["arn:aws:lambda:*:*:function:${aws:username}*"]"#,
    r#""NotResource":"arn:aws:lambda:us-east-1:123456789012:function:f""#,
    r#""Principal":"*""#,
    r#""Principal":{"AWS":["123456789012","arn:aws:iam::123456789012:root"],"Service":"lambda.amazonaws.com"}"#,
    r#""NotPrincipal":{"AWS":"123456789012"}"#,
    r#""Condition":{"StringLike":{"aws:username":["a*","${aws:x, 'd'}"]},"Bool":{"aws:SecureTransport":false}}"#,
    r#""Condition":{"NumericLessThan":{"n":1e400},"DateGreaterThan":{"aws:CurrentTime":"2026-12-01T00:00:00Z"}}"#,
    r#""Condition":{"ForAllValues:StringEqualsIfExists":{"k":[]},"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}"#,
    r#""Condition":{"Null":{"k":true}}"#,
    r#""Sid":"a""#,
];

/// A document of statements of a few elements.
fn document(dice: &mut Dice) -> String {
    let mut statements = Vec::new();
    for _ in 0..=dice.below(3) {
        let mut elements: Vec<&str> =
            vec![dice.one(&ELEMENTS[..2]), dice.one(&ELEMENTS[2..6]), dice.one(&ELEMENTS[6..9])];
        elements.extend((0..dice.below(3)).map(|_| dice.one(&ELEMENTS[9..])));
        statements.push(format!("{{{}}}", elements.join(",")));
    }
    let version = dice.one(&["2012-10-17", "2008-10-17", "2020-01-01"]);
    let text = format!(r#"{{"Version":"{version}","Statement":[{}]}}"#, statements.join(","));
    dice.spoiled(&text)
}

fn check_policy(run: u64) -> bool {
    let mut dice = Dice::new(run);
    let text = document(&mut dice);
    let kind = [Kind::Identity, Kind::Resource, Kind::Trust][dice.below(3)];
    let Ok(policy) = Policy::parse(&text, kind) else { return false };
    assert_eq!(Policy::parse(&text, kind).as_ref(), Ok(&policy), "run {run}");
    let deny = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
    let deny = Policy::parse(deny, Kind::Identity).unwrap();
    let (owner, other) =
        (AccountId::parse("123456789012").unwrap(), AccountId::parse("210987654321").unwrap());
    let context = Context::new([("aws:username", "an*a"), ("k", "v")]);
    let long = format!("lambda:{}", "a".repeat(200));
    for (account, action) in [(&owner, "lambda:InvokeFunction"), (&other, "s3:GetX"), (&owner, &long)] {
        let who = Who::User { account: account.clone(), arn: format!("arn:aws:iam::{account}:user/ana") };
        let resource = "arn:aws:lambda:us-east-1:123456789012:function:f";
        let question = Question { who: &who, action, resource, owner: &owner, context: &context };
        let (all, own, nothing) = (Policy::everything(), [&policy], Policy::nothing());
        let with = |identity: &[&Policy]| {
            let grants = Grants { identity, ..Grants::default() };
            let resource = (kind != Kind::Identity).then_some(Resource {
                policy: &policy,
                name: resource,
                required: false,
            });
            decide(&question, &Policies { grants, resource })
        };
        assert!(!with(&[&all, &deny]).is_allowed(), "run {run}: a denial holds in {text}");
        let bounded = Grants { identity: &own, boundary: Some(&nothing), ..Grants::default() };
        assert!(
            !decide(&question, &Policies { grants: bounded, resource: None }).is_allowed(),
            "run {run}: {text}"
        );
        if account == &other {
            assert!(
                kind != Kind::Identity || !with(&own).is_allowed(),
                "run {run}: a stranger's own policy opens {text}"
            );
        }
    }
    true
}

#[test]
fn whatever_is_presented_is_read_or_refused() {
    let read = (0..runs()).filter(|run| check_signature(*run)).count();
    assert!(read > 100, "only {read} were signatures at all");
}

#[test]
fn whatever_a_policy_says_it_is_decided() {
    let read = (0..runs()).filter(|run| check_policy(*run)).count();
    assert!(read > 200, "only {read} were policies at all");
}
