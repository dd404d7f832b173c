//! The server's side of starting a jail: made first, then given its [`Job`], both at once where nothing was made
//! ahead.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::connection::{Connection, Peak, received, send_when_ready};
use super::image::{Image, Refusal, Taken, Wanted};
use super::notifier::{Notifier, Reply};
use super::sys;
use super::wire::{
    self, Cause, Ending, Failure, FromJail, Furnishing, Program, Received, ToJail, ToLauncher,
};
use super::{Beginning, BootJob, Jail, Job, Mount, Shared, WayOut};
use crate::{Error, Exit, StartError};

/// Mounts of one job.
const MOUNT_LIMIT: usize = 64;
/// Listeners of one job.
const LISTEN_LIMIT: usize = 16;
/// How long the host may take for each step; what takes longer is broken.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The two ends of a jail's channel: ours, and pid 1's.
pub(super) fn channel() -> Result<(OwnedFd, OwnedFd), Error> {
    let making = |error: rustix::io::Errno| Error::host("making a jail's channel")(error.into());
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(making)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(making)?;
    Ok((ours, theirs))
}

/// The request for a jail that waits. Goes to the launcher with pid 1's end of the channel.
pub(super) fn preparing(name: &str) -> Result<Vec<u8>, Error> {
    encode(&ToLauncher::Prepare { jail: name.to_owned() }, wire::REQUEST_LIMIT)
}

/// The messages and descriptors that turn a jail that waits into one that runs a program.
pub(super) struct Plan {
    /// To the launcher.
    pub(super) furnishing: Vec<u8>,
    /// To pid 1.
    pub(super) job: Vec<u8>,
    /// Where pid 1 notes the peak of memory when no cgroup counts it.
    pub(super) peak: OwnedFd,
    /// To restore an image: that, and what the program will read its environment from.
    restored: Option<(Arc<Image>, OwnedFd)>,
    /// What the program finds as descriptor 3.
    handed: Option<Arc<OwnedFd>>,
}

impl Plan {
    /// Checks a job and makes what it takes. `jail` is the name that the jail was made under.
    pub(super) fn new(jail: &str, job: &Job) -> Result<Self, Error> {
        check(job)?;
        let furnishing = encode(&ToLauncher::Furnish(furnishing(jail, job)), wire::REQUEST_LIMIT)?;
        let restored = match &job.beginning {
            Beginning::Restored(image) => Some((image.clone(), orders(&job.env)?)),
            Beginning::Executed | Beginning::Template | Beginning::Handed(_) => None,
        };
        let handed = match &job.beginning {
            Beginning::Handed(descriptor) => Some(descriptor.clone()),
            _ => None,
        };
        let job = encode(&ToJail::Job(program(job)), wire::JOB_LIMIT)?;
        let peak = rustix::fs::memfd_create("peak", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|error| Error::host("making a jail's memory file")(error.into()))?;
        Ok(Self { furnishing, job, peak, restored, handed })
    }
}

/// The output pipe: our end, which does not block, and the program's.
pub(super) fn output_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let making = |error: rustix::io::Errno| Error::host("making a jail's output")(error.into());
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(making)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(making)?;
    Ok((ours, theirs))
}

/// A jail on its way to a program. Dropped, it leaves nothing.
pub(super) struct Coming {
    shared: Arc<Shared>,
    name: String,
    channel: Arc<AsyncFd<OwnedFd>>,
    guard: KillGuard,
    counted: Option<File>,
    freezer: Option<File>,
    /// Of a booted runtime.
    output: Option<OwnedFd>,
    /// Tells of a program's calls of `connect`, once there is one.
    notifier: Option<Arc<Notifier>>,
    /// Lets them go on while a booted runtime waits: it runs no user code, and nothing but loopback is to be reached.
    idle: Option<Idle>,
}

/// Starts a jail of which nothing is there.
pub(super) async fn spawn(shared: &Arc<Shared>, job: Job) -> Result<Jail, StartError> {
    // What makes no sense is refused before anything is made.
    check(&job)?;
    let coming = Coming::ask(shared, job.instance.as_str()).await?;
    coming.run(job).await
}

