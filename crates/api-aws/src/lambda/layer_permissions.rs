//! Lambda API: AddLayerVersionPermission, GetLayerVersionPolicy, RemoveLayerVersionPermission.

use base::AccountId;
use functions::{LayerPermission, PolicyView};
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::json as value;

use super::{failed, json, layers, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

/// The one action that can be allowed.
const ACTION: &str = "lambda:GetLayerVersion";
const STATEMENT_PATTERN: &str = "([a-zA-Z0-9-_]+)";
const PRINCIPAL_PATTERN: &str = "\\d{12}|\\*|arn:(aws[a-zA-Z-]*):iam::\\d{12}:root";
const ORGANIZATION_PATTERN: &str = "o-[a-z0-9]{10,32}";

/// 201 with the statement.
pub(super) async fn add(request: &Request<'_>, labels: &[String]) -> Result<Response<Body>, Failure> {
    let arn = layers::numbered(request, labels)?;
    let args = read(&request.body, revision(request))?;
    let added = request.api.functions.permit_layer_version(request.caller, &arn, args).await;
    let PolicyView { text, revision_id } = added.map_err(failed(request))?;
    Ok(json(StatusCode::CREATED, &value!({ "Statement": text, "RevisionId": revision_id })))
}

fn revision(request: &Request<'_>) -> Option<String> {
    request.query("RevisionId").filter(|revision| !revision.is_empty())
}

fn read(body: &[u8], revision_id: Option<String>) -> Result<LayerPermission, Failure> {
    let members = Members::parse(body)?;
    let mut violations = Violations::default();
    let mut required = |member: &str, shown: &str| -> Result<String, Failure> {
        let text = members.text(member)?;
        violations.required(shown, text.is_some());
        Ok(text.unwrap_or_default())
    };
    let statement = required("StatementId", "statementId")?;
    let action = required("Action", "action")?;
    let principal = required("Principal", "principal")?;
    let organization = members.text("OrganizationId")?.filter(|text| !text.is_empty());
    if !statement.is_empty() {
        check_statement(&statement, &mut violations);
    }
    if !action.is_empty() {
        violations.pattern("action", &action, action == ACTION, ACTION);
    }
    if !principal.is_empty() {
        violations.pattern("principal", &principal, is_principal(&principal), PRINCIPAL_PATTERN);
    }
    if let Some(organization) = &organization {
        let legal = is_organization(organization);
        violations.pattern("organizationId", organization, legal, ORGANIZATION_PATTERN);
    }
    violations.finish()?;
    Ok(LayerPermission { statement, action, principal, organization, revision_id })
}

fn check_statement(statement: &str, violations: &mut Violations) {
    violations.length("statementId", statement, 1, 100);
    let legal = statement.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    violations.pattern("statementId", statement, legal, STATEMENT_PATTERN);
}

fn is_principal(text: &str) -> bool {
    let root = text.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root"));
    text == "*" || AccountId::parse(root.unwrap_or(text)).is_some()
}

fn is_organization(text: &str) -> bool {
    text.strip_prefix("o-").is_some_and(|rest| {
        (10..=32).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

/// The policy.
pub(super) fn get(request: &Request<'_>, labels: &[String]) -> Result<Response<Body>, Failure> {
    let arn = layers::numbered(request, labels)?;
    let policy = request.api.functions.layer_policy(request.caller, &arn).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &value!({ "Policy": policy.text, "RevisionId": policy.revision_id })))
}

/// 204.
pub(super) async fn remove(request: &Request<'_>, labels: &[String]) -> Result<Response<Body>, Failure> {
    let arn = layers::numbered(request, labels)?;
    let statement = labels.get(2).map_or("", String::as_str);
    let mut violations = Violations::default();
    check_statement(statement, &mut violations);
    violations.finish()?;
    let revision = revision(request);
    let functions = &request.api.functions;
    let removed = functions.forbid_layer_version(request.caller, &arn, statement, revision.as_deref());
    removed.await.map_err(failed(request))?;
    Ok(no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_checked_for_shape() {
        let check = |sid: &str, action: &str, principal: &str, more: &str, expect: &str| {
            let body =
                format!(r#"{{"StatementId":"{sid}","Action":"{action}","Principal":"{principal}"{more}}}"#);
            let shown = read(body.as_bytes(), None).err().map_or(String::new(), |failure| failure.message);
            assert!(shown.contains(expect) && shown.is_empty() == expect.is_empty(), "{body}: {shown}");
        };
        check("x", ACTION, "210987654321", "", "");
        check("x", ACTION, "arn:aws:iam::210987654321:root", "", "");
        check("x", ACTION, "*", r#","OrganizationId":"o-0123456789""#, "");
        check(&"x".repeat(100), ACTION, "*", "", "");
        check(&"x".repeat(101), ACTION, "*", "", "less than or equal to 100");
        check("a b", ACTION, "*", "", "'statementId'");
        check("x", "lambda:InvokeFunction", "*", "", "'action'");
        check("x", ACTION, "arn:aws:iam::210987654321:user/u", "", "'principal'");
        check("x", ACTION, "21098765432", "", "'principal'");
        check("x", ACTION, "*", r#","OrganizationId":"o-012345678""#, "'organizationId'");
        let missing = read(b"{}", None).unwrap_err().message;
        assert!(missing.starts_with("3 validation errors"), "{missing}");
    }
}
