//! What server, launcher and a jail's pid 1 say to each other, and how descriptors travel with it.
//!
//! All sockets are `SOCK_SEQPACKET`: a message arrives whole or not at all, and the end of the other side is
//! seen. Three channels: server to launcher (requests only), launcher to pid 1 (until the program is known), and
//! one *channel* a jail between server and pid 1, on which the launcher speaks first ([`FromJail::Placed`])
//! and last ([`FromJail::Ended`]). The environment and arguments of a program never pass through the
//! launcher, whose memory every later jail's pid 1 is a copy of.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::host::HostReport;
use super::image::Manifest;
use super::seccomp::ProgramClass;

/// The port of 127.0.0.1 and `::1` that sockets on their way out wait at: reserved by IANA, and none that programs
/// try because nobody listens there.
pub(crate) const MEETING_PORT: u16 = 1023;

/// Bytes of a message to the launcher: 64 mounts with paths of `PATH_MAX` would be more, and are refused.
pub(super) const REQUEST_LIMIT: usize = 64 * 1024;
/// Bytes of a job: Linux's default socket buffer takes a message of about 200 KiB.
pub(super) const JOB_LIMIT: usize = 128 * 1024;
/// Bytes of a message from a jail.
pub(super) const REPLY_LIMIT: usize = 16 * 1024;
/// Descriptors with one message; the kernel's own bound is 253.
const DESCRIPTOR_LIMIT: usize = 128;

/// Server to launcher. The end of the socket means: kill everything and end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToLauncher {
    /// Make a jail that waits. Comes with pid 1's end of the jail's channel.
    Prepare {
        /// Names the jail from here on, and its control groups.
        jail: String,
    },
    /// Give a waiting jail what the next step of its pid 1 takes.
    Furnish(Furnishing),
    /// Take the image of a jail's stopped program. Comes with a socket for the answer, a [`super::image::Taken`].
    TakeImage {
        /// Which jail.
        jail: String,
        /// What of it.
        wanted: super::image::Wanted,
    },
    /// Kill a jail that does not come to its end, process by process.
    End {
        /// Which jail.
        jail: String,
    },
    /// Put a file system of the server's own over a folder of the host, as jails are shown it. Comes with a socket for the
    /// answer, a [`Mounted`].
    Mount {
        /// Absolute.
        folder: PathBuf,
    },
    /// Take it away again, for jails to come. Comes with a socket for the answer, a [`Mounted`].
    Unmount {
        /// Absolute.
        folder: PathBuf,
    },
}

/// Launcher to server, on a socket of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Mounted {
    /// Why it could not be done. Where it was mounted, the device that its requests come from comes with this.
    pub(super) failure: Option<Failure>,
}

/// What a jail is to see, and its bounds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Furnishing {
    /// Which jail.
    pub(super) jail: String,
    /// Read-only folders and files: on the host, inside.
    pub(super) mounts: Vec<(PathBuf, PathBuf)>,
    /// What is at the top of the layers, where a runtime was booted: on the host, and their names below `/opt`.
    pub(super) layered: Vec<(PathBuf, String)>,
    /// Folders that are shared with others, writable: on the host, and their names below `/mnt`.
    pub(super) shared: Vec<(PathBuf, String)>,
    /// Once, for the function; a runtime that is booted ahead has none yet.
    pub(super) bounds: Option<Bounds>,
}

/// What control groups hold.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Bounds {
    /// Bytes, `/tmp` and pid 1 included.
    pub(super) memory_bytes: u64,
    /// Hundredths of a core.
    pub(super) cpu_hundredths: Option<u32>,
    /// Processes and threads of the program, pid 1 not included.
    pub(super) pids: u32,
}

/// Launcher to server, once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    /// What it found.
    pub(super) report: HostReport,
    /// Why it cannot start anything.
    pub(super) failure: Option<String>,
}

/// Launcher to pid 1.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToInit {
    /// The user mapping is written. Comes with the channel's end.
    Mapped,
    /// What the next step takes. Comes with the two files of a control group to join, if there is one, then with
    /// the mounts in order, those of layers and those that are shared last.
    Furnish {
        /// Whether there is a control group to join.
        late_group: bool,
        /// Where each mount goes, absolute.
        targets: Vec<PathBuf>,
        /// What further mounts are called, which go below `/opt` one by one.
        layered: Vec<String>,
        /// What further mounts are called, which are writable and go below `/mnt`.
        shared: Vec<String>,
        /// Without a memory cgroup: the bytes that pid 1 watches over itself.
        watch_memory: Option<u64>,
    },
}

/// Server to pid 1.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToJail {
    /// Start a runtime that waits for its orders, before there is a job. Comes with the output pipe.
    Boot(Boot),
    /// Once. Comes with the memory file that pid 1 notes the peak in and, where nothing was booted, the output
    /// pipe; to restore an image, with that and the file of the environment as well; or with what the program is
    /// handed.
    Job(Program),
    /// Connect to a port of 127.0.0.1.
    Connect {
        /// Echoed in the answer.
        id: u64,
        /// Port.
        port: u16,
    },
    /// Connect from the meeting port to a port of the same loopback address, where the program's socket waits.
    Meet {
        /// Echoed in the answer.
        id: u64,
        /// The program's.
        port: u16,
        /// Which address.
        six: bool,
    },
    /// Stop everything but pid 1, or let it go on. Where no cgroup freezes.
    Suspend(bool),
}

