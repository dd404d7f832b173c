//! The launcher: a small process with one thread, forked before the server has any other, that makes every
//! jail.
//!
//! A process with threads must not fork, and a server that unpacks archives and speaks HTTP should not hold
//! the means to make namespaces ready at hand. The launcher keeps one mount namespace with the root that all
//! jails share ([`rootfs`], [`views`]), places instances into control groups, clones their pid 1, and tidies up after
//! them ([`watch`]). It ends when the server's end of its socket closes: then it kills every jail first.
//!
//! Never in its memory: the arguments and environment of programs, and the server's own environment.

mod overlay;
mod rootfs;
mod spawn;
mod users;
mod views;
mod watch;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions};
use rustix::thread::UnshareFlags;
use sha2::{Digest, Sha256};

use super::cgroup::Cgroups;
use super::host::{HostReport, Status};
use super::init::Walls;
use super::landlock::Landlock;
use super::masks::Masks;
use super::seccomp::Filters;
use super::sys::{self, Fork, SingleThreaded};
use super::wire::{self, Doing, Failure, Mounted, Ready, Received, ToLauncher};
use crate::Error;
pub(super) use rootfs::{HOSTNAME, USER};

/// User and group of the host that own what is in folders which instances share, where the server is root.
pub const SHARED_OWNER: u32 = USER;
pub use rootfs::{image_files, image_users};
use users::Users;
pub(super) use users::map as map_user;
use views::Views;

/// How long the launcher may take to set itself up; what it cleans up may take seconds to die.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to kill everything and end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Where it mounts the root, in the data directory and in its own mount namespace only.
const ROOT_PLACE: &str = "jail-root";

/// The server's side of a running launcher. Dropping it ends the launcher and waits for that.
#[derive(Debug)]
pub(super) struct Process {
    /// For requests. `None` once closed.
    socket: parking_lot::RwLock<Option<OwnedFd>>,
    pid: Pid,
}

/// Forks the launcher and waits until it is ready.
pub(super) fn start(data_dir: &Path) -> Result<(Process, Ready), Error> {
    let Some(proof) = SingleThreaded::prove().map_err(Error::host("counting the process's threads"))? else {
        return Err(Error::Unavailable(
            "the sandbox launcher must be started before the process has a second thread".to_owned(),
        ));
    };
    std::fs::create_dir_all(data_dir.join(ROOT_PLACE))
        .map_err(Error::host("making the launcher's folder"))?;
    let data_dir = data_dir.canonicalize().map_err(Error::host("resolving the data directory"))?;
    let (server, launcher) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| Error::host("making the launcher's socket")(error.into()))?;
    match sys::fork(proof).map_err(Error::host("forking the launcher"))? {
        Fork::Child => {
            // A panic must not unwind into the server's own code.
            let run = std::panic::AssertUnwindSafe(|| {
                // The server's end too, or its end would never be seen here.
                let launcher = sys::close_all_but(launcher).unwrap_or_else(|_| sys::exit(1));
                run(launcher, &data_dir, proof)
            });
            let _ = std::panic::catch_unwind(run);
            sys::exit(1)
        }
        Fork::Parent(pid) => {
            drop(launcher);
            let process = Process { socket: Some(server).into(), pid };
            let ready = process.wait_ready()?;
            Ok((process, ready))
        }
    }
}

impl Process {
    fn wait_ready(&self) -> Result<Ready, Error> {
        let unavailable = |text: &str| Error::Unavailable(text.to_owned());
        let guard = self.socket.read();
        let socket = guard.as_ref().ok_or_else(|| unavailable("the sandbox launcher has ended"))?;
        if !readable_within(socket, START_TIMEOUT) {
            return Err(unavailable("the sandbox launcher did not become ready in time"));
        }
        match wire::receive(socket, wire::REPLY_LIMIT, RecvFlags::empty()) {
            Ok(Received::Message(ready, _)) => Ok(ready),
            Ok(Received::Closed) => Err(unavailable("the sandbox launcher ended while it started")),
            Err(error) => Err(Error::host("reading the launcher's report")(error)),
        }
    }

    /// Sends a request. `BrokenPipe` once it has ended or was told to.
    pub(super) fn send(&self, request: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let guard = self.socket.read();
        let socket = guard.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        wire::send_bytes(socket, request, descriptors, SendFlags::DONTWAIT)
    }

    /// Has a file system of ours put over a folder, as jails are shown it; the device that its requests come from. Blocking.
    pub(super) fn mount(&self, folder: &Path) -> io::Result<OwnedFd> {
        let device = self.ask(&ToLauncher::Mount { folder: folder.to_owned() })?;
        device.ok_or_else(|| io::Error::other("the launcher sent no device"))
    }

    /// Has it taken away again. Blocking.
    pub(super) fn unmount(&self, folder: &Path) -> io::Result<()> {
        self.ask(&ToLauncher::Unmount { folder: folder.to_owned() }).map(drop)
    }

