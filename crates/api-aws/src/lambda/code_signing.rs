//! Lambda API: code signing configurations, and which one a function has.

use base::FunctionArn;
use functions::{CodeSigningConfigChange, CodeSigningConfigView, Signature};
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::{Value, json as value};

use super::{failed, json, latest, max_items, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

const CONFIG_PATTERN: &str = "arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:code-signing-config:csc-[a-z0-9]{17}";
const ARN_PATTERN: &str = "arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1})?:(\\d{12})?:(.*)";
/// Lambda API: SigningProfileVersionArns.
const PUBLISHERS: usize = 20;

/// 201.
pub(super) async fn create(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let args = read(&request.body, true)?;
    let created = request.api.functions.create_code_signing_config(request.caller, args).await;
    Ok(json(StatusCode::CREATED, &wrapped(&created.map_err(failed(request))?)))
}

/// 200.
pub(super) fn get(request: &Request<'_>, arn: &str) -> Result<Response<Body>, Failure> {
    check_label(arn)?;
    let found = request.api.functions.code_signing_config(request.caller, arn).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &wrapped(&found)))
}

/// 200.
pub(super) async fn update(request: &Request<'_>, arn: &str) -> Result<Response<Body>, Failure> {
    check_label(arn)?;
    let args = read(&request.body, false)?;
    let updated = request.api.functions.update_code_signing_config(request.caller, arn, args).await;
    Ok(json(StatusCode::OK, &wrapped(&updated.map_err(failed(request))?)))
}

/// 204.
pub(super) async fn delete(request: &Request<'_>, arn: &str) -> Result<Response<Body>, Failure> {
    check_label(arn)?;
    let deleted = request.api.functions.delete_code_signing_config(request.caller, arn).await;
    deleted.map_err(failed(request))?;
    Ok(no_content())
}

/// A page of configurations.
pub(super) fn list(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let max = max_items(request, 10_000, limits::FUNCTION_PAGE)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let page = request.api.functions.code_signing_configs(request.caller, marker.as_deref(), max);
    let page = page.map_err(failed(request))?;
    let items: Vec<Value> = page.items.iter().map(shape).collect();
    Ok(json(StatusCode::OK, &paged("CodeSigningConfigs", items.into(), page.next_marker)))
}

/// A page of the functions that have one: their ARNs.
pub(super) fn functions(request: &Request<'_>, arn: &str) -> Result<Response<Body>, Failure> {
    check_label(arn)?;
    let max = max_items(request, 10_000, limits::FUNCTION_PAGE)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let functions = &request.api.functions;
    let page = functions.functions_by_code_signing_config(request.caller, arn, marker.as_deref(), max);
    let page = page.map_err(failed(request))?;
    Ok(json(StatusCode::OK, &paged("FunctionArns", page.items.into(), page.next_marker)))
}

/// 200.
pub(super) async fn put_of_function(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let arn = Members::parse(&request.body)?.text("CodeSigningConfigArn")?;
    let mut violations = Violations::default();
    violations.required("codeSigningConfigArn", arn.is_some());
    let arn = arn.unwrap_or_default();
    check_arn(&mut violations, &arn);
    violations.finish()?;
    let function = latest(request, label)?;
    let put = request.api.functions.put_function_code_signing(request.caller, &function, &arn).await;
    put.map_err(failed(request))?;
    Ok(json(StatusCode::OK, &value!({ "CodeSigningConfigArn": arn, "FunctionName": function.name })))
}

/// 200; empty where the function has none, as with Lambda.
pub(super) fn get_of_function(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let found = request.api.functions.function_code_signing(request.caller, &function);
    let answer = match found.map_err(failed(request))? {
        Some(arn) => value!({ "CodeSigningConfigArn": arn, "FunctionName": function.name }),
        None => value!({}),
    };
    Ok(json(StatusCode::OK, &answer))
}

