//! A function's failed events: what was given up and had nowhere else to go. Kept until somebody has them tried again,
//! drops them, or they are too old. Virga's own; Lambda drops such events.

use base::{RequestId, Timestamp};
use bytes::Bytes;
use iam::Caller;
use queues::{Found, Mark};

use super::decide::Condition;
use super::envelope::Envelope;
use super::head::{self, FailedHead, Head};
use super::{Asynchronous, events_of, failed_of, lineage};
use crate::Error;
use crate::model::{FunctionRef, Page};
use crate::registry::Key;
use crate::service::{Functions, Inner};

/// A failed event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedEvent {
    /// By which it is named in requests.
    pub id: String,
    /// The request's id, as logs and records have it.
    pub request_id: String,
    /// The version or alias that was asked for.
    pub qualifier: Option<String>,
    /// Why it was given up: `RetriesExhausted`, `EventAgeExceeded`, …
    pub condition: String,
    /// How often the function ran.
    pub invokes: u32,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it was given up.
    pub failed: Timestamp,
    /// The beginning of what the function answered last.
    pub response: Option<String>,
    /// What else there is to be said.
    pub reason: Option<String>,
}

impl FailedEvent {
    fn of(found: &Found, failed: FailedHead, envelope: &Envelope<'_>) -> Self {
        let response = failed.open_response(envelope).unwrap_or_default();
        Self {
            id: format!("{}-{}", found.mark.0, failed.head.id),
            request_id: failed.head.id,
            qualifier: failed.head.qualifier,
            condition: failed.condition,
            invokes: failed.invokes,
            accepted: failed.head.accepted,
            failed: Timestamp(found.sent_ms),
            response,
            reason: failed.reason,
        }
    }
}

/// Events looked at at once where all are meant.
const PAGE: usize = 100;

impl Functions {
    /// A page of a function's failed events, oldest first. The function need not exist any more.
    pub async fn failed_events(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<FailedEvent>, Error> {
        let key = self.failed_key(caller, "ListFailedEvents", function)?;
        let after = match marker {
            None => Mark::default(),
            Some(text) => Mark(text.parse().map_err(|_| Error::Invalid("Invalid marker.".into()))?),
        };
        let found = self.asynchronous().queues.browse(&failed_of(&key), after, max_items + 1).await?;
        let last = found.get(max_items.saturating_sub(1)).filter(|_| found.len() > max_items);
        let next_marker = last.map(|last| last.mark.0.to_string());
        let item = |found: &Found| {
            let failed = read(found);
            let envelope = self.envelope(&key, &failed);
            FailedEvent::of(found, failed, &envelope)
        };
        Ok(Page { items: found.iter().take(max_items).map(item).collect(), next_marker })
    }

    /// One failed event with its payload.
    pub async fn failed_event(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        id: &str,
    ) -> Result<(FailedEvent, Bytes), Error> {
        let key = self.failed_key(caller, "GetFailedEvent", function)?;
        let (found, failed) = self.asynchronous().find(&key, id).await?;
        let kept = self.asynchronous().queues.body(&found).await?;
        let envelope = self.envelope(&key, &failed);
        let payload = envelope.open(kept).map_err(|_| {
            Error::internal(format!(
                "the payload of the failed event {id} was sealed for another or is damaged"
            ))
        })?;
        Ok((FailedEvent::of(&found, failed, &envelope), payload))
    }

    /// Puts failed events on their function's queue again, as if they were accepted now: the one with this id, or all that
    /// there are; how many.
    pub async fn redrive_failed(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        id: Option<&str>,
    ) -> Result<u64, Error> {
        let key = self.failed_key(caller, "RedriveFailedEvents", function)?;
        self.inner.registry.get(&key).ok_or_else(|| {
            Error::FunctionNotFound(
                self.inner.arn(&FunctionRef { qualifier: None, ..function.clone() }).to_string(),
            )
        })?;
        let inner = std::sync::Arc::clone(&self.inner);
        let id = id.map(str::to_owned);
        self.detached(async move { inner.each_failed(&key, id.as_deref(), Do::Redrive).await }).await
    }

    /// Removes failed events: the one with this id, or all that there are; how many.
    pub async fn drop_failed(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        id: Option<&str>,
    ) -> Result<u64, Error> {
        let key = self.failed_key(caller, "DeleteFailedEvents", function)?;
        let inner = std::sync::Arc::clone(&self.inner);
        let id = id.map(str::to_owned);
        self.detached(async move { inner.each_failed(&key, id.as_deref(), Do::Drop).await }).await
    }

    fn asynchronous(&self) -> &Asynchronous {
        &self.inner.asynchronous
    }

    fn envelope(&self, key: &Key, failed: &FailedHead) -> Envelope<'_> {
        Envelope::new(&self.inner.host.iam, key, &failed.head.id)
    }

