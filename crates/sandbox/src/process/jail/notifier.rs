//! What a program's calls of `connect` look like from outside, and how they are answered.
//!
//! The kernel stops the calling thread and says which descriptor and where its argument lies; nothing of that can be
//! trusted to stay: another thread may change both at any time. So what is read is read once, the socket that is acted
//! on is our own copy of the descriptor, and a call that is let go on can reach nothing but the jail's own loopback.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sys::{self, Notice};

/// Tells of a jail's calls of `connect`.
pub(crate) struct Notifier(AsyncFd<OwnedFd>);

/// A call that waits for its answer.
pub(crate) struct Attempt {
    notice: Notice,
    /// Where the program wants to; `None` for what is no internet address or cannot be read.
    pub(crate) destination: Option<SocketAddr>,
}

/// The answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The kernel carries it out.
    GoOn,
    /// It succeeds.
    Done,
    /// It fails with this error number.
    Fail(i32),
}

impl Notifier {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        sys::register(descriptor).map(Self)
    }

    /// The next call. `None`: nobody is left who could make one.
    pub(crate) async fn next(&self) -> Option<Attempt> {
        let notice = self.0.async_io(Interest::READABLE, take).await.ok()??;
        // One with an address that cannot be read counts as any other: it takes as long, and can be made as often.
        Some(Attempt { notice, destination: read_address(&notice) })
    }

    /// Answers a call. One that was given up meanwhile has nobody to hear it.
    pub(crate) fn reply(&self, attempt: &Attempt, reply: Reply) {
        let (error, go_on) = match reply {
            Reply::GoOn => (0, true),
            Reply::Done => (0, false),
            Reply::Fail(error) => (error, false),
        };
        // Killed, or interrupted by a signal: it has no use for an answer.
        let _ = sys::answer_notice(self.0.get_ref().as_fd(), attempt.notice.id, error, go_on);
    }

    /// Our own copy of the socket, if it is one that can be taken outside: TCP, of the address's family, and new.
    pub(crate) fn socket(&self, attempt: &Attempt, destination: SocketAddr) -> Option<Socket> {
        let process = pidfd_open(Pid::from_raw(attempt.notice.pid)?, PidfdFlags::empty());
        // Only a process's first thread stands for it.
        let process =
            process.or_else(|_| pidfd_open(leader(attempt.notice.pid)?, PidfdFlags::empty())).ok()?;
        let socket = pidfd_getfd(process, attempt.notice.descriptor, PidfdGetfdFlags::empty()).ok()?;
        // Still waiting: the number named this thread all the time.
        if !sys::notice_waits(self.0.get_ref().as_fd(), attempt.notice.id) {
            return None;
        }
        let family = if destination.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fits = sockopt::socket_domain(&socket) == Ok(family)
            && sockopt::socket_type(&socket) == Ok(SocketType::STREAM)
            && sockopt::socket_protocol(&socket) == Ok(Some(ipproto::TCP))
            && sys::is_unconnected(socket.as_fd()).unwrap_or(false);
        fits.then_some(Socket { socket })
    }
}

/// The program's own socket.
pub(crate) struct Socket {
    socket: OwnedFd,
}

impl Socket {
    /// Whether the program waits in `connect`, and how long at most.
    pub(crate) fn patience(&self) -> Option<Option<Duration>> {
        let flags = rustix::fs::fcntl_getfl(&self.socket).ok()?;
        let blocking = !flags.contains(rustix::fs::OFlags::NONBLOCK);
        blocking.then(|| sockopt::socket_timeout(&self.socket, sockopt::Timeout::Send).ok().flatten())
    }

    /// Lets it wait, as one that is being connected, for somebody at the meeting port. Returns its own port. Never
    /// blocks, whatever the program has set.
    pub(crate) fn wait_at(&self, meeting: SocketAddr) -> io::Result<u16> {
        match sys::begin_connecting(self.socket.as_fd(), meeting) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        let own: Option<SocketAddr> = rustix::net::getsockname(&self.socket)?.try_into().ok();
        own.map(|own| own.port()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Fails it while it waits: the program finds that the connection was reset. The kernel lets nobody choose the
    /// error, and to connect once more, to where it is refused, would show the socket without any for a moment.
    pub(crate) fn fail(&self) {
        // What has ended by itself does not need it.
        let _ = rustix::net::connect_unspec(&self.socket);
    }
}

/// Takes a call that waits. `Ok(None)`: there will be none any more.
fn take(descriptor: &OwnedFd) -> io::Result<Option<Notice>> {
    loop {
        // Taking one blocks where none waits.
        let mut ready = [PollFd::new(descriptor, PollFlags::IN)];
        poll(&mut ready, Some(&Timespec::default()))?;
        let found = ready[0].revents();
        if !found.contains(PollFlags::IN) {
            let over = found.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
            return if over { Ok(None) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        match sys::take_notice(descriptor.as_fd()) {
            Ok(notice) => return Ok(Some(notice)),
            // Killed while we looked, or a signal of ours: there may be another, and the program can see to it that
            // there is another such one.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The thread's process.
fn leader(thread: i32) -> rustix::io::Result<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    group.and_then(|group| Pid::from_raw(group.trim().parse().ok()?)).ok_or(rustix::io::Errno::SRCH)
}

/// What the call's second argument points to.
fn read_address(notice: &Notice) -> Option<SocketAddr> {
    let mut bytes = [0_u8; 28];
    let length = notice.length.min(bytes.len());
    let read = sys::read_memory(notice.pid, notice.address, &mut bytes[..length]).ok()?;
    parse(&bytes[..read])
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET if bytes.len() >= 16 => {
            let address: [u8; 4] = bytes[4..8].try_into().ok()?;
            Some((Ipv4Addr::from(address), port).into())
        }
        libc::AF_INET6 if bytes.len() >= 24 => {
            let address: [u8; 16] = bytes[8..24].try_into().ok()?;
            Some((Ipv6Addr::from(address), port).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn addresses_are_read() {
        let four = [2, 0, 1, 187, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse(&four), Some("1.2.3.4:443".parse().unwrap()));
        assert_eq!(parse(&four[..15]), None);
        let mut six = vec![10, 0, 0, 80, 0, 0, 0, 0];
        six.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(parse(&six), Some("[2001:db8::1]:80".parse().unwrap()));
        for other in
            [&[1_u8, 0, b'/', b'x', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[], &[2], &[0, 0, 0, 0]]
        {
            assert_eq!(parse(other), None);
        }
    }
}