impl Coming {
    /// Asks for a jail and does not wait for it.
    pub(super) async fn ask(shared: &Arc<Shared>, name: &str) -> Result<Self, StartError> {
        let (channel, init) = channel()?;
        ask(shared, &preparing(name)?, &[init.as_fd()]).await.map_err(launcher_gone)?;
        // Or we would never see its end.
        drop(init);
        let channel = sys::register(channel).map_err(Error::host("registering a jail's channel"))?;
        Ok(Self {
            shared: Arc::clone(shared),
            name: name.to_owned(),
            channel: Arc::new(channel),
            guard: KillGuard(None),
            counted: None,
            freezer: None,
            output: None,
            notifier: None,
            idle: None,
        })
    }

    /// Returns when the last thing asked of it is done.
    pub(super) async fn waits(&mut self) -> Result<(), StartError> {
        in_time(self.come_as_far_as(Step::Waits)).await.map(drop)
    }

    /// Starts a runtime in it, which waits for its orders.
    pub(super) async fn boot(&mut self, boot: BootJob) -> Result<(), StartError> {
        check_mounts(&boot.mounts)?;
        let mounts = boot.mounts.iter().map(|mount| (mount.host.clone(), mount.inside.clone())).collect();
        let furnishing = Furnishing {
            jail: self.name.clone(),
            mounts,
            layered: Vec::new(),
            shared: Vec::new(),
            bounds: None,
        };
        let furnishing = encode(&ToLauncher::Furnish(furnishing), wire::REQUEST_LIMIT)?;
        let message = ToJail::Boot(wire::Boot { argv: boot.argv, env: boot.env, way_out: boot.way_out });
        let message = encode(&message, wire::JOB_LIMIT)?;
        let (output, output_end) = output_pipe()?;
        ask(&self.shared, &furnishing, &[]).await.map_err(launcher_gone)?;
        self.send(&message, &[output_end.as_fd()]).await?;
        drop(output_end);
        self.output = Some(output);
        self.waits().await
    }

    /// Gives it its job. Returns once the program has been executed, or has its orders.
    pub(super) async fn run(mut self, job: Job) -> Result<Jail, StartError> {
        let plan = Plan::new(&self.name, &job)?;
        // Before user code runs: from here on it is the way out's to answer.
        if let Some(idle) = self.idle.take() {
            idle.end().await;
        }
        let (output, output_end) = match self.output.take() {
            Some(output) => (output, None),
            None => output_pipe().map(|(ours, theirs)| (ours, Some(theirs)))?,
        };
        ask(&self.shared, &plan.furnishing, &[]).await.map_err(launcher_gone)?;
        let usual = [Some(&plan.peak), output_end.as_ref()].into_iter().flatten().map(AsFd::as_fd);
        let restored = plan.restored.iter().flat_map(|(image, orders)| [image.file(), orders.as_fd()]);
        let handed = plan.handed.iter().map(|descriptor| descriptor.as_fd());
        self.send(&plan.job, &usual.chain(restored).chain(handed).collect::<Vec<_>>()).await?;
        drop(output_end);
        let mut sockets = in_time(self.come_as_far_as(Step::Started)).await?;
        if sockets.len() != job.listen.len() + if job.way_out { 2 } else { 0 } {
            return Err(no_room());
        }
        let names = sockets.split_off(job.listen.len());
        let listeners = sockets.into_iter().map(TcpListener::from).collect();
        let Self { shared, name, channel, guard, counted, freezer, notifier, .. } = self;
        let way_out = job.way_out.then(|| WayOut::new(names, notifier)).transpose()?;
        let peak = counted.map_or(Peak::Noted(File::from(plan.peak)), Peak::Counted);
        let ender = Ender { shared: Arc::downgrade(&shared), jail: name.clone() };
        let connection = Connection::new(channel, guard.release(), peak, freezer, ender);
        Ok(Jail { name, listeners, output: Some(output), way_out, connection, _launcher: shared })
    }

