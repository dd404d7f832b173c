//! A closure that waits for a connection, and the answer it owes its caller.
//!
//! The outcome is kept until the transaction's fate is known: no caller learns of a change before it is
//! durable, nor of a refusal that rests on a change that was then lost.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::statement::ConnectionTx;
use crate::{Error, Tx};

/// Type-erased work for a connection's thread.
pub(crate) trait Job: Send {
    /// Runs the closure, once more if it ran before; whether its changes are to be kept.
    fn run(&mut self, tx: &mut ConnectionTx<'_>) -> bool;

    /// Answers with the outcome of the last run.
    fn answer(self: Box<Self>);

    /// Answers with an error of the store, whatever the outcome was.
    fn fail(self: Box<Self>, error: Error);
}

/// A closure and its caller.
pub(crate) struct Work<T, E, F> {
    closure: F,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Work<T, E, F> {
    pub(crate) fn new(closure: F) -> (Self, oneshot::Receiver<Result<T, E>>) {
        let (reply, answer) = oneshot::channel();
        (Self { closure, outcome: None, reply }, answer)
    }
}

impl<T, E, F> Job for Work<T, E, F>
where
    T: Send,
    E: From<Error> + Send,
    F: FnMut(&mut dyn Tx) -> Result<T, E> + Send,
{
    fn run(&mut self, tx: &mut ConnectionTx<'_>) -> bool {
        let outcome = match catch_unwind(AssertUnwindSafe(|| (self.closure)(tx))) {
            Ok(Ok(_)) if tx.is_dead() => Err(Error::Dead.into()),
            Ok(outcome) => outcome,
            Err(panic) => Err(Error::Panicked(text(panic.as_ref())).into()),
        };
        self.outcome.insert(outcome).is_ok()
    }

    fn answer(self: Box<Self>) {
        let outcome =
            self.outcome.unwrap_or_else(|| Err(Error::Stopped("the closure did not run".into()).into()));
        // A caller that has gone away no longer wants to know.
        let _ = self.reply.send(outcome);
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.reply.send(Err(error.into()));
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