    fn failed_key(&self, caller: &Caller, action: &str, function: &FunctionRef) -> Result<Key, Error> {
        let function = self.inner.permit_change(caller, action, function)?;
        Ok((function.account, function.name))
    }
}

/// What is done with a failed event.
#[derive(Debug, Clone, Copy)]
enum Do {
    Redrive,
    Drop,
}

impl Inner {
    async fn each_failed(&self, key: &Key, id: Option<&str>, what: Do) -> Result<u64, Error> {
        if let Some(id) = id {
            let (found, failed) = self.asynchronous.find(key, id).await?;
            return Ok(u64::from(self.one_failed(key, &found, failed, what).await?));
        }
        let (mut after, mut count) = (Mark::default(), 0);
        // What fails again meanwhile is not taken up again.
        let until = self.host.clock.now().as_millis();
        loop {
            let page = self.asynchronous.queues.browse(&failed_of(key), after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = last.mark;
            for found in page.iter().filter(|found| found.sent_ms <= until) {
                count += u64::from(self.one_failed(key, found, read(found), what).await?);
            }
        }
    }

    async fn one_failed(
        &self,
        key: &Key,
        found: &Found,
        failed: FailedHead,
        what: Do,
    ) -> Result<bool, Error> {
        let (queues, from) = (&self.asynchronous.queues, failed_of(key));
        match what {
            Do::Drop => {
                let gone = queues.remove(&from, found).await?;
                self.asynchronous.count(key, |counts| counts.dropped += u64::from(gone));
                Ok(gone)
            }
            Do::Redrive => {
                let function = self.registry.get(key);
                let function = function.ok_or_else(|| Error::FunctionNotFound(key.1.clone()))?;
                let begun = lineage::forget(&failed.head.trace);
                let (trace, passes) = lineage::pass(&begun, &function.arn);
                let head = Head { accepted: self.host.clock.now(), trace, passes, ..failed.head };
                Ok(queues.redrive(&from, found, &events_of(&function), head::write(&head)?).await?)
            }
        }
    }
}

/// What its head says; of one that cannot be read, that.
fn read(found: &Found) -> FailedHead {
    head::read(&found.head).unwrap_or_else(|error| {
        tracing::error!(error = ?error, "a failed event's head cannot be read");
        FailedHead {
            head: Head::unknown(found.sent_ms),
            condition: Condition::Damaged.as_str().into(),
            invokes: 0,
            response: None,
            sealed_response: None,
            reason: None,
        }
    })
}

impl Asynchronous {
    /// The failed event with this id.
    async fn find(&self, key: &Key, id: &str) -> Result<(Found, FailedHead), Error> {
        let missing = || Error::NotFound(format!("The function {} has no failed event {id}.", key.1));
        let (mark, request) = id.split_once('-').ok_or_else(missing)?;
        let mark = mark.parse().map(Mark).map_err(|_| missing())?;
        RequestId::parse(request).ok_or_else(missing)?;
        let found = self.queues.find(&failed_of(key), mark).await?.ok_or_else(missing)?;
        let failed: FailedHead = head::read(&found.head)?;
        if failed.head.id == request { Ok((found, failed)) } else { Err(missing()) }
    }
}
