//! SQS API: SendMessage, ReceiveMessage, DeleteMessage, ChangeMessageVisibility, and their batches.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mailboxes::{AttributeValue, Batch, Outgoing, Payload, Receive, Received, Sent};
use serde_json::{Map, Value, json};

use super::{address, errors, failed, nothing, required};
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

pub(super) async fn send(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let message = outgoing(members)?;
    let sent = request.api.mailboxes.send(request.caller, &queue, message).await.map_err(failed(request))?;
    Ok(Value::Object(sent_shape(&sent)))
}

pub(super) async fn send_batch(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let entry = |entry: &Members<'_>| Ok((required(entry, "Id")?, outgoing(entry)?));
    let entries = entries(members)?.iter().map(entry).collect::<Result<Vec<_>, Failure>>()?;
    let batch = request.api.mailboxes.send_batch(request.caller, &queue, entries).await;
    Ok(batch_shape(batch.map_err(failed(request))?, sent_shape))
}

pub(super) async fn receive(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    // The newer name of the same.
    let mut system = members.texts("AttributeNames")?.unwrap_or_default();
    system.extend(members.texts("MessageSystemAttributeNames")?.unwrap_or_default());
    let args = Receive {
        most: members.integer("MaxNumberOfMessages")?,
        visibility_s: members.integer("VisibilityTimeout")?,
        wait_s: members.integer("WaitTimeSeconds")?,
        system,
        attributes: members.texts("MessageAttributeNames")?.unwrap_or_default(),
    };
    let received = request.api.mailboxes.receive(request.caller, &queue, &args).await;
    let messages: Vec<Value> = received.map_err(failed(request))?.into_iter().map(message_shape).collect();
    Ok(if messages.is_empty() { nothing() } else { json!({ "Messages": messages }) })
}

pub(super) async fn delete(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let handle = required(members, "ReceiptHandle")?;
    let deleted = request.api.mailboxes.delete_message(request.caller, &queue, &handle).await;
    deleted.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn delete_batch(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let entry = |entry: &Members<'_>| Ok((required(entry, "Id")?, required(entry, "ReceiptHandle")?));
    let entries = entries(members)?.iter().map(entry).collect::<Result<Vec<_>, Failure>>()?;
    let batch = request.api.mailboxes.delete_batch(request.caller, &queue, &entries).await;
    Ok(batch_shape(batch.map_err(failed(request))?, |()| Map::new()))
}

pub(super) fn change_visibility(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let handle = required(members, "ReceiptHandle")?;
    let seconds =
        members.integer("VisibilityTimeout")?.ok_or_else(|| errors::missing("VisibilityTimeout"))?;
    let changed = request.api.mailboxes.change_visibility(request.caller, &queue, &handle, seconds);
    changed.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) fn change_visibility_batch(
    request: &Request<'_>,
    members: &Members<'_>,
) -> Result<Value, Failure> {
    let queue = address(request, members)?;
    let entry = |entry: &Members<'_>| {
        Ok((required(entry, "Id")?, required(entry, "ReceiptHandle")?, entry.integer("VisibilityTimeout")?))
    };
    let entries = entries(members)?.iter().map(entry).collect::<Result<Vec<_>, Failure>>()?;
    let batch = request.api.mailboxes.change_visibility_batch(request.caller, &queue, &entries);
    Ok(batch_shape(batch.map_err(failed(request))?, |()| Map::new()))
}

fn entries<'a>(members: &Members<'a>) -> Result<Vec<Members<'a>>, Failure> {
    Ok(members.objects("Entries")?.unwrap_or_default())
}

/// A request, or an entry of a batch. A body that is missing is told from the service.
fn outgoing(members: &Members<'_>) -> Result<Outgoing, Failure> {
    Ok(Outgoing {
        body: members.text("MessageBody")?.unwrap_or_default(),
        delay_s: members.integer("DelaySeconds")?,
        attributes: attributes(members, "MessageAttributes")?,
        system: attributes(members, "MessageSystemAttributes")?,
        group: members.text("MessageGroupId")?,
        deduplication: members.text("MessageDeduplicationId")?,
    })
}

fn attributes(members: &Members<'_>, name: &str) -> Result<BTreeMap<String, AttributeValue>, Failure> {
    let given = members.structures(name)?.unwrap_or_default();
    let read = |(name, value): (String, Members<'_>)| {
        let data_type = value.text("DataType")?.unwrap_or_default();
        let value = match (value.text("StringValue")?, value.blob("BinaryValue")?) {
            (Some(text), None) => Payload::Text(text),
            (None, Some(bytes)) => Payload::Binary(bytes),
            // Nothing, or what the type does not say, which the service refuses.
            _ => Payload::Text(String::new()),
        };
        Ok((name, AttributeValue { data_type, value }))
    };
    given.into_iter().map(read).collect()
}

fn sent_shape(sent: &Sent) -> Map<String, Value> {
    let members = [
        ("MessageId", Some(&sent.id)),
        ("MD5OfMessageBody", Some(&sent.md5)),
        ("MD5OfMessageAttributes", sent.md5_of_attributes.as_ref()),
        ("MD5OfMessageSystemAttributes", sent.md5_of_system.as_ref()),
        ("SequenceNumber", sent.sequence.as_ref()),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.as_str().into()))).collect()
}

fn batch_shape<T>(batch: Batch<T>, shape: impl Fn(&T) -> Map<String, Value>) -> Value {
    let successful = batch.successful.iter().map(|(id, value)| {
        let mut entry = shape(value);
        entry.insert("Id".to_owned(), id.as_str().into());
        Value::Object(entry)
    });
    let failed = batch.failed.iter().map(|(id, fault, message)| {
        json!({ "Id": id, "SenderFault": true, "Code": errors::entry_code(*fault), "Message": message })
    });
    json!({ "Successful": successful.collect::<Vec<_>>(), "Failed": failed.collect::<Vec<_>>() })
}

fn message_shape(message: Received) -> Value {
    let mut out = json!({
        "MessageId": message.id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": message.md5,
        "Body": message.body,
    });
    if !message.system.is_empty() {
        out["Attributes"] = json!(message.system);
    }
    if let Some(md5) = message.md5_of_attributes {
        out["MD5OfMessageAttributes"] = md5.into();
        let attributes =
            message.attributes.iter().map(|(name, value)| (name.clone(), attribute_shape(value)));
        out["MessageAttributes"] = Value::Object(attributes.collect());
    }
    out
}

fn attribute_shape(attribute: &AttributeValue) -> Value {
    match &attribute.value {
        Payload::Text(text) => json!({ "StringValue": text, "DataType": attribute.data_type }),
        Payload::Binary(bytes) => {
            json!({ "BinaryValue": STANDARD.encode(bytes), "DataType": attribute.data_type })
        }
    }
}