/// 204; that the function has none is no error.
pub(super) async fn delete_of_function(
    request: &Request<'_>,
    label: &str,
) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let deleted = request.api.functions.delete_function_code_signing(request.caller, &function).await;
    deleted.map_err(failed(request))?;
    Ok(no_content())
}

/// `CodeSigningConfigArn` of CreateFunction.
pub(super) fn given(members: &Members<'_>, violations: &mut Violations) -> Result<Option<String>, Failure> {
    let arn = members.condition("CodeSigningConfigArn")?;
    if let Some(arn) = &arn {
        check_arn(violations, arn);
    }
    Ok(arn)
}

/// The two members that say whose signature something has.
pub(super) fn signed(out: &mut Value, signature: Option<&Signature>) {
    if let Some(signature) = signature {
        out["SigningProfileVersionArn"] = value!(signature.profile_version_arn);
        out["SigningJobArn"] = value!(signature.job_arn);
    }
}

fn paged(member: &str, items: Value, next_marker: Option<String>) -> Value {
    let mut out = value!({ member: items });
    if let Some(marker) = next_marker {
        out["NextMarker"] = marker.into();
    }
    out
}

fn wrapped(view: &CodeSigningConfigView) -> Value {
    value!({ "CodeSigningConfig": shape(view) })
}

/// Lambda API: CodeSigningConfig.
fn shape(view: &CodeSigningConfigView) -> Value {
    let config = &view.config;
    value!({
        "CodeSigningConfigId": view.id,
        "CodeSigningConfigArn": view.arn,
        "Description": config.description,
        "AllowedPublishers": { "SigningProfileVersionArns": config.publishers },
        "CodeSigningPolicies": { "UntrustedArtifactOnDeployment": if config.enforce { "Enforce" } else { "Warn" } },
        "LastModified": config.modified.to_lambda(),
    })
}

/// Lambda API: CreateCodeSigningConfigRequest, UpdateCodeSigningConfigRequest.
fn read(body: &[u8], new: bool) -> Result<CodeSigningConfigChange, Failure> {
    let members = Members::parse(body)?;
    let mut violations = Violations::default();
    let description = members.text("Description")?;
    violations.length("description", description.as_deref().unwrap_or_default(), 0, 256);
    let allowed = members.object("AllowedPublishers")?;
    violations.required("allowedPublishers", allowed.is_some() || !new);
    let publishers = match &allowed {
        Some(allowed) => {
            let arns = allowed.texts("SigningProfileVersionArns")?;
            violations.required("allowedPublishers.signingProfileVersionArns", arns.is_some());
            arns
        }
        None => None,
    };
    if let Some(arns) = &publishers {
        check_publishers(&mut violations, arns);
    }
    let policy = members.object("CodeSigningPolicies")?;
    let policy = policy.map(|policy| policy.text("UntrustedArtifactOnDeployment")).transpose()?.flatten();
    if let Some(policy) = &policy {
        let member = "codeSigningPolicies.untrustedArtifactOnDeployment";
        violations.one_of(member, policy, &["Warn", "Enforce"]);
    }
    violations.finish()?;
    if new && members.map("Tags")?.is_some_and(|tags| !tags.is_empty()) {
        return Err(Failure::invalid_parameter(
            "Tags of code signing configurations are not supported by this server yet.",
        ));
    }
    if let Some(bad) = publishers.iter().flatten().find(|arn| !is_profile(arn)) {
        return Err(Failure::invalid_parameter(format!(
            "{bad} is no signing profile: use arn:aws:signer:REGION:ACCOUNT:/signing-profiles/NAME[/VERSION]."
        )));
    }
    Ok(CodeSigningConfigChange { description, publishers, enforce: policy.map(|policy| policy == "Enforce") })
}

fn check_publishers(violations: &mut Violations, arns: &[String]) {
    let member = "allowedPublishers.signingProfileVersionArns";
    violations.count(member, arns.len(), PUBLISHERS);
    violations.rule(member, "[]", !arns.is_empty(), "Member must have length greater than or equal to 1");
    for arn in arns {
        violations.pattern(member, arn, super::permissions::is_arn(arn), ARN_PATTERN);
    }
}

