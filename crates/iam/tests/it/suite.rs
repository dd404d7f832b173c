//! The public signing test suite (tests/data/sigv4, with its licence), case by case: canonical request, string
//! to sign, signature.
//!
//! Requests are read from the suite's text without an HTTP parser, since some hold what no parser lets through
//! (raw UTF-8 and spaces in paths, folded header lines).

use std::fs;
use std::path::{Path, PathBuf};

use iam::Credentials;
use iam::sigv4::{Request, Scope, canonical_head, signature, signing_key, string_to_sign, with_payload};
use sha2::{Digest, Sha256};

use crate::support::{Home, head, signed, verify};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TIME: &str = "20150830T123600Z";

struct Raw {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn raw(text: &str) -> Raw {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let start = lines.next().unwrap().strip_suffix(" HTTP/1.1").unwrap();
    let (method, target) = start.split_once(' ').unwrap();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with(' ') {
            let (_, value) = headers.last_mut().unwrap();
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    Raw { method: method.into(), target: target.into(), headers, body: body.into() }
}

fn cases(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cases(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "req") {
            found.push(path);
        }
    }
}

fn all_cases() -> Vec<PathBuf> {
    let mut found = Vec::new();
    cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sigv4"), &mut found);
    found.sort();
    found
}

fn check(case: &Path) {
    let read = |extension| fs::read_to_string(case.with_extension(extension)).unwrap().replace('\r', "");
    // The request as it was sent: one case adds its token while signing, another only afterwards.
    let raw = raw(&read("sreq"));
    let authorization = read("authz");
    let names = authorization.split_once("SignedHeaders=").and_then(|(_, rest)| rest.split_once(','));
    let names: Vec<&str> = names.unwrap().0.split(';').collect();
    let (path, query) = raw.target.split_once('?').unwrap_or((&raw.target, ""));
    let headers = raw.headers.iter().map(|(name, value)| (name.as_str().into(), value.as_bytes()));
    let request = Request { method: &raw.method, path, query, headers: headers.collect() };
    let scope = Scope { date: TIME[..8].into(), region: "us-east-1".into(), service: "service".into() };
    let payload = hex::encode(Sha256::digest(&raw.body));
    let canonical = with_payload(canonical_head(&request, &names, &scope.service), &payload);
    assert_eq!(String::from_utf8_lossy(&canonical), read("creq"), "{}", case.display());
    let text = string_to_sign(TIME, &scope, &canonical);
    assert_eq!(text, read("sts"), "{}", case.display());
    let made = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={}, Signature={}",
        names.join(";"),
        signature(&signing_key(SECRET, &scope), &text)
    );
    assert_eq!(made, authorization.trim_end(), "{}", case.display());
}

#[test]
fn every_case_gives_the_suites_texts() {
    let cases = all_cases();
    assert_eq!(cases.len(), 34, "the suite is complete");
    for case in cases {
        check(&case);
    }
}

/// The cases that a parser lets through, signed anew with a key and a time of ours, are let in.
#[test]
fn cases_that_http_can_carry_are_verified() {
    let iam = Home::new().iam();
    let mut carried = 0;
    for case in all_cases() {
        let raw = raw(&fs::read_to_string(&case).unwrap().replace('\r', ""));
        let single_lines = raw.headers.iter().all(|(_, value)| !value.contains('\n'));
        if !single_lines || raw.target.parse::<http::Uri>().is_err() {
            continue;
        }
        let headers = raw.headers.iter().filter(|(name, _)| name != "x-amz-security-token");
        let headers: Vec<(&str, &str)> = headers.map(|(n, v)| (n.as_str(), v.trim())).collect();
        let credentials: Credentials = iam.first_credentials();
        let head =
            signed(head(&raw.method, &raw.target, &headers), raw.body.as_bytes(), &credentials, "lambda");
        assert!(verify(&iam, &head, raw.body.as_bytes()).is_ok(), "{}", case.display());
        carried += 1;
    }
    assert!(carried >= 25, "only {carried} cases");
}