    async fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), StartError> {
        let sent = self.channel.async_io(Interest::WRITABLE, |channel| {
            wire::send_bytes(channel, message, descriptors, SendFlags::DONTWAIT)
        });
        match sent.await {
            // What it said before it went is better than that it went.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other.map_err(Error::host("handing something to pid 1"))?),
        }
    }

    /// Hears from the jail until it has taken a step; with the sockets that came on the way: the listeners that were
    /// asked for, then those of the way out.
    async fn come_as_far_as(&mut self, step: Step) -> Result<Vec<OwnedFd>, StartError> {
        let mut sockets = Vec::new();
        let (mut ending, mut refusal) = (None, None);
        loop {
            let message = received(&self.channel, RecvFlags::DONTWAIT)
                .await
                .map_err(Error::host("hearing from a jail"))?;
            match message {
                Received::Message(FromJail::Placed { peak, freeze }, descriptors) => {
                    let mut descriptors = descriptors.into_iter();
                    // Its channel closes with this, and that ends it.
                    self.guard.0 = Some(descriptors.next().ok_or_else(no_room)?);
                    let mut file = |there: bool| there.then(|| descriptors.next().map(File::from)).flatten();
                    (self.counted, self.freezer) = (file(peak), file(freeze));
                }
                Received::Message(FromJail::Waits, _) if step == Step::Waits => return Ok(sockets),
                Received::Message(FromJail::Waits, _) => {}
                Received::Message(FromJail::Listening, descriptors) => sockets = descriptors,
                Received::Message(FromJail::Notifier, descriptors) => {
                    let descriptor = descriptors.into_iter().next().ok_or_else(no_room)?;
                    let notifier = Notifier::new(descriptor);
                    let notifier = notifier.map_err(Error::host("taking a jail's way out"))?;
                    self.notifier = Some(Arc::new(notifier));
                    if step == Step::Waits {
                        self.idle = self.notifier.clone().map(Idle::begin);
                    }
                }
                Received::Message(FromJail::Started, _) => return Ok(sockets),
                Received::Message(FromJail::Failed(failure), _) => {
                    refusal = Some(refused(&failure));
                    // Whoever tries again does so under the same name, so all of it must be gone first.
                    self.guard = KillGuard(None);
                }
                Received::Message(FromJail::Exited(how), _) => ending = Some(how),
                Received::Message(FromJail::Ended { .. }, _) | Received::Closed if refusal.is_some() => {
                    return Err(refusal.unwrap_or_else(no_room));
                }
                Received::Message(FromJail::Ended { out_of_memory, .. }, _) => {
                    return Err(StartError::Exited(exit(ending, out_of_memory, false)));
                }
                Received::Message(
                    FromJail::Stopped | FromJail::Connected { .. } | FromJail::Refused { .. },
                    _,
                ) => {}
                Received::Closed => return Err(self.broke_off(ending)),
            }
        }
    }

    /// Why the channel has ended without the launcher's last word, which it speaks as long as it lives.
    fn broke_off(&self, ending: Option<Ending>) -> StartError {
        if self.shared.process.has_ended() {
            return launcher_gone(ErrorKind::BrokenPipe.into());
        }
        // Not placed: the launcher could not even take our request's descriptor.
        if self.guard.0.is_none() { no_room() } else { StartError::Exited(exit(ending, false, false)) }
    }

    /// Whether it still waits.
    pub(super) fn is_alive(&self) -> bool {
        is_silent(self.channel.get_ref())
    }

    /// Resolves when it no longer waits, without keeping it.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let channel = Arc::clone(&self.channel);
        async move {
            // What was read last may have left the runtime thinking that there is more.
            while let Ok(mut ready) = channel.readable().await {
                if !is_silent(channel.get_ref()) {
                    return;
                }
                ready.clear_ready();
            }
        }
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> u64 {
        match (&self.counted, &self.guard.0) {
            (Some(file), _) => super::connection::number(file).unwrap_or(0),
            (None, Some(pidfd)) => super::resident::of_jail(pidfd),
            (None, None) => 0,
        }
    }
}

