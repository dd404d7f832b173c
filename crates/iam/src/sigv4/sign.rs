//! The other side: signing a request, as our own client does.

use base::{Region, Timestamp};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::{
    ALGORITHM, Request, S3, Scope, canonical_head, signature, signing_key, string_to_sign, with_payload,
};
use crate::Credentials;

/// Headers that a connection or a proxy may change on the way.
const UNSIGNED: [HeaderName; 7] = [
    http::header::AUTHORIZATION,
    http::header::CONNECTION,
    http::header::CONTENT_LENGTH,
    http::header::EXPECT,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
    http::header::USER_AGENT,
];

/// A request cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Neither a `Host` header nor an authority in the URI.
    #[error("the request names no host")]
    NoHost,
    /// A key or token holds characters that no header may hold.
    #[error("the credentials hold characters that no header may hold")]
    BadCredentials,
}

/// Signs in the `Authorization` header. Sets `Host`, `X-Amz-Date` and, where needed, `X-Amz-Security-Token`
/// and `X-Amz-Content-Sha256`; headers added afterwards are not signed.
pub fn sign_request(
    head: &mut Parts,
    body: &[u8],
    credentials: &Credentials,
    region: &Region,
    service: &str,
    time: Timestamp,
) -> Result<(), SignError> {
    let time = time.to_basic();
    let payload = hex::encode(Sha256::digest(body));
    set_headers(head, credentials, service, &time, &payload)?;

    let date = time.get(..8).unwrap_or_default().to_owned();
    let scope = Scope { date, region: region.to_string(), service: service.to_owned() };
    let signed = signed_headers(head);
    let names: Vec<&str> = signed.iter().map(String::as_str).collect();
    let canonical = with_payload(canonical_head(&Request::of(head), &names, service), &payload);
    let key = signing_key(&credentials.secret_access_key, &scope);
    let signature = signature(&key, &string_to_sign(&time, &scope, &canonical));
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id,
        names.join(";")
    );
    head.headers.insert(AUTHORIZATION, value(&authorization)?);
    Ok(())
}

fn set_headers(
    head: &mut Parts,
    credentials: &Credentials,
    service: &str,
    time: &str,
    payload: &str,
) -> Result<(), SignError> {
    if !head.headers.contains_key(HOST) {
        let host = head.uri.authority().ok_or(SignError::NoHost)?;
        let host = HeaderValue::from_str(host.as_str()).map_err(|_| SignError::NoHost)?;
        head.headers.insert(HOST, host);
    }
    head.headers.insert("x-amz-date", value(time)?);
    if service == S3 {
        head.headers.insert("x-amz-content-sha256", value(payload)?);
    }
    if let Some(token) = &credentials.session_token {
        head.headers.insert("x-amz-security-token", value(token)?);
    }
    Ok(())
}

fn signed_headers(head: &Parts) -> Vec<String> {
    let names = head.headers.keys().filter(|name| !UNSIGNED.contains(name));
    let mut names: Vec<_> = names.map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    names
}

fn value(text: &str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text).map_err(|_| SignError::BadCredentials)
}
