//! The system calls that need `unsafe`, each behind the narrowest safe function that holds.
//!
//! Everything else in the jail half is safe code on `rustix`. Two rules make `fork` and `clone3` sound here:
//! they ask for a [`SingleThreaded`] proof, and nothing in the launcher or in a jail's pid 1 starts a thread.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::SendFlags;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;
use tokio::io::unix::AsyncFd;

/// Proof that the process has one thread, so that a child made by copying it may run ordinary code.
#[derive(Debug, Clone, Copy)]
pub(super) struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads; `None` where there are several.
    pub(super) fn prove() -> io::Result<Option<Self>> {
        let threads = std::fs::read_dir("/proc/self/task")?.take(2).count();
        Ok((threads == 1).then_some(Self(())))
    }
}

/// Which side of a `fork` this is.
pub(super) enum Fork {
    /// The copy.
    Child,
    /// The original, with the copy's pid.
    Parent(Pid),
}

/// Copies the process.
pub(super) fn fork(_proof: SingleThreaded) -> io::Result<Fork> {
    // SAFETY: the proof says that there is one thread, so no lock is held by a thread that the child lacks.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent))
}

/// Too wide for the C library's constant of that name.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of a `clone3` this is.
pub(super) enum Clone {
    /// The copy.
    Child,
    /// The original, with the copy's pid and a pidfd for it.
    Parent(Pid, OwnedFd),
}

