//! Pid 1 while the program runs: reaps, connects, watches, and ends.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::Running;
use super::network::{Attempt, decided, start_connecting, start_meeting};
use super::watch::{INTERVAL, Verdict, Watch};
use crate::process::jail::sys;
use crate::process::jail::wire::{self, Ending, FromJail, Received, ToJail};

/// Connections that may be under way at once.
const PENDING_LIMIT: usize = 512;
/// Bytes of a request for a connection.
const REQUEST_LIMIT: usize = 1024;
/// How long the server may leave a message unread before pid 1 takes it for dead.
const SEND_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Serves until the program or the server ends.
pub(super) fn run(channel: OwnedFd, running: Running, watch_memory: Option<u64>) -> ! {
    let Running { pid, signals, peak, template, meeting } = running;
    // A server that hangs must not stop the watch; refusing to set it would only mean to wait.
    let _ = sockopt::set_socket_timeout(&channel, sockopt::Timeout::Send, Some(SEND_TIMEOUT));
    let watch = watch_memory.map(|bytes| Watch::new(bytes, peak));
    let mut supervisor = Supervisor {
        channel,
        signals,
        program: pid,
        pending: HashMap::new(),
        watch,
        template,
        _meeting: meeting,
    };
    loop {
        if let Some(ending) = supervisor.turn() {
            supervisor.say(&FromJail::Exited(ending), &[]);
            sys::exit(0)
        }
    }
}

struct Supervisor {
    channel: OwnedFd,
    signals: OwnedFd,
    program: Pid,
    pending: HashMap<u64, OwnedFd>,
    watch: Option<Watch>,
    /// Whether the server waits for the program to stop itself.
    template: bool,
    _meeting: Vec<OwnedFd>,
}

impl Supervisor {
    /// Waits for something to happen and deals with it. `Some`: the program has ended.
    fn turn(&mut self) -> Option<Ending> {
        let ready = self.wait();
        if ready.signals {
            // What was signalled is asked of the kernel, not of the signal: signals merge.
            let mut information = [0_u8; 1024];
            while rustix::io::read(&self.signals, &mut information).is_ok_and(|read| read > 0) {}
            if let Some(ending) = self.reap() {
                return Some(ending);
            }
        }
        if ready.channel {
            self.serve();
        }
        for id in ready.decided {
            self.decide(id);
        }
        match self.watch.as_mut().map(Watch::look) {
            Some(Verdict::Over) => Some(Ending::OutOfMemory),
            _ => None,
        }
    }

    fn wait(&self) -> Ready {
        let mut descriptors =
            vec![PollFd::new(&self.channel, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        let ids: Vec<u64> = self.pending.keys().copied().collect();
        descriptors.extend(ids.iter().map(|id| PollFd::new(&self.pending[id], PollFlags::OUT)));
        let interval = self.watch.as_ref().map(|_| Timespec::try_from(INTERVAL).unwrap_or_default());
        match poll(&mut descriptors, interval.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => sys::exit(1),
        }
        let happened = |descriptor: &PollFd<'_>| !descriptor.revents().is_empty();
        let decided = ids.iter().zip(&descriptors[2..]).filter(|(_, d)| happened(d)).map(|(id, _)| *id);
        Ready {
            channel: happened(&descriptors[0]),
            signals: happened(&descriptors[1]),
            decided: decided.collect(),
        }
    }

    /// Collects every ended process of the jail. `Some`: the program was among them.
    fn reap(&self) -> Option<Ending> {
        let mut ending = None;
        let stops = if self.template { WaitOptions::UNTRACED } else { WaitOptions::empty() };
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG | stops) {
            if status.stopped() {
                if pid == self.program {
                    self.say(&FromJail::Stopped, &[]);
                }
            } else if pid == self.program {
                ending = Some(how(status));
            }
        }
        ending
    }

    fn serve(&mut self) {
        match wire::receive(&self.channel, REQUEST_LIMIT, RecvFlags::DONTWAIT) {
            Ok(Received::Message(ToJail::Connect { id, port }, _)) => {
                let attempt = self.attempt(|| start_connecting(port));
                self.began(id, attempt);
            }
            Ok(Received::Message(ToJail::Meet { id, port, six }, _)) => {
                let attempt = self.attempt(|| start_meeting(port, six));
                self.began(id, attempt);
            }
            Ok(Received::Message(ToJail::Suspend(suspended), _)) => {
                let signal = if suspended { libc::SIGSTOP } else { libc::SIGCONT };
                // There may be nobody left.
                let _ = sys::signal_others(signal);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // The server is gone or talks nonsense.
            _ => sys::exit(0),
        }
    }

    /// Begins a connection, if there is room for one more.
    fn attempt(&self, begin: impl FnOnce() -> Result<Attempt, Errno>) -> Result<Attempt, Errno> {
        if self.pending.len() < PENDING_LIMIT { begin() } else { Err(Errno::AGAIN) }
    }

    fn began(&mut self, id: u64, attempt: Result<Attempt, Errno>) {
        match attempt {
            Ok(Attempt::Connected(socket)) => self.say(&FromJail::Connected { id }, &[socket]),
            Ok(Attempt::Pending(socket)) => drop(self.pending.insert(id, socket)),
            Err(error) => self.say(&FromJail::Refused { id, errno: error.raw_os_error() }, &[]),
        }
    }

    fn decide(&mut self, id: u64) {
        let Some(socket) = self.pending.remove(&id) else { return };
        match decided(&socket) {
            Ok(()) => self.say(&FromJail::Connected { id }, &[socket]),
            Err(error) => self.say(&FromJail::Refused { id, errno: error.raw_os_error() }, &[]),
        }
    }

    fn say(&self, message: &FromJail, descriptors: &[OwnedFd]) {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        if wire::send(&self.channel, message, &borrowed, SendFlags::empty()).is_err() {
            sys::exit(0)
        }
    }
}

struct Ready {
    channel: bool,
    signals: bool,
    decided: Vec<u64>,
}

fn how(status: WaitStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, Some(signal)) => Ending::Signal(signal),
        (None, None) => Ending::Signal(libc::SIGKILL),
    }
}
