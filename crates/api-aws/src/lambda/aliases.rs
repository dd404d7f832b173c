//! Lambda API: CreateAlias, GetAlias, UpdateAlias, DeleteAlias, ListAliases.

use std::collections::BTreeMap;

use functions::model::LATEST;
use functions::{AliasView, CreateAlias, UpdateAlias, Weighted};
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::{Value, json as value};

use super::{failed, json, latest, max_items, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

const NAME_PATTERN: &str = "(?!^[0-9]+$)([a-zA-Z0-9-_]+)";
const VERSION_PATTERN: &str = "(\\$LATEST(\\.PUBLISHED)?|[0-9]+)";
const WEIGHT_RULE: &str = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must \
                           have value greater than or equal to 0.0, Member must not be null]";
const WEIGHED_RULE: &str = "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must \
                            have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, \
                            Member must not be null]";

/// A member that AWS's model does not have, so that other clients ignore it: the version that a roll back leads to.
const PREVIOUS: &str = "virgaPreviousVersion";

/// 201.
pub(super) async fn create(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let args = read_new(&request.body)?;
    let function = latest(request, label)?;
    let created = request.api.functions.create_alias(request.caller, &function, args).await;
    Ok(json(StatusCode::CREATED, &shape(&created.map_err(failed(request))?)))
}

/// 200.
pub(super) fn get(request: &Request<'_>, label: &str, name: &str) -> Result<Response<Body>, Failure> {
    check_name(name)?;
    let function = latest(request, label)?;
    let found = request.api.functions.alias(request.caller, &function, name).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &shape(&found)))
}

/// 200.
pub(super) async fn update(
    request: &Request<'_>,
    label: &str,
    name: &str,
) -> Result<Response<Body>, Failure> {
    check_name(name)?;
    let args = read_change(&request.body)?;
    let function = latest(request, label)?;
    let updated = request.api.functions.update_alias(request.caller, &function, name, args).await;
    Ok(json(StatusCode::OK, &shape(&updated.map_err(failed(request))?)))
}

/// 204; that there is none is no error.
pub(super) async fn delete(
    request: &Request<'_>,
    label: &str,
    name: &str,
) -> Result<Response<Body>, Failure> {
    check_name(name)?;
    let function = latest(request, label)?;
    request.api.functions.delete_alias(request.caller, &function, name).await.map_err(failed(request))?;
    Ok(no_content())
}

/// A page of aliases, of one version where that is asked for.
pub(super) fn list(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let version = request.query("FunctionVersion");
    let mut violations = Violations::default();
    if let Some(version) = &version {
        check_version(version, &mut violations);
    }
    violations.finish()?;
    let function = latest(request, label)?;
    let max = max_items(request, 10_000, limits::FUNCTION_PAGE)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let functions = &request.api.functions;
    let page = functions.aliases(request.caller, &function, version.as_deref(), marker.as_deref(), max);
    let page = page.map_err(failed(request))?;
    let items: Vec<Value> = page.items.iter().map(shape).collect();
    let mut out = value!({ "Aliases": items });
    if let Some(marker) = page.next_marker {
        out["NextMarker"] = marker.into();
    }
    Ok(json(StatusCode::OK, &out))
}

/// Lambda API: AliasConfiguration.
fn shape(view: &AliasView) -> Value {
    let alias = &view.alias;
    let mut out = value!({
        "AliasArn": view.arn.to_string(),
        "Name": view.arn.qualifier,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    });
    if let Some(other) = &alias.additional {
        let weights = BTreeMap::from([(&other.version, other.weight)]);
        out["RoutingConfig"] = value!({ "AdditionalVersionWeights": weights });
    }
    if let Some(before) = alias.before.last() {
        out[PREVIOUS] = before.as_str().into();
    }
    out
}

fn read_new(body: &[u8]) -> Result<CreateAlias, Failure> {
    let members = Members::parse(body)?;
    let (name, version) = (members.text("Name")?, members.text("FunctionVersion")?);
    let mut violations = Violations::default();
    violations.required("name", name.is_some());
    violations.required("functionVersion", version.is_some());
    if let Some(name) = &name {
        check_name_of(name, &mut violations);
    }
    let given = common(&members, version, &mut violations)?;
    violations.finish()?;
    Ok(CreateAlias {
        name: name.unwrap_or_default(),
        version: given.version.unwrap_or_default(),
        description: given.description.unwrap_or_default(),
        additional: given.additional.unwrap_or_default(),
    })
}

fn read_change(body: &[u8]) -> Result<UpdateAlias, Failure> {
    let members = Members::parse(body)?;
    let mut violations = Violations::default();
    let change = common(&members, members.text("FunctionVersion")?, &mut violations)?;
    violations.finish()?;
    Ok(change)
}