/// Copies the process into new namespaces (`CLONE_NEW*` flags) and, with `cgroup`, into that version 2 cgroup.
pub(super) fn clone3(
    _proof: SingleThreaded,
    namespaces: c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Clone> {
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArgs {
        flags: namespaces as u64 | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and without a stack of its own this is a fork: the child returns here on a
    // copy of the stack. The proof says that no other thread held a lock. `arguments` and `pidfd` outlive
    // the call and the size is that of the structure.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArgs>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    match Pid::from_raw(pid as i32) {
        None => Ok(Clone::Child),
        // SAFETY: in the parent the kernel has stored a new descriptor in `pidfd`, which nobody else owns.
        Some(pid) => Ok(Clone::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Moves the process into new namespaces.
pub(super) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    assert!(
        !namespaces.contains(UnshareFlags::FILES),
        "unsharing descriptors can pull them from under owners"
    );
    // SAFETY: only the descriptor table's flag breaks what owners of descriptors rely on.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }.map_err(Into::into)
}

/// Ends the process at once: no destructors, no buffers written.
pub(super) fn exit(status: c_int) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Replaces the program; returns only with what failed.
pub(super) fn execve(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and point to strings that live until after the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes an open file, without an environment; returns only with what failed.
pub(super) fn execute_file(file: BorrowedFd<'_>, name: &CStr) -> io::Error {
    let (argv, envp) = ([name.as_ptr(), std::ptr::null()], [std::ptr::null::<libc::c_char>()]);
    // SAFETY: both arrays end with a null pointer and point to strings that live until after the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// In a copied process that goes on to execute a program: gives a descriptor the number by which the program will
/// know it, whatever had that number. It stays open across `execve`.
pub(super) fn place(descriptor: OwnedFd, number: RawFd) -> io::Result<()> {
    if descriptor.as_raw_fd() == number {
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::empty())?;
        std::mem::forget(descriptor);
        return Ok(());
    }
    // SAFETY: the caller is a copy that leaves by `execve` or `exit`; a descriptor closed here belongs to a value
    // that it never uses or drops again.
    check(unsafe { libc::dup2(descriptor.as_raw_fd(), number) })
}

/// Makes `target` (0, 1 or 2) a copy of `source`, without close-on-exec.
pub(super) fn replace_stdio(source: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    assert!((0..=2).contains(&target), "only the standard streams have no owner in the program");
    // SAFETY: the standard streams are owned by nobody, so no owner's descriptor is closed behind its back.
    check(unsafe { libc::dup2(source.as_raw_fd(), target) })
}

/// In a copied process that becomes a program: makes 3 a copy of `orders`, without close-on-exec. Pid 1 keeps its
/// own end towards the launcher there, which the copy has no use for.
pub(super) fn give_orders(orders: BorrowedFd<'_>) -> io::Result<()> {
    assert!(orders.as_raw_fd() > PLACE, "the place is pid 1's own while it waits");
    // SAFETY: the caller is a copy that leaves by `exit` or `execve`; it never uses or drops the owner of the
    // descriptor that is replaced here.
    check(unsafe { libc::dup2(orders.as_raw_fd(), PLACE) })
}

/// The first descriptor after the standard streams.
const PLACE: RawFd = 3;

/// In a copied process: closes everything but the standard streams and `keep`, which is returned under its
/// new owner. For a copy that never returns to the code whose descriptors it closes.
pub(super) fn close_all_but(keep: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller is a copy that goes on with `keep` alone and leaves by `exit` or `execve`; the
    // descriptors closed here belong to values that it never touches or drops again.
    unsafe {
        if keep.as_raw_fd() != PLACE {
            check(libc::dup3(keep.as_raw_fd(), PLACE, libc::O_CLOEXEC))?;
        }
        std::mem::forget(keep);
        check(libc::syscall(libc::SYS_close_range, PLACE + 1, c_int::MAX, 0) as c_int)?;
        Ok(OwnedFd::from_raw_fd(PLACE))
    }
}

/// Marks every descriptor from 3 on as closed by `execve`.
pub(super) fn close_on_exec() -> io::Result<()> {
    // SAFETY: only a flag is changed.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC) } as c_int)
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Mount attributes, by their kernel values (`MOUNT_ATTR_*`).
pub(super) mod attribute {
    pub(in crate::process::jail) const READ_ONLY: u64 = 0x1;
    pub(in crate::process::jail) const NO_SUID: u64 = 0x2;
    pub(in crate::process::jail) const NO_DEV: u64 = 0x4;
    pub(in crate::process::jail) const NO_EXEC: u64 = 0x8;
    pub(super) const ID_MAP: u64 = 0x0010_0000;
}

/// Adds attributes to the mount behind `tree`, and to those below it.
pub(super) fn restrict_mount(tree: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    let change = MountAttributes { set: attributes, ..MountAttributes::default() };
    change_mount(tree, &change, recursive)
}

/// Has the detached mount behind `tree` show owners as a user namespace maps them.
pub(super) fn map_mount(tree: BorrowedFd<'_>, users: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::try_from(users.as_raw_fd()).map_err(io::Error::other)?;
    let change = MountAttributes { set: attribute::ID_MAP, userns_fd, ..MountAttributes::default() };
    change_mount(tree, &change, false)
}

fn change_mount(tree: BorrowedFd<'_>, change: &MountAttributes, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a string, `change` is the structure that the kernel expects, of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(change),
            size_of::<MountAttributes>(),
        )
    } as c_int)
}

/// Brings the loopback interface up.
pub(super) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq` with its flags set.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) })
}

/// Gives every capability up for good, the bounding set included.
pub(super) fn drop_capabilities() -> io::Result<()> {
    // The kernel refuses numbers past its last capability with EINVAL; there are 41 today.
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes a number.
        let result = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) });
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes no further argument.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    // Two triples of effective, permitted, inheritable.
    let none = [0_u32; 6];
    // SAFETY: version 3 reads the header and two `__user_cap_data_struct`, which `none` is as large as.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) } as c_int)
}

/// Puts a filter on the thread, for good. Wants `no_new_privs` set.
pub(super) fn filter_system_calls(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = program.len().try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions from `filter`, which outlives the call, and writes nothing.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) as c_int
    })
}

/// `struct landlock_ruleset_attr` of landlock_create_ruleset(2): what a domain takes charge of.
#[repr(C)]
#[derive(Default)]
pub(super) struct LandlockHandled {
    pub(super) files: u64,
    pub(super) network: u64,
    pub(super) scoped: u64,
}

/// The version of Landlock that the kernel has; an error where it has none or keeps it off.
pub(super) fn landlock_version() -> io::Result<u32> {
    const CREATE_RULESET_VERSION: c_int = 1;
    // SAFETY: with this flag the kernel reads no structure; the pointer must be null and the size 0.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// Makes an empty set of rules. `size` is that of the structure's part which the kernel's version knows.
pub(super) fn landlock_ruleset(handled: &LandlockHandled, size: usize) -> io::Result<OwnedFd> {
    assert!(size <= size_of::<LandlockHandled>(), "the kernel must not read past the structure");
    // SAFETY: the kernel reads `size` bytes of the structure and writes nothing.
    let made = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::from_ref(handled), size, 0) as c_int
    };
    check(made)?;
    // SAFETY: a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Allows `access` to everything below `place`.
pub(super) fn landlock_allow(ruleset: BorrowedFd<'_>, place: BorrowedFd<'_>, access: u64) -> io::Result<()> {
    /// `struct landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct Beneath {
        access: u64,
        place: c_int,
    }
    const RULE_PATH_BENEATH: c_int = 1;
    let rule = Beneath { access, place: place.as_raw_fd() };
    // SAFETY: the kernel reads the structure, packed as it declares it, and writes nothing.
    check(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0)
            as c_int
    })
}

