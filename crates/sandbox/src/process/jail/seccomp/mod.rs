//! Which system calls a program may make.
//!
//! A list of what is allowed, not of what is forbidden. Four answers:
//!
//! - it runs;
//! - `ENOSYS` for what is not known, as a kernel without the call would say, so that programs fall back;
//! - `EPERM` for what is known and dangerous, or dangerous with certain arguments: libraries try such calls
//!   (`io_uring`, `perf`, `keyctl`, a debugger's) and go on without;
//! - the end of the process for what only an attack would call, and for calls of another machine's numbering.
//!
//! Kept out: anything that makes or enters namespaces or mounts, looks into other processes, loads code into
//! the kernel, and the parts of the kernel with the worst record (bpf, perf, io_uring, userfaultfd,
//! keyrings). `clone3` is unknown because a filter cannot see its flags; C libraries then use `clone`, whose
//! flags are checked. `sync` would make the host write everybody's data. Programs may add filters and Landlock
//! rules of their own, which only take away.
//!
//! Compiled once, installed by every pid 1 on itself before it starts the program.

mod bpf;
mod calls;
mod connect;

use std::collections::BTreeMap;

use libc::{c_long, sock_filter};
use serde::{Deserialize, Serialize};

use bpf::{Condition, Verdict};
use calls::{ALLOWED, ALLOWED_HERE, ALLOWED_TO_NATIVE, HIDDEN_MEMORY, KILLED, KILLED_HERE, REFUSED};

/// What kind of program a jail runs, which decides how long the list of its system calls is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProgramClass {
    /// An interpreter of the host's: what Python, Node, PHP, Ruby and Java, their modules and the usual tools call.
    Interpreter,
    /// A binary that the function brings: also what older and lower-level programs call.
    Native,
    /// Virga's own program, which runs the WebAssembly instances of one tenant. Begins as an interpreter does, and
    /// then keeps to much less ([`keep_to_wasm`]).
    Wasm,
}

/// The filters of a jail, by what the program is and by whether the kernel counts its memory.
#[derive(Debug)]
pub(super) struct Filters {
    interpreter: ByMemory,
    native: ByMemory,
    /// On top of each, for programs with a way out.
    connect: Vec<sock_filter>,
}

#[derive(Debug)]
struct ByMemory {
    counted: Vec<sock_filter>,
    /// Without memory that no mapping shows: for hosts where only a watch on resident size bounds memory.
    watched: Vec<sock_filter>,
}

impl Filters {
    /// Compiles them.
    pub(super) fn compile() -> Self {
        let by_memory = |class| ByMemory {
            counted: bpf::compile(&policy(class, true)),
            watched: bpf::compile(&policy(class, false)),
        };
        Self {
            interpreter: by_memory(ProgramClass::Interpreter),
            native: by_memory(ProgramClass::Native),
            connect: connect::program(),
        }
    }

    /// The one that tells of calls of `connect`; the program's side installs it on itself.
    pub(super) fn for_way_out(&self) -> &[sock_filter] {
        &self.connect
    }

    /// The one to install.
    pub(super) fn for_jail(&self, class: ProgramClass, memory_is_watched: bool) -> &[sock_filter] {
        let by_memory = match class {
            ProgramClass::Interpreter | ProgramClass::Wasm => &self.interpreter,
            ProgramClass::Native => &self.native,
        };
        if memory_is_watched { &by_memory.watched } else { &by_memory.counted }
    }
}

/// Keeps the calling process, which must have one thread, to what running WebAssembly takes: no other program, no
/// process, no socket to anywhere, nothing written. On top of the filter that it has already, and for good.
pub fn keep_to_wasm() -> std::io::Result<()> {
    if super::sys::SingleThreaded::prove()?.is_none() {
        return Err(std::io::Error::other("a filter for all threads is set before there is a second"));
    }
    super::sys::filter_system_calls(&bpf::compile(&wasm_policy()))
}

