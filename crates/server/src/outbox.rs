//! Message queues as destinations of functions.

use base::{Kind, Region};
use functions::Outbox;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use iam::Caller;
use mailboxes::{Address, Mailboxes, Outgoing};
use queues::Draft;

/// Messages go into mailboxes.
pub(crate) struct Mail {
    pub(crate) mailboxes: Mailboxes,
    pub(crate) region: Region,
}

impl Mail {
    fn address(&self, queue: &str) -> Result<Address, String> {
        Address::of_arn(queue, &self.region).ok_or_else(|| format!("{queue} is not the ARN of a queue."))
    }
}

impl Outbox for Mail {
    fn check(&self, caller: &Caller, queue: &str) -> Result<(), String> {
        self.mailboxes.check_draft(caller, &self.address(queue)?).map_err(|error| error.to_string())
    }

    fn draft(
        &self,
        caller: Caller,
        queue: String,
        body: String,
    ) -> BoxFuture<'_, Result<Result<Draft, String>, functions::Error>> {
        async move {
            let to = match self.address(&queue) {
                Ok(to) => to,
                Err(reason) => return Ok(Err(reason)),
            };
            let message = Outgoing { body, ..Outgoing::default() };
            match self.mailboxes.draft(&caller, &to, message).await {
                Ok(draft) => Ok(Ok(draft)),
                // What the host lacks may come back; what is refused stays refused.
                Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Internal) => {
                    Err(functions::Error::Internal(Box::new(error)))
                }
                Err(error) => Ok(Err(format!("{queue}: {error}"))),
            }
        }
        .boxed()
    }
}
