//! Dead letters: messages that were received too often move to another mailbox instead of being handed out again.
//!
//! The move is one update of the message's row: it is in one of the two mailboxes whenever the server is killed.

use std::sync::Arc;

use iam::Caller;
use queues::Delivery;

use crate::attributes::{Redrive, RedriveAllow, Settings};
use crate::error::invalid;
use crate::model::{Address, Mailbox, is_ordered};
use crate::receive::head_in;
use crate::send::head_of;
use crate::service::{Mailboxes, Page, Paging};
use crate::{Error, Fault};

impl Mailboxes {
    /// Moves what was received too often; the rest.
    pub(crate) async fn without_dead(
        &self,
        mailbox: &Mailbox,
        received: Vec<Delivery>,
    ) -> Result<Vec<Delivery>, Error> {
        let Some((redrive, target)) = self.target(mailbox) else { return Ok(received) };
        let mut alive = Vec::with_capacity(received.len());
        for delivery in received {
            if delivery.attempts() <= redrive.most {
                alive.push(delivery);
                continue;
            }
            let mut head = head_in(mailbox, &delivery)?;
            head.dead_of = Some(mailbox.arn.clone());
            let head = head_of(&target, &head);
            if delivery.transfer(&target.queue, head, Vec::new()).await? {
                tracing::debug!(from = mailbox.arn, to = target.arn, "a dead letter");
            }
        }
        Ok(alive)
    }

    /// Where dead letters go. Without a target they stay and are received again.
    fn target<'a>(&self, mailbox: &'a Mailbox) -> Option<(&'a Redrive, Arc<Mailbox>)> {
        let redrive = mailbox.settings.redrive.as_ref()?;
        Some((redrive, self.get(&redrive.target)?))
    }

    /// Whether dead letters may go where they shall.
    pub(crate) fn check_redrive(&self, source: &Address, settings: &Settings) -> Result<(), Error> {
        let Some(redrive) = &settings.redrive else { return Ok(()) };
        let text = settings.given.get("RedrivePolicy").map(String::as_str).unwrap_or_default();
        let refuse = |reason: &str| Err(invalid(text, "RedrivePolicy", reason));
        if redrive.target == *source {
            return refuse("A queue cannot be its own dead letter target.");
        }
        if redrive.target.account != source.account {
            return refuse("Dead letter target must be of the queue's own account.");
        }
        let Some(target) = self.get(&redrive.target) else {
            return refuse("Dead letter target does not exist.");
        };
        if target.is_ordered() != is_ordered(&source.name) {
            return refuse("Dead-letter queue must be same type of queue as the source.");
        }
        let allowed = match &target.settings.allow {
            None | Some(RedriveAllow::All) => true,
            Some(RedriveAllow::Nobody) => false,
            Some(RedriveAllow::Of(sources)) => sources.contains(source),
        };
        if allowed {
            Ok(())
        } else {
            refuse("The dead letter target's redrive allow policy does not let it.")
        }
    }

    /// The mailboxes whose dead letters come here, by name.
    pub fn dead_letter_sources(
        &self,
        caller: &Caller,
        address: &Address,
        paging: &Paging,
    ) -> Result<Page, Error> {
        self.find(caller, address, "sqs:ListDeadLetterSourceQueues")?;
        self.page(paging, |mailbox| leads_to(mailbox, address))
    }

    /// Whether dead letters of any mailbox come here.
    pub(crate) fn is_target(&self, address: &Address) -> bool {
        let all = self.page(&Paging::default(), |mailbox| leads_to(mailbox, address));
        all.is_ok_and(|page| !page.addresses.is_empty())
    }

    /// The mailbox that a dead letter came from.
    pub(crate) fn origin(&self, arn: Option<&str>) -> Result<Arc<Mailbox>, Error> {
        let address = arn.and_then(|arn| Address::of_arn(arn, &self.inner.region));
        let mailbox = address.and_then(|address| self.get(&address));
        mailbox.ok_or_else(|| Fault::ResourceNotFound.because("CouldNotDetermineMessageSource"))
    }
}

fn leads_to(mailbox: &Mailbox, address: &Address) -> bool {
    mailbox.settings.redrive.as_ref().is_some_and(|redrive| redrive.target == *address)
}
