//! What the engines need from a sandbox: a program started in a jail, and the ends that reach it.
//!
//! [`Launcher`] is the server's side of the launcher process, [`Jail`] of one pid 1. A jail's channel brings
//! everything about it: first its placement from the launcher, then pid 1's word that the program runs,
//! connections into its network, how the program ended, and last the launcher's word that nothing is left.
//!
//! Invariants: a [`Jail`] or the future that makes one, dropped, kills the whole tree; [`Jail::exited`] and
//! [`Jail::kill`] resolve only when nothing is left, the control groups included.

mod cgroup;
mod connection;
mod host;
mod image;
mod init;
mod landlock;
mod launcher;
mod masks;
mod notifier;
mod probe;
mod resident;
mod seccomp;
mod start;
mod sys;
mod wire;

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::InstanceId;
use connection::Connection;
use futures_util::future::BoxFuture;
pub use host::{Check, HostReport, Status};
pub use image::{Image, Refusal, Wanted, Why};
pub(crate) use notifier::{Attempt, Notifier, Reply, Socket};
pub use seccomp::{ProgramClass, keep_to_wasm};
pub(crate) use wire::MEETING_PORT;

pub use launcher::{SHARED_OWNER, image_files, image_users};

use crate::{Error, Exit, FileSystem, Limits, StartError};

/// Asks the launcher process for jails. Cheap to clone; the last one dropped ends the launcher.
#[derive(Clone)]
pub struct Launcher {
    shared: Arc<Shared>,
}

/// What all handles and jails share.
struct Shared {
    process: launcher::Process,
    report: HostReport,
    /// Why nothing is started.
    refusal: Option<String>,
}

/// How to treat what the host cannot give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingLimits {
    /// Run without a limit that cannot be enforced; say so in the report.
    Degrade,
    /// Refuse to run processes at all.
    Refuse,
}

/// A read-only folder or file of the host made visible inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub host: PathBuf,
    /// Inside, absolute.
    pub inside: PathBuf,
}

/// That a program's root is an image's tree rather than the host's `/usr` with the code in `/var/task`. The tree needs
/// folders `/proc`, `/dev` and `/tmp`, which are the jail's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The working directory, absolute.
    pub folder: String,
    /// User and group as the program sees itself, where that is not the usual number. Not root.
    pub user: Option<(u32, u32)>,
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
    /// What kind of program it is.
    pub class: ProgramClass,
    /// The folder shown at `/var/task`, read-only; also the working directory. With a `root`, shown at `/`.
    pub code: PathBuf,
    /// Whether the code is the whole of what the program sees.
    pub root: Option<Root>,
    /// Further read-only folders, mounted in this order after the code.
    pub mounts: Vec<Mount>,
    /// What `/opt` shows by name, where a runtime was booted before: nothing can be mounted on `/opt` itself then.
    pub layered: Vec<(PathBuf, String)>,
    /// Folders that it shares with others, writable, below `/mnt`. Not with a `root`.
    pub shared: Vec<FileSystem>,
    /// Hard bounds.
    pub limits: Limits,
    /// Whether there is a way out of its network, that somebody has to serve. Without one it has loopback alone. Where a
    /// runtime is booted, what its boot says.
    pub way_out: bool,
    /// Ports of 127.0.0.1 to listen on inside.
    pub listen: Vec<u16>,
    /// How the program comes to be.
    pub beginning: Beginning,
}

/// How a program comes to be.
#[derive(Debug, Clone, Default)]
pub enum Beginning {
    /// It is executed.
    #[default]
    Executed,
    /// It is executed and will stop itself, so that its image can be taken. Descriptor 3 is `/dev/null`: what is
    /// restored finds its environment there.
    Template,
    /// It is executed and finds this as descriptor 3.
    Handed(Arc<OwnedFd>),
    /// It goes on where a template had stopped. Its arguments are the template's; its environment it reads from
    /// descriptor 3, as a booted runtime does.
    Restored(Arc<Image>),
}

