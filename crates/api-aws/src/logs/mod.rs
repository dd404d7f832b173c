//! CloudWatch Logs (JSON 1.1, `Logs_20140328`): the log groups that functions write, and users' own.
//!
//! FilterLogEvents answers `nextToken` only while more is written already, as AWS does for a finished
//! search. To follow a log, take the extra member `virgaResume` (always there, unknown to AWS's model, so
//! other clients ignore it) and give it back as `nextToken`: the next page starts where this one ended.

mod describe;
mod errors;
mod groups;
mod live_tail;
mod put;
mod read;
mod subscriptions;
mod tags;
mod target;

use http::{Response, StatusCode};
use iam::Caller;
use sandbox::Body;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::members::Members;
use crate::protocol;
use crate::request::Request;
use errors::invalid;
use target::Target;

/// What `X-Amz-Target` starts with.
const TARGET: &str = "Logs_20140328.";

/// Runs the operation that the target header names.
pub(crate) async fn run(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let target = request.header("x-amz-target").unwrap_or_default();
    let members = Members::parse(&request.body)?;
    let operation = target.strip_prefix(TARGET).unwrap_or(target);
    if operation == "StartLiveTail" {
        return live_tail::start(request, &members).await;
    }
    let answer = answer(operation, request, &members).await?;
    Ok(protocol::answer(StatusCode::OK, "application/x-amz-json-1.1", answer.to_string()))
}

async fn answer(operation: &str, request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    match operation {
        "CreateLogGroup" => groups::create(request, members).await,
        "DeleteLogGroup" => groups::delete(request, members).await,
        "PutRetentionPolicy" => groups::put_retention(request, members).await,
        "DeleteRetentionPolicy" => groups::delete_retention(request, members).await,
        "CreateLogStream" => groups::create_stream(request, members).await,
        "DeleteLogStream" => groups::delete_stream(request, members).await,
        "DescribeLogGroups" => describe::log_groups(request, members).await,
        "DescribeLogStreams" => describe::log_streams(request, members).await,
        "PutLogEvents" => put::log_events(request, members).await,
        "GetLogEvents" => read::get_log_events(request, members).await,
        "FilterLogEvents" => read::filter_log_events(request, members).await,
        "PutSubscriptionFilter" => subscriptions::put_filter(request, members).await,
        "DescribeSubscriptionFilters" => subscriptions::describe_filters(request, members).await,
        "DeleteSubscriptionFilter" => subscriptions::delete_filter(request, members).await,
        "TagResource" => tags::tag_resource(request, members).await,
        "UntagResource" => tags::untag_resource(request, members).await,
        "ListTagsForResource" => tags::list_for_resource(request, members).await,
        "TagLogGroup" => tags::tag_group(request, members).await,
        "UntagLogGroup" => tags::untag_group(request, members).await,
        "ListTagsLogGroup" => tags::list_of_group(request, members).await,
        other => Err(crate::dispatch::unknown_operation("CloudWatch Logs", other)),
    }
}

/// The answer of an operation that says nothing.
fn nothing() -> Value {
    json!({})
}

/// The service's errors in the API's words.
fn failed(request: &Request<'_>) -> impl FnOnce(::logs::Error) -> Failure {
    let id = request.id;
    move |error| errors::failure(&error, id)
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

/// A member that has to be given.
fn required(members: &Members<'_>, name: &str) -> Result<String, Failure> {
    members.text(name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Failure {
    invalid(format!(
        "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
    ))
}

/// `limit`, within the model's bounds.
fn limit(members: &Members<'_>, most: usize) -> Result<usize, Failure> {
    let Some(limit) = members.integer("limit")? else { return Ok(most) };
    let rule = match limit {
        ..1 => "greater than or equal to 1".to_owned(),
        limit => match usize::try_from(limit) {
            Ok(limit) if limit <= most => return Ok(limit),
            _ => format!("less than or equal to {most}"),
        },
    };
    Err(invalid(format!(
        "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value \
         {rule}"
    )))
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
    fn limits_are_bounded() {
        for (body, expect) in [
            ("{}", Some(50)),
            (r#"{"limit":1}"#, Some(1)),
            (r#"{"limit":50}"#, Some(50)),
            (r#"{"limit":51}"#, None),
            (r#"{"limit":0}"#, None),
        ] {
            assert_eq!(limit(&Members::parse(body.as_bytes()).unwrap(), 50).ok(), expect, "{body}");
        }
    }
}