/// Answers what a notifier tells of, until it is dropped.
struct Idle(tokio::task::JoinHandle<()>);

impl Idle {
    fn begin(notifier: Arc<Notifier>) -> Self {
        let answering = async move {
            // Nothing is waited for between a call and its answer: none is lost where this is broken off.
            while let Some(attempt) = notifier.next().await {
                notifier.reply(&attempt, Reply::GoOn);
            }
        };
        Self(tokio::spawn(answering))
    }

    async fn end(mut self) {
        self.0.abort();
        // Aborted, as it was asked to be, or ended with the jail.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl WayOut {
    /// From what came with it: the sockets for names, and the notifier.
    fn new(names: Vec<OwnedFd>, notifier: Option<Arc<Notifier>>) -> Result<Self, StartError> {
        let mut names = names.into_iter();
        let (Some(datagrams), Some(streams), Some(notifier)) = (names.next(), names.next(), notifier) else {
            return Err(no_room());
        };
        let register = || -> io::Result<Self> {
            Ok(Self {
                notifier,
                datagrams: tokio::net::UdpSocket::from_std(datagrams.into())?,
                streams: tokio::net::TcpListener::from_std(streams.into())?,
            })
        };
        Ok(register().map_err(Error::host("taking a jail's way out"))?)
    }
}

/// Whether nothing has come on a channel, its end included: a jail that waits has nothing to say.
fn is_silent(channel: &OwnedFd) -> bool {
    let found = rustix::net::recv(channel, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(found, Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR))
}

/// How far a jail has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Waits,
    Started,
}

async fn in_time<T>(step: impl Future<Output = Result<T, StartError>>) -> Result<T, StartError> {
    tokio::time::timeout(START_TIMEOUT, step).await.unwrap_or_else(|_| {
        let source = io::Error::from(ErrorKind::TimedOut);
        Err(Error::Host { context: "the host takes too long to start a jail".to_owned(), source }.into())
    })
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
    match job.argv.first() {
        Some(program) if Path::new(program).is_absolute() => {}
        _ => return invalid("the program's path is not absolute"),
    }
    if job.root.as_ref().is_some_and(|root| !root.folder.starts_with('/')) {
        return invalid("the working directory's path is not absolute");
    }
    if job.root.as_ref().and_then(|root| root.user).is_some_and(|(user, _)| user == 0) {
        return invalid("nothing runs as root");
    }
    if job.root.is_some() && !(job.mounts.is_empty() && job.shared.is_empty()) {
        return invalid("nothing is mounted into an image");
    }
    if job.listen.len() > LISTEN_LIMIT {
        return invalid("too many listeners");
    }
    if !job.shared.iter().all(|shared| is_name(&shared.name)) || job.shared.len() > MOUNT_LIMIT {
        return invalid("a shared folder's name is not plain, or there are too many");
    }
    check_mounts(&job.mounts)
}

/// Whether a text names something in a folder, and nothing else.
fn is_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && text.len() <= 255 && !text.contains(['/', '\0'])
}

fn check_mounts(mounts: &[Mount]) -> Result<(), Error> {
    let plain = |path: &Path| {
        path.is_absolute()
            && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
    };
    if mounts.len() > MOUNT_LIMIT {
        return Err(Error::Invalid("too many mounts".to_owned()));
    }
    if !mounts.iter().all(|mount| plain(&mount.inside)) {
        let text = "a mount's place inside is not an absolute path without dots";
        return Err(Error::Invalid(text.to_owned()));
    }
    Ok(())
}

fn furnishing(jail: &str, job: &Job) -> Furnishing {
    let place = if job.root.is_some() { "/" } else { "/var/task" };
    let code = (job.code.clone(), PathBuf::from(place));
    let mounts = job.mounts.iter().map(|mount| (mount.host.clone(), mount.inside.clone()));
    let bounds = wire::Bounds {
        memory_bytes: job.limits.memory_bytes,
        cpu_hundredths: job.limits.cpu_hundredths,
        pids: job.limits.pids,
    };
    Furnishing {
        jail: jail.to_owned(),
        mounts: [code].into_iter().chain(mounts).collect(),
        layered: job.layered.clone(),
        shared: job.shared.iter().map(|shared| (shared.folder.clone(), shared.name.clone())).collect(),
        bounds: Some(bounds),
    }
}

