//! Which requests are let in, and in whose words the others are refused.

use base::{Region, Timestamp};
use http::request::Parts;
use iam::sigv4::{Request, Scope, canonical_head, signature, signing_key, string_to_sign, with_payload};
use iam::{AuthError, Credentials, Iam};
use proptest::prelude::*;

use crate::support::{Home, KEY_ID, NOW, SECRET, head, sign_at, signed, verify};

fn keys() -> Credentials {
    Credentials {
        access_key_id: KEY_ID.into(),
        secret_access_key: SECRET.into(),
        session_token: None,
        expires: None,
    }
}

fn invoke() -> Parts {
    let uri = "http://localhost:9080/2015-03-31/functions/hello/invocations?Qualifier=%24LATEST&a=1";
    head("POST", uri, &[("x-amz-invocation-type", "RequestResponse"), ("content-type", "application/json")])
}

fn with_authorization(change: impl FnOnce(String) -> String) -> Parts {
    let mut head = signed(invoke(), b"{}", &keys(), "lambda");
    let value = head.headers["authorization"].to_str().unwrap().to_owned();
    head.headers.insert("authorization", change(value).parse().unwrap());
    head
}

fn refusal(iam: &Iam, head: &Parts) -> String {
    iam.begin(head).unwrap_err().to_string()
}

#[test]
fn the_head_names_the_service_and_the_body_proves_it() {
    let iam = Home::new().iam();
    let head = signed(invoke(), b"{}", &keys(), "lambda");
    assert_eq!(iam.begin(&head).unwrap().service, "lambda");
    for _ in 0..2 {
        assert!(verify(&iam, &head, b"{}").is_ok(), "with and without a known signing key");
        assert_eq!(verify(&iam, &head, b"{ }"), Err(AuthError::SignatureMismatch));
    }
}

#[test]
fn every_signed_part_counts() {
    let iam = Home::new().iam();
    let changed = |change: &dyn Fn(&mut Parts)| {
        let mut head = signed(invoke(), b"{}", &keys(), "lambda");
        change(&mut head);
        verify(&iam, &head, b"{}")
    };
    assert!(changed(&|_| {}).is_ok());
    let mismatch = Err(AuthError::SignatureMismatch);
    assert_eq!(changed(&|head| head.method = http::Method::PUT), mismatch);
    assert_eq!(
        changed(&|head| head.uri = "/2015-03-31/functions/other/invocations".parse().unwrap()),
        mismatch
    );
    assert_eq!(changed(&|head| drop(head.headers.remove("x-amz-invocation-type"))), mismatch);
    assert_eq!(changed(&|head| drop(head.headers.insert("host", "other".parse().unwrap()))), mismatch);
    assert_eq!(
        changed(&|head| assert!(head.headers.append("x-amz-invocation-type", "DryRun".parse().unwrap()))),
        mismatch
    );
    assert!(changed(&|head| drop(head.headers.insert("user-agent", "x".parse().unwrap()))).is_ok());
    // The same request in HTTP/2's form, where the authority stands in for the host.
    assert!(changed(&|head| drop(head.headers.remove("host"))).is_ok());
}

#[test]
fn strangers_are_turned_away_at_the_head() {
    let iam = Home::new().iam();
    assert_eq!(iam.begin(&invoke()).unwrap_err(), AuthError::MissingToken);
    let unknown = Credentials { access_key_id: "AKIAUNKNOWNUNKNOWN00".into(), ..keys() };
    let head = signed(invoke(), b"{}", &unknown, "lambda");
    assert_eq!(iam.begin(&head).unwrap_err(), AuthError::UnrecognizedClient);
    let wrong = Credentials { secret_access_key: "wrong".into(), ..keys() };
    let head = signed(invoke(), b"{}", &wrong, "lambda");
    assert_eq!(verify(&iam, &head, b"{}"), Err(AuthError::SignatureMismatch));
}