fn wasm_policy() -> BTreeMap<u32, Verdict> {
    use Condition::{AnyBit, IsNot, NotZero};
    let mut policy = BTreeMap::new();
    let mut put = |call: c_long, verdict| {
        policy.insert(u32::try_from(call).unwrap_or(u32::MAX), verdict);
    };
    for &call in calls::WASM.iter().chain(calls::WASM_HERE) {
        put(call, Verdict::Allow);
    }
    // Threads, as the C libraries make them; no process.
    put(libc::SYS_clone, Verdict::RefuseWhen(vec![THREADS.map(|flags| IsNot(0, flags)).to_vec()]));
    let writing = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u32;
    put(libc::SYS_openat, Verdict::RefuseWhen(vec![vec![AnyBit(2, writing)]]));
    put(libc::SYS_prlimit64, Verdict::RefuseWhen(vec![vec![NotZero(2)]]));
    policy
}

/// Flags of `clone` with which threads are made: glibc's, and musl's.
const THREADS: [u32; 2] = [0x003d_0f00, 0x007d_0f00];

/// What every known call is answered with.
fn policy(class: ProgramClass, hidden_memory: bool) -> BTreeMap<u32, Verdict> {
    let mut policy = BTreeMap::new();
    let mut put = |call: c_long, verdict| {
        // Numbers are small and positive on every machine.
        policy.insert(u32::try_from(call).unwrap_or(u32::MAX), verdict);
    };
    let more = if class == ProgramClass::Native { ALLOWED_TO_NATIVE } else { &[] };
    for &call in ALLOWED.iter().chain(ALLOWED_HERE).chain(more) {
        put(call, Verdict::Allow);
    }
    for &call in REFUSED {
        put(call, Verdict::Refuse);
    }
    for &call in KILLED.iter().chain(KILLED_HERE) {
        put(call, Verdict::Kill);
    }
    for (call, alternatives) in dangerous_arguments() {
        put(call, Verdict::RefuseWhen(alternatives));
    }
    for &call in HIDDEN_MEMORY.iter().filter(|_| !hidden_memory) {
        policy.remove(&u32::try_from(call).unwrap_or(u32::MAX));
    }
    policy
}

/// Calls that are refused when all conditions of one of the alternatives hold.
fn dangerous_arguments() -> Vec<(c_long, Vec<Vec<Condition>>)> {
    use Condition::{AnyBit, Is, IsNot, NotZero};
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let other_families = families.map(|family| IsNot(0, family as u32)).to_vec();
    let other_netlinks = vec![Is(0, libc::AF_NETLINK as u32), IsNot(2, libc::NETLINK_ROUTE as u32)];
    // Execution domains that change how programs are run, but for Linux's own and the query.
    let domains = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff].map(|domain| IsNot(0, domain)).to_vec();
    let others_process = vec![vec![IsNot(0, 0)]];
    vec![
        (libc::SYS_clone, vec![vec![AnyBit(0, NAMESPACES)]]),
        (libc::SYS_socket, vec![other_families, other_netlinks]),
        (libc::SYS_mknodat, vec![vec![AnyBit(2, DEVICE_NODE)]]),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_mknod, vec![vec![AnyBit(1, DEVICE_NODE)]]),
        // Typing into a terminal.
        (libc::SYS_ioctl, vec![vec![Is(1, TIOCSTI)], vec![Is(1, TIOCLINUX)]]),
        (libc::SYS_personality, vec![domains]),
        // Pid 1 has the same user: its limits and its priority are not the program's to change.
        (libc::SYS_prlimit64, vec![vec![IsNot(0, 0), NotZero(2)]]),
        (libc::SYS_setpriority, vec![vec![IsNot(1, 0)], vec![IsNot(0, libc::PRIO_PROCESS)]]),
        (libc::SYS_ioprio_set, vec![vec![IsNot(1, 0)], vec![IsNot(0, IOPRIO_WHO_PROCESS)]]),
        (libc::SYS_sched_setscheduler, others_process.clone()),
        (libc::SYS_sched_setparam, others_process.clone()),
        (libc::SYS_sched_setattr, others_process),
    ]
}

