//! CloudWatch Logs (JSON 1.1, `Logs_20140328`): reading what functions printed.
//!
//! FilterLogEvents answers `nextToken` only while more is written already, as AWS does for a finished
//! search. To follow a log, take the extra member `virgaResume` (always there, unknown to AWS's model, so
//! other clients ignore it) and give it back as `nextToken`: the next page starts where this one ended.

mod describe;
mod errors;
mod events;

use http::{Response, StatusCode};
use iam::Caller;
use observe::LogsError;
use sandbox::Body;
use serde_json::Value;

use crate::failure::Failure;
use crate::members::Members;
use crate::protocol;
use crate::request::Request;
use errors::invalid;

/// What `X-Amz-Target` starts with.
const TARGET: &str = "Logs_20140328.";

/// Runs the operation that the target header names.
pub(crate) async fn run(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let target = request.header("x-amz-target").unwrap_or_default();
    let members = Members::parse(&request.body)?;
    let answer = match target.strip_prefix(TARGET).unwrap_or(target) {
        "DescribeLogGroups" => describe::log_groups(request, &members).await?,
        "DescribeLogStreams" => describe::log_streams(request, &members).await?,
        "GetLogEvents" => events::get_log_events(request, &members).await?,
        "FilterLogEvents" => events::filter_log_events(request, &members).await?,
        other => return Err(crate::dispatch::unknown_operation("CloudWatch Logs", other)),
    };
    Ok(protocol::answer(StatusCode::OK, "application/x-amz-json-1.1", answer.to_string()))
}

/// Reads files off the async threads.
async fn blocking<T: Send + 'static>(
    request: &Request<'_>,
    work: impl FnOnce(&observe::Logs) -> Result<T, LogsError> + Send + 'static,
) -> Result<T, Failure> {
    let logs = request.api.logs.clone();
    let id = request.id;
    match tokio::task::spawn_blocking(move || work(&logs)).await {
        Ok(outcome) => outcome.map_err(|error| errors::failure(&error, id)),
        Err(panic) => {
            tracing::error!(request_id = %id, %panic, "reading logs failed");
            Err(errors::internal())
        }
    }
}

/// Log groups have no owner of their own here: the caller's right to the action on the group decides.
fn permit(caller: &Caller, action: &str, arn: &str) -> Result<(), Failure> {
    if caller.may(action, arn) {
        return Ok(());
    }
    Err(Failure::bad(
        "AccessDeniedException",
        format!("User: {} is not authorized to perform: {action} on resource: {arn}", caller.arn()),
    ))
}

fn group_arn(request: &Request<'_>, group: &str) -> String {
    format!("arn:aws:logs:{}:{}:log-group:{group}", request.api.region, request.caller.account)
}

/// `logGroupName`, or `logGroupIdentifier`, which may be an ARN.
fn group(members: &Members<'_>) -> Result<String, Failure> {
    let name = members.text("logGroupName")?;
    let identifier = members.text("logGroupIdentifier")?;
    match (name, identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => Ok(group_of(&identifier).to_owned()),
        (Some(_), Some(_)) => Err(invalid("logGroupName and logGroupIdentifier cannot both be given.")),
        (None, None) => Err(invalid("Either logGroupName or logGroupIdentifier must be given.")),
    }
}

/// `arn:aws:logs:REGION:ACCOUNT:log-group:NAME[:*]`, or a name as it is.
fn group_of(identifier: &str) -> &str {
    match identifier.split_once(":log-group:") {
        Some((_, name)) => name.strip_suffix(":*").unwrap_or(name),
        None => identifier,
    }
}

/// `limit`, within the model's bounds.
fn limit(members: &Members<'_>, most: usize) -> Result<usize, Failure> {
    let Some(limit) = members.integer("limit")? else { return Ok(most) };
    usize::try_from(limit).ok().filter(|limit| (1..=most).contains(limit)).ok_or_else(|| {
        invalid(format!(
            "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must \
             have value between 1 and {most}"
        ))
    })
}

/// Adds a member that has a value.
fn put(out: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Value::Object(out), Some(value)) = (out, value) {
        out.insert(name.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_in_two_ways() {
        for (body, expect) in [
            (r#"{"logGroupName":"/aws/lambda/x"}"#, Ok("/aws/lambda/x")),
            (r#"{"logGroupIdentifier":"/aws/lambda/x"}"#, Ok("/aws/lambda/x")),
            (
                r#"{"logGroupIdentifier":"arn:aws:logs:us-east-1:1:log-group:/aws/lambda/x:*"}"#,
                Ok("/aws/lambda/x"),
            ),
            (
                r#"{"logGroupIdentifier":"arn:aws:logs:us-east-1:1:log-group:/aws/lambda/x"}"#,
                Ok("/aws/lambda/x"),
            ),
            ("{}", Err("InvalidParameterException")),
            (r#"{"logGroupName":"a","logGroupIdentifier":"a"}"#, Err("InvalidParameterException")),
            (r#"{"logGroupName":1}"#, Err("SerializationException")),
        ] {
            let found = group(&Members::parse(body.as_bytes()).unwrap());
            let found = found.as_deref().map_err(|failure| &*failure.code);
            assert_eq!(found, expect, "{body}");
        }
    }

    #[test]
    fn limits_are_bounded() {
        for (body, expect) in [
            ("{}", Some(50)),
            (r#"{"limit":1}"#, Some(1)),
            (r#"{"limit":51}"#, None),
            (r#"{"limit":0}"#, None),
        ] {
            assert_eq!(limit(&Members::parse(body.as_bytes()).unwrap(), 50).ok(), expect, "{body}");
        }
    }
}
