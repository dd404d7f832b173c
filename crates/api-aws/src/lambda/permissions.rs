//! Lambda API: AddPermission, GetPolicy, RemovePermission, and on whole documents GetResourcePolicy,
//! PutResourcePolicy, DeleteResourcePolicy.

use base::FunctionArn;
use functions::model::{FunctionRef, Grant, PolicyView, UrlAuth};
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::{Value, json as value};

use super::{failed, function, json, name, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

/// Characters of a member that has no shorter bound of its own in the model.
const LONG: usize = 10_000;

/// 201 with the statement.
pub(super) async fn add(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let grant = read(&request.body)?;
    let statement = request.api.functions.add_permission(request.caller, &function, grant).await;
    let statement = statement.map_err(failed(request))?;
    Ok(json(StatusCode::CREATED, &value!({ "Statement": statement })))
}

/// 204.
pub(super) async fn remove(
    request: &Request<'_>,
    label: &str,
    statement_id: &str,
) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let mut violations = Violations::default();
    check_id(&mut violations, statement_id, true);
    violations.finish()?;
    let revision = request.query("RevisionId").filter(|text| !text.is_empty());
    let functions = &request.api.functions;
    let removed = functions.remove_permission(request.caller, &function, statement_id, revision).await;
    removed.map_err(failed(request))?;
    Ok(no_content())
}

/// 200.
pub(super) fn get(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let policy = request.api.functions.policy(request.caller, &function).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &shape(&policy)))
}

/// 200.
pub(super) fn get_resource(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = by_arn(request, label)?;
    let policy = request.api.functions.policy(request.caller, &function).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &shape(&policy)))
}

/// 200 with the document as it is kept.
pub(super) async fn put_resource(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = by_arn(request, label)?;
    let members = Members::parse(&request.body)?;
    let policy = members.text("Policy")?;
    let mut violations = Violations::default();
    violations.required("policy", policy.is_some());
    let policy = policy.unwrap_or_default();
    violations.finish()?;
    let revision = members.condition("RevisionId")?;
    let put = request.api.functions.put_policy(request.caller, &function, &policy, revision).await;
    Ok(json(StatusCode::OK, &shape(&put.map_err(failed(request))?)))
}

/// 204.
pub(super) async fn delete_resource(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = by_arn(request, label)?;
    let revision = request.query("RevisionId").filter(|text| !text.is_empty());
    let deleted = request.api.functions.delete_policy(request.caller, &function, revision).await;
    deleted.map_err(failed(request))?;
    Ok(no_content())
}

/// These operations take a whole ARN and no name.
fn by_arn(request: &Request<'_>, label: &str) -> Result<FunctionRef, Failure> {
    let mut violations = Violations::default();
    let pattern =
        "arn:(aws[a-zA-Z-]*)?:lambda:REGION:\\d{12}:function:[a-zA-Z0-9-_]+(:(\\$LATEST|[a-zA-Z0-9-_])+)?";
    violations.pattern("resourceArn", label, FunctionArn::parse(label).is_some(), pattern);
    violations.finish()?;
    name::function(label, None, &request.caller.account, &request.api.region)
}

fn shape(policy: &PolicyView) -> Value {
    value!({ "Policy": policy.document, "RevisionId": policy.revision_id })
}

/// Lambda API: AddPermissionRequest.
fn read(body: &[u8]) -> Result<Grant, Failure> {
    let members = Members::parse(body)?;
    let mut violations = Violations::default();
    let mut required = |member: &str, name: &str| {
        let text = members.text(member)?;
        violations.required(name, text.is_some());
        Ok::<_, Failure>(text.unwrap_or_default())
    };
    let statement_id = required("StatementId", "statementId")?;
    let action = required("Action", "action")?;
    let principal = required("Principal", "principal")?;
    violations.finish()?;
    let url_auth = members.text("FunctionUrlAuthType")?;
    let grant = Grant {
        statement_id,
        action,
        principal,
        source_arn: members.text("SourceArn")?,
        source_account: members.text("SourceAccount")?,
        event_source_token: members.text("EventSourceToken")?,
        url_auth: url_auth
            .as_deref()
            .map(|auth| if auth == "AWS_IAM" { UrlAuth::AwsIam } else { UrlAuth::None }),
        via_url: members.boolean("InvokedViaFunctionUrl")?,
        principal_org: members.text("PrincipalOrgID")?,
        revision_id: members.condition("RevisionId")?,
    };
    let mut violations = Violations::default();
    if let Some(auth) = &url_auth {
        violations.one_of("functionUrlAuthType", auth, &["NONE", "AWS_IAM"]);
    }
    check(&mut violations, &grant);
    violations.finish()?;
    Ok(grant)
}

