//! Receipts: deleting what was received, and changing how long it is hidden.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use iam::Caller;
use queues::{Finished, Receipt};

use crate::batch::{self, Batch};
use crate::error::invalid;
use crate::model::{Address, Mailbox};
use crate::receive::visibility;
use crate::service::Mailboxes;
use crate::{Error, Fault};

const DELETE: &str = "sqs:DeleteMessage";
const CHANGE: &str = "sqs:ChangeMessageVisibility";

impl Mailboxes {
    /// Sealed for this mailbox: it opens for no other, and says nothing.
    pub(crate) fn handle(&self, mailbox: &Mailbox, receipt: Receipt) -> String {
        STANDARD.encode(self.inner.iam.seal_receipt(&context(mailbox), &receipt.to_bytes()))
    }

    fn receipt(&self, mailbox: &Mailbox, handle: &str) -> Result<Receipt, Error> {
        let sealed = STANDARD.decode(handle).ok();
        let opened = sealed.and_then(|sealed| self.inner.iam.open_receipt(&context(mailbox), &sealed));
        opened.as_deref().and_then(Receipt::from_bytes).ok_or_else(|| {
            let handle = &handle[..handle.floor_char_boundary(200)];
            Fault::ReceiptHandleIsInvalid
                .because(format!("The input receipt handle \"{handle}\" is not a valid receipt handle."))
        })
    }

    /// Deletes a message by its handle. Of a message that was received again since, an old handle deletes nothing, which is no
    /// error but in a mailbox in order.
    pub async fn delete_message(&self, caller: &Caller, from: &Address, handle: &str) -> Result<(), Error> {
        let mailbox = self.find(caller, from, DELETE)?;
        self.delete_in(&mailbox, handle).await
    }

    async fn delete_in(&self, mailbox: &Mailbox, handle: &str) -> Result<(), Error> {
        let receipt = self.receipt(mailbox, handle)?;
        let ordered = mailbox.is_ordered();
        match self.inner.queues.finish(&mailbox.queue, receipt, ordered).await? {
            Finished::Over if ordered => Err(expired(handle)),
            _ => Ok(()),
        }
    }

    /// Deletes up to ten.
    pub async fn delete_batch(
        &self,
        caller: &Caller,
        from: &Address,
        entries: &[(String, String)],
    ) -> Result<Batch<()>, Error> {
        let mailbox = self.find(caller, from, DELETE)?;
        batch::check(entries.iter().map(|(id, _)| id.as_str()), "DeleteMessageBatchRequestEntry")?;
        // All at once: they share one sync.
        let outcomes = join_all(entries.iter().map(|(_, handle)| self.delete_in(&mailbox, handle))).await;
        Batch::of(entries.iter().map(|(id, _)| id.clone()).zip(outcomes))
    }

    /// Hides a message for so many seconds from now; 0 shows it at once.
    pub fn change_visibility(
        &self,
        caller: &Caller,
        from: &Address,
        handle: &str,
        visibility_s: i64,
    ) -> Result<(), Error> {
        let mailbox = self.find(caller, from, CHANGE)?;
        self.change_in(&mailbox, handle, visibility_s)
    }

    fn change_in(&self, mailbox: &Mailbox, handle: &str, visibility_s: i64) -> Result<(), Error> {
        let receipt = self.receipt(mailbox, handle)?;
        if self.inner.queues.hold_for(&mailbox.queue, receipt, visibility(visibility_s)?) {
            return Ok(());
        }
        Err(Fault::MessageNotInflight.because("The specified message isn't in flight."))
    }

    /// The same of up to ten; where nothing is said of an entry it is the mailbox's own time.
    pub fn change_visibility_batch(
        &self,
        caller: &Caller,
        from: &Address,
        entries: &[(String, String, Option<i64>)],
    ) -> Result<Batch<()>, Error> {
        let mailbox = self.find(caller, from, CHANGE)?;
        let ids = entries.iter().map(|(id, ..)| id.as_str());
        batch::check(ids, "ChangeMessageVisibilityBatchRequestEntry")?;
        let own = mailbox.settings.visibility_s;
        let change = |(id, handle, seconds): &(String, String, Option<i64>)| {
            (id.clone(), self.change_in(&mailbox, handle, seconds.unwrap_or(own)))
        };
        Batch::of(entries.iter().map(change))
    }
}

fn context(mailbox: &Mailbox) -> String {
    mailbox.queue.to_string()
}

fn expired(handle: &str) -> Error {
    let handle = &handle[..handle.floor_char_boundary(200)];
    invalid(handle, "ReceiptHandle", "The receipt handle has expired.")
}
