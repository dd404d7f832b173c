//! Taking an event in.

use base::RequestId;
use bytes::Bytes;
use queues::{Draft, Message};

use super::envelope::Envelope;
use super::head::{self, Head};
use super::{events_of, lineage};
use crate::model::FunctionRef;
use crate::service::Inner;
use crate::version::Function;
use crate::{Error, limits};

/// What is going to be an event.
pub(crate) struct Accepted {
    pub(crate) id: RequestId,
    pub(crate) function: FunctionRef,
    /// Checked.
    pub(crate) payload: Bytes,
    pub(crate) context: Option<String>,
    pub(crate) trace: String,
}

impl Inner {
    /// Puts an event on its function's queue; it is on the disk afterwards.
    pub(crate) async fn accept(&self, function: &Function, accepted: Accepted) -> Result<(), Error> {
        let (queue, message) = (events_of(function), self.message(function, accepted)?);
        Ok(self.asynchronous.queues.send(&queue, message).await?)
    }

    /// The same, to be written together with something else.
    pub(super) async fn draft(&self, function: &Function, accepted: Accepted) -> Result<Draft, Error> {
        let (queue, message) = (events_of(function), self.message(function, accepted)?);
        Ok(self.asynchronous.queues.draft(&queue, message).await?)
    }

    fn message(&self, function: &Function, accepted: Accepted) -> Result<Message, Error> {
        let (trace, passes) = lineage::pass(&accepted.trace, &function.arn);
        let Accepted { id, function: FunctionRef { account, name, qualifier }, payload, context, .. } =
            accepted;
        let id = id.to_string();
        let envelope = Envelope::new(&self.host.iam, &(account, name), &id);
        let body = envelope.seal(&payload);
        let context = context.map(|context| envelope.seal_member(head::CONTEXT, &context));
        let accepted = self.host.clock.now();
        let head = Head { id, qualifier, accepted, trace, passes, context: None, sealed_context: context };
        Ok(Message { head: head::write(&head)?, body, ..Message::default() })
    }
}

/// Checks the size of an event that is to wait.
pub(crate) fn check_size(payload: &Bytes) -> Result<(), Error> {
    if payload.len() <= limits::EVENT_BYTES {
        return Ok(());
    }
    Err(Error::PayloadTooLarge(format!(
        "{} byte payload is too large for the Event invocation type (limit {} bytes)",
        payload.len(),
        limits::EVENT_BYTES
    )))
}