/// A runtime to start before its function is known. It must read a job's environment from descriptor 3, as one
/// JSON object up to the end of file, and then be the job's program.
#[derive(Debug, Clone)]
pub struct BootJob {
    /// Program (absolute, inside) and arguments.
    pub argv: Vec<String>,
    /// The whole environment until the job comes.
    pub env: Vec<(String, String)>,
    /// Read-only folders: all that it sees besides what every jail does.
    pub mounts: Vec<Mount>,
    /// Whether its job will have a way out.
    pub way_out: bool,
}

/// A jail that was made ahead: it waits for its one job. Dropping it kills the whole tree.
pub struct Waiting {
    coming: start::Coming,
}

/// The ends of a program's way out, in its network namespace. While nobody serves them, its calls of `connect` wait.
pub(crate) struct WayOut {
    /// Tells of its calls of `connect`.
    pub(crate) notifier: Arc<Notifier>,
    /// Where it asks for names.
    pub(crate) datagrams: tokio::net::UdpSocket,
    /// Where it asks for names by TCP.
    pub(crate) streams: tokio::net::TcpListener,
}

/// A started program. Dropping it kills the whole tree.
pub struct Jail {
    /// The name that it was made under.
    name: String,
    listeners: Vec<TcpListener>,
    output: Option<OwnedFd>,
    way_out: Option<WayOut>,
    connection: Connection,
    /// Keeps the launcher: when it ends, so do its jails.
    _launcher: Arc<Shared>,
}

impl Launcher {
    /// Starts the launcher process. The calling process must have one thread: call this before any runtime
    /// is made. `data_dir` names the server among several on one host: what an earlier server of the same
    /// data directory left behind (processes, cgroups) is removed first.
    ///
    /// A host that cannot isolate processes is not an error here: [`report`](Self::report) says what is
    /// missing, and every [`spawn`](Self::spawn) is refused with the same words.
    pub fn start(data_dir: &Path, missing: MissingLimits) -> Result<Self, Error> {
        let (process, ready) = launcher::start(data_dir)?;
        let mut report = ready.report;
        let mut refusal =
            ready.failure.map(|failure| format!("processes cannot be isolated here: {failure}"));
        if refusal.is_none() {
            refusal = probe::run(&process, &mut report);
        }
        if refusal.is_none() && missing == MissingLimits::Refuse && !report.complete() {
            let lacking: Vec<_> = report
                .with(Status::Degraded)
                .map(|check| format!("{}: {}", check.name, check.detail))
                .collect();
            refusal = Some(format!("the settings refuse to run without every limit; {}", lacking.join("; ")));
        }
        Ok(Self { shared: Arc::new(Shared { process, report, refusal }) })
    }

    /// What the host gives, found by trying it at start.
    pub fn report(&self) -> HostReport {
        self.shared.report.clone()
    }

    /// Starts a program. Returns once `execve` has succeeded. Dropping the future leaves nothing running.
    pub fn spawn(&self, job: Job) -> BoxFuture<'_, Result<Jail, StartError>> {
        Box::pin(async move {
            if let Some(refusal) = &self.shared.refusal {
                return Err(Error::Unavailable(refusal.clone()).into());
            }
            start::spawn(&self.shared, job).await
        })
    }

    /// Makes a jail that waits for its job: everything but what depends on a function.
    /// Dropping the future leaves nothing running.
    pub fn prepare(&self) -> BoxFuture<'_, Result<Waiting, StartError>> {
        Box::pin(async move {
            if let Some(refusal) = &self.shared.refusal {
                return Err(Error::Unavailable(refusal.clone()).into());
            }
            // Its own name: the instance that it will be is not known.
            let name = InstanceId::random();
            let mut coming = start::Coming::ask(&self.shared, name.as_str()).await?;
            coming.waits().await?;
            Ok(Waiting { coming })
        })
    }

    /// Takes the image of a [`Beginning::Template`] that has stopped ([`Jail::stopped`]). The template is of no further use and is to be killed.
    pub fn take_image<'a>(
        &'a self,
        template: &'a Jail,
        wanted: Wanted,
    ) -> BoxFuture<'a, Result<Image, Refusal>> {
        Box::pin(start::take_image(&self.shared, &template.name, wanted))
    }

    /// Puts a file system of this process over a folder of the host, as programs are shown it and nobody else; the device
    /// (`/dev/fuse`) that its requests come from. What they ask about names must be answered at once, whatever happens: the
    /// launcher waits for it. Closing the device fails whoever uses its files. Blocking; takes a millisecond.
    pub fn mount(&self, folder: &Path) -> std::io::Result<OwnedFd> {
        match &self.shared.refusal {
            Some(refusal) => Err(std::io::Error::other(refusal.clone())),
            None => self.shared.process.mount(folder),
        }
    }

    /// Takes it away again, for programs to come. Blocking.
    pub fn unmount(&self, folder: &Path) -> std::io::Result<()> {
        self.shared.process.unmount(folder)
    }

    /// Kills every jail and ends the launcher process. Returns when both are gone; takes milliseconds.
    pub fn shutdown(&self) {
        self.shared.process.end();
    }
}

