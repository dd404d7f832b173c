//! The event that a function is called with (CloudWatch Logs: Subscription filters with AWS Lambda): JSON, gzip, base64.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use observe::Event;
use serde_json::{Value, json};

use super::Subscription;

/// Bytes of messages in one call, but for one that is larger: what cannot be compressed stays within the 256 KB of an
/// asynchronous event.
const BATCH_BYTES: usize = 128 << 10;

/// Events of one stream each, in their order, of a bounded size.
pub(super) fn batches(events: &[Event]) -> Vec<Vec<&Event>> {
    let mut batches: Vec<(usize, Vec<&Event>)> = Vec::new();
    for event in events {
        let size = event.message.len() + 100;
        // The last batch of the event's stream is the one that it may follow in.
        let last = batches.iter_mut().rev().find(|(_, batch)| batch[0].stream == event.stream);
        match last {
            Some((bytes, batch)) if *bytes + size <= BATCH_BYTES => {
                *bytes += size;
                batch.push(event);
            }
            _ => batches.push((size, vec![event])),
        }
    }
    batches.into_iter().map(|(_, batch)| batch).collect()
}

/// The event of a batch, which holds events of one stream.
pub(super) fn event(subscription: &Subscription, batch: &[&Event]) -> std::io::Result<Vec<u8>> {
    let events: Vec<Value> = batch.iter().map(|event| shape(event)).collect();
    let message = json!({
        "messageType": "DATA_MESSAGE",
        "owner": subscription.group.account.as_str(),
        "logGroup": subscription.group.name,
        "logStream": batch.first().map(|event| event.stream.as_str()),
        "subscriptionFilters": [subscription.name],
        "logEvents": events,
    });
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(message.to_string().as_bytes())?;
    let data = STANDARD.encode(packed.finish()?);
    Ok(json!({ "awslogs": { "data": data } }).to_string().into_bytes())
}

fn shape(event: &Event) -> Value {
    json!({
        "id": format!("{:0>56}", event.id),
        "timestamp": event.timestamp.as_millis(),
        "message": event.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Timestamp;

    fn written(stream: &str, length: usize) -> Event {
        Event {
            id: "1".to_owned(),
            stream: stream.to_owned(),
            timestamp: Timestamp(7),
            ingested: Timestamp(8),
            message: "x".repeat(length),
        }
    }

    #[test]
    fn batches_are_of_one_stream_and_bounded() {
        let sizes = |events: &[Event]| {
            let batches = batches(events);
            batches.iter().map(|batch| (batch[0].stream.clone(), batch.len())).collect::<Vec<_>>()
        };
        let events =
            [written("a", 1), written("b", 1), written("a", 1), written("a", BATCH_BYTES), written("a", 1)];
        let name = |stream: &str, count| (stream.to_owned(), count);
        assert_eq!(sizes(&events), [name("a", 2), name("b", 1), name("a", 1), name("a", 1)]);
        assert!(sizes(&[]).is_empty());
    }
}
