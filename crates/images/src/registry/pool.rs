//! Connections that are kept for the next request (RFC 9112, 9.3).
//!
//! A connection carries one request at a time and comes back once the answer was read to its end; one that was not is hung up
//! on. What is kept is bounded by registry, in all and in time. Nothing of a request stays on a connection: credentials go with
//! each request anew.

use std::sync::Arc;
use std::time::Instant;

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use super::Outgoing;
use crate::limits;

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) encrypted: bool,
    /// As the address has it: `HOST[:PORT]`.
    pub(super) authority: String,
}

/// The connections.
#[derive(Default)]
pub(super) struct Pool {
    /// The one that was used last comes last.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    place: Place,
    sender: SendRequest<Outgoing>,
    since: Instant,
}

impl Pool {
    /// A connection that is free and, as far as is known, open.
    pub(super) async fn take(&self, place: &Place) -> Option<SendRequest<Outgoing>> {
        loop {
            let mut sender = self.take_one(place)?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn take_one(&self, place: &Place) -> Option<SendRequest<Outgoing>> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|idle| idle.place == *place && idle.is_fresh())?;
        Some(idle.remove(at).sender)
    }

    /// Hangs up on all that is kept for a place: one of them led nowhere.
    pub(super) fn forget(&self, place: &Place) {
        self.idle.lock().retain(|idle| idle.place != *place);
    }

    /// Keeps a connection whose last answer was read to its end, if there is room.
    pub(super) fn give_back(self: &Arc<Self>, place: Place, sender: SendRequest<Outgoing>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        let is_first = idle.is_empty();
        let same = idle.iter().filter(|idle| idle.place == place).count();
        if same >= limits::KEPT_OF_ONE {
            return;
        }
        if idle.len() >= limits::KEPT_IN_ALL {
            idle.remove(0);
        }
        idle.push(Idle { place, sender, since: Instant::now() });
        if is_first {
            tokio::spawn(Arc::clone(self).tidy());
        }
    }

    /// Hangs up on what nobody used for a while, until nothing is left.
    async fn tidy(self: Arc<Self>) {
        loop {
            tokio::time::sleep(limits::KEPT_FOR).await;
            let mut idle = self.idle.lock();
            idle.retain(Idle::is_fresh);
            if idle.is_empty() {
                return;
            }
        }
    }
}

impl Idle {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < limits::KEPT_FOR && !self.sender.is_closed()
    }
}