    /// A request that is answered on a socket of its own.
    fn ask(&self, request: &ToLauncher) -> io::Result<Option<OwnedFd>> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let request = serde_json::to_vec(request)?;
        {
            let guard = self.socket.read();
            let socket = guard.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
            // It takes what it is sent at once: there is room again in no time.
            wire::send_bytes(socket, &request, &[theirs.as_fd()], SendFlags::empty())?;
        }
        drop(theirs);
        match wire::receive(&ours, wire::REPLY_LIMIT, RecvFlags::empty())? {
            Received::Message(Mounted { failure: None }, descriptors) => Ok(descriptors.into_iter().next()),
            Received::Message(Mounted { failure: Some(failure) }, _) => Err(io::Error::other(failure.text())),
            Received::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Whether it is gone, or was told to go.
    pub(super) fn has_ended(&self) -> bool {
        let guard = self.socket.read();
        let Some(socket) = guard.as_ref() else { return true };
        // Nothing comes on it any more but its end.
        let mut descriptors = [PollFd::new(socket, PollFlags::empty())];
        let found = poll(&mut descriptors, Some(&Timespec::default()));
        found.is_err() || descriptors[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Closes the socket, which ends it, and waits until it is gone, and every jail with it.
    pub(super) fn end(&self) {
        if self.socket.write().take().is_none() {
            return;
        }
        let Ok(pidfd) = rustix::process::pidfd_open(self.pid, rustix::process::PidfdFlags::empty()) else {
            return;
        };
        if !readable_within(&pidfd, END_TIMEOUT) {
            tracing::warn!("the sandbox launcher does not end; killing it");
            // Pid 1 of every jail dies with it.
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            readable_within(&pidfd, END_TIMEOUT);
        }
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn readable_within(fd: impl AsFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).ok();
    let mut descriptors = [PollFd::new(&fd, PollFlags::IN)];
    loop {
        match poll(&mut descriptors, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.is_ok_and(|count| count > 0),
        }
    }
}

/// What the launcher works with.
struct Workshop {
    cgroups: Cgroups,
    users: Users,
    views: Views,
    walls: Walls,
    proof: SingleThreaded,
}

/// The launcher's whole life.
fn run(socket: OwnedFd, data_dir: &Path, proof: SingleThreaded) -> ! {
    let mut report = HostReport::default();
    let workshop = set_up(data_dir, proof, &mut report);
    let failure = workshop.as_ref().err().map(Failure::text);
    if let Some(failure) = &failure {
        report.add("isolation", Status::Missing, failure.clone());
    }
    let told = wire::send(&socket, &Ready { report, failure }, &[], SendFlags::empty());
    match (workshop, told) {
        (Ok(workshop), Ok(())) => watch::run(socket, workshop),
        // Nobody is told twice; the server closes the socket when it has read the report.
        (Err(_), _) | (_, Err(_)) => sys::exit(1),
    }
}

fn set_up(data_dir: &Path, proof: SingleThreaded, report: &mut HostReport) -> Result<Workshop, Failure> {
    let server = become_launcher(proof)?;
    let root = rustix::process::geteuid().is_root();
    let cgroups = Cgroups::find(&server_name(data_dir), &[std::process::id(), server]);
    for left in cgroups.remove_leftovers() {
        report.add("leftovers", Status::Degraded, format!("{} could not be removed", left.display()));
    }
    enter_namespaces(root)?;
    report.add(
        "user",
        Status::Ok,
        if root { "root" } else { "not root: user namespaces give what is needed" },
    );
    rootfs::build(&data_dir.join(ROOT_PLACE))?;
    let views = Views::split()?;
    let users = Users::find(std::process::id().wrapping_mul(7919));
    let whose = if users.are_separate() {
        (Status::Ok, "each instance has a user of its own")
    } else {
        (Status::Ok, "all instances run as the server's user, apart by their namespaces")
    };
    report.add("users", whose.0, whose.1);
    report.separate_users = users.are_separate();
    let masks = Masks::find(root && !users.are_separate(), report).doing("looking at /proc")?;
    let walls = Walls { filters: Filters::compile(), landlock: Landlock::find(report), masks };
    cgroups.report(report);
    if users.are_separate() {
        // Without root this would also forbid the launcher to write its children's user maps.
        let dumpable = DumpableBehavior::NotDumpable;
        rustix::process::set_dumpable_behavior(dumpable).doing("closing the launcher to inspection")?;
    }
    Ok(Workshop { cgroups, users, views, walls, proof })
}

/// Leaves the server's terminal, environment and limits behind. Returns the server's pid.
fn become_launcher(proof: SingleThreaded) -> Result<u32, Failure> {
    let server = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    // Ctrl-C reaches the terminal's foreground group: the server drains first, then ends us.
    rustix::process::setsid().doing("leaving the terminal")?;
    let null = std::fs::File::open("/dev/null").doing("opening /dev/null")?;
    sys::replace_stdio(null.as_fd(), 0).doing("replacing stdin")?;
    sys::replace_stdio(null.as_fd(), 1).doing("replacing stdout")?;
    // Told to end by the socket alone: a service manager signals every process of the service at once.
    ignore_end_signals();
    // Jails possess the keyring that we have: not the server's. A kernel without keys has none to give either, and
    // the filter keeps programs from all of it.
    let _ = sys::new_session_keyring();
    // `ps` then shows what it is; a host that forbids it loses nothing else but must not keep the secrets.
    if sys::set_title(proof, c"virga-launcher").is_err() {
        rustix::thread::set_name(c"virga-launcher").doing("taking a name")?;
    }
    let files = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })
        .doing("raising the limit of open files")?;
    Ok(server)
}

fn ignore_end_signals() {
    // The descriptor is not read: blocked is all that is wanted.
    let _ = sys::signal_descriptor(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT]);
}

/// Own mount namespace; without root, a user namespace first in which we are root.
fn enter_namespaces(root: bool) -> Result<(), Failure> {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    if root {
        rustix::thread::set_thread_groups(&[]).doing("leaving supplementary groups")?;
        sys::unshare(UnshareFlags::NEWNS).doing("making a mount namespace as root")?;
    } else {
        sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).doing(
            "making a user namespace (see kernel.unprivileged_userns_clone, user.max_user_namespaces and \
             kernel.apparmor_restrict_unprivileged_userns)",
        )?;
        users::map(None, (0, 0), (user, group)).doing("mapping the user")?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing("making mounts private")
}

/// Names the server's control groups: short, and the same for the same directory.
fn server_name(data_dir: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(data_dir.as_os_str().as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
