//! The server's side of starting a jail: from a [`Job`] to a [`Jail`], or why not.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;

use super::connection::{Connection, Peak, received, send_when_ready};
use super::sys;
use super::wire::{self, Cause, Ending, Failure, FromJail, Program, Received, Request, ToJail, ToLauncher};
use super::{Jail, Job, Shared};
use crate::{Egress, Error, Exit, StartError};

/// Mounts of one job.
const MOUNT_LIMIT: usize = 64;
/// Listeners of one job.
const LISTEN_LIMIT: usize = 16;
/// How long the host may take from the request to `execve`; what takes longer is broken.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The messages and descriptors that start a jail.
pub(super) struct Plan {
    request: Vec<u8>,
    job: Vec<u8>,
    /// Ours of the channel.
    pub(super) channel: OwnedFd,
    /// Pid 1's of the channel.
    pub(super) init: OwnedFd,
    /// Ours of the output pipe.
    pub(super) output: OwnedFd,
    /// The program's of the output pipe.
    pub(super) output_end: OwnedFd,
    /// Where pid 1 notes the peak of memory when no cgroup counts it.
    pub(super) peak: OwnedFd,
}

impl Plan {
    /// Checks a job and makes what it takes.
    pub(super) fn new(job: &Job) -> Result<Self, Error> {
        check(job)?;
        let request = ToLauncher::Spawn(request(job));
        let program = ToJail::Job(program(job));
        let (request, job) = (encode(&request, wire::REQUEST_LIMIT)?, encode(&program, wire::JOB_LIMIT)?);
        let making = |error: rustix::io::Errno| Error::host("making a jail's descriptors")(error.into());
        let (channel, init) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(making)?;
        rustix::io::ioctl_fionbio(&channel, true).map_err(making)?;
        let (output, output_end) = pipe_with(PipeFlags::CLOEXEC).map_err(making)?;
        rustix::io::ioctl_fionbio(&output, true).map_err(making)?;
        let peak = rustix::fs::memfd_create("peak", rustix::fs::MemfdFlags::CLOEXEC).map_err(making)?;
        Ok(Self { request, job, channel, init, output, output_end, peak })
    }

    /// What goes to the launcher.
    pub(super) fn request(&self) -> (&[u8], [BorrowedFd<'_>; 1]) {
        (&self.request, [self.init.as_fd()])
    }

    /// What goes to pid 1.
    pub(super) fn job(&self) -> (&[u8], [BorrowedFd<'_>; 2]) {
        (&self.job, [self.output_end.as_fd(), self.peak.as_fd()])
    }
}

/// Starts a jail.
pub(super) async fn spawn(shared: &Arc<Shared>, job: Job) -> Result<Jail, StartError> {
    let plan = Plan::new(&job)?;
    let listen = job.listen.len();
    let (request, descriptors) = plan.request();
    ask(shared, request, &descriptors).await.map_err(launcher_gone)?;
    let (job, descriptors) = plan.job();
    // The socket is new and holds one job at least: this does not wait.
    wire::send_bytes(&plan.channel, job, &descriptors, rustix::net::SendFlags::DONTWAIT)
        .map_err(Error::host("handing the job to pid 1"))?;
    let Plan { channel, init, output, output_end, peak, .. } = plan;
    // Or we would never see the end of either.
    drop((init, output_end));
    let channel = sys::register(channel).map_err(Error::host("registering a jail's channel"))?;
    let up = tokio::time::timeout(START_TIMEOUT, come_up(&channel)).await.unwrap_or_else(|_| {
        let source = io::Error::from(ErrorKind::TimedOut);
        Err(Error::Host { context: "the host takes too long to start a jail".to_owned(), source }.into())
    })?;
    let Up { guard, peak_file, listeners } = up;
    if listeners.len() != listen {
        return Err(no_room());
    }
    let peak = peak_file.map_or(Peak::Noted(File::from(peak)), Peak::Counted);
    let connection = Connection::new(channel, guard.release(), peak);
    Ok(Jail { listeners, output: Some(output), connection, _launcher: Arc::clone(shared) })
}

/// Sends to the launcher, waiting for room.
async fn ask(shared: &Shared, request: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    loop {
        match shared.process.send(request, descriptors) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // The launcher takes requests within a millisecond; hundreds wait before this happens.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            other => return other,
        }
    }
}

fn launcher_gone(error: io::Error) -> StartError {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Unavailable(
            "the sandbox launcher has ended: processes cannot be started until the server is started again"
                .to_owned(),
        )
        .into(),
        _ => Error::host("asking the sandbox launcher")(error).into(),
    }
}

/// What came without its descriptors found no room for them.
fn no_room() -> StartError {
    let source = io::Error::from_raw_os_error(libc::EMFILE);
    Error::Host { context: "taking a jail's descriptors".to_owned(), source }.into()
}

/// A jail that has come up.
struct Up {
    guard: KillGuard,
    peak_file: Option<File>,
    listeners: Vec<TcpListener>,
}

