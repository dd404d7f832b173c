//! What the engines need from a sandbox.
//!
//! SKELETON: signatures that both halves agree on.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::InstanceId;
use futures_util::future::BoxFuture;

use crate::{Egress, Error, Exit, Limits, StartError};

/// Asks the launcher process for jails. Cheap to clone.
#[derive(Clone)]
pub struct Launcher {}

/// How to treat what the host cannot give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingLimits {
    /// Run without a limit that cannot be enforced; say so in the report.
    Degrade,
    /// Refuse to run processes at all.
    Refuse,
}

/// A read-only folder of the host made visible inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub host: PathBuf,
    /// Inside, absolute.
    pub inside: PathBuf,
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct Job {
    /// Names the cgroup.
    pub instance: InstanceId,
    /// Program (absolute, inside) and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The folder shown at `/var/task`, read-only; also the working directory.
    pub code: PathBuf,
    /// Further read-only folders.
    pub mounts: Vec<Mount>,
    /// Hard bounds.
    pub limits: Limits,
    /// Network.
    pub egress: Egress,
    /// With a network namespace of its own: ports of 127.0.0.1 to listen on inside. Must be empty with
    /// `Egress::Host`.
    pub listen: Vec<u16>,
}

/// A started program. Dropping it kills the whole tree.
pub struct Jail {}

impl Launcher {
    /// Starts the launcher process. The calling process must have one thread: call this before any runtime
    /// is made. `data_dir` names the server among several on one host: what an earlier server of the same
    /// data directory left behind (processes, cgroups) is removed first.
    pub fn start(_data_dir: &Path, _missing: MissingLimits) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Starts a program. Returns once `execve` has succeeded. Dropping the future leaves nothing running.
    pub fn spawn(&self, _job: Job) -> BoxFuture<'_, Result<Jail, StartError>> {
        unimplemented!()
    }

    /// Kills every jail and ends the launcher process.
    pub fn shutdown(&self) {
        unimplemented!()
    }
}

impl Jail {
    /// The sockets asked for with `Job::listen`, in that order, listening, non-blocking. Once only.
    pub fn take_listeners(&mut self) -> Vec<std::net::TcpListener> {
        unimplemented!()
    }

    /// The read end of the pipe that is stdout and stderr, non-blocking. Once only.
    pub fn take_output(&mut self) -> Option<OwnedFd> {
        unimplemented!()
    }

    /// A connection to 127.0.0.1:`port` inside, non-blocking. `ConnectionRefused` while nobody listens.
    pub fn connect(&self, _port: u16) -> BoxFuture<'_, std::io::Result<std::net::TcpStream>> {
        unimplemented!()
    }

    /// Resolves when the program has ended; at once if it already has.
    pub fn exited(&self) -> BoxFuture<'_, Exit> {
        unimplemented!()
    }

    /// Bytes: the most memory it has held, its `/tmp` included.
    pub fn peak_memory(&self) -> u64 {
        unimplemented!()
    }

    /// Kills the whole tree. Returns when nothing is left, its cgroup included.
    pub fn kill(&self) -> BoxFuture<'_, ()> {
        unimplemented!()
    }
}