/// The members that both operations take.
fn common(
    members: &Members<'_>,
    version: Option<String>,
    violations: &mut Violations,
) -> Result<UpdateAlias, Failure> {
    if let Some(version) = &version {
        check_version(version, violations);
    }
    let description = members.text("Description")?;
    violations.length("description", description.as_deref().unwrap_or_default(), 0, 256);
    Ok(UpdateAlias {
        version,
        description,
        additional: weights(members, violations)?,
        revision_id: members.condition("RevisionId")?,
    })
}

/// Lambda API: AliasRoutingConfiguration.
fn weights(members: &Members<'_>, violations: &mut Violations) -> Result<Option<Vec<Weighted>>, Failure> {
    let Some(routing) = members.object("RoutingConfig")? else { return Ok(None) };
    let weights = routing.numbers("AdditionalVersionWeights")?.unwrap_or_default();
    let mut additional = Vec::new();
    for (version, weight) in weights {
        let member = "routingConfig.additionalVersionWeights";
        let shown = format!("{{{version}={weight:?}}}");
        violations.rule(member, &shown, (0.0..=1.0).contains(&weight), WEIGHT_RULE);
        violations.rule(member, &shown, is_number(&version), WEIGHED_RULE);
        additional.push(Weighted { version, weight });
    }
    Ok(Some(additional))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let mut violations = Violations::default();
    check_name_of(name, &mut violations);
    violations.finish()
}

fn check_name_of(name: &str, violations: &mut Violations) {
    violations.length("name", name, 1, 128);
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let digits = name.bytes().all(|b| b.is_ascii_digit());
    violations.pattern("name", name, letters && !digits, NAME_PATTERN);
}

fn check_version(version: &str, violations: &mut Violations) {
    violations.pattern("functionVersion", version, version == LATEST || is_number(version), VERSION_PATTERN);
}

fn is_number(version: &str) -> bool {
    (1..=1024).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: &str) {
        let shown = match read_new(body.as_bytes()) {
            Ok(args) => format!("{args:?}"),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.contains(expect), "{body}: {shown}");
    }

    #[test]
    fn names_and_versions_have_patterns() {
        check(r#"{"Name":"live","FunctionVersion":"1"}"#, r#"name: "live", version: "1""#);
        check(r#"{"Name":"live","FunctionVersion":"$LATEST"}"#, r#"version: "$LATEST""#);
        check("{}", "2 validation errors detected: Value null at 'name'");
        for bad in ["12", "a.b", "a:b", "", "$LATEST", &"a".repeat(129)] {
            let body = value!({ "Name": bad, "FunctionVersion": "1" }).to_string();
            check(&body, "ValidationException: ");
        }
        let longest = value!({ "Name": "a".repeat(128), "FunctionVersion": "1" }).to_string();
        check(&longest, "CreateAlias");
        for bad in ["live", "", "-1", "$LATEST.PUBLISHED"] {
            let body = value!({ "Name": "live", "FunctionVersion": bad }).to_string();
            check(
                &body,
                "'functionVersion' failed to satisfy constraint: Member must satisfy regular expression",
            );
        }
    }

    #[test]
    fn descriptions_have_a_length() {
        for (length, expect) in [(256, "CreateAlias"), (257, "'description'")] {
            let text = "d".repeat(length);
            check(&value!({ "Name": "a", "FunctionVersion": "1", "Description": text }).to_string(), expect);
        }
    }

    #[test]
    fn weights_are_parts_of_one() {
        let weighted = |weights: &str| {
            format!(
                r#"{{"Name":"a","FunctionVersion":"1","RoutingConfig":{{"AdditionalVersionWeights":{weights}}}}}"#
            )
        };
        check(&weighted(r#"{"2":0.1}"#), r#"Weighted { version: "2", weight: 0.1 }"#);
        check(&weighted(r#"{"2":1}"#), "weight: 1.0");
        check(&weighted(r#"{"2":0}"#), "weight: 0.0");
        check(&weighted("{}"), "additional: []");
        check(
            &weighted(r#"{"2":1.01}"#),
            "Value '{2=1.01}' at 'routingConfig.additionalVersionWeights' failed",
        );
        check(&weighted(r#"{"2":-0.1}"#), "Map value must satisfy constraint");
        check(&weighted(r#"{"live":0.1}"#), "Map keys must satisfy constraint");
        check(&weighted(r#"{"2":"x"}"#), "SerializationException");
    }

    #[test]
    fn absent_members_of_a_change_stay() {
        let change = read_change(br#"{"RevisionId":"r"}"#).unwrap();
        assert_eq!((change.version, change.description, change.additional), (None, None, None));
        assert_eq!(change.revision_id.as_deref(), Some("r"));
        let cleared = read_change(br#"{"RoutingConfig":{}}"#).unwrap();
        assert_eq!(cleared.additional, Some(Vec::new()));
    }
}