#[test]
fn malformed_authorization_is_explained() {
    let iam = Home::new().iam();
    for (from, to, text) in [
        ("Credential=", "Cred=", "Authorization header requires 'Credential' parameter."),
        ("Signature=", "Sig=", "Authorization header requires 'Signature' parameter."),
        ("SignedHeaders=", "Headers=", "Authorization header requires 'SignedHeaders' parameter."),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1'."),
        ("SignedHeaders=", "SignedHeaders ", "'SignedHeaders' not a valid key=value pair"),
        ("/lambda/", "/", "Credential must have exactly 5 slash-delimited elements"),
        ("aws4_request", "aws5_request", "valid terminator: 'aws4_request', not 'aws5_request'."),
        ("host;", "", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."),
        (";x-amz-invocation-type", "", "'x-amz-invocation-type' must be a 'SignedHeader'"),
        ("host;", "Host;", "SignedHeaders must be lower-case"),
        ("host;", "host;host;", "SignedHeaders must be lower-case"),
        ("20261120/", "20261119/", "'20261119' != '20261120', from '20261120T073738Z'."),
        ("us-east-1", "mars-1", "Credential should be scoped to a valid region, not 'mars-1'."),
    ] {
        let head = with_authorization(|value| {
            assert!(value.contains(from), "{value}");
            value.replacen(from, to, 1)
        });
        let refused = refusal(&iam, &head);
        assert!(refused.contains(text), "{from} → {to}: {refused}");
    }
    let mut dateless = signed(invoke(), b"{}", &keys(), "lambda");
    dateless.headers.remove("x-amz-date");
    assert!(refusal(&iam, &dateless).contains("existence of either a 'X-Amz-Date' or a 'Date' header."));
    dateless.headers.insert("x-amz-date", "yesterday".parse().unwrap());
    assert!(
        refusal(&iam, &dateless).starts_with("Date must be in ISO-8601 'basic format'. Got 'yesterday'.")
    );
}

#[test]
fn authorization_fields_may_be_spaced_as_clients_do() {
    let iam = Home::new().iam();
    for separator in [",", " , ", ",  "] {
        let head = with_authorization(|value| value.replace(", ", separator));
        assert!(verify(&iam, &head, b"{}").is_ok(), "{separator:?}");
    }
}

#[test]
fn clocks_may_differ_by_five_minutes_and_for_s3_by_fifteen() {
    let iam = Home::new().iam();
    let at = |minutes: i64, extra: i64, service: &str| {
        let mut head = invoke();
        let time = Timestamp(NOW.as_millis() + minutes * 60_000 + extra * 1000);
        sign_at(&mut head, b"{}", &keys(), "us-east-1", service, time);
        verify(&iam, &head, b"{}").map_err(|error| error.to_string())
    };
    assert!(at(5, 0, "lambda").is_ok() && at(-5, 0, "lambda").is_ok());
    assert!(at(15, 0, "s3").is_ok() && at(-15, 0, "s3").is_ok());
    assert!(at(-15, -1, "s3").is_err());
    assert_eq!(
        at(-5, -1, "lambda").unwrap_err(),
        "Signature expired: 20261120T073237Z is now earlier than 20261120T073238Z (20261120T073738Z - 5 min.)"
    );
    assert_eq!(
        at(5, 1, "lambda").unwrap_err(),
        "Signature not yet current: 20261120T074239Z is still later than 20261120T074238Z (20261120T073738Z + 5 min.)"
    );
}

#[test]
fn regions_are_ours_and_global_services_are_signed_for_one() {
    let iam = Home::new().iam().with_region(Region::parse("eu-west-3").unwrap());
    let scoped = |region: &str, service: &str| {
        let mut head = invoke();
        sign_at(&mut head, b"{}", &keys(), region, service, NOW);
        verify(&iam, &head, b"{}").is_ok()
    };
    assert!(scoped("eu-west-3", "lambda"));
    assert!(!scoped("us-east-1", "lambda"));
    assert!(scoped("us-east-1", "sts") && scoped("us-east-1", "iam") && scoped("eu-west-3", "sts"));
}

#[test]
fn a_stated_body_hash_must_be_the_bodys() {
    let iam = Home::new().iam();
    let stated = |hash: &str, service: &str| {
        let mut head = invoke();
        head.headers.insert("x-amz-content-sha256", hash.parse().unwrap());
        sign_with_stated_hash(&mut head, service, hash);
        verify(&iam, &head, b"{}")
    };
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert!(stated(hash, "lambda").is_ok());
    assert!(stated(&hash.replace('4', "5"), "lambda").is_err());
    assert!(stated("UNSIGNED-PAYLOAD", "lambda").is_err());
    assert!(stated("UNSIGNED-PAYLOAD", "s3").is_ok());
}

/// What a client does that states a hash of its own choice.
fn sign_with_stated_hash(head: &mut Parts, service: &str, hash: &str) {
    head.headers.insert("host", "localhost".parse().unwrap());
    head.headers.insert("x-amz-date", NOW.to_basic().parse().unwrap());
    let mut names: Vec<String> = head.headers.keys().map(|name| name.to_string()).collect();
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scope = Scope { date: "20261120".into(), region: "us-east-1".into(), service: service.into() };
    let canonical = with_payload(canonical_head(&Request::of(head), &names, service), hash);
    let signature =
        signature(&signing_key(SECRET, &scope), &string_to_sign(&NOW.to_basic(), &scope, &canonical));
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={}, Signature={signature}",
        names.join(";")
    );
    head.headers.insert("authorization", value.parse().unwrap());
}