fn check(violations: &mut Violations, grant: &Grant) {
    check_id(violations, &grant.statement_id, false);
    violations.length("action", &grant.action, 0, LONG);
    let action = is_action(&grant.action);
    violations.pattern("action", &grant.action, action, "(lambda:[*]|lambda:[a-zA-Z]+|[*])");
    violations.length("principal", &grant.principal, 0, 2048);
    let principal = !grant.principal.is_empty() && !grant.principal.contains(char::is_whitespace);
    violations.pattern("principal", &grant.principal, principal, "[^\\s]+");
    if let Some(arn) = &grant.source_arn {
        let pattern = "arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\\-])+:(REGION)?:(\\d{12})?:(.*)";
        violations.pattern("sourceArn", arn, is_arn(arn), pattern);
    }
    if let Some(account) = &grant.source_account {
        let legal = base::AccountId::parse(account).is_some();
        violations.pattern("sourceAccount", account, legal, "\\d{12}");
    }
    if let Some(token) = &grant.event_source_token {
        violations.length("eventSourceToken", token, 0, 256);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let legal = !token.is_empty() && token.bytes().all(plain);
        violations.pattern("eventSourceToken", token, legal, "[a-zA-Z0-9._\\-]+");
    }
    if let Some(org) = &grant.principal_org {
        violations.length("principalOrgID", org, 12, 34);
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let legal = org.strip_prefix("o-").is_some_and(|id| id.bytes().all(plain));
        violations.pattern("principalOrgID", org, legal, "o-[a-z0-9]{10,32}");
    }
}

/// What is removed may have a dot in its name, what is added may not.
fn check_id(violations: &mut Violations, id: &str, dots: bool) {
    violations.length("statementId", id, 1, 100);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_') || (dots && b == b'.');
    let pattern = if dots { "([a-zA-Z0-9-_.]+)" } else { "([a-zA-Z0-9-_]+)" };
    violations.pattern("statementId", id, id.bytes().all(plain), pattern);
}

fn is_action(action: &str) -> bool {
    let name =
        |name: &str| name == "*" || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()));
    action == "*" || action.strip_prefix("lambda:").is_some_and(name)
}

/// `arn:aws:SERVICE:[REGION]:[ACCOUNT]:…`
pub(super) fn is_arn(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let [scheme, partition, service, region, account, _] = parts[..] else { return false };
    scheme == "arn"
        && partition.starts_with("aws")
        && !service.is_empty()
        && [partition, service, region].iter().all(|part| part.bytes().all(plain))
        && (account.is_empty() || base::AccountId::parse(account).is_some())
        && arn.len() <= LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(members: Value, expect: &str) {
        let mut body = value!({
            "StatementId": "one", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"
        });
        for (name, member) in members.as_object().unwrap() {
            body[name] = member.clone();
        }
        let shown = match read(body.to_string().as_bytes()) {
            Ok(grant) => format!("{grant:?}"),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.contains(expect), "{body}: {shown}");
    }

    #[test]
    fn members_keep_the_models_constraints() {
        check(value!({}), "principal: \"s3.amazonaws.com\"");
        check(value!({ "StatementId": null, "Action": null }), "2 validation errors detected: Value null at");
        for (name, bad, said) in [
            ("StatementId", "a.b", "'statementId'"),
            ("StatementId", "", "'statementId'"),
            ("StatementId", &"x".repeat(101), "'statementId'"),
            ("Action", "s3:GetObject", "'action'"),
            ("Action", "lambda:", "'action'"),
            ("Principal", "a b", "'principal'"),
            ("SourceArn", "bucket", "'sourceArn'"),
            ("SourceAccount", "12", "'sourceAccount'"),
            ("EventSourceToken", "a b", "'eventSourceToken'"),
            ("PrincipalOrgID", "o-ABCDEFGHIJ", "'principalOrgID'"),
            ("PrincipalOrgID", "o-short", "'principalOrgID'"),
            ("FunctionUrlAuthType", "SOME", "'functionUrlAuthType'"),
        ] {
            check(value!({ name: bad }), said);
        }
        for (name, good) in [
            ("StatementId", &*"x".repeat(100)),
            ("Action", "lambda:*"),
            ("Action", "*"),
            ("SourceArn", "arn:aws:s3:::bucket"),
            ("SourceArn", "arn:aws:events:us-east-1:123456789012:rule/x:y"),
            ("SourceAccount", "123456789012"),
            ("PrincipalOrgID", "o-abcdefghij"),
            ("FunctionUrlAuthType", "AWS_IAM"),
        ] {
            check(value!({ name: good }), "Grant {");
        }
    }
}
