//! What guests want outside, asked of the server.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::{OnceCell, oneshot};

use super::super::control::{Channel, Found, FromWorker, Wanted};
use crate::outside::Unreachable;

type Answer = (Result<Found, Unreachable>, Option<OwnedFd>);

/// Questions under way.
pub(super) struct Questions {
    channel: Arc<Channel>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    /// What encrypts for all of the worker's guests, once one has asked.
    tls: OnceCell<tls::Client>,
}

/// Asks in the name of one instance.
pub(crate) struct Asker {
    questions: Arc<Questions>,
    instance: u64,
}

/// Forgets a question that nobody waits for any more.
struct Waiting<'a>(&'a Questions, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().remove(&self.1);
    }
}

impl Questions {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { channel, next: AtomicU64::new(1), waiting: Mutex::default(), tls: OnceCell::new() }
    }

    pub(super) fn answered(
        &self,
        question: u64,
        answer: Result<Found, Unreachable>,
        descriptor: Option<OwnedFd>,
    ) {
        if let Some(waiting) = self.waiting.lock().remove(&question) {
            // Given up: the connection closes here.
            let _ = waiting.send((answer, descriptor));
        }
    }

    async fn ask(&self, instance: u64, wanted: Wanted) -> Result<(Found, Option<OwnedFd>), Unreachable> {
        let question = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(question, sender);
        let _waiting = Waiting(self, question);
        let message = FromWorker::Question { question, instance, wanted };
        self.channel.send(&message, None).await.map_err(|_| Unreachable::Failed(0))?;
        let (answer, descriptor) = answer.await.map_err(|_| Unreachable::Failed(0))?;
        Ok((answer?, descriptor))
    }
}

impl Asker {
    pub(super) fn new(questions: Arc<Questions>, instance: u64) -> Self {
        Self { questions, instance }
    }

    /// A connection to a host.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<UnixStream, Unreachable> {
        let wanted = Wanted::Connection { host: host.to_owned(), port };
        match self.questions.ask(self.instance, wanted).await? {
            (Found::Connection, Some(descriptor)) => super::stream(descriptor)
                .map_err(|error| Unreachable::Failed(error.raw_os_error().unwrap_or(0))),
            _ => Err(Unreachable::NoPlace),
        }
    }

    /// What encrypts connections: made of the roots that the server hands over.
    pub(crate) async fn tls(&self) -> io::Result<tls::Client> {
        let make = || async {
            match self.questions.ask(self.instance, Wanted::Roots).await {
                Ok((Found::Roots, Some(file))) => crate::trust::client(file),
                _ => Err(io::Error::other("the server gave no certificates")),
            }
        };
        self.questions.tls.get_or_try_init(make).await.cloned()
    }

    /// The addresses of a name.
    pub(crate) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Unreachable> {
        match self.questions.ask(self.instance, Wanted::Addresses { name: name.to_owned() }).await? {
            (Found::Addresses(addresses), _) => Ok(addresses),
            _ => Err(Unreachable::NoAddress),
        }
    }
}
