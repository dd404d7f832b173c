//! Sending: one message, or ten; by clients, and by what happens inside Virga.

use std::sync::Arc;

use bytes::Bytes;
use iam::Caller;
use queues::{Draft, Message, Once, in_group};
use sha2::{Digest, Sha256};

use crate::batch::{self, Batch};
use crate::error::{invalid, missing};
use crate::message::{Head, pack};
use crate::model::{Address, Mailbox};
use crate::service::Mailboxes;
use crate::{Error, Fault, Outgoing, Sent, limits};

const SEND: &str = "sqs:SendMessage";

/// A message that may be written.
struct Ready {
    message: Message,
    once: Option<Once>,
    sent: Sent,
}

impl Mailboxes {
    /// Sends a message. `Ok` means that it is on the disk.
    pub async fn send(&self, caller: &Caller, to: &Address, message: Outgoing) -> Result<Sent, Error> {
        let mailbox = self.find(caller, to, SEND)?;
        if !mailbox.is_ordered() {
            let ready = self.ready(&mailbox, caller, message, None)?;
            self.inner.queues.send(&mailbox.queue, ready.message).await?;
            return Ok(ready.sent);
        }
        let mut outcomes = self.send_in_order(&mailbox, caller, vec![message]).await;
        outcomes.pop().unwrap_or_else(|| Err(missing("MessageBody")))
    }

    /// Sends up to ten, each for itself.
    pub async fn send_batch(
        &self,
        caller: &Caller,
        to: &Address,
        entries: Vec<(String, Outgoing)>,
    ) -> Result<Batch<Sent>, Error> {
        let mailbox = self.find(caller, to, SEND)?;
        batch::check(entries.iter().map(|(id, _)| id.as_str()), "SendMessageBatchRequestEntry")?;
        let bytes: usize = entries.iter().map(|(_, message)| message.bytes()).sum();
        if bytes > limits::MESSAGE_BYTES {
            return Err(Fault::BatchRequestTooLong.because(format!(
                "Batch requests cannot be longer than {} bytes. You have sent {bytes} bytes.",
                limits::MESSAGE_BYTES
            )));
        }
        let (ids, messages): (Vec<String>, Vec<Outgoing>) = entries.into_iter().unzip();
        let outcomes = match mailbox.is_ordered() {
            true => self.send_in_order(&mailbox, caller, messages).await,
            false => self.send_together(&mailbox, caller, messages).await?,
        };
        Batch::of(ids.into_iter().zip(outcomes))
    }

    /// Those that can be sent, in one write.
    async fn send_together(
        &self,
        mailbox: &Mailbox,
        caller: &Caller,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let mut rows = Vec::with_capacity(messages.len());
        let mut outcomes = Vec::with_capacity(messages.len());
        for message in messages {
            outcomes.push(self.ready(mailbox, caller, message, None).map(|ready| {
                rows.push(ready.message);
                ready.sent
            }));
        }
        self.inner.queues.send_all(&mailbox.queue, rows).await?;
        Ok(outcomes)
    }