const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
const IOPRIO_WHO_PROCESS: u32 = 1;
/// Of a mode's file types, what character and block devices have in common, and no other file that can be made.
const DEVICE_NODE: u32 = libc::S_IFCHR & libc::S_IFBLK;

/// `CLONE_NEW*`, without `CLONE_NEWTIME`, whose bit `clone` reads as part of the signal.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

#[cfg(test)]
mod tests {
    use super::*;

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    const CLASSES: [ProgramClass; 2] = [ProgramClass::Interpreter, ProgramClass::Native];

    fn answer(call: c_long, arguments: [u64; 6]) -> u32 {
        answer_to(ProgramClass::Interpreter, call, arguments)
    }

    fn answer_to(class: ProgramClass, call: c_long, arguments: [u64; 6]) -> u32 {
        bpf::run(&bpf::compile(&policy(class, true)), bpf::MACHINE, call as u32, arguments)
    }

    #[test]
    fn every_number_gets_its_verdict() {
        for (class, hidden) in CLASSES.into_iter().flat_map(|class| [(class, false), (class, true)]) {
            check_every_number(&policy(class, hidden));
        }
    }

    fn check_every_number(policy: &BTreeMap<u32, Verdict>) {
        let filter = bpf::compile(policy);
        for number in 0..1024 {
            let expect = match policy.get(&number) {
                None => ENOSYS,
                Some(Verdict::Refuse) => EPERM,
                Some(Verdict::Kill) => libc::SECCOMP_RET_KILL_PROCESS,
                Some(Verdict::Allow) => ALLOW,
                // Zeros: a personality query of none, a socket of no family, nobody's priority.
                Some(Verdict::RefuseWhen(_))
                    if [libc::SYS_socket, libc::SYS_ioprio_set].contains(&i64::from(number)) =>
                {
                    EPERM
                }
                Some(Verdict::RefuseWhen(_)) => ALLOW,
            };
            assert_eq!(bpf::run(&filter, bpf::MACHINE, number, [0; 6]), expect, "{number}");
        }
    }