/// Puts the thread and what it starts under the rules, for good. Wants `no_new_privs` set.
pub(super) fn landlock_restrict(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor and flags.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) as c_int })
}

/// Leaves the session keyring that was inherited for a new, empty one.
pub(super) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for a new keyring without a name.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
            as c_int
    })
}

/// [`filter_system_calls`] with a program that tells of calls: returns the descriptor that tells of them.
pub(super) fn filter_and_tell(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let length = program.len().try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // So that signals (a garbage collector's, a scheduler's) do not break off a call that is being dealt with.
    const WAIT_KILLABLE: libc::c_ulong = 1 << 5;
    let install = |flags: libc::c_ulong| -> io::Result<OwnedFd> {
        // SAFETY: the kernel reads `len` instructions from `filter`, which outlives the call, and writes nothing;
        // with this flag it returns a new descriptor that nobody else owns.
        unsafe {
            let descriptor = libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | flags,
                &raw const program,
            ) as c_int;
            check(descriptor)?;
            Ok(OwnedFd::from_raw_fd(descriptor))
        }
    };
    match install(WAIT_KILLABLE) {
        // Linux before 5.19.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(0),
        other => other,
    }
}

/// A call of `connect` that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice {
    /// Names it in what is said about it.
    pub(super) id: u64,
    /// The calling thread, as this process numbers it.
    pub(super) pid: libc::pid_t,
    /// The first argument.
    pub(super) descriptor: RawFd,
    /// The second.
    pub(super) address: u64,
    /// The third.
    pub(super) length: usize,
}

// seccomp_unotify(2), with the sizes of the structures in them.
const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_ID_VALID: u64 = 0x4008_2102;

/// Takes the next call. Blocks while there is none.
pub(super) fn take_notice(notifier: BorrowedFd<'_>) -> io::Result<Notice> {
    // SAFETY: all-zero bytes are a valid `seccomp_notif`, and what the kernel asks for.
    let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    const { assert!(size_of::<libc::seccomp_notif>() == 0x50) };
    // SAFETY: the kernel writes one `seccomp_notif`.
    check(unsafe { libc::ioctl(notifier.as_raw_fd(), NOTIF_RECV as _, &raw mut notice) })?;
    Ok(Notice {
        id: notice.id,
        pid: notice.pid as libc::pid_t,
        descriptor: notice.data.args[0] as RawFd,
        address: notice.data.args[1],
        // An `int`, of which a negative one is as good as none.
        length: usize::try_from(notice.data.args[2] as c_int).unwrap_or(0),
    })
}

/// Whether a call still waits.
pub(super) fn notice_waits(notifier: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads eight bytes.
    check(unsafe { libc::ioctl(notifier.as_raw_fd(), NOTIF_ID_VALID as _, &raw const id) }).is_ok()
}

/// Answers a call: with an error number, with success (0), or by letting it go on.
pub(super) fn answer_notice(notifier: BorrowedFd<'_>, id: u64, error: i32, go_on: bool) -> io::Result<()> {
    let flags = if go_on { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
    let answer = libc::seccomp_notif_resp { id, val: 0, error: -error, flags };
    const { assert!(size_of::<libc::seccomp_notif_resp>() == 0x18) };
    // SAFETY: the kernel reads one `seccomp_notif_resp`.
    check(unsafe { libc::ioctl(notifier.as_raw_fd(), NOTIF_SEND as _, &raw const answer) })
}

/// Reads another process's memory; how much could be read.
pub(super) fn read_memory(pid: libc::pid_t, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: buffer.len() };
    // SAFETY: the kernel writes at most `iov_len` bytes to `buffer`; the other address is the other process's, and
    // only checked by the kernel.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Whether a TCP socket is neither connected nor on its way nor listening.
pub(super) fn is_unconnected(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // The first byte of `struct tcp_info` is the state (tcp(7), TCP_INFO).
    const CLOSED: u8 = 7;
    let mut state = 0_u8;
    let mut length: libc::socklen_t = 1;
    // SAFETY: the kernel writes at most `length` bytes, one, to `state`.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut length,
        )
    })?;
    Ok(state == CLOSED)
}

/// Starts to connect a TCP socket without waiting, even if it is set to wait: `connect` takes no flags, sending takes
/// them. `EINPROGRESS` is the usual answer.
pub(super) fn begin_connecting(socket: BorrowedFd<'_>, to: SocketAddr) -> io::Result<()> {
    let flags =
        SendFlags::from_bits_retain(libc::MSG_FASTOPEN as u32) | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendto(socket, &[], flags, &to).map(drop).map_err(Into::into)
}

