//! What guests of a worker want outside, done by the server.
//!
//! A worker may ask in the name of any instance of its own, which is its tenant's affair. What it gets for a connection
//! is one end of a socket pair: the connection itself would be a socket of the host's network.

use std::os::fd::AsFd;
use std::sync::Arc;

use sandbox::egress::Gate;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::control::{Channel, Found, ToWorker, Wanted};
use crate::outside::{self, Unreachable};
use crate::trust::Trust;

/// Questions under way and connections open at once, of one worker.
const AT_ONCE: usize = 1024;

/// The questions of one worker.
pub(super) struct Outlet {
    channel: Arc<Channel>,
    trust: Arc<Trust>,
    tasks: JoinSet<()>,
}

impl Outlet {
    pub(super) fn new(channel: Arc<Channel>, trust: Arc<Trust>) -> Self {
        Self { channel, trust, tasks: JoinSet::new() }
    }

    /// Answers a question, by the gate of the instance that asks; `None`: it has none.
    pub(super) fn ask(&mut self, question: u64, gate: Option<Arc<Gate>>, wanted: Wanted) {
        while self.tasks.try_join_next().is_some() {}
        let Some(gate) = gate.filter(|_| self.tasks.len() < AT_ONCE) else {
            // One that asks so much without reading what it is told is not waited for.
            let answer = Err(Unreachable::NoPlace);
            let _ = self.channel.try_send(&ToWorker::Answer { question, answer });
            return;
        };
        let (channel, trust) = (Arc::clone(&self.channel), Arc::clone(&self.trust));
        self.tasks.spawn(async move { answer(&channel, question, &gate, &trust, wanted).await });
    }
}

async fn say(
    channel: &Channel,
    question: u64,
    answer: Result<Found, Unreachable>,
    with: Option<std::os::fd::BorrowedFd<'_>>,
) {
    // A worker that is gone asks nothing any more.
    let _ = channel.send(&ToWorker::Answer { question, answer }, with).await;
}

async fn answer(channel: &Channel, question: u64, gate: &Gate, trust: &Trust, wanted: Wanted) {
    match wanted {
        Wanted::Addresses { name } => {
            let found = outside::look_up(gate, &name).await;
            say(channel, question, found.map(Found::Addresses), None).await;
        }
        Wanted::Roots => match trust.file().await {
            Ok(file) => say(channel, question, Ok(Found::Roots), Some(file.as_fd())).await,
            Err(error) => {
                tracing::warn!(%error, "certificates cannot be given to a worker for WebAssembly");
                say(channel, question, Err(Unreachable::Failed(0)), None).await;
            }
        },
        Wanted::Connection { host, port } => {
            let connected = outside::connect(gate, &host, port).await;
            let pair = UnixStream::pair();
            let (connected, (mut ours, theirs)) = match (connected, pair) {
                (Ok(connected), Ok(pair)) => (connected, pair),
                (Err(unreachable), _) => return say(channel, question, Err(unreachable), None).await,
                (_, Err(_)) => return say(channel, question, Err(Unreachable::NoPlace), None).await,
            };
            say(channel, question, Ok(Found::Connection), Some(theirs.as_fd())).await;
            drop(theirs);
            let (mut stream, _place) = connected;
            // However it ends, both sides see it end.
            let _ = tokio::io::copy_bidirectional(&mut ours, &mut stream).await;
        }
    }
}
