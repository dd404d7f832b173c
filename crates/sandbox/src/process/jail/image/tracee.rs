//! A stopped process whose memory is taken: ptrace(2), as little of it as that needs.
//!
//! Only a helper of the launcher traces, for the moment that one image takes; its end kills what it traces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::process::Pid;

/// The registers of a thread.
pub(super) type Registers = libc::user_regs_struct;

/// Two bytes: `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Bytes below the stack pointer that a function may use without moving it (the ABI's red zone), and more.
const BELOW_STACK: u64 = 1024;

/// A process that this one traces.
#[derive(Debug)]
pub(super) struct Tracee {
    pid: Pid,
}

/// Restartable sequences, as a thread has registered them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RestartableSequence {
    pub(super) address: u64,
    pub(super) length: u32,
    pub(super) signature: u32,
}

/// Lets the kernel end this process after so many seconds, whatever it waits for.
#[allow(unsafe_code)]
pub(super) fn end_after(seconds: u32) {
    // SAFETY: `alarm` takes a number; nothing in this process handles its signal.
    unsafe { libc::alarm(seconds) };
}

impl Tracee {
    /// Begins to trace a process that has stopped itself, lets it go on, and returns the copy that it makes of
    /// itself, stopped before its first instruction, with the original.
    pub(super) fn copy_of(pid: Pid) -> io::Result<(Self, Self)> {
        let options = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_EXITKILL;
        request(libc::PTRACE_SEIZE, pid, 0, options as u64)?;
        let original = Self { pid };
        rustix::process::kill_process(pid, rustix::process::Signal::CONT)?;
        loop {
            let (signal, event) = original.wait()?;
            match event {
                libc::PTRACE_EVENT_FORK => break,
                0 => original.go_on(signal)?,
                _ => original.go_on(0)?,
            }
        }
        let mut copy: libc::c_ulong = 0;
        request(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut copy as u64)?;
        let copy = i32::try_from(copy).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let copy = Self { pid: copy };
        let (_, event) = copy.wait()?;
        if event != libc::PTRACE_EVENT_STOP {
            return Err(io::Error::other("a copied process did not stop as it began"));
        }
        Ok((original, copy))
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets it run until it stops itself. `false`: it did something else, or takes longer than that many milliseconds.
    #[allow(unsafe_code)]
    pub(super) fn run_until_it_stops(&self, milliseconds: u32) -> io::Result<bool> {
        self.go_on(0)?;
        for _ in 0..milliseconds {
            let mut status = 0;
            let flags = libc::__WALL | libc::WNOHANG;
            // SAFETY: `status` is a place for the status, and outlives the call.
            match unsafe { libc::waitpid(self.pid.as_raw_nonzero().get(), &raw mut status, flags) } {
                0 => std::thread::sleep(std::time::Duration::from_millis(1)),
                waited if waited < 0 => return Err(io::Error::last_os_error()),
                _ if !libc::WIFSTOPPED(status) || status >> 16 != 0 => return Ok(false),
                _ if libc::WSTOPSIG(status) == libc::SIGSTOP => return Ok(true),
                _ => self.go_on(libc::WSTOPSIG(status))?,
            }
        }
        Ok(false)
    }

    /// Its registers.
    #[allow(unsafe_code)]
    pub(super) fn registers(&self) -> io::Result<Registers> {
        // SAFETY: all-zero bytes are valid for a structure of integers.
        let mut registers: Registers = unsafe { std::mem::zeroed() };
        request(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers as u64)?;
        Ok(registers)
    }

    fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        request(libc::PTRACE_SETREGS, self.pid, 0, std::ptr::from_ref(registers) as u64).map(drop)
    }

    /// `None`: it has none, or the kernel does not tell.
    #[allow(unsafe_code)]
    pub(super) fn restartable_sequence(&self) -> Option<RestartableSequence> {
        // SAFETY: all-zero bytes are valid for a structure of integers.
        let mut found: libc::ptrace_rseq_configuration = unsafe { std::mem::zeroed() };
        let size = size_of_val(&found) as u64;
        request(libc::PTRACE_GET_RSEQ_CONFIGURATION, self.pid, size, &raw mut found as u64).ok()?;
        (found.rseq_abi_pointer != 0).then_some(RestartableSequence {
            address: found.rseq_abi_pointer,
            length: found.rseq_abi_size,
            signature: found.signature,
        })
    }

    /// Has the process make a system call and tells its result. One argument may be the address of scratch memory
    /// below its stack ([`scratch`](Self::scratch)).
    pub(super) fn call(&self, call: i64, arguments: [u64; 4]) -> io::Result<u64> {
        let before = self.registers()?;
        let mut changed = before;
        changed.rip = before.rip - SYSCALL.len() as u64;
        changed.rax = call as u64;
        [changed.rdi, changed.rsi, changed.rdx, changed.r10] = arguments;
        // No system call is to be taken up again.
        changed.orig_rax = u64::MAX;
        self.set_registers(&changed)?;
        request(libc::PTRACE_SINGLESTEP, self.pid, 0, 0)?;
        let (signal, _) = self.wait()?;
        let result = self.registers()?.rax;
        self.set_registers(&before)?;
        if signal != libc::SIGTRAP {
            return Err(io::Error::other("a stopped process has gone on by itself"));
        }
        match i64::try_from(result.wrapping_neg()) {
            Ok(error @ 1..4096) => Err(io::Error::from_raw_os_error(error as i32)),
            _ => Ok(result),
        }
    }

    /// Whether it was stopped by a system call: then another can be made from the same place.
    pub(super) fn is_at_a_call(&self, memory: &File) -> io::Result<bool> {
        let mut code = [0_u8; SYSCALL.len()];
        memory.read_exact_at(&mut code, self.registers()?.rip.wrapping_sub(SYSCALL.len() as u64))?;
        Ok(code == SYSCALL)
    }

    /// Memory of its own that it will not miss.
    pub(super) fn scratch(&self) -> io::Result<u64> {
        Ok((self.registers()?.rsp - BELOW_STACK) & !63)
    }

    fn go_on(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_CONT, self.pid, 0, signal as u64).map(drop)
    }

    /// Waits until it stops: the signal, and the event, which is 0 for a signal on its way.
    #[allow(unsafe_code)]
    fn wait(&self) -> io::Result<(i32, i32)> {
        let mut status = 0;
        // SAFETY: `status` is a place for the status, and outlives the call.
        let waited = unsafe { libc::waitpid(self.pid.as_raw_nonzero().get(), &raw mut status, libc::__WALL) };
        if waited < 0 {
            return Err(io::Error::last_os_error());
        }
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::other("the process ended"));
        }
        Ok((libc::WSTOPSIG(status), status >> 16))
    }
}

/// `data` is a number, or the address of a structure that the request fills or reads, as ptrace(2) says of each.
#[allow(unsafe_code)]
fn request(request: libc::c_uint, pid: Pid, address: u64, data: u64) -> io::Result<i64> {
    // SAFETY: every caller above gives the request what ptrace(2) asks for, of the right size and alive.
    let result = unsafe { libc::ptrace(request, pid.as_raw_nonzero().get(), address, data) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