/// Drops every packet that comes to a socket.
pub(super) fn deafen(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut program = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut program };
    // SAFETY: the kernel reads a `sock_fprog` of the size given and the one instruction that it points to.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
}

/// Blocks the signals and returns a descriptor that delivers them.
pub(super) fn signal_descriptor(signals: &[c_int]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by `sigemptyset` before it is read; all calls get valid pointers.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
        let descriptor = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(descriptor)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Gives every signal its default action and unblocks it, as a new program expects.
pub(super) fn default_signals() {
    // `SIG_DFL`, no flags, nothing masked; as long as the kernel's `struct sigaction` on any machine.
    let action = [0_u64; 8];
    const SET_SIZE: usize = 8;
    // SAFETY: default actions run no code of ours; the kernel reads `action`, and the set is initialised before
    // it is read. Not the C library's function, which keeps two signals to itself that may have been inherited
    // as ignored. Signals that have no changeable action are refused, which is harmless.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null_mut::<c_void>(),
                SET_SIZE,
            );
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Overwrites the process's arguments and environment, as `ps` and `/proc/PID/environ` show them, with a
/// title. The environment is gone afterwards: it may have held secrets, and copies of this process run next
/// to user code.
pub(super) fn set_title(_proof: SingleThreaded, title: &CStr) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // proc_pid_stat(5): arg_start, arg_end, env_start, env_end are fields 48 to 51; the second, in
    // parentheses, may hold spaces, and the third is the first after it.
    let fields: Vec<usize> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_ascii_whitespace()
        .skip(45)
        .take(4)
        .filter_map(|field| field.parse().ok())
        .collect();
    let name = &title.to_bytes()[..title.to_bytes().len().min(15)];
    let name = CString::new(name).unwrap_or_default();
    rustix::thread::set_name(&name)?;
    let &[start, arguments_end, environment_start, end] = fields.as_slice() else {
        return Err(io::Error::other("the process's own stat file has no argument addresses"));
    };
    if start == 0 || arguments_end != environment_start || end < environment_start {
        return Err(io::Error::other("the process's arguments and environment are not adjacent"));
    }
    // SAFETY: the kernel says that the strings lie in start..end of this process's stack, writable since
    // execve. There is one thread; `environ` is cleared first, and the arguments are not read again.
    unsafe {
        libc::clearenv();
        std::ptr::write_bytes(start as *mut u8, 0, end - start);
        // Past the arguments' end the kernel reads on to the first zero byte (proc_pid_cmdline(5)).
        let length = title.to_bytes().len().min(end - start - 1);
        std::ptr::copy_nonoverlapping(title.as_ptr().cast::<u8>(), start as *mut u8, length);
    }
    Ok(())
}

/// Mounts a new file system of `kind` at `target`.
pub(super) fn mount_new(kind: &CStr, target: &CStr, flags: libc::c_ulong, data: &CStr) -> io::Result<()> {
    // SAFETY: all strings end with a zero byte and outlive the call.
    check(unsafe {
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast::<c_void>())
    })
}

/// Sends a signal to every other process that this one may signal: of pid 1, to all in its pid namespace.
pub(super) fn signal_others(signal: c_int) -> io::Result<()> {
    // SAFETY: takes numbers only; the kernel leaves the caller and pid 1 out.
    check(unsafe { libc::kill(-1, signal) })
}

/// Shows what is at `source` at `target` as well, with the flags that it is mounted with.
pub(super) fn bind(source: &CStr, target: &CStr) -> io::Result<()> {
    // SAFETY: both strings end with a zero byte and outlive the call; a bind mount reads neither kind nor data.
    check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null())
    })
}

/// Makes the mount at `target` one that nobody writes through, runs from or opens devices on.
pub(super) fn make_read_only(target: &CStr) -> io::Result<()> {
    let flags = libc::MS_BIND
        | libc::MS_REMOUNT
        | libc::MS_RDONLY
        | libc::MS_NOSUID
        | libc::MS_NODEV
        | libc::MS_NOEXEC;
    // SAFETY: the string ends with a zero byte and outlives the call; this kind of change reads no other.
    check(unsafe {
        libc::mount(std::ptr::null(), target.as_ptr(), std::ptr::null(), flags, std::ptr::null())
    })
}

/// Registers a descriptor with the current runtime.
pub(super) fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and closed by nobody else, for as long as the registration owns it.
    unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
