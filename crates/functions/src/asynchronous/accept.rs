//! Taking an event in.

use base::RequestId;
use bytes::Bytes;
use queues::{Draft, Message};

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
        let (trace, passes) = lineage::pass(&accepted.trace, &function.arn.to_string());
        let head = Head {
            id: accepted.id.to_string(),
            qualifier: accepted.function.qualifier,
            accepted: self.host.clock.now(),
            trace,
            passes,
            context: accepted.context,
        };
        Ok(Message { head: head::write(&head)?, body: accepted.payload, ..Message::default() })
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
