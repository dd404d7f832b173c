//! What requests about signing profiles bring.

use base::Timestamp;
use functions::{PutProfile, Validity, ValidityUnit};
use serde_json::Value;

use super::{PLATFORM, PUBLIC_KEY};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;

/// Characters of all parameters of a profile. Protects memory: Signer documents no bound.
const PARAMETERS: usize = 4096;

/// The longest validity: the 135 months that are the default, in days.
const MOST_DAYS: i64 = 4050;

/// AWS Signer API: PutSigningProfileRequest.
pub(super) fn profile(body: &[u8], name: &str) -> Result<PutProfile, Failure> {
    let members = Members::parse(body)?;
    let platform = members.text("platformId")?;
    let mut violations = Violations::default();
    violations.required("platformId", platform.is_some());
    violations.finish()?;
    if platform.as_deref() != Some(PLATFORM) {
        return Err(invalid(format!("platformId is {PLATFORM} here: keys are their owners', not AWS's.")));
    }
    for member in ["signingMaterial", "overrides"] {
        let given =
            members.value(member)?.filter(|value| !value.as_object().is_some_and(|all| all.is_empty()));
        if given.is_some() {
            return Err(invalid(format!("{member} is not supported by this server.")));
        }
    }
    if members.map("tags")?.is_some_and(|tags| !tags.is_empty()) {
        return Err(invalid("Tags of signing profiles are not supported by this server yet.".into()));
    }
    let mut parameters = members.map("signingParameters")?.unwrap_or_default();
    let size: usize = parameters.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > PARAMETERS {
        return Err(invalid(format!("signingParameters may have {PARAMETERS} bytes.")));
    }
    let public_key = parameters.remove(PUBLIC_KEY).ok_or_else(|| {
        invalid(format!(
            "signingParameters needs {PUBLIC_KEY}: an Ed25519 public key in PEM, or what is in it."
        ))
    })?;
    Ok(PutProfile { name: name.to_owned(), public_key, validity: validity(&members)?, parameters })
}

fn validity(members: &Members<'_>) -> Result<Option<Validity>, Failure> {
    let Some(period) = members.object("signatureValidityPeriod")? else { return Ok(None) };
    let (value, unit) = (period.integer("value")?, period.text("type")?);
    let mut violations = Violations::default();
    violations.required("signatureValidityPeriod.value", value.is_some());
    violations.required("signatureValidityPeriod.type", unit.is_some());
    let (value, unit) = (value.unwrap_or(1), unit.unwrap_or_default());
    let member = "signatureValidityPeriod.type";
    if !unit.is_empty() {
        violations.one_of(member, &unit, &["DAYS", "MONTHS", "YEARS"]);
    }
    let (unit, days) = match unit.as_str() {
        "MONTHS" => (ValidityUnit::Months, 30),
        "YEARS" => (ValidityUnit::Years, 365),
        _ => (ValidityUnit::Days, 1),
    };
    violations.range("signatureValidityPeriod.value", value, 1, MOST_DAYS / days);
    violations.finish()?;
    Ok(Some(Validity { value: u32::try_from(value).unwrap_or(1), unit }))
}

/// AWS Signer API: RevokeSigningProfileRequest.
pub(super) struct Revocation {
    pub(super) version: String,
    pub(super) effective: Timestamp,
    pub(super) reason: String,
}

pub(super) fn revocation(body: &[u8]) -> Result<Revocation, Failure> {
    let members = Members::parse(body)?;
    let version = members.text("profileVersion")?;
    let effective = members.value("effectiveTime")?;
    let mut violations = Violations::default();
    violations.required("profileVersion", version.is_some());
    violations.required("effectiveTime", effective.is_some());
    let version = version.unwrap_or_default();
    let legal = version.len() == 10 && version.bytes().all(|b| b.is_ascii_alphanumeric());
    violations.pattern("profileVersion", &version, legal, "^[a-zA-Z0-9]{10}$");
    violations.finish()?;
    let effective = effective.as_ref().and_then(time);
    let effective = effective
        .ok_or_else(|| Failure::serialization("effectiveTime is no number of seconds since 1970"))?;
    Ok(Revocation { version, effective, reason: reason(&members)? })
}

pub(super) fn reason(members: &Members<'_>) -> Result<String, Failure> {
    let reason = members.text("reason")?;
    let mut violations = Violations::default();
    violations.required("reason", reason.is_some());
    if let Some(reason) = &reason {
        violations.length("reason", reason, 1, 500);
    }
    violations.finish()?;
    Ok(reason.unwrap_or_default())
}

/// Seconds since 1970, with a fraction or without.
fn time(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| seconds.abs() < 1e12)?;
    // Within what an i64 holds, by far.
    Some(Timestamp((seconds * 1000.0).round() as i64))
}

fn invalid(message: String) -> Failure {
    Failure::bad("ValidationException", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(more: Value, expect: &str) {
        let mut body =
            json!({ "platformId": PLATFORM, "signingParameters": { "publicKey": "k", "team": "a" } });
        for (name, member) in more.as_object().unwrap() {
            body[name] = member.clone();
        }
        let shown = match profile(body.to_string().as_bytes(), "us") {
            Ok(read) => format!("{read:?}"),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.contains(expect), "{body}: {shown}");
    }

    #[test]
    fn a_profile_is_a_key_and_a_time() {
        check(json!({}), r#"public_key: "k", validity: None, parameters: {"team": "a"}"#);
        check(
            json!({ "platformId": "AWSLambda-SHA384-ECDSA" }),
            "ValidationException: platformId is Virga-Ed25519",
        );
        check(json!({ "signingParameters": {} }), "signingParameters needs publicKey");
        check(json!({ "signingParameters": { "publicKey": "x".repeat(4096) } }), "may have 4096 bytes");
        check(json!({ "signingMaterial": { "certificateArn": "arn" } }), "signingMaterial is not supported");
        check(json!({ "signingMaterial": {}, "overrides": {} }), "public_key");
        check(json!({ "tags": { "a": "b" } }), "Tags");
        for (value, unit, expect) in [
            (4050, "DAYS", "value: 4050, unit: Days"),
            (4051, "DAYS", "less than or equal to 4050"),
            (135, "MONTHS", "value: 135, unit: Months"),
            (136, "MONTHS", "less than or equal to 135"),
            (11, "YEARS", "unit: Years"),
            (12, "YEARS", "less than or equal to 11"),
            (0, "DAYS", "greater than or equal to 1"),
            (1, "WEEKS", "[DAYS, MONTHS, YEARS]"),
        ] {
            check(json!({ "signatureValidityPeriod": { "value": value, "type": unit } }), expect);
        }
        check(
            json!({ "signatureValidityPeriod": { "value": 1 } }),
            "Value null at 'signatureValidityPeriod.type'",
        );
    }

    #[test]
    fn a_revocation_says_from_when_and_why() {
        let read = |body: Value| revocation(body.to_string().as_bytes());
        let fine =
            json!({ "profileVersion": "abcdefghij", "effectiveTime": 1_795_160_258.5, "reason": "lost" });
        assert_eq!(read(fine.clone()).map(|read| read.effective).ok(), Some(Timestamp(1_795_160_258_500)));
        for (name, bad) in [
            ("profileVersion", json!("abc")),
            ("effectiveTime", json!("now")),
            ("effectiveTime", json!(1e300)),
            ("reason", json!("")),
            ("reason", json!("x".repeat(501))),
            ("reason", json!(null)),
        ] {
            let mut body = fine.clone();
            body[name] = bad;
            assert!(read(body.clone()).is_err(), "{body}");
        }
    }
}
