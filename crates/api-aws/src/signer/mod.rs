//! Signing profiles in AWS Signer's shapes (REST-JSON, 2017-08-25): a name with a public key that packages are checked
//! with. Signing is done where the private key is, so there are no signing jobs here.
//!
//! Signer's own profiles have keys of AWS's; ours are their owner's, so the platform is one of ours ([`PLATFORM`]) and the
//! key comes in `signingParameters`.

mod read;

use base::{RequestId, Timestamp};
use functions::{Error, ProfileView, Validity, ValidityUnit};
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use sandbox::Body;
use serde_json::{Value, json as value};

use crate::constraint::Violations;
use crate::failure::Failure;
use crate::lambda;
use crate::members::Members;
use crate::protocol;
use crate::request::Request;

/// `platformId` of every profile.
const PLATFORM: &str = "Virga-Ed25519";

/// The member of `signingParameters` with the key.
const PUBLIC_KEY: &str = "publicKey";

/// Runs what method and path name. Signer's errors have other members than Lambda's.
pub(crate) async fn run(request: &Request<'_>) -> Response<Body> {
    operation(request).await.unwrap_or_else(|failure| {
        let body = value!({ "message": failure.message, "code": failure.code });
        let mut response = protocol::answer(failure.status, "application/json", body.to_string());
        if let Ok(code) = HeaderValue::from_str(&failure.code) {
            response.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), code);
        }
        response
    })
}

async fn operation(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let path = request.head.uri.path().to_owned();
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).ok();
    let labels: Option<Vec<String>> = path.trim_matches('/').split('/').map(decoded).collect();
    let labels = labels.unwrap_or_default();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match (request.head.method.as_str(), &labels[..]) {
        ("PUT", ["signing-profiles", name]) => put(request, name).await,
        ("GET", ["signing-profiles", name]) => get(request, name),
        ("GET", ["signing-profiles"]) => list(request),
        ("DELETE", ["signing-profiles", name]) => cancel(request, name).await,
        ("PUT", ["signing-profiles", name, "revoke"]) => revoke_profile(request, name).await,
        ("PUT", ["signing-jobs", job, "revoke"]) => revoke_signature(request, job).await,
        (method, _) => Err(Failure::new(
            "NotImplementedException",
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "The operation of AWS Signer at {method} {path} is not built in this server: packages are signed where the key is, by `virga sign`."
            ),
        )),
    }
}

async fn put(request: &Request<'_>, name: &str) -> Result<Response<Body>, Failure> {
    check_name(name)?;
    let args = read::profile(&request.body, name)?;
    let put = request.api.functions.put_profile(request.caller, args).await.map_err(failed(request))?;
    Ok(json(&value!({
        "arn": put.arn,
        "profileVersion": put.current.version,
        "profileVersionArn": put.version_arn(),
    })))
}

fn get(request: &Request<'_>, name: &str) -> Result<Response<Body>, Failure> {
    check_name(name)?;
    if request.query("profileOwner").is_some_and(|owner| owner != request.caller.account.as_str()) {
        return Err(denied("Profiles of other accounts are not shown."));
    }
    let found = request.api.functions.profile(request.caller, name).map_err(failed(request))?;
    let mut out = shape(&found);
    if let Some(revoked) = &found.current.revoked {
        out["revocationRecord"] = value!({
            "revocationEffectiveFrom": seconds(revoked.effective),
            "revokedAt": seconds(revoked.at),
            "revokedBy": revoked.by,
        });
        out["statusReason"] = value!(revoked.reason);
    }
    Ok(json(&out))
}

fn list(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let max = match request.query("maxResults") {
        Some(text) => {
            let value: i64 =
                text.parse().map_err(|_| Failure::bad("ValidationException", "maxResults is no number"))?;
            let mut violations = Violations::default();
            violations.range("maxResults", value, 1, 25);
            violations.finish()?;
            usize::try_from(value).unwrap_or(25)
        }
        None => 25,
    };
    let canceled = request.query("includeCanceled").as_deref() == Some("true");
    let statuses: Vec<String> = request.queries("statuses").collect();
    let platform = request.query("platformId");
    let marker = request.query("nextToken").filter(|token| !token.is_empty());
    let takes = |view: &ProfileView| {
        let status = status(view);
        let wanted = if statuses.is_empty() {
            canceled || status != "Canceled"
        } else {
            statuses.iter().any(|one| one == status)
        };
        wanted && platform.as_deref().is_none_or(|platform| platform == PLATFORM)
    };
    let page = request.api.functions.profiles(request.caller, marker.as_deref(), max, takes);
    let page = page.map_err(failed(request))?;
    let mut out = value!({ "profiles": page.items.iter().map(shape).collect::<Vec<_>>() });
    if let Some(next) = page.next_marker {
        out["nextToken"] = next.into();
    }
    Ok(json(&out))
}

