//! The server's end of a running jail's channel.
//!
//! One task a jail reads the channel and hands what comes to whoever waits for it. It ends with the last
//! message or the end of the channel, which both mean that nothing of the jail is left.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};

use super::start::{Ender, exit, say};
use super::wire::{self, FromJail, Received, ToJail};
use crate::Exit;

/// Connections that may be asked for at once.
const PENDING_LIMIT: usize = 512;
/// How long pid 1 may take to take a message before its jail is given up.
const ROOM: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// How long pid 1 has to end its jail alone, which takes a millisecond or two.
const GRACE: Duration = Duration::from_millis(20);

/// Where the peak of memory is read.
pub(super) enum Peak {
    /// A control group's file: a decimal number. Unreadable once the group is gone.
    Counted(File),
    /// Eight bytes that pid 1 writes.
    Noted(File),
}

/// A running jail's channel, and the power to kill it.
pub(super) struct Connection {
    inner: Arc<Inner>,
    exit: watch::Receiver<Option<Exit>>,
    stopped: watch::Receiver<bool>,
}

struct Inner {
    channel: Arc<AsyncFd<OwnedFd>>,
    pidfd: Option<OwnedFd>,
    peak: Peak,
    /// Freezes its control group; without, pid 1 is asked.
    freezer: Option<File>,
    /// The most that was ever read: the file goes before the jail's handle does.
    peak_seen: AtomicU64,
    stopped: AtomicBool,
    /// It was killed, or its program has ended.
    ends: Notify,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    next: u64,
    closed: bool,
    waiting: HashMap<u64, oneshot::Sender<io::Result<TcpStream>>>,
}

impl Connection {
    /// Starts to read the channel. `ender` is for a jail that does not come to its end by itself.
    pub(super) fn new(
        channel: Arc<AsyncFd<OwnedFd>>,
        pidfd: Option<OwnedFd>,
        peak: Peak,
        freezer: Option<File>,
        ender: Ender,
    ) -> Self {
        let inner = Arc::new(Inner {
            channel,
            pidfd,
            peak,
            freezer,
            peak_seen: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            ends: Notify::new(),
            pending: Mutex::default(),
        });
        let (ended, exit) = watch::channel(None);
        let (stops, stopped) = watch::channel(false);
        tokio::spawn(read(Arc::clone(&inner), ended, stops, ender));
        Self { inner, exit, stopped }
    }