fn program(job: &Job) -> Program {
    let image = match &job.beginning {
        Beginning::Restored(image) => Some(image.manifest().clone()),
        Beginning::Executed | Beginning::Template | Beginning::Handed(_) => None,
    };
    Program {
        argv: job.argv.clone(),
        // A restored program has it from elsewhere.
        env: if image.is_some() { Vec::new() } else { job.env.clone() },
        class: job.class,
        root: job.root.as_ref().map(|root| root.folder.clone()),
        user: job.root.as_ref().and_then(|root| root.user),
        tmp_bytes: job.limits.tmp_bytes,
        pids: job.limits.pids,
        way_out: job.way_out,
        listen: job.listen.clone(),
        template: matches!(job.beginning, Beginning::Template),
        handed: matches!(job.beginning, Beginning::Handed(_)),
        image,
    }
}

/// A file with the environment that a restored program reads: what a booted runtime has from its pipe.
fn orders(env: &[(String, String)]) -> Result<OwnedFd, Error> {
    let failed = |error: io::Error| Error::host("writing a restored program's environment")(error);
    let env = env.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    let text = serde_json::Value::Object(env.collect()).to_string();
    if text.len() > wire::JOB_LIMIT {
        return Err(Error::Invalid("the environment is too large".to_owned()));
    }
    let file = rustix::fs::memfd_create("orders", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|error| failed(error.into()))?;
    let file = File::from(file);
    std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), 0).map_err(failed)?;
    Ok(file.into())
}

/// Has the launcher take an image.
pub(super) async fn take_image(shared: &Arc<Shared>, jail: &str, wanted: Wanted) -> Result<Image, Refusal> {
    let failed = |error: io::Error| Refusal::BrokeOff(format!("the host failed: {error}"));
    let (ours, theirs) = channel().map_err(|error| Refusal::BrokeOff(error.to_string()))?;
    let request = ToLauncher::TakeImage { jail: jail.to_owned(), wanted };
    let request = serde_json::to_vec(&request).map_err(|error| failed(error.into()))?;
    ask(shared, &request, &[theirs.as_fd()]).await.map_err(failed)?;
    drop(theirs);
    let ours = sys::register(ours).map_err(failed)?;
    let receive = |fd: &OwnedFd| wire::receive(fd, wire::JOB_LIMIT, RecvFlags::DONTWAIT);
    match ours.async_io(Interest::READABLE, receive).await.map_err(failed)? {
        Received::Message(Taken::Image(manifest), descriptors) => match descriptors.into_iter().next() {
            Some(file) => Ok(Image::new(file, manifest)),
            None => Err(failed(io::Error::from_raw_os_error(libc::EMFILE))),
        },
        Received::Message(Taken::Refused(refusal), _) => Err(refusal),
        Received::Closed => Err(Refusal::BrokeOff("taking its image broke off".to_owned())),
    }
}

/// For [`Connection`]: has the launcher end a jail whose pid 1 does not get to it.
pub(super) struct Ender {
    /// Not the last to keep the launcher: with it, its jails end.
    shared: Weak<Shared>,
    jail: String,
}

impl Ender {
    /// Asks for it.
    pub(super) async fn end(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let request = serde_json::to_vec(&ToLauncher::End { jail: self.jail.clone() });
        if let Ok(request) = request {
            // A launcher that is gone has taken its jails with it.
            let _ = ask(&shared, &request, &[]).await;
        }
    }
}

/// For [`Connection`]: a request on the channel.
pub(super) async fn say(channel: &AsyncFd<OwnedFd>, message: &ToJail) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    send_when_ready(channel, &bytes).await
}