async fn cancel(request: &Request<'_>, name: &str) -> Result<Response<Body>, Failure> {
    check_name(name)?;
    request.api.functions.cancel_profile(request.caller, name).await.map_err(failed(request))?;
    Ok(empty())
}

async fn revoke_profile(request: &Request<'_>, name: &str) -> Result<Response<Body>, Failure> {
    check_name(name)?;
    let args = read::revocation(&request.body)?;
    let functions = &request.api.functions;
    let revoked =
        functions.revoke_profile(request.caller, name, &args.version, args.effective, &args.reason).await;
    revoked.map_err(failed(request))?;
    Ok(empty())
}

async fn revoke_signature(request: &Request<'_>, job: &str) -> Result<Response<Body>, Failure> {
    let members = Members::parse(&request.body)?;
    let reason = read::reason(&members)?;
    if members.text("jobOwner")?.is_some_and(|owner| owner != request.caller.account.as_str()) {
        return Err(denied("Signatures of other accounts cannot be revoked."));
    }
    if job.len() > 128 || !job.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(Failure::bad(
            "ValidationException",
            "jobId has letters, digits and hyphens, 128 at most.",
        ));
    }
    let revoked = request.api.functions.revoke_signature(request.caller, job, &reason).await;
    revoked.map_err(failed(request))?;
    Ok(empty())
}

/// AWS Signer API: SigningProfile, and most of GetSigningProfileResponse.
fn shape(view: &ProfileView) -> Value {
    let current = &view.current;
    let mut parameters = current.parameters.clone();
    parameters.insert(PUBLIC_KEY.to_owned(), current.public_key.clone());
    value!({
        "profileName": view.name,
        "profileVersion": current.version,
        "profileVersionArn": view.version_arn(),
        "arn": view.arn,
        "platformId": PLATFORM,
        "platformDisplayName": "Virga (Ed25519)",
        "signatureValidityPeriod": validity(current.validity),
        "signingParameters": parameters,
        "status": status(view),
    })
}

fn status(view: &ProfileView) -> &'static str {
    match (&view.current.revoked, view.canceled) {
        (Some(_), _) => "Revoked",
        (None, Some(_)) => "Canceled",
        (None, None) => "Active",
    }
}

fn validity(validity: Validity) -> Value {
    let unit = match validity.unit {
        ValidityUnit::Days => "DAYS",
        ValidityUnit::Months => "MONTHS",
        ValidityUnit::Years => "YEARS",
    };
    value!({ "value": validity.value, "type": unit })
}

/// Timestamps of this protocol are seconds.
fn seconds(time: Timestamp) -> i64 {
    time.as_millis().div_euclid(1000)
}

fn check_name(name: &str) -> Result<(), Failure> {
    let mut violations = Violations::default();
    violations.length("profileName", name, 2, 64);
    let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    violations.pattern("profileName", name, legal, "^[a-zA-Z0-9_]{2,}");
    violations.finish()
}

fn denied(message: &str) -> Failure {
    Failure::new("AccessDeniedException", StatusCode::FORBIDDEN, message)
}

/// Signer's names for what goes wrong; it has fewer than Lambda.
fn failed(request: &Request<'_>) -> impl Fn(Error) -> Failure {
    let id: RequestId = request.id;
    move |error| match &error {
        Error::Invalid(text) => Failure::bad("ValidationException", text.clone()),
        Error::Internal(_) => {
            Failure { code: "InternalServiceErrorException".into(), ..lambda::failure(&error, id) }
        }
        _ => lambda::failure(&error, id),
    }
}

fn json(body: &Value) -> Response<Body> {
    protocol::answer(StatusCode::OK, "application/json", body.to_string())
}

/// 200 with no members.
fn empty() -> Response<Body> {
    json(&value!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_two_to_sixty_four_characters() {
        for fine in ["ab", "a_B9", &"n".repeat(64)] {
            assert_eq!(check_name(fine), Ok(()), "{fine}");
        }
        for bad in ["", "a", "a-b", "ä_b", &"n".repeat(65)] {
            assert_eq!(
                check_name(bad).map_err(|failure| failure.code),
                Err("ValidationException".into()),
                "{bad}"
            );
        }
    }
}
