//! What server and worker say to each other beside calls, and how descriptors travel with it.
//!
//! `SOCK_SEQPACKET`: a message arrives whole or not at all, and the end of the other side is seen. Descriptors go from
//! the server to the worker only; what a worker sends along is closed unseen.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::outside::Unreachable;

/// Bytes of a message: an environment and some. Linux's default socket buffer takes about 200 KiB.
pub(super) const MESSAGE: usize = 128 << 10;
/// Descriptors with one message.
const DESCRIPTORS: usize = 1;

/// Server to worker. What has an `ask` is answered with [`FromWorker::Done`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    /// First: become a worker with room for so many instances at work.
    Begin { ask: u64, build: String, max_instances: u32 },
    /// Comes with a line.
    Line,
    /// Comes with compiled code, to be known by this number.
    Load { ask: u64, program: u64 },
    /// Forget the code; what runs of it runs on.
    Unload { program: u64 },
    /// Make an instance.
    Start { ask: u64, instance: u64, start: Start },
    /// End an instance and what it runs.
    Stop { ask: u64, instance: u64 },
    /// The answer to a question; a connection comes with its descriptor.
    Answer { question: u64, answer: Result<Found, Unreachable> },
}

/// What an instance is made of.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) program: u64,
    /// The package, as the worker sees it.
    pub(super) dir: String,
    pub(super) handler: String,
    pub(super) env: Vec<(String, String)>,
    pub(super) memory_bytes: u64,
    pub(super) cpu_hundredths: Option<u32>,
    pub(super) answer_bytes: usize,
    /// Whether nothing may be reached at all; anything else is the server's to decide.
    pub(super) shut: bool,
}

/// Worker to server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// Done, or why not.
    Done { ask: u64, outcome: Result<(), String> },
    /// A guest of this instance wants something outside.
    Question { question: u64, instance: u64, wanted: Wanted },
}

/// What a guest wants.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Wanted {
    Connection {
        host: String,
        port: u16,
    },
    Addresses {
        name: String,
    },
    /// Who vouches for others.
    Roots,
}

/// What was found outside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Found {
    /// Comes with the connection.
    Connection,
    Addresses(Vec<std::net::IpAddr>),
    /// Come in a file.
    Roots,
}

/// One end of the socket.
pub(super) struct Channel(AsyncFd<OwnedFd>);

impl Channel {
    /// Both ends; the second is not registered with a runtime and blocks.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(ours)?, theirs))
    }

    /// Takes an end.
    pub(super) fn new(end: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&end, true)?;
        register(end).map(Self)
    }

    /// Sends a message, waiting for room.
    pub(super) async fn send<T: Serialize>(
        &self,
        message: &T,
        with: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        self.0.async_io(Interest::WRITABLE, |end| send(end, &bytes, with)).await
    }

    /// Sends a message if there is room for it.
    pub(super) fn try_send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        send(self.0.get_ref(), &serde_json::to_vec(message)?, None)
    }

    /// The next message; `None` once the other side is gone.
    pub(super) async fn receive<T: DeserializeOwned>(
        &self,
        buffer: &mut [u8],
    ) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let (length, descriptor) =
            self.0.async_io(Interest::READABLE, |end| receive(end, &mut *buffer)).await?;
        match buffer.get(..length) {
            Some(bytes) if length > 0 => Ok(Some((serde_json::from_slice(bytes)?, descriptor))),
            _ => Ok(None),
        }
    }
}

#[allow(unsafe_code, reason = "a type with a descriptor may lie about it; this one does not")]
fn register(end: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and closed by nobody else, for as long as the registration owns it.
    unsafe { AsyncFd::register(end) }.map_err(Into::into)
}

fn send(end: &OwnedFd, bytes: &[u8], with: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if bytes.len() > MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message is over its size limit"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(with) = &with {
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(with)));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(end, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Length and descriptor of a message. A longer one than there is room for is an error, and so is one whose
/// descriptor found no room in this process.
fn receive(end: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match recvmsg(end, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let rights = control.drain().filter_map(|ancillary| match ancillary {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let descriptor = rights.flatten().next();
    if message.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is over its size limit"));
    }
    Ok((message.bytes, descriptor))
}