    #[test]
    fn arguments_are_looked_at() {
        let signal = libc::SIGCHLD as u64;
        assert_eq!(answer(libc::SYS_clone, [signal, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_clone, [signal | libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(answer(libc::SYS_clone3, [0; 6]), ENOSYS);
        for (family, protocol, expect) in [
            (1, 0, ALLOW),
            (2, 0, ALLOW),
            (10, 6, ALLOW),
            (16, 0, ALLOW),
            (16, 9, EPERM),
            (17, 0, EPERM),
            (40, 0, EPERM),
        ] {
            assert_eq!(
                answer(libc::SYS_socket, [family, 1, protocol, 0, 0, 0]),
                expect,
                "{family} {protocol}"
            );
        }
        assert_eq!(answer(libc::SYS_prlimit64, [1, 7, 0, 0x7000_0000_0000, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_prlimit64, [1, 7, 0x7fff_0000_0000, 0, 0, 0]), EPERM);
        assert_eq!(answer(libc::SYS_prlimit64, [0, 7, 0x7fff_0000_0000, 0, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_setpriority, [0, 1, 19, 0, 0, 0]), EPERM);
        assert_eq!(answer(libc::SYS_ioprio_set, [1, 1, 0x6000, 0, 0, 0]), EPERM);
        assert_eq!(answer(libc::SYS_ioprio_set, [3, 0, 0x6000, 0, 0, 0]), EPERM);
        assert_eq!(answer(libc::SYS_ioprio_set, [1, 0, 0x6000, 0, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_ioctl, [0, u64::from(TIOCSTI), 0, 0, 0, 0]), EPERM);
    }

    #[test]
    fn devices_cannot_be_made_and_pipes_can() {
        for (kind, expect) in [
            (libc::S_IFCHR, EPERM),
            (libc::S_IFBLK, EPERM),
            (libc::S_IFIFO, ALLOW),
            (libc::S_IFSOCK, ALLOW),
            (libc::S_IFREG, ALLOW),
            (0, ALLOW),
        ] {
            let mode = u64::from(kind | 0o600);
            assert_eq!(answer(libc::SYS_mknodat, [0, 0, mode, 0, 0, 0]), expect, "{kind:o}");
        }
    }

    #[test]
    fn what_a_program_is_decides_what_exists_for_it() {
        for &call in ALLOWED_TO_NATIVE {
            assert_eq!(answer_to(ProgramClass::Interpreter, call, [0; 6]), ENOSYS, "{call}");
            assert_eq!(answer_to(ProgramClass::Native, call, [0; 6]), ALLOW, "{call}");
        }
    }

    #[test]
    fn a_worker_makes_threads_and_reads_files_and_little_else() {
        let filter = bpf::compile(&wasm_policy());
        let answer = |call: c_long, arguments| bpf::run(&filter, bpf::MACHINE, call as u32, arguments);
        for flags in THREADS {
            assert_eq!(answer(libc::SYS_clone, [flags.into(), 0, 0, 0, 0, 0]), ALLOW);
        }
        for flags in [libc::SIGCHLD, libc::CLONE_VM | libc::CLONE_VFORK, 0x3d_0f00 | libc::CLONE_NEWUSER] {
            assert_eq!(answer(libc::SYS_clone, [flags as u64, 0, 0, 0, 0, 0]), EPERM, "{flags:x}");
        }
        for (flags, expect) in [(libc::O_CLOEXEC, ALLOW), (libc::O_WRONLY, EPERM), (libc::O_CREAT, EPERM)] {
            assert_eq!(answer(libc::SYS_openat, [0, 0, flags as u64, 0, 0, 0]), expect, "{flags:x}");
        }
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone3,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_kill,
            libc::SYS_openat2,
            libc::SYS_ptrace,
            libc::SYS_unlinkat,
        ] {
            assert_eq!(answer(call, [0; 6]), ENOSYS, "{call}");
        }
    }

    #[test]
    fn a_worker_may_nothing_that_others_may_not() {
        let others = policy(ProgramClass::Interpreter, true);
        for (call, verdict) in wasm_policy() {
            let there = others.get(&call);
            assert!(!matches!(there, None | Some(Verdict::Refuse | Verdict::Kill)), "{call} {verdict:?}");
        }
    }

    #[test]
    fn another_machines_calls_are_the_end() {
        let filter = bpf::compile(&policy(ProgramClass::Interpreter, true));
        assert_eq!(bpf::run(&filter, bpf::MACHINE ^ 1, 0, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        // Those of the x32 interface have a bit of their own and no known number.
        assert_eq!(bpf::run(&filter, bpf::MACHINE, 0x4000_0000, [0; 6]), ENOSYS);
    }

    /// The user documentation says how long the lists are.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_documentation_counts_right() {
        let text = include_str!("../../../../../../docs/isolation.md");
        let allowed = |class| {
            let refused = [Verdict::Refuse, Verdict::Kill];
            policy(class, true).values().filter(|verdict| !refused.contains(verdict)).count()
        };
        let killed = KILLED.len() + KILLED_HERE.len();
        for line in [
            format!("interpreter: {} calls", allowed(ProgramClass::Interpreter)),
            format!("native: {} calls", allowed(ProgramClass::Native)),
            format!("`EPERM`: {} calls", REFUSED.len()),
            format!("the end: {killed} calls"),
            format!("WebAssembly workers: {} calls", wasm_policy().len()),
        ] {
            assert!(text.contains(&line), "docs/isolation.md should say {line:?}");
        }
    }

    #[test]
    fn it_is_small() {
        // The kernel runs the program for each of its calls when it is installed: size is latency.
        for class in CLASSES {
            let length = Filters::compile().for_jail(class, false).len();
            assert!(length < 700, "{length}");
        }
    }

    #[test]
    fn nothing_is_in_two_lists() {
        let lists = [ALLOWED, ALLOWED_HERE, ALLOWED_TO_NATIVE, REFUSED, KILLED, KILLED_HERE];
        let mut all: Vec<_> = lists.concat();
        let listed = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), listed);
    }
}