    /// All of them in the order given, before whatever comes later.
    async fn send_in_order(
        &self,
        mailbox: &Mailbox,
        caller: &Caller,
        messages: Vec<Outgoing>,
    ) -> Vec<Result<Sent, Error>> {
        let mut posted = Vec::with_capacity(messages.len());
        {
            let _order = mailbox.live.order.lock().await;
            for message in messages {
                let sequence = mailbox.live.next_sequence(self.now());
                posted.push(match self.ready(mailbox, caller, message, Some(sequence)) {
                    Ok(Ready { message, once, sent }) => {
                        let post = self.inner.queues.post(&mailbox.queue, message, once).await;
                        post.map(|post| (post, sent)).map_err(Error::from)
                    }
                    Err(error) => Err(error),
                });
            }
        }
        let mut outcomes = Vec::with_capacity(posted.len());
        for post in posted {
            outcomes.push(match post {
                Ok((post, sent)) => match post.written().await {
                    Ok(None) => Ok(sent),
                    Ok(Some(first)) => as_first(sent, &first),
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    /// Makes a message ready to be written in a transaction of the sender's own, to a mailbox without order: what happens
    /// inside Virga (an event that failed, an answer that has a destination) is handed over this way.
    pub async fn draft(&self, caller: &Caller, to: &Address, message: Outgoing) -> Result<Draft, Error> {
        let mailbox = self.destination(caller, to)?;
        let ready = self.ready(&mailbox, caller, message, None)?;
        Ok(self.inner.queues.draft(&mailbox.queue, ready.message).await?)
    }

    /// Whether the caller may hand something over there that way.
    pub fn check_draft(&self, caller: &Caller, to: &Address) -> Result<(), Error> {
        self.destination(caller, to).map(drop)
    }

    fn destination(&self, caller: &Caller, to: &Address) -> Result<Arc<Mailbox>, Error> {
        let mailbox = self.find(caller, to, SEND)?;
        if mailbox.is_ordered() {
            return Err(Fault::UnsupportedOperation.because("A FIFO queue cannot be a destination."));
        }
        Ok(mailbox)
    }

    fn ready(
        &self,
        mailbox: &Mailbox,
        caller: &Caller,
        message: Outgoing,
        sequence: Option<String>,
    ) -> Result<Ready, Error> {
        message.check(mailbox.settings.max_bytes)?;
        let delay_s = delay(mailbox, message.delay_s)?;
        if sequence.is_some() && message.group.is_none() {
            return Err(missing("MessageGroupId"));
        }
        if sequence.is_none() && message.deduplication.is_some() {
            return Err(invalid(
                message.deduplication.unwrap_or_default(),
                "MessageDeduplicationId",
                "The request include parameter that is not valid for this queue type.",
            ));
        }
        let deduplication = sequence.as_ref().map(|_| deduplication(mailbox, &message)).transpose()?;
        let (md5, md5_of_attributes, md5_of_system) = message.digests();
        let id = base::RequestId::random().to_string();
        let trace = message.trace();
        let (attributes_length, body) = pack(&message.attributes, message.body);
        let sealed = mailbox.settings.sealed;
        let body = if sealed { self.inner.iam.seal_message(&id, &body) } else { body };
        let once = deduplication.as_ref().map(|given| Once {
            key: key(mailbox, message.group.as_deref().unwrap_or_default(), given),
            lasts: limits::DEDUPLICATION,
            answer: format!("{id} {}", sequence.as_deref().unwrap_or_default()).into_bytes(),
        });
        let head = Head {
            id: id.clone(),
            from: caller.id(),
            at: self.now(),
            md5: md5.clone(),
            attributes_length,
            sequence: sequence.clone(),
            group: message.group,
            deduplication,
            trace,
            dead_of: None,
            sealed,
        };
        let message = Message {
            head: head_of(mailbox, &head),
            body: body.into(),
            delay: std::time::Duration::from_secs(delay_s),
        };
        Ok(Ready { message, once, sent: Sent { id, md5, md5_of_attributes, md5_of_system, sequence } })
    }
}

/// The head as a mailbox's queue has it.
pub(crate) fn head_of(mailbox: &Mailbox, head: &Head) -> Bytes {
    let bytes = head.to_bytes();
    match mailbox.is_ordered() {
        true => in_group(head.group.as_deref().unwrap_or_default(), &bytes),
        false => bytes.into(),
    }
}

fn delay(mailbox: &Mailbox, given: Option<i64>) -> Result<u64, Error> {
    let seconds = match given {
        None => mailbox.settings.delay_s,
        Some(given) if !limits::DELAY_S.contains(&given) => {
            return Err(invalid(given, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900."));
        }
        Some(given) if mailbox.is_ordered() && given != 0 => {
            let reason = "The request include parameter that is not valid for this queue type.";
            return Err(invalid(given, "DelaySeconds", reason));
        }
        Some(_) if mailbox.is_ordered() => mailbox.settings.delay_s,
        Some(given) => given,
    };
    Ok(u64::try_from(seconds).unwrap_or_default())
}

fn deduplication(mailbox: &Mailbox, message: &Outgoing) -> Result<String, Error> {
    match &message.deduplication {
        Some(given) => Ok(given.clone()),
        None if mailbox.settings.by_content => Ok(hex::encode(Sha256::digest(message.body.as_bytes()))),
        None => Err(Fault::InvalidParameterValue.because(
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
        )),
    }
}

/// What makes messages the same.
fn key(mailbox: &Mailbox, group: &str, id: &str) -> Vec<u8> {
    let mut hash = Sha256::new();
    if mailbox.settings.by_group {
        // Neither has a zero in it.
        hash.update(group);
        hash.update([0]);
    }
    hash.update(id);
    hash.finalize()[..16].to_vec()
}

/// What the first one with its deduplication id was told.
fn as_first(sent: Sent, first: &[u8]) -> Result<Sent, Error> {
    let text = std::str::from_utf8(first).ok().and_then(|text| text.split_once(' '));
    let (id, sequence) = text.ok_or_else(|| Error::Damaged("a deduplication id".into()))?;
    Ok(Sent { id: id.to_owned(), sequence: Some(sequence.to_owned()), ..sent })
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("id", &self.sent.id).finish_non_exhaustive()
    }
}
