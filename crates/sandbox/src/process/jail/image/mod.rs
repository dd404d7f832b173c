//! Images: the memory of a process that has been initialised, kept to begin others with.
//!
//! A *template* is an ordinary program in an ordinary jail that has stopped itself. A helper of the launcher has it
//! copy itself ([`tracee`]), looks whether a copy can be made at all of what it is ([`capture`]), and writes the
//! copy's memory and the system calls that bring it back into a sealed memory file ([`plan`], [`contents`]). That
//! file is a program: executed in a fresh jail it becomes the copy ([`restorer`]). Everything that a jail gives a
//! program it gives this one too: namespaces, groups, `/tmp`, the filter; nothing of these is in the image.
//!
//! What goes on in the new jail is the child of a `fork` at the first instruction after it, so that every handler
//! of a fork runs: the C library's, OpenSSL's, Python's. Its pid is never its template's: the program of a
//! template is the first process after pid 1, and no process of a jail that restores an image ever has that number
//! ([`TEMPLATE_PID`]). Memory that is to be wiped on fork is empty.
//!
//! Invariants: an image holds no descriptor but regular files that are only read, opened anew, and event counters,
//! made anew; files that it maps must be those that it was made with, to the nanosecond of their change, or it is not
//! restored; nothing of the image's code runs before all of it is in place, and what goes wrong until then is told
//! apart from how the program ends.
//!
//! Absent: several threads, sockets, pipes, shared memory, children, images that outlive the kernel's boot, other
//! machines than x86-64.

#[cfg(target_arch = "x86_64")]
mod capture;
#[cfg(target_arch = "x86_64")]
mod contents;
#[cfg(target_arch = "x86_64")]
mod plan;
#[cfg(target_arch = "x86_64")]
mod procfs;
#[cfg(target_arch = "x86_64")]
mod restorer;
#[cfg(target_arch = "x86_64")]
mod tracee;

pub(super) mod restore;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// The pid of a template in its jail: the first after pid 1, and never given out a second time, since the kernel
/// counts up and begins again far above.
pub(super) const TEMPLATE_PID: u32 = 2;
/// The descriptor that a restored program reads its environment from; in a template it holds its place.
pub(super) const ORDERS: i32 = 3;

/// The image of a template, kept as long as this is. Its pages are charged to the server, but for those that an
/// instance changes: its copies of them are its own.
#[derive(Debug)]
pub struct Image {
    file: OwnedFd,
    manifest: Manifest,
}

impl Image {
    pub(super) fn new(file: OwnedFd, manifest: Manifest) -> Self {
        Self { file, manifest }
    }

    /// Bytes of memory that it holds.
    pub fn bytes(&self) -> u64 {
        self.manifest.bytes
    }

    /// An image that is nothing but its size.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: u64) -> Self {
        let file = rustix::fs::memfd_create("none", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        Self { file, manifest: Manifest { bytes, report: 4, files: Vec::new() } }
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

/// What about a process keeps it from having an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Several run in it.
    Threads,
    /// It has started others.
    Processes,
    /// It has sockets, pipes or other descriptors that are no file.
    Sockets,
    /// It has written, or what it has opened or loaded cannot be opened again as it was.
    Files,
    /// It is shared, too much, or too scattered.
    Memory,
    /// Neither.
    Other,
}

impl Refusal {
    /// One of [`crate::NO_TEMPLATE`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unfit(Why::Threads, _) => "threads",
            Self::Unfit(Why::Processes, _) => "processes",
            Self::Unfit(Why::Sockets, _) => "sockets",
            Self::Unfit(Why::Files, _) => "files",
            Self::Unfit(Why::Memory, _) => "memory",
            Self::Unfit(Why::Other, _) => "other",
            Self::BrokeOff(_) => "broken_off",
        }
    }
}

/// Why a template has no image; the text is for the function's owner and completes "because".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// What it is cannot be kept, now or later.
    #[error("{1}")]
    Unfit(Why, String),
    /// Something came in between: another time there may be one.
    #[error("{0}")]
    BrokeOff(String),
}

/// What must be there for an image to be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Bytes of memory that the image holds.
    pub(super) bytes: u64,
    /// The descriptor by which the restorer tells of a failure; the image follows it, and then the files.
    pub(super) report: i32,
    /// To be opened, in this order.
    pub(super) files: Vec<FileIdentity>,
}

/// A file and its state. Neither a new file in its place nor a change of the old one goes unseen, whoever sets its
/// times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileIdentity {
    /// In the jail.
    pub(super) path: PathBuf,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    /// Of its content, its times or its mode, in nanoseconds since 1970: what nobody can set.
    pub(super) changed: i128,
}

impl FileIdentity {
    fn of(path: PathBuf, found: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
        Self { path, device: found.dev(), inode: found.ino(), bytes: found.len(), changed }
    }
}

/// What a helper answers with; an image comes with its file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Taken {
    /// There it is.
    Image(Manifest),
    /// There is none.
    Refused(Refusal),
}

/// What is wanted of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Of memory that it may hold.
    pub most_bytes: u64,
    /// Whether the template, once it goes on and finds no orders, does what every instance does at first and stops
    /// itself again. What it writes to meanwhile, its instances have from the beginning.
    pub rehearse: bool,
}

/// The life of a helper: takes the image of the stopped program of the jail with this pid 1.
pub(super) fn help(reply: &OwnedFd, init: Pid, wanted: Wanted) -> ! {
    use super::{sys, wire};
    #[cfg(target_arch = "x86_64")]
    let taken = capture::take(init, wanted);
    #[cfg(not(target_arch = "x86_64"))]
    let taken: Result<(OwnedFd, Manifest), Refusal> = {
        let _ = (init, wanted);
        Err(Refusal::Unfit(Why::Other, "images are not made on this machine's architecture".to_owned()))
    };
    let told = match &taken {
        Ok((file, manifest)) => {
            let taken = Taken::Image(manifest.clone());
            wire::send(reply, &taken, &[file.as_fd()], rustix::net::SendFlags::empty())
        }
        Err(refusal) => {
            let refused = Taken::Refused(refusal.clone());
            wire::send(reply, &refused, &[], rustix::net::SendFlags::empty())
        }
    };
    sys::exit(i32::from(told.is_err()))
}