/// A runtime without a function.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Boot {
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// The whole environment.
    pub(super) env: Vec<(String, String)>,
    /// Whether its calls of `connect` are told.
    pub(super) way_out: bool,
}

/// The program of a jail.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Program {
    /// Program and arguments; not looked at where a runtime is booted.
    pub(super) argv: Vec<String>,
    /// What kind of program it is.
    pub(super) class: ProgramClass,
    /// The whole environment: a booted runtime's orders.
    pub(super) env: Vec<(String, String)>,
    /// Where the first mount is the program's root: its working directory.
    pub(super) root: Option<String>,
    /// User and group that it is shown as.
    pub(super) user: Option<(u32, u32)>,
    /// Bytes of `/tmp`.
    pub(super) tmp_bytes: u64,
    /// Processes and threads.
    pub(super) pids: u32,
    /// Whether there is a way out of its network; where a runtime is booted, what its boot said.
    pub(super) way_out: bool,
    /// Ports to listen on.
    pub(super) listen: Vec<u16>,
    /// Whether it will stop itself.
    pub(super) template: bool,
    /// Whether a descriptor comes with it that it finds as 3.
    pub(super) handed: bool,
    /// What the image to restore needs.
    pub(super) image: Option<Manifest>,
}

/// To the server, on a jail's channel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromJail {
    /// From the launcher: pid 1 exists. Comes with its pidfd and two files of its groups, where there are such.
    Placed {
        /// With the file that holds the peak of memory.
        peak: bool,
        /// With the file that freezes it.
        freeze: bool,
    },
    /// It waits: for a runtime to boot or for a job.
    Waits,
    /// Comes with the listening sockets in the order asked for, and with a way out the two sockets that names are
    /// asked for at.
    Listening,
    /// From the program's side, before `execve`: comes with the descriptor that tells of its calls of `connect`.
    Notifier,
    /// `execve` succeeded, or the booted runtime has its orders.
    Started,
    /// The program, a template, has stopped itself.
    Stopped,
    /// There will be no program.
    Failed(Failure),
    /// Comes with the connected socket.
    Connected {
        /// Of the request.
        id: u64,
    },
    /// No connection.
    Refused {
        /// Of the request.
        id: u64,
        /// The system's error number.
        errno: i32,
    },
    /// The program has ended.
    Exited(Ending),
    /// From the launcher: nothing is left, the cgroup included. The last message.
    Ended {
        /// Whether the kernel killed something for memory.
        out_of_memory: bool,
        /// Bytes; 0 where no cgroup counts.
        peak_memory: u64,
    },
}

/// How the program ended, as pid 1 saw it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Ending {
    /// Exit status.
    Code(i32),
    /// Signal number.
    Signal(i32),
    /// Pid 1's own watch found it over its memory.
    OutOfMemory,
}

/// Why a jail did not come up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failure {
    /// Whose fault.
    pub(super) cause: Cause,
    /// What was being done, or the whole text for the owner of the program.
    pub(super) context: String,
    /// The system's error number, 0 where there is none.
    pub(super) errno: i32,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cause {
    /// The host's or ours.
    Host,
    /// The program's: not there, not executable.
    Entrypoint,
}

/// Adds what was being done to a system error.
pub(super) trait Doing<T> {
    /// `what` reads after "while".
    fn doing(self, what: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let what = what.into();
            let context = match error.raw_os_error() {
                Some(_) => what,
                None => format!("{what}: {error}"),
            };
            Failure { cause: Cause::Host, context, errno: error.raw_os_error().unwrap_or(0) }
        })
    }
}

impl Failure {
    /// One line.
    pub(super) fn text(&self) -> String {
        match self.errno {
            0 => self.context.clone(),
            errno => format!("{}: {}", self.context, io::Error::from_raw_os_error(errno)),
        }
    }
}

/// What was received.
pub(super) enum Received<T> {
    /// A message with its descriptors.
    Message(T, Vec<OwnedFd>),
    /// The other side is gone.
    Closed,
}

/// Sends one message. `ErrorKind::WouldBlock` only on a non-blocking socket or with `DONTWAIT`.
pub(super) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    send_bytes(socket, &bytes, descriptors, flags)
}

/// [`send`] of a message that is already in its form.
pub(super) fn send_bytes(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    if descriptors.len() > DESCRIPTOR_LIMIT {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    loop {
        let sent = rustix::net::sendmsg(
            socket.as_fd(),
            &[IoSlice::new(bytes)],
            &mut control,
            flags | SendFlags::NOSIGNAL,
        );
        match sent {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Receives one message of at most `limit` bytes. A longer one, or one that does not parse, is an error. One
/// whose descriptors find no room in this process comes without any of them.
pub(super) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    limit: usize,
    flags: RecvFlags,
) -> io::Result<Received<T>> {
    let mut bytes = vec![0_u8; limit];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let received = rustix::net::recvmsg(
            socket.as_fd(),
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        );
        match received {
            // A peer that went with messages of ours unread resets the connection; the error comes once, before
            // what it had still said.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = ancillary {
            descriptors.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        descriptors.clear();
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is over its size limit"));
    }
    if message.bytes == 0 {
        return Ok(Received::Closed);
    }
    Ok(Received::Message(serde_json::from_slice(&bytes[..message.bytes])?, descriptors))
}
