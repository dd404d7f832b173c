//! Message queues of users' own, as destinations. What they are is not this crate's to know: the server brings it.

use futures_util::future::BoxFuture;
use iam::Caller;
use queues::Draft;

use crate::Error;

/// Hands messages over to queues.
pub trait Outbox: Send + Sync + 'static {
    /// Why the caller cannot send to the queue with this ARN, if so.
    fn check(&self, caller: &Caller, queue: &str) -> Result<(), String>;

    /// A message that is going to be written with something else; or why there can be none.
    fn draft(
        &self,
        caller: Caller,
        queue: String,
        body: String,
    ) -> BoxFuture<'_, Result<Result<Draft, String>, Error>>;
}
