//! A fresh identity store at a fixed time, and requests to sign.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::{Clock, Region, Timestamp};
use http::request::Parts;
use iam::{AuthError, Bootstrap, Caller, Credentials, Iam};
use store::Store;

pub(crate) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const ACCOUNT: &str = "123456789012";

/// 2026-11-20T07:37:38Z
pub(crate) const NOW: Timestamp = Timestamp(1_795_160_258_000);

/// A clock that tests set.
pub(crate) struct FakeClock(AtomicI64);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl FakeClock {
    pub(crate) fn advance(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<FakeClock>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(FakeClock(AtomicI64::new(NOW.as_millis()))),
        }
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.dir.path().join("db"), &[iam::MIGRATIONS]).unwrap()
    }

    pub(crate) fn open(&self, bootstrap: Bootstrap) -> Result<Iam, iam::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Iam::open(self.store(), &self.key_file(), bootstrap, self.clock.clone()))
    }

    pub(crate) fn iam(&self) -> Iam {
        self.open(bootstrap()).unwrap()
    }
}

pub(crate) fn bootstrap() -> Bootstrap {
    Bootstrap {
        access_key_id: Some(KEY_ID.into()),
        secret_access_key: Some(SECRET.into()),
        account: base::AccountId::parse(ACCOUNT),
    }
}

pub(crate) fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

pub(crate) fn signed(mut head: Parts, body: &[u8], credentials: &Credentials, service: &str) -> Parts {
    sign_at(&mut head, body, credentials, "us-east-1", service, NOW);
    head
}

pub(crate) fn sign_at(
    head: &mut Parts,
    body: &[u8],
    credentials: &Credentials,
    region: &str,
    service: &str,
    time: Timestamp,
) {
    let region = Region::parse(region).unwrap();
    iam::sigv4::sign_request(head, body, credentials, &region, service, time).unwrap();
}

pub(crate) fn verify(iam: &Iam, head: &Parts, body: &[u8]) -> Result<Caller, AuthError> {
    iam.begin(head)?.finish(body)
}