/// A presigned URL as clients make it.
fn presigned(service: &str, expires: &str, payload: &str, time: Timestamp) -> Parts {
    let time = time.to_basic();
    let scope = Scope { date: time[..8].into(), region: "us-east-1".into(), service: service.into() };
    let query = format!(
        "a=1&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={time}&X-Amz-Expires={expires}\
         &X-Amz-SignedHeaders=host",
        format!("{KEY_ID}/{scope}").replace('/', "%2F")
    );
    let unsigned = head("GET", &format!("http://localhost/bucket/key?{query}"), &[("host", "localhost")]);
    let canonical = with_payload(canonical_head(&Request::of(&unsigned), &["host"], service), payload);
    let signature = signature(&signing_key(SECRET, &scope), &string_to_sign(&time, &scope, &canonical));
    let uri = format!("http://localhost/bucket/key?{query}&X-Amz-Signature={signature}");
    head("GET", &uri, &[("host", "localhost")])
}

#[test]
fn presigned_requests_last_as_long_as_they_say() {
    let home = Home::new();
    let iam = home.iam();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let url = presigned("sts", "600", empty, NOW);
    assert_eq!(iam.begin(&url).unwrap().service, "sts");
    assert!(verify(&iam, &url, b"").is_ok());
    assert!(verify(&iam, &url, b"body").is_err(), "only S3 leaves bodies unsigned");
    assert!(verify(&iam, &presigned("s3", "600", "UNSIGNED-PAYLOAD", NOW), b"body").is_ok());

    let mut tampered = url.clone();
    tampered.uri = url.uri.to_string().replace("a=1", "a=2").parse().unwrap();
    assert_eq!(verify(&iam, &tampered, b""), Err(AuthError::SignatureMismatch));

    home.clock.advance(599_999);
    assert!(verify(&iam, &url, b"").is_ok());
    home.clock.advance(1);
    assert!(refusal(&iam, &url).starts_with("Signature expired: 20261120T074738Z is now earlier than"));
}

#[test]
fn presigned_requests_are_checked_for_form() {
    let iam = Home::new().iam();
    for (expires, text) in [
        ("604801", "X-Amz-Expires must be less than a week"),
        ("-1", "X-Amz-Expires must be non-negative"),
        ("soon", "X-Amz-Expires should be a number"),
    ] {
        assert!(refusal(&iam, &presigned("s3", expires, "", NOW)).contains(text));
    }
    let partial = head("GET", "http://localhost/?X-Amz-Algorithm=AWS4-HMAC-SHA256", &[]);
    let refused = refusal(&iam, &partial);
    for name in ["X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date", "X-Amz-Expires"]
    {
        assert!(refused.contains(&format!("AWS query-string parameters must include {name}.")), "{refused}");
    }
    let later = presigned("lambda", "60", "", Timestamp(NOW.as_millis() + 301_000));
    assert!(refusal(&iam, &later).starts_with("Signature not yet current"));
}

prop_compose! {
    fn requests()(
        method in prop::sample::select(vec!["GET", "PUT", "POST", "DELETE"]),
        path in "(/[a-zA-Z0-9._~%3A$-]{0,6}){0,5}/?",
        query in "([a-zA-Z0-9%20+]{1,4}(=[a-z0-9+%2F]{0,4})?&?){0,4}",
        headers in prop::collection::vec(("x-amz-[a-z]{1,5}", "[ -~]{0,20}"), 0..4),
        body in prop::collection::vec(any::<u8>(), 0..64),
        service in prop::sample::select(vec!["lambda", "logs", "s3"]),
    ) -> (Parts, Vec<u8>, &'static str) {
        let pairs: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        (head(method, &format!("http://localhost:1{path}?{query}"), &pairs), body, service)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_is_let_in_and_what_is_changed_is_not((head, body, service) in requests(), at in any::<usize>()) {
        thread_local!(static IAM: (Home, Iam) = { let home = Home::new(); let iam = home.iam(); (home, iam) });
        let head = signed(head, &body, &keys(), service);
        IAM.with(|(_, iam)| {
            prop_assert!(verify(iam, &head, &body).is_ok());

            let mut other_body = body.clone();
            other_body.insert(at % (body.len() + 1), 7);
            prop_assert!(verify(iam, &head, &other_body).is_err());

            let mut other = head.clone();
            let path = format!("{}x", head.uri.path());
            other.uri = format!("http://localhost:1{path}?{}", head.uri.query().unwrap_or("")).parse().unwrap();
            prop_assert!(verify(iam, &other, &body).is_err());

            let mut other = head.clone();
            let query = head.uri.query().unwrap_or("");
            other.uri = format!("http://localhost:1{}?{query}&extra=1", head.uri.path()).parse().unwrap();
            prop_assert!(verify(iam, &other, &body).is_err());

            let mut other = head.clone();
            let names: Vec<_> = head.headers.keys().filter(|name| name.as_str() != "user-agent").cloned().collect();
            let name = &names[at % names.len()];
            let value = format!("{}x", String::from_utf8_lossy(head.headers[name].as_bytes()));
            other.headers.insert(name.clone(), value.parse().unwrap());
            prop_assert!(verify(iam, &other, &body).is_err());
            Ok(())
        })?;
    }
}
