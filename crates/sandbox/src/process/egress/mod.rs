//! The way out of an instance: its calls of `connect`, and the names that it asks for.
//!
//! The instance's network namespace leads nowhere. The kernel tells of every call of `connect`; what goes to the
//! instance's own loopback goes on, and everything else is checked ([`crate::egress::Gate`]) and connected from here.
//! The program's own socket waits meanwhile as a connecting socket does ([`connect`]), and once it is through, bytes
//! are copied ([`relay`]). Names are asked for at 127.0.0.1:53 inside and answered by the gate ([`names`]).
//!
//! Nothing rests on the program's good will: a call that is not seen, or a socket that is swapped while it is looked
//! at, stays in the namespace.
//!
//! Bounded: connections, names under way, and how often either is asked for. Left out: UDP but for names; the other side's address (the program sees
//! its own loopback's).

mod connect;
mod names;
mod pace;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::pace::Pace;
use super::jail::{Attempt, Jail, Notifier, WayOut};
use crate::egress::Gate;

/// Connections that one instance may have outside, those under way included.
const MAX_CONNECTIONS: usize = 256;

/// Calls of `connect` that are looked at in a stretch of time, those inside included; more wait.
const MAX_CALLS: (u32, Duration) = (200, Duration::from_millis(100));

/// One instance's way out.
struct Outlet {
    gate: Gate,
    /// The error number of what is refused.
    refusal: i32,
    jail: Arc<Jail>,
    places: Arc<Semaphore>,
}

/// Serves a way out until the instance or the future ends; every connection ends with it.
pub(crate) async fn serve(way_out: WayOut, gate: Gate, jail: Arc<Jail>) {
    let WayOut { notifier, datagrams, streams } = way_out;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let refusal = if gate.is_shut() { libc::ENETUNREACH } else { libc::EACCES };
    let outlet = Arc::new(Outlet { gate, refusal, jail, places });
    let mut connections = JoinSet::new();
    let mut pace = Pace::new(MAX_CALLS.0, MAX_CALLS.1);
    let names = names::serve(&outlet.gate, datagrams, streams);
    let mut names = std::pin::pin!(names);
    loop {
        tokio::select! {
            attempt = next(&notifier, &pace) => match attempt {
                Some(attempt) => {
                    pace.take(Instant::now());
                    connect::begin(&outlet, &notifier, attempt, &mut connections);
                }
                None => return,
            },
            () = &mut names => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// The next call, when it is time for it.
async fn next(notifier: &Notifier, pace: &Pace) -> Option<Attempt> {
    if let Some(until) = pace.wait_until(Instant::now()) {
        tokio::time::sleep_until(until).await;
    }
    notifier.next().await
}