impl Waiting {
    /// Starts a runtime in it that waits for its orders. Returns once `execve` has succeeded; once only.
    pub fn boot(&mut self, boot: BootJob) -> BoxFuture<'_, Result<(), StartError>> {
        Box::pin(self.coming.boot(boot))
    }

    /// Gives it its job. Returns once `execve` has succeeded; where a runtime is
    /// booted, that one has the job's environment and the job's own program is not looked at. Dropping the future
    /// leaves nothing running.
    pub fn run(self, job: Job) -> BoxFuture<'static, Result<Jail, StartError>> {
        Box::pin(self.coming.run(job))
    }

    /// Whether it, and what was booted in it, still waits.
    pub fn is_alive(&self) -> bool {
        self.coming.is_alive()
    }

    /// Resolves when it no longer waits: it has ended, or was given its job. Does not keep it alive.
    pub fn ended(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.coming.ended())
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> u64 {
        self.coming.memory()
    }
}

impl Jail {
    /// The sockets asked for with `Job::listen`, in that order, listening, non-blocking. Once only.
    pub fn take_listeners(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.listeners)
    }

    /// The read end of the pipe that is stdout and stderr, non-blocking. Once only.
    pub fn take_output(&mut self) -> Option<OwnedFd> {
        self.output.take()
    }

    /// The way out, where the job has one. Once only.
    pub(crate) fn take_way_out(&mut self) -> Option<WayOut> {
        self.way_out.take()
    }

    /// A connection to a program's socket that waits at the meeting port, by its own port; of `::1` with `six`.
    pub(crate) fn meet(&self, port: u16, six: bool) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        Box::pin(self.connection.meet(port, six))
    }

    /// A connection to 127.0.0.1:`port` inside, non-blocking. `ConnectionRefused` while nobody listens,
    /// `NotConnected` once the jail has ended.
    pub fn connect(&self, port: u16) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        Box::pin(self.connection.connect(port))
    }

    /// Resolves when a [`Beginning::Template`] has stopped itself. Never if it does not.
    pub fn stopped(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.connection.stopped())
    }

    /// Resolves when the program has ended; at once if it already has.
    pub fn exited(&self) -> BoxFuture<'_, Exit> {
        Box::pin(self.connection.exited())
    }

    /// Bytes: the most memory it has held, its `/tmp` included.
    pub fn peak_memory(&self) -> u64 {
        self.connection.peak_memory()
    }

    /// Suspends the program and all it has started: they use no processor time until [`resume`](Self::resume).
    /// Meanwhile [`connect`](Self::connect) does not answer; [`kill`](Self::kill) works. Takes microseconds.
    pub fn suspend(&self) -> std::io::Result<()> {
        self.connection.suspend(true)
    }

    /// Lets what was suspended go on.
    pub fn resume(&self) -> std::io::Result<()> {
        self.connection.suspend(false)
    }

    /// Kills the whole tree. Returns when nothing is left, its cgroup included.
    pub fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.connection.kill();
            self.connection.exited().await;
        })
    }
}
