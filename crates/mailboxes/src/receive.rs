//! Receiving: what is there, or what comes in time; what was received too often goes to the dead letters instead.

use std::collections::BTreeMap;
use std::time::Duration;

use iam::Caller;
use queues::{Ask, Delivery, of_group};
use tokio::time::Instant;

use crate::error::invalid;
use crate::message::{Head, TRACE, unpack};
use crate::model::{Address, Mailbox};
use crate::service::Mailboxes;
use crate::{Error, Fault, Received, attributes, digest, limits};

/// What is asked for; what is not said is the mailbox's own.
#[derive(Debug, Clone, Default)]
pub struct Receive {
    /// 1 to 10.
    pub most: Option<i64>,
    /// Seconds.
    pub visibility_s: Option<i64>,
    /// Seconds.
    pub wait_s: Option<i64>,
    /// Names of attributes of the system's, `All` for all.
    pub system: Vec<String>,
    /// Names of the message's attributes: `All`, `.*`, or the beginning of names with `.*` behind.
    pub attributes: Vec<String>,
}

/// What the system says of messages.
const SYSTEM: &[&str] = &[
    "ApproximateFirstReceiveTimestamp",
    "ApproximateReceiveCount",
    TRACE,
    "DeadLetterQueueSourceArn",
    "MessageDeduplicationId",
    "MessageGroupId",
    "SenderId",
    "SentTimestamp",
    "SequenceNumber",
];

impl Mailboxes {
    /// Receives messages, which are hidden from others for a while. Nothing is lost if the future is dropped.
    pub async fn receive(
        &self,
        caller: &Caller,
        from: &Address,
        args: &Receive,
    ) -> Result<Vec<Received>, Error> {
        let mailbox = self.find(caller, from, "sqs:ReceiveMessage")?;
        let mut ask = self.ask(&mailbox, args)?;
        let until = Instant::now() + ask.wait;
        let mut stopping = self.inner.stopping.subscribe();
        loop {
            ask.sent_from_ms = mailbox.kept_from(self.now());
            let received = tokio::select! {
                received = self.inner.queues.receive(&mailbox.queue, ask) => received?,
                // A receiver that waited gets what it would have got at the end.
                _ = stopping.wait_for(|stopping| *stopping), if !ask.wait.is_zero() => Vec::new(),
            };
            if received.is_empty() {
                return self.nothing(&mailbox);
            }
            let alive = self.without_dead(&mailbox, received).await?;
            if !alive.is_empty() {
                return self.hand_out(&mailbox, alive, args).await;
            }
            ask.wait = until.saturating_duration_since(Instant::now());
        }
    }

    /// An empty answer, unless there is nothing because too much is in somebody's hand.
    fn nothing(&self, mailbox: &Mailbox) -> Result<Vec<Received>, Error> {
        let full = self.inner.queues.counts(&mailbox.queue).leased >= limits::IN_FLIGHT as u64;
        if full && !mailbox.is_ordered() {
            return Err(Fault::OverLimit.because("Too many messages in flight: 120000 are the most."));
        }
        Ok(Vec::new())
    }

