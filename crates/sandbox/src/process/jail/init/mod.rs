//! Pid 1 of a jail: Virga's own.
//!
//! Begins as a copy of the launcher in new namespaces, with every capability over them. Builds what all jails
//! have ([`mounts`], [`network`]) and waits: for a runtime to boot, which then waits for its orders
//! ([`waiting`]), and for the job. With the job it completes what the program sees, gives up every capability,
//! puts itself under the filter that the program lives under, starts the program ([`program`]) or hands the
//! booted runtime its orders, and stays to serve it ([`supervise`]). When it ends, the kernel kills everything in
//! its pid namespace: that is how a jail is stopped.
//!
//! Invariants: while user code runs it holds no capability and no descriptor that was inherited (a runtime that
//! is booted ahead runs no user code, and is locked before it is executed); it cannot be traced or looked into
//! (not dumpable), for its memory is a copy of the launcher's; it ends when its channel closes and when the
//! launcher dies.

mod mounts;
mod network;
mod program;
mod supervise;
mod waiting;
mod watch;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::UnshareFlags;

use super::landlock::Landlock;
use super::launcher::{HOSTNAME, USER, map_user};
use super::masks::Masks;
use super::seccomp::{Filters, ProgramClass};
use super::sys::{self, SingleThreaded};
use super::wire::{self, Cause, Doing, Failure, FromJail, Received, ToInit};
use network::WayOut;

/// Open files of the program, soft and hard: Lambda's number.
const OPEN_FILES: u64 = 1024;
/// Of a program that serves many instances: each call takes one.
const OPEN_FILES_OF_MANY: u64 = 16 * 1024;
/// Bytes that the program may lock in memory.
const LOCKED_MEMORY: u64 = 64 * 1024;
/// Bytes of a stack: what distributions give, which is also what threads begin with.
const STACK: u64 = 8 << 20;
/// Bytes to which a program may raise it; its memory limit holds all the same.
const STACK_AT_MOST: u64 = 1 << 30;
/// Signals and timers that wait in the kernel, about a hundred bytes each.
const WAITING_SIGNALS: u64 = 4096;
/// Bytes in POSIX message queues, Linux's default: whatever the server was started with.
const MESSAGE_QUEUES: u64 = 819_200;
/// Bytes that the program's private data may be over its memory where that is only watched: address space
/// that is reserved and never touched (thread stacks, garbage collectors' heaps) counts in RLIMIT_DATA.
const DATA_HEADROOM: u64 = 1 << 30;
/// The same for a worker, which reserves places for a thousand instances.
const DATA_HEADROOM_OF_MANY: u64 = 64 << 30;

/// What stands around every program besides namespaces and limits: the launcher makes it once.
#[derive(Debug)]
pub(super) struct Walls {
    pub(super) filters: Filters,
    pub(super) landlock: Landlock,
    pub(super) masks: Masks,
}

/// What the launcher's copy is given.
pub(super) struct Start<'a> {
    /// To the launcher.
    pub(super) orders: OwnedFd,
    /// Version 1 control groups to join.
    pub(super) joins: Vec<OwnedFd>,
    /// Whether pid 1 itself watches over memory.
    pub(super) memory_is_watched: bool,
    /// For the program.
    pub(super) walls: &'a Walls,
    /// That there is one thread.
    pub(super) proof: SingleThreaded,
}

/// What pid 1 works with until the program runs.
struct Init<'a> {
    /// To the server.
    channel: OwnedFd,
    /// To the launcher.
    orders: OwnedFd,
    memory_is_watched: bool,
    walls: &'a Walls,
    proof: SingleThreaded,
}

/// Lives the whole life of pid 1.
pub(super) fn run(start: Start<'_>) -> ! {
    let Start { orders, joins, memory_is_watched, walls, proof } = start;
    // Until the channel is here there is nobody to tell; the launcher sees the end.
    let joined = join(joins);
    let Ok(orders) = let_go(orders) else { sys::exit(1) };
    let Ok(Some(channel)) = receive_channel(&orders) else { sys::exit(1) };
    let init = Init { channel, orders, memory_is_watched, walls, proof };
    let outcome = joined.and_then(|()| init.prepare()).and_then(|way_out| init.wait(way_out));
    let Init { channel, .. } = init;
    match outcome {
        Ok((running, watch_memory)) => supervise::run(channel, running, watch_memory),
        Err(failure) => {
            // The server may be gone; there is nobody else to tell.
            let _ = wire::send(&channel, &FromJail::Failed(failure), &[], SendFlags::empty());
            sys::exit(1)
        }
    }
}

impl Init<'_> {
    /// Everything that is the same for all jails.
    fn prepare(&self) -> Result<WayOut, Failure> {
        become_user()?;
        mounts::set_up()?;
        let way_out = network::set_up()?;
        self.walls.masks.apply().doing("covering parts of /proc")?;
        rustix::system::sethostname(HOSTNAME.as_bytes()).doing("setting the host name")?;
        self.say(&FromJail::Waits)?;
        Ok(way_out)
    }

    fn say(&self, message: &FromJail) -> Result<(), Failure> {
        wire::send(&self.channel, message, &[], SendFlags::empty()).doing("reporting to the server")
    }
}

/// Joins the version 1 control groups.
fn join(groups: Vec<OwnedFd>) -> Result<(), Failure> {
    groups
        .into_iter()
        .try_for_each(|group| File::from(group).write_all(b"0").doing("joining a control group"))
}

