//! SQS API: TagQueue, UntagQueue, ListQueueTags, AddPermission, RemovePermission.

use serde_json::{Value, json};

use super::{address, errors, failed, nothing, required};
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

pub(super) async fn tag(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let tags = members.map("Tags")?.ok_or_else(|| errors::missing("Tags"))?;
    request.api.mailboxes.tag(request.caller, &queue, tags).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn untag(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let keys = members.texts("TagKeys")?.ok_or_else(|| errors::missing("TagKeys"))?;
    request.api.mailboxes.untag(request.caller, &queue, &keys).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) fn list_tags(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let tags = request.api.mailboxes.tags(request.caller, &queue).map_err(failed(request))?;
    Ok(if tags.is_empty() { nothing() } else { json!({ "Tags": tags }) })
}

pub(super) async fn add_permission(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let label = required(members, "Label")?;
    let accounts = members.texts("AWSAccountIds")?.unwrap_or_default();
    let actions = members.texts("Actions")?.unwrap_or_default();
    let mailboxes = &request.api.mailboxes;
    let added = mailboxes.add_permission(request.caller, &queue, &label, &accounts, &actions).await;
    added.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn remove_permission(
    request: &Request<'_>,
    members: &Members<'_>,
) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let label = required(members, "Label")?;
    let removed = request.api.mailboxes.remove_permission(request.caller, &queue, &label).await;
    removed.map_err(failed(request))?;
    Ok(nothing())
}
