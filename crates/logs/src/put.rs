//! PutLogEvents.

use base::Timestamp;

use crate::service::{GroupName, Logs};
use crate::{Error, limits, names, retention, tables};

/// An event to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// When it happened.
    pub timestamp: Timestamp,
    /// What.
    pub message: String,
}

/// The events of a batch that were left out, by their places in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rejected {
    /// From here on they lie more than two hours ahead.
    pub too_new_from: Option<usize>,
    /// Before here they are more than 14 days old.
    pub too_old_until: Option<usize>,
    /// Before here they are older than the group keeps events.
    pub expired_until: Option<usize>,
}

impl Rejected {
    fn of(events: &[NewEvent], now: Timestamp, cutoff: Option<Timestamp>) -> Self {
        let now = now.as_millis();
        // The batch is in order.
        let until = |time: i64| events.partition_point(|event| event.timestamp.as_millis() < time);
        let some = |index: usize| Some(index).filter(|index| *index > 0);
        let too_new = until(now + limits::AHEAD_MS + 1);
        Self {
            too_new_from: Some(too_new).filter(|index| *index < events.len()),
            too_old_until: some(until(now - limits::AGE_MS)),
            expired_until: cutoff.and_then(|cutoff| some(until(cutoff.as_millis()))),
        }
    }

    /// Whether any was.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    fn accepted(&self, length: usize) -> std::ops::Range<usize> {
        let end = self.too_new_from.unwrap_or(length);
        self.too_old_until.max(self.expired_until).unwrap_or(0).min(end)..end
    }
}

impl Logs {
    /// Writes events to a stream that is there. When this returns, those that were not rejected are with the kernel: a
    /// crash of this process loses none of them, one of the host may.
    pub async fn put_events(
        &self,
        group: &GroupName,
        stream: &str,
        mut events: Vec<NewEvent>,
    ) -> Result<Rejected, Error> {
        names::check_stream(stream)?;
        check(&events)?;
        self.expect_group(group).await?;
        self.expect_stream(group, stream).await?;
        let days = self.look(group, tables::group).await?.unwrap_or_default().retention_days;
        let now = self.inner.clock.now();
        let rejected = Rejected::of(&events, now, retention::cutoff(now, days));
        let accepted: Vec<NewEvent> = events.drain(rejected.accepted(events.len())).collect();
        let (group, stream) = (group.clone(), stream.to_owned());
        self.on_files(move |files| {
            let events = accepted.iter().map(|event| (event.timestamp, event.message.as_str()));
            files.put(&group.account, &group.name, &stream, events)
        })
        .await?;
        Ok(rejected)
    }
}

/// What a batch has to be (CloudWatch Logs API: PutLogEvents).
fn check(events: &[NewEvent]) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::Invalid(text));
    if events.is_empty() || events.len() > limits::BATCH_EVENTS {
        let most = limits::BATCH_EVENTS;
        return invalid(format!(
            "A batch has between 1 and {most} log events, this one has {}.",
            events.len()
        ));
    }
    if let Some(event) = events.iter().find(|event| event.timestamp.as_millis() < 0) {
        return invalid(format!("The timestamp {} is negative.", event.timestamp.as_millis()));
    }
    if events.iter().any(|event| event.message.is_empty()) {
        return invalid("Log event message must not be empty.".to_owned());
    }
    let size = |event: &NewEvent| event.message.len() + limits::EVENT_OVERHEAD;
    if let Some(large) = events.iter().map(size).find(|size| *size > limits::BATCH_BYTES) {
        return invalid(format!(
            "Log event too large: {large} bytes exceeds limit of {}",
            limits::BATCH_BYTES
        ));
    }
    let bytes: usize = events.iter().map(size).sum();
    if bytes > limits::BATCH_BYTES {
        return invalid(format!("Upload too large: {bytes} bytes exceeds limit of {}", limits::BATCH_BYTES));
    }
    if !events.is_sorted_by_key(|event| event.timestamp) {
        return invalid(
            "Log events in a single PutLogEvents request must be in chronological order.".to_owned(),
        );
    }
    let time = |event: Option<&NewEvent>| event.map_or(0, |event| event.timestamp.as_millis());
    if time(events.last()) - time(events.first()) > limits::BATCH_SPAN_MS {
        return invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
                .to_owned(),
        );
    }
    Ok(())
}
