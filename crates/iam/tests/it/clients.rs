//! Requests that botocore 1.43.11 signed with the tests' key at the tests' time, as they went to the wire
//! (tests/data/botocore.json, without the headers that it does not sign): ours must agree with a client that
//! nobody here wrote. Among them an ARN in a path, lists and spaces in queries, S3 keys with dot segments, and
//! presigned URLs.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::support::{ACCOUNT, Home, head, verify};

#[derive(Deserialize)]
struct Sent {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

fn sent() -> Vec<Sent> {
    serde_json::from_str(include_str!("../data/botocore.json")).unwrap()
}

#[test]
fn a_clients_requests_are_let_in_and_only_as_they_are() {
    let iam = Home::new().iam();
    let requests = sent();
    assert_eq!(requests.len(), 9);
    for Sent { method, target, headers, body } in requests {
        let pairs: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let head = head(&method, &target, &pairs);
        let caller =
            verify(&iam, &head, body.as_bytes()).unwrap_or_else(|e| panic!("{method} {target}: {e}"));
        assert_eq!(caller.account.as_str(), ACCOUNT);

        let mut other = head.clone();
        other.method = http::Method::PATCH;
        assert!(verify(&iam, &other, body.as_bytes()).is_err(), "{method} {target}");
    }
}