/// Lets go of everything that was the launcher's.
fn let_go(orders: OwnedFd) -> Result<OwnedFd, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null").doing("opening /dev/null")?;
    for stream in 0..=2 {
        sys::replace_stdio(null.as_fd(), stream).doing("replacing the standard streams")?;
    }
    drop(null);
    let orders = sys::close_all_but(orders).doing("closing what was inherited")?;
    rustix::thread::set_name(c"virga-init").doing("taking a name")?;
    Ok(orders)
}

/// Waits for the user mapping, with which the channel comes. `None`: the launcher gave this jail up.
fn receive_channel(orders: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    let received = wire::receive(orders, wire::REQUEST_LIMIT, RecvFlags::empty());
    match received.doing("waiting for the user mapping")? {
        Received::Message(ToInit::Mapped, descriptors) => Ok(descriptors.into_iter().next()),
        Received::Message(ToInit::Furnish { .. }, _) | Received::Closed => Ok(None),
    }
}

/// Becomes the user that the launcher has mapped.
fn become_user() -> Result<(), Failure> {
    // From a user that has no number here to one that is not root here: capabilities stay.
    let (user, group) = (rustix::process::Uid::from_raw(USER), rustix::process::Gid::from_raw(USER));
    rustix::thread::set_thread_res_gid(group, group, group).doing("becoming the group")?;
    rustix::thread::set_thread_res_uid(user, user, user).doing("becoming the user")?;
    // Changing the user clears it. Should the launcher have died before this, the channel is closed soon.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing("tying life to the launcher")
}

/// Shows the program's user and group by other numbers: those of an image. That takes a user namespace within the jail's,
/// in which pid 1 is from here on too. Before capabilities are dropped, since it comes with all of its own.
fn show_as(user: (u32, u32)) -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWUSER).doing("making a user namespace for the image's user")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).doing("opening pid 1's own files")?;
    let mapped = map_user(None, user, (USER, USER)).doing("mapping the image's user");
    let closed = DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(closed).doing("closing pid 1 to inspection")?;
    mapped?;
    // New credentials have cleared it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing("tying life to the launcher")
}

/// What the supervisor goes on with.
struct Running {
    pid: rustix::process::Pid,
    signals: OwnedFd,
    peak: Option<OwnedFd>,
    /// Whether the program will stop itself.
    template: bool,
    /// The meeting port's listeners: open, so that nobody answers there.
    meeting: Vec<OwnedFd>,
}

fn host(context: &str) -> Failure {
    Failure { cause: Cause::Host, context: context.to_owned(), errno: 0 }
}

/// The file that says how readily the kernel kills pid 1 for memory; while the program is made it says the
/// program's value, which the program inherits.
struct OomVictim(File);

fn oom_victim() -> Result<OomVictim, Failure> {
    // Changing the user has closed this process to its own /proc files. Open for this moment only: the
    // program has the same user, and must never find pid 1 open, not even as it starts.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).doing("opening pid 1's own files")?;
    let file = File::options().write(true).open("/proc/self/oom_score_adj").doing("opening oom_score_adj");
    let closed = DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(closed).doing("closing pid 1 to inspection")?;
    let mut file = file?;
    file.write_all(b"1000").doing("making the program the first to be killed for memory")?;
    Ok(OomVictim(file))
}

impl OomVictim {
    fn spare_pid_1(mut self) -> Result<(), Failure> {
        self.0.write_all(b"0").doing("making pid 1 the last to be killed for memory")
    }
}

/// Bytes that private data may be over the memory that is watched.
fn data_headroom(class: ProgramClass) -> u64 {
    match class {
        ProgramClass::Interpreter | ProgramClass::Native => DATA_HEADROOM,
        ProgramClass::Wasm => DATA_HEADROOM_OF_MANY,
    }
}

/// Gives up everything that user code must not have.
fn lock(filter: &[libc::sock_filter], class: ProgramClass) -> Result<(), Failure> {
    limit(Resource::Core, 0)?;
    limit(
        Resource::Nofile,
        match class {
            ProgramClass::Interpreter | ProgramClass::Native => OPEN_FILES,
            ProgramClass::Wasm => OPEN_FILES_OF_MANY,
        },
    )?;
    limit(Resource::Memlock, LOCKED_MEMORY)?;
    raisable_limit(Resource::Stack, STACK, STACK_AT_MOST)?;
    limit(Resource::Sigpending, WAITING_SIGNALS)?;
    limit(Resource::Msgqueue, MESSAGE_QUEUES)?;
    // Nobody goes before others.
    limit(Resource::Nice, 0)?;
    limit(Resource::Rtprio, 0)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::drop_capabilities().doing("dropping capabilities")?;
    rustix::thread::set_no_new_privs(true).doing("setting no_new_privs")?;
    sys::filter_system_calls(filter).doing("filtering system calls")
}

/// Sets both limits, to less where the host's own hard limit is lower.
fn limit(resource: Resource, value: u64) -> Result<(), Failure> {
    raisable_limit(resource, value, value)
}

/// Sets the limit and what the program may raise it to, to less where the host's own hard limit is lower.
fn raisable_limit(resource: Resource, current: u64, maximum: u64) -> Result<(), Failure> {
    let ceiling = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let [current, maximum] = [current, maximum].map(|value| Some(value.min(ceiling)));
    rustix::process::setrlimit(resource, Rlimit { current, maximum })
        .doing(format!("setting the limit {resource:?}"))
}