    /// A connection to a port inside.
    pub(super) async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        self.ask(|id| ToJail::Connect { id, port }).await
    }

    /// A connection from the meeting port to a port inside.
    pub(super) async fn meet(&self, port: u16, six: bool) -> io::Result<TcpStream> {
        self.ask(|id| ToJail::Meet { id, port, six }).await
    }

    async fn ask(&self, question: impl FnOnce(u64) -> ToJail) -> io::Result<TcpStream> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut pending = self.inner.pending.lock();
            if pending.closed {
                return Err(ErrorKind::NotConnected.into());
            }
            if pending.waiting.len() >= PENDING_LIMIT {
                return Err(ErrorKind::ResourceBusy.into());
            }
            pending.next += 1;
            let id = pending.next;
            pending.waiting.insert(id, sender);
            id
        };
        if let Err(error) = say(&self.inner.channel, &question(id)).await {
            self.inner.pending.lock().waiting.remove(&id);
            return Err(match error.kind() {
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ErrorKind::NotConnected.into(),
                _ => error,
            });
        }
        answer.await.unwrap_or_else(|_| Err(ErrorKind::NotConnected.into()))
    }

    /// Resolves when nothing is left.
    pub(super) async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        // The reader says how it ended before it goes; only a runtime that is shut down stops it earlier.
        ended.ok().and_then(|exit| *exit).unwrap_or(Exit::Stopped)
    }

    /// Suspends everything, or lets it go on. Where a group is frozen, pid 1 is frozen too and answers nothing.
    pub(super) fn suspend(&self, suspended: bool) -> io::Result<()> {
        if let Some(file) = &self.inner.freezer {
            return file.write_all_at(if suspended { b"1" } else { b"0" }, 0);
        }
        let message = serde_json::to_vec(&ToJail::Suspend(suspended))?;
        let channel = self.inner.channel.get_ref();
        loop {
            match wire::send_bytes(channel, &message, &[], SendFlags::DONTWAIT) {
                // As few as eleven messages may wait (`net.unix.max_dgram_qlen`). Pid 1 takes what it is sent at once,
                // so there is room again in no time; what need not be suspended is left as it is.
                Err(error) if error.kind() == ErrorKind::WouldBlock && !suspended => wait_for_room(channel)?,
                sent => return sent,
            }
        }
    }

    /// Resolves when the program has stopped itself.
    pub(super) async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        if stopped.wait_for(|stopped| *stopped).await.is_err() {
            // It has ended: nothing stops any more.
            std::future::pending::<()>().await;
        }
    }

    /// Kills the whole tree at once, what is suspended too; does not wait.
    pub(super) fn kill(&self) {
        self.inner.stopped.store(true, Ordering::Relaxed);
        if let Some(pidfd) = &self.inner.pidfd {
            // It may have ended by itself.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
        self.inner.ends.notify_one();
    }

    /// Bytes.
    pub(super) fn peak_memory(&self) -> u64 {
        let now = match &self.inner.peak {
            Peak::Counted(file) => number(file),
            Peak::Noted(file) => {
                let mut bytes = [0_u8; 8];
                file.read_exact_at(&mut bytes, 0).ok().map(|()| u64::from_ne_bytes(bytes))
            }
        };
        let now = now.unwrap_or(0);
        self.inner.peak_seen.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

/// Blocks until a message can be sent.
fn wait_for_room(channel: &OwnedFd) -> io::Result<()> {
    let mut descriptors = [PollFd::new(channel, PollFlags::OUT)];
    match rustix::event::poll(&mut descriptors, Some(&ROOM)) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The number that a control group's file holds.
pub(super) fn number(file: &File) -> Option<u64> {
    let mut buffer = [0_u8; 24];
    let read = file.read_at(&mut buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..read]).ok()?.trim().parse().ok()
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the channel to its end.
async fn read(
    inner: Arc<Inner>,
    ended: watch::Sender<Option<Exit>>,
    stops: watch::Sender<bool>,
    ender: Ender,
) {
    let mut ending = None;
    let mut out_of_memory = false;
    let late = async {
        inner.ends.notified().await;
        tokio::time::sleep(GRACE).await;
        ender.end().await;
        std::future::pending::<()>().await;
    };
    let mut late = std::pin::pin!(late);
    loop {
        let message = tokio::select! {
            biased;
            message = received(&inner.channel, RecvFlags::DONTWAIT) => message,
            () = &mut late => continue,
        };
        match message {
            Ok(Received::Message(FromJail::Connected { id }, descriptors)) => {
                let stream = descriptors.into_iter().next().map(TcpStream::from);
                inner.answer(id, stream.ok_or_else(|| ErrorKind::InvalidData.into()));
            }
            Ok(Received::Message(FromJail::Refused { id, errno }, _)) => {
                inner.answer(id, Err(io::Error::from_raw_os_error(errno)));
            }
            Ok(Received::Message(FromJail::Stopped, _)) => drop(stops.send_replace(true)),
            Ok(Received::Message(FromJail::Exited(how), _)) => {
                ending = Some(how);
                inner.ends.notify_one();
            }
            Ok(Received::Message(FromJail::Ended { out_of_memory: killed, peak_memory }, _)) => {
                out_of_memory = killed;
                inner.peak_seen.fetch_max(peak_memory, Ordering::Relaxed);
                break;
            }
            Ok(Received::Message(_, _)) => {}
            Ok(Received::Closed) | Err(_) => break,
        }
    }
    let mut pending = inner.pending.lock();
    pending.closed = true;
    // Whoever waits is told by the drop.
    pending.waiting.clear();
    drop(pending);
    ended.send_replace(Some(exit(ending, out_of_memory, inner.stopped.load(Ordering::Relaxed))));
}

impl Inner {
    fn answer(&self, id: u64, answer: io::Result<TcpStream>) {
        if let Some(waiting) = self.pending.lock().waiting.remove(&id) {
            // Given up: the socket closes here.
            let _ = waiting.send(answer);
        }
    }
}

/// The next message of a jail.
pub(super) async fn received(channel: &AsyncFd<OwnedFd>, flags: RecvFlags) -> io::Result<Received<FromJail>> {
    channel.async_io(Interest::READABLE, |fd| wire::receive(fd, wire::REPLY_LIMIT, flags)).await
}

/// Sends a message to pid 1, waiting for room.
pub(super) async fn send_when_ready(channel: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<()> {
    channel.async_io(Interest::WRITABLE, |fd| wire::send_bytes(fd, bytes, &[], SendFlags::DONTWAIT)).await
}
