//! What guests of a worker want outside, done by the server.
//!
//! A worker may ask in the name of any instance of its own, which is its tenant's affair. What it gets for a connection
//! is one end of a socket pair: the connection itself would be a socket of the host's network.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec};
use sandbox::egress::Gate;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
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
    pub(super) async fn ask(&mut self, question: u64, gate: Option<Arc<Gate>>, wanted: Wanted) {
        while self.tasks.try_join_next().is_some() {}
        let Some(gate) = gate.filter(|_| self.tasks.len() < AT_ONCE) else {
            // Asked here, so that one that asks so much without reading what it is told asks no more; a question that
            // was not answered would hold its guest for good.
            return say(&self.channel, question, Err(Unreachable::NoPlace), None).await;
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
            let (connected, (ours, theirs)) = match (connected, pair) {
                (Ok(connected), Ok(pair)) => (connected, pair),
                (Err(unreachable), _) => return say(channel, question, Err(unreachable), None).await,
                (_, Err(_)) => return say(channel, question, Err(Unreachable::NoPlace), None).await,
            };
            say(channel, question, Ok(Found::Connection), Some(theirs.as_fd())).await;
            drop(theirs);
            let (stream, _place) = connected;
            // However it ends, both sides see it end.
            let _ = relay(ours, stream).await;
        }
    }
}

/// Copies both ways, until both have ended or the guest has no more of its end: what is outside may never say that it
/// has, and would keep the connection's place.
async fn relay<S: AsyncRead + AsyncWrite>(mut ours: UnixStream, stream: S) -> io::Result<()> {
    let end = ours.as_fd().try_clone_to_owned()?;
    let (mut from_guest, mut to_guest) = ours.split();
    let (mut from_outside, mut to_outside) = tokio::io::split(stream);
    let out = async {
        tokio::io::copy(&mut from_guest, &mut to_outside).await?;
        if is_closed(&end) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        to_outside.shutdown().await
    };
    let back = async {
        tokio::io::copy(&mut from_outside, &mut to_guest).await?;
        to_guest.shutdown().await
    };
    tokio::try_join!(out, back).map(drop)
}

/// Whether the other end of a socket pair is closed, and not only done with sending (poll(2): POLLHUP).
fn is_closed(end: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(end, PollFlags::empty())];
    let found = rustix::event::poll(&mut polled, Some(&Timespec::default()));
    found.is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A connection that is relayed, its far end, and the guest's.
    async fn relayed() -> (tokio::task::JoinHandle<io::Result<()>>, TcpStream, UnixStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stream, far) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (ours, theirs) = UnixStream::pair().unwrap();
        (tokio::spawn(relay(ours, stream.unwrap())), far.unwrap().0, theirs)
    }

    #[tokio::test]
    async fn every_question_is_answered() {
        const QUESTIONS: u64 = 3000;
        let (ours, theirs) = Channel::pair().unwrap();
        let (ours, theirs) = (Arc::new(ours), Channel::new(theirs).unwrap());
        let asking = async {
            let mut outlet = Outlet::new(ours, Arc::new(Trust::new(None).unwrap()));
            for question in 0..QUESTIONS {
                outlet.ask(question, None, Wanted::Addresses { name: "a".to_owned() }).await;
            }
        };
        let reading = async {
            let mut buffer = vec![0; super::super::control::MESSAGE];
            let mut answers = 0;
            while let Some((ToWorker::Answer { .. }, _)) = theirs.receive(&mut buffer).await.unwrap() {
                answers += 1;
            }
            answers
        };
        let ((), answers) = tokio::join!(asking, reading);
        assert_eq!(answers, QUESTIONS);
    }

    #[tokio::test]
    async fn a_connection_ends_with_the_guests_end() {
        let (relaying, mut far, theirs) = relayed().await;
        drop(theirs);
        // The far end says nothing and closes nothing.
        let ended = tokio::time::timeout(Duration::from_secs(10), relaying).await;
        assert!(ended.is_ok(), "it goes on");
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_guest_that_is_done_with_sending_is_answered() {
        let (relaying, mut far, mut theirs) = relayed().await;
        theirs.write_all(b"question").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        far.write_all(b"answer").await.unwrap();
        drop(far);
        theirs.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "questionanswer");
        relaying.await.unwrap().unwrap();
    }
}
