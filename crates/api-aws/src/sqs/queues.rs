//! SQS API: CreateQueue, GetQueueUrl, ListQueues, DeleteQueue, GetQueueAttributes, SetQueueAttributes, PurgeQueue,
//! ListDeadLetterSourceQueues.

use base::AccountId;
use mailboxes::{Address, Page};
use serde_json::{Map, Value, json};

use super::{address, errors, failed, nothing, paging, required, url_of};
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

pub(super) async fn create(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let name = required(members, "QueueName")?;
    let attributes = members.map("Attributes")?.unwrap_or_default();
    let tags = members.map("tags")?.unwrap_or_default();
    let mailboxes = &request.api.mailboxes;
    let made = mailboxes.create(request.caller, &name, attributes, tags).await.map_err(failed(request))?;
    Ok(json!({ "QueueUrl": url_of(request, &made) }))
}

pub(super) fn get_url(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let name = required(members, "QueueName")?;
    let account = match members.text("QueueOwnerAWSAccountId")? {
        None => request.caller.account.clone(),
        Some(id) => AccountId::parse(&id).ok_or_else(|| errors::invalid_address(&id))?,
    };
    let address = Address { account, name };
    request.api.mailboxes.look_up(request.caller, &address).map_err(failed(request))?;
    Ok(json!({ "QueueUrl": url_of(request, &address) }))
}

pub(super) fn list(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let prefix = members.text("QueueNamePrefix")?.unwrap_or_default();
    let page = request.api.mailboxes.list(request.caller, &prefix, &paging(members)?);
    let page = page.map_err(failed(request))?;
    let empty = page.addresses.is_empty();
    let mut out = shape(request, "QueueUrls", page);
    if empty {
        // SQS says nothing of an empty list.
        out.remove("QueueUrls");
    }
    Ok(Value::Object(out))
}

pub(super) fn list_dead_letter_sources(
    request: &Request<'_>,
    members: &Members<'_>,
) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let page = request.api.mailboxes.dead_letter_sources(request.caller, &queue, &paging(members)?);
    // In this answer it is written with a small letter.
    Ok(Value::Object(shape(request, "queueUrls", page.map_err(failed(request))?)))
}

fn shape(request: &Request<'_>, name: &str, page: Page) -> Map<String, Value> {
    let urls: Vec<String> = page.addresses.iter().map(|address| url_of(request, address)).collect();
    let mut out = Map::new();
    out.insert(name.to_owned(), urls.into());
    out.extend(page.token.map(|token| ("NextToken".to_owned(), token.into())));
    out
}

pub(super) async fn delete(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    request.api.mailboxes.delete(request.caller, &queue).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) fn get_attributes(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let names = members.texts("AttributeNames")?.unwrap_or_default();
    let found = request.api.mailboxes.attributes(request.caller, &queue, &names).map_err(failed(request))?;
    Ok(if found.is_empty() { nothing() } else { json!({ "Attributes": found }) })
}

pub(super) async fn set_attributes(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let given = members.map("Attributes")?.ok_or_else(|| errors::missing("Attributes"))?;
    request.api.mailboxes.set_attributes(request.caller, &queue, given).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn purge(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    request.api.mailboxes.purge(request.caller, &queue).await.map_err(failed(request))?;
    Ok(nothing())
}
