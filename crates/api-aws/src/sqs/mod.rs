//! SQS (2012-11-05) in its two protocols: JSON 1.0 (`AmazonSQS.…`), and forms with XML answers as older clients speak it.
//!
//! A form is read into the JSON shape of the same request, and an answer is made in its JSON shape and written as XML where
//! that was asked for: an operation exists once. Errors carry both protocols' names for them, since clients that know SQS by
//! the names of the older one read them from `x-amzn-query-error`.

mod errors;
mod form;
mod manage;
mod messages;
mod moves;
mod queues;
mod xml;

use bytes::Bytes;
use http::{Response, StatusCode};
use mailboxes::{Address, Paging};
use sandbox::Body;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::members::Members;
use crate::protocol::{self, Protocol};
use crate::request::Request;
use crate::{dispatch, query};

/// What `X-Amz-Target` starts with.
const TARGET: &str = "AmazonSQS.";

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

/// Runs the operation that the target header or the form names.
pub(crate) async fn run(request: &Request<'_>, protocol: Protocol) -> Result<Response<Body>, Failure> {
    if protocol == Protocol::Query {
        let action = dispatch::action(request.head, &request.body);
        let Some(action) = action.filter(|action| is_known(action)) else {
            return Err(dispatch::invalid_action(
                "SQS",
                dispatch::action(request.head, &request.body).as_deref(),
            ));
        };
        let body = form::read(request)?;
        let answer = answer(&action, request, &Members::parse(&body)?).await?;
        return Ok(query::answer(&action, NAMESPACE, request.id, |out| xml::write(out, &action, &answer)));
    }
    let target = request.header("x-amz-target").unwrap_or_default();
    let operation = target.strip_prefix(TARGET).unwrap_or(target);
    let body: &Bytes = &request.body;
    let answer = answer(operation, request, &Members::parse(body)?).await?;
    Ok(protocol::answer(StatusCode::OK, "application/x-amz-json-1.0", answer.to_string()))
}

/// The operations, for a refusal in the words of the query protocol.
fn is_known(action: &str) -> bool {
    const ALL: &[&str] = &[
        "AddPermission",
        "CancelMessageMoveTask",
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
        "CreateQueue",
        "DeleteMessage",
        "DeleteMessageBatch",
        "DeleteQueue",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "ListQueues",
        "PurgeQueue",
        "ReceiveMessage",
        "RemovePermission",
        "SendMessage",
        "SendMessageBatch",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    ];
    ALL.contains(&action)
}

async fn answer(operation: &str, request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    match operation {
        "AddPermission" => manage::add_permission(request, members).await,
        "CancelMessageMoveTask" => moves::cancel(request, members),
        "ChangeMessageVisibility" => messages::change_visibility(request, members),
        "ChangeMessageVisibilityBatch" => messages::change_visibility_batch(request, members),
        "CreateQueue" => queues::create(request, members).await,
        "DeleteMessage" => messages::delete(request, members).await,
        "DeleteMessageBatch" => messages::delete_batch(request, members).await,
        "DeleteQueue" => queues::delete(request, members).await,
        "GetQueueAttributes" => queues::get_attributes(request, members),
        "GetQueueUrl" => queues::get_url(request, members),
        "ListDeadLetterSourceQueues" => queues::list_dead_letter_sources(request, members),
        "ListMessageMoveTasks" => moves::list(request, members),
        "ListQueueTags" => manage::list_tags(request, members),
        "ListQueues" => queues::list(request, members),
        "PurgeQueue" => queues::purge(request, members).await,
        "ReceiveMessage" => messages::receive(request, members).await,
        "RemovePermission" => manage::remove_permission(request, members).await,
        "SendMessage" => messages::send(request, members).await,
        "SendMessageBatch" => messages::send_batch(request, members).await,
        "SetQueueAttributes" => queues::set_attributes(request, members).await,
        "StartMessageMoveTask" => moves::start(request, members).await,
        "TagQueue" => manage::tag(request, members).await,
        "UntagQueue" => manage::untag(request, members).await,
        other => Err(dispatch::unknown_operation("SQS", other)),
    }
}

/// The answer of an operation that says nothing.
fn nothing() -> Value {
    json!({})
}

/// The service's errors in the API's words.
fn failed(request: &Request<'_>) -> impl FnOnce(mailboxes::Error) -> Failure {
    let id = request.id;
    move |error| errors::failure(&error, id)
}

/// A member that has to be given.
fn required(members: &Members<'_>, name: &str) -> Result<String, Failure> {
    members.text(name)?.ok_or_else(|| errors::missing(name))
}

/// The queue that a request is about: by its URL, or by the path it was sent to. The host does not matter.
fn address(request: &Request<'_>, members: &Members<'_>) -> Result<Address, Failure> {
    let url = members.text("QueueUrl")?;
    let path = request.head.uri.path();
    if url.is_none() && path == "/" {
        return Err(errors::missing("QueueUrl"));
    }
    let url = url.as_deref().unwrap_or(path);
    of_url(url).ok_or_else(|| errors::invalid_address(url))
}

/// `…/ACCOUNT/NAME`
fn of_url(url: &str) -> Option<Address> {
    let (rest, name) = url.rsplit_once('/')?;
    let (_, account) = rest.rsplit_once('/')?;
    let account = base::AccountId::parse(account)?;
    (!name.is_empty()).then(|| Address { account, name: name.to_owned() })
}

/// A queue's URL, at the address that the client reached the server by.
fn url_of(request: &Request<'_>, address: &Address) -> String {
    format!("{}/{}/{}", request.context.base_url, address.account, address.name)
}

fn paging(members: &Members<'_>) -> Result<Paging, Failure> {
    Ok(Paging { most: members.integer("MaxResults")?, token: members.text("NextToken")? })
}

#[cfg(test)]
mod tests {
    use super::of_url;

    #[test]
    fn a_queue_is_what_its_url_ends_in() {
        for (url, expect) in [
            ("http://127.0.0.1:9080/123456789012/q", Some("q")),
            ("https://sqs.us-east-1.amazonaws.com/123456789012/q.fifo", Some("q.fifo")),
            ("/123456789012/q", Some("q")),
            ("http://host/queue/123456789012/q", Some("q")),
            ("http://host/12/q", None),
            ("http://host/123456789012/", None),
            ("q", None),
            ("", None),
        ] {
            assert_eq!(of_url(url).map(|address| address.name).as_deref(), expect, "{url}");
        }
    }
}