/// Kills on drop, unless released.
struct KillGuard(Option<OwnedFd>);

impl KillGuard {
    fn release(mut self) -> Option<OwnedFd> {
        self.0.take()
    }
}

impl Drop for KillGuard {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.0 {
            // It may have ended by itself.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

async fn come_up(channel: &AsyncFd<OwnedFd>) -> Result<Up, StartError> {
    let mut up = Up { guard: KillGuard(None), peak_file: None, listeners: Vec::new() };
    let mut ending = None;
    loop {
        let message =
            received(channel, RecvFlags::DONTWAIT).await.map_err(Error::host("hearing from a jail"))?;
        match message {
            Received::Message(FromJail::Placed, descriptors) => {
                let mut descriptors = descriptors.into_iter();
                // Its channel closes with this, and that ends it.
                up.guard.0 = Some(descriptors.next().ok_or_else(no_room)?);
                up.peak_file = descriptors.next().map(File::from);
            }
            Received::Message(FromJail::Listening, descriptors) => {
                up.listeners = descriptors.into_iter().map(TcpListener::from).collect();
            }
            Received::Message(FromJail::Started, _) => return Ok(up),
            Received::Message(FromJail::Failed(failure), _) => return Err(refused(&failure)),
            Received::Message(FromJail::Exited(how), _) => ending = Some(how),
            Received::Message(FromJail::Ended { out_of_memory, .. }, _) => {
                return Err(StartError::Exited(exit(ending, out_of_memory, false)));
            }
            Received::Message(FromJail::Connected { .. } | FromJail::Refused { .. }, _) => {}
            Received::Closed => return Err(StartError::Exited(exit(ending, false, false))),
        }
    }
}

/// How a jail has ended, from what pid 1, the launcher and we know.
pub(super) fn exit(ending: Option<Ending>, out_of_memory: bool, stopped: bool) -> Exit {
    match ending {
        _ if out_of_memory => Exit::OutOfMemory,
        Some(Ending::OutOfMemory) => Exit::OutOfMemory,
        Some(Ending::Code(code)) => Exit::Code(code),
        Some(Ending::Signal(signal)) => Exit::Signal(signal),
        None if stopped => Exit::Stopped,
        None => Exit::Signal(libc::SIGKILL),
    }
}

/// A failure as the server's error.
pub(super) fn refused(failure: &Failure) -> StartError {
    match failure.cause {
        Cause::Entrypoint => StartError::Entrypoint(failure.text()),
        Cause::Host => {
            let source = match failure.errno {
                0 => io::Error::other(failure.context.clone()),
                errno => io::Error::from_raw_os_error(errno),
            };
            Error::Host { context: format!("starting a jail: {}", failure.context), source }.into()
        }
    }
}

fn encode<T: serde::Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, Error> {
    let bytes = serde_json::to_vec(message)
        .map_err(|_| Error::Invalid("a path of the job is not valid UTF-8".to_owned()))?;
    if bytes.len() > limit {
        return Err(Error::Invalid("arguments, environment and mounts are too large together".to_owned()));
    }
    Ok(bytes)
}

fn check(job: &Job) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.to_owned()));
    let plain = |path: &Path| {
        path.is_absolute()
            && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
    };
    match job.argv.first() {
        Some(program) if Path::new(program).is_absolute() => {}
        _ => return invalid("the program's path is not absolute"),
    }
    if job.egress == Egress::Host && !job.listen.is_empty() {
        return invalid("listeners cannot be made in the host's network");
    }
    if job.mounts.len() > MOUNT_LIMIT || job.listen.len() > LISTEN_LIMIT {
        return invalid("too many mounts or listeners");
    }
    if !job.mounts.iter().all(|mount| plain(&mount.inside)) {
        return invalid("a mount's place inside is not an absolute path without dots");
    }
    Ok(())
}

fn request(job: &Job) -> Request {
    let code = (job.code.clone(), PathBuf::from("/var/task"));
    let mounts = job.mounts.iter().map(|mount| (mount.host.clone(), mount.inside.clone()));
    Request {
        instance: job.instance.as_str().to_owned(),
        memory_bytes: job.limits.memory_bytes,
        cpu_hundredths: job.limits.cpu_hundredths,
        pids: job.limits.pids,
        host_network: job.egress == Egress::Host,
        mounts: [code].into_iter().chain(mounts).collect(),
    }
}

fn program(job: &Job) -> Program {
    Program {
        argv: job.argv.clone(),
        env: job.env.clone(),
        tmp_bytes: job.limits.tmp_bytes,
        pids: job.limits.pids,
        own_network: job.egress == Egress::None,
        listen: job.listen.clone(),
    }
}

/// For [`Connection`]: a request on the channel.
pub(super) async fn say(channel: &AsyncFd<OwnedFd>, message: &ToJail) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    send_when_ready(channel, &bytes).await
}