/// `arn:aws:signer:REGION:ACCOUNT:/signing-profiles/NAME[/VERSION]`
fn is_profile(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, _, service, region, account, rest] = parts[..] else { return false };
    let name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let named = rest.strip_prefix("/signing-profiles/").is_some_and(|rest| match rest.split_once('/') {
        Some((profile, version)) => name(profile) && name(version),
        None => name(rest),
    });
    service == "signer" && !region.is_empty() && base::AccountId::parse(account).is_some() && named
}

fn check_label(arn: &str) -> Result<(), Failure> {
    let mut violations = Violations::default();
    check_arn(&mut violations, arn);
    violations.finish()
}

fn check_arn(violations: &mut Violations, arn: &str) {
    violations.length("codeSigningConfigArn", arn, 0, 200);
    violations.pattern("codeSigningConfigArn", arn, is_config(arn), CONFIG_PATTERN);
}

fn is_config(arn: &str) -> bool {
    // The first parts are a function's: only what stands in its place differs.
    let Some((before, id)) = arn.split_once(":code-signing-config:csc-") else { return false };
    FunctionArn::parse(&format!("{before}:function:x")).is_some()
        && id.len() == 17
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "arn:aws:signer:us-east-1:123456789012:/signing-profiles/us";

    fn check(body: Value, new: bool, expect: &str) {
        let shown = match read(body.to_string().as_bytes(), new) {
            Ok(read) => format!("{read:?}"),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.contains(expect), "{body}: {shown}");
    }

    fn publishers(arns: &[String]) -> Value {
        value!({ "AllowedPublishers": { "SigningProfileVersionArns": arns } })
    }

    #[test]
    fn a_request_is_checked_for_shape() {
        check(value!({}), true, "Value null at 'allowedPublishers'");
        check(value!({}), false, "publishers: None, enforce: None");
        check(value!({ "AllowedPublishers": {} }), true, "'allowedPublishers.signingProfileVersionArns'");
        check(publishers(&[PROFILE.into()]), true, "enforce: None");
        check(publishers(&[format!("{PROFILE}/abcdefghij")]), true, "abcdefghij");
        check(publishers(&["profile".into()]), true, "ValidationException");
        for bad in [
            "arn:aws:s3:::bucket".to_owned(),
            format!("{PROFILE}/a/b"),
            format!("{PROFILE}/"),
            "arn:aws:signer:us-east-1:123456789012:/signing-jobs/x".into(),
        ] {
            check(publishers(&[bad]), true, "InvalidParameterValueException");
        }
        let policy = |policy: &str| {
            let mut body = publishers(&[PROFILE.into()]);
            body["CodeSigningPolicies"] = value!({ "UntrustedArtifactOnDeployment": policy });
            body
        };
        check(policy("Enforce"), true, "enforce: Some(true)");
        check(policy("Warn"), false, "enforce: Some(false)");
        check(policy("Refuse"), true, "[Warn, Enforce]");
        check(value!({ "Description": "x".repeat(257) }), false, "'description'");
    }

    #[test]
    fn there_are_one_to_twenty_publishers() {
        let some = |count: usize| (0..count).map(|n| format!("{PROFILE}{n}")).collect::<Vec<_>>();
        check(publishers(&some(20)), true, "us19");
        check(publishers(&some(21)), true, "Member must have length less than or equal to 20");
        check(publishers(&[]), true, "Member must have length greater than or equal to 1");
    }

    #[test]
    fn configurations_have_arns() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-0123456789abcdefg";
        assert!(is_config(arn));
        for bad in [&arn[1..], &arn[..arn.len() - 1], &arn.replace("csc-0", "csc-A"), "csc-0123456789abcdefg"]
        {
            assert!(!is_config(bad), "{bad}");
        }
    }
}