    fn ask(&self, mailbox: &Mailbox, args: &Receive) -> Result<Ask, Error> {
        for name in &args.system {
            if name != "All" && !SYSTEM.contains(&name.as_str()) && !attributes::is_known(name) {
                return Err(attributes::unknown(name));
            }
        }
        let most = args.most.unwrap_or(1);
        if !(1..=limits::BATCH as i64).contains(&most) {
            return Err(invalid(most, "MaxNumberOfMessages", "Must be between 1 and 10, if provided."));
        }
        let wait_s = args.wait_s.unwrap_or(mailbox.settings.wait_s);
        if !limits::WAIT_S.contains(&wait_s) {
            return Err(invalid(wait_s, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided."));
        }
        let visibility = visibility(args.visibility_s.unwrap_or(mailbox.settings.visibility_s))?;
        let most = usize::try_from(most).unwrap_or(1);
        Ok(Ask { most, visibility, wait: seconds(wait_s), sent_from_ms: 0 })
    }

    async fn hand_out(
        &self,
        mailbox: &Mailbox,
        deliveries: Vec<Delivery>,
        args: &Receive,
    ) -> Result<Vec<Received>, Error> {
        let mut received = Vec::with_capacity(deliveries.len());
        for delivery in &deliveries {
            received.push(self.open_message(mailbox, delivery, args).await?);
        }
        // All of them can be handed out: from here on they are in the receiver's hand.
        for (message, delivery) in received.iter_mut().zip(deliveries) {
            message.receipt_handle = self.handle(mailbox, delivery.hold());
        }
        Ok(received)
    }

    async fn open_message(
        &self,
        mailbox: &Mailbox,
        delivery: &Delivery,
        args: &Receive,
    ) -> Result<Received, Error> {
        let head = head_in(mailbox, delivery)?;
        let body = delivery.body().await?;
        let opened = match head.sealed {
            true => self.inner.iam.open_message(&head.id, &body),
            false => Some(body.to_vec()),
        };
        let opened = opened.ok_or_else(|| Error::Damaged("a sealed message does not open".into()))?;
        let (mut attributes, body) = unpack(head.attributes_length, &opened)?;
        attributes.retain(|name, _| args.attributes.iter().any(|wanted| covers(wanted, name)));
        Ok(Received {
            receipt_handle: String::new(),
            body,
            md5: head.md5.clone(),
            md5_of_attributes: digest::of_attributes(&attributes),
            attributes,
            system: system(&head, delivery, &args.system),
            id: head.id,
        })
    }
}

/// The head of what was received.
pub(crate) fn head_in(mailbox: &Mailbox, delivery: &Delivery) -> Result<Head, Error> {
    let bytes = delivery.head();
    let head = if mailbox.is_ordered() { of_group(&bytes).map(|(_, head)| head) } else { Some(&bytes[..]) };
    Head::read(head.ok_or_else(|| Error::Damaged("a message has no group".into()))?)
}

fn system(head: &Head, delivery: &Delivery, wanted: &[String]) -> BTreeMap<&'static str, String> {
    let value = |name: &str| match name {
        "ApproximateFirstReceiveTimestamp" => Some(delivery.first_ms().to_string()),
        "ApproximateReceiveCount" => Some(delivery.attempts().to_string()),
        TRACE => head.trace.clone(),
        "DeadLetterQueueSourceArn" => head.dead_of.clone(),
        "MessageDeduplicationId" => head.deduplication.clone(),
        "MessageGroupId" => head.group.clone(),
        "SenderId" => Some(head.from.clone()),
        "SentTimestamp" => Some(head.at.to_string()),
        "SequenceNumber" => head.sequence.clone(),
        _ => None,
    };
    let asked = |name: &&str| wanted.iter().any(|wanted| wanted == "All" || wanted == name);
    SYSTEM.iter().copied().filter(asked).filter_map(|name| Some((name, value(name)?))).collect()
}

/// Whether a name of an attribute was asked for (SQS API: ReceiveMessage, MessageAttributeNames).
fn covers(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix(".*") {
        Some(start) => name.starts_with(start),
        None => wanted == "All" || wanted == name,
    }
}

pub(crate) fn visibility(given_s: i64) -> Result<Duration, Error> {
    if limits::VISIBILITY_S.contains(&given_s) {
        return Ok(seconds(given_s));
    }
    Err(invalid(given_s, "VisibilityTimeout", "VisibilityTimeout must be an integer between 0 and 43200."))
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn attributes_are_named_whole_or_by_their_beginning() {
        for (wanted, name, expect) in [
            ("All", "x", true),
            (".*", "x", true),
            ("a.*", "ab", true),
            ("a.*", "ba", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(covers(wanted, name), expect, "{wanted} {name}");
        }
    }
}
