//! SQS API: StartMessageMoveTask, CancelMessageMoveTask, ListMessageMoveTasks.

use mailboxes::{MoveTask, StartMove};
use serde_json::{Value, json};

use super::{failed, required};
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

pub(super) async fn start(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let args = StartMove {
        source: required(members, "SourceArn")?,
        destination: members.text("DestinationArn")?,
        rate: members.integer("MaxNumberOfMessagesPerSecond")?,
    };
    let started = request.api.mailboxes.start_move(request.caller, args).await;
    Ok(json!({ "TaskHandle": started.map_err(failed(request))? }))
}

pub(super) fn cancel(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let handle = required(members, "TaskHandle")?;
    let moved = request.api.mailboxes.cancel_move(request.caller, &handle).map_err(failed(request))?;
    Ok(json!({ "ApproximateNumberOfMessagesMoved": moved }))
}

pub(super) fn list(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let source = required(members, "SourceArn")?;
    let most = members.integer("MaxResults")?;
    let tasks = request.api.mailboxes.moves(request.caller, &source, most).map_err(failed(request))?;
    Ok(json!({ "Results": tasks.iter().map(shape).collect::<Vec<_>>() }))
}

fn shape(task: &MoveTask) -> Value {
    let members = [
        ("TaskHandle", task.handle.as_deref().map(Value::from)),
        ("Status", Some(task.status.into())),
        ("SourceArn", Some(task.source.as_str().into())),
        ("DestinationArn", task.destination.as_deref().map(Value::from)),
        ("MaxNumberOfMessagesPerSecond", task.rate.map(Value::from)),
        ("ApproximateNumberOfMessagesMoved", Some(task.moved.into())),
        ("ApproximateNumberOfMessagesToMove", Some(task.to_move.into())),
        ("FailureReason", task.failure.as_deref().map(Value::from)),
        ("StartedTimestamp", Some(task.started_ms.into())),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
