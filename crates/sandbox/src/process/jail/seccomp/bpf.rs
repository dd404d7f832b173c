//! From verdicts by call number to a filter program.
//!
//! The program is a binary search over runs of numbers with the same verdict. A linear chain of comparisons,
//! what filter libraries make, took the kernel 0.7 ms to install, most of a jail's whole start: it runs the
//! program once for each of its own calls to find those that need no look at arguments.
//!
//! Sources: seccomp(2), the kernel's filter.rst (classic BPF).

use std::collections::BTreeMap;

use libc::sock_filter;

/// What a call is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It runs.
    Allow,
    /// `EPERM`.
    Refuse,
    /// The end of the process.
    Kill,
    /// `EPERM` when all conditions of one alternative hold.
    RefuseWhen(Vec<Vec<Condition>>),
}

/// A condition on an argument, by its index. But for [`NotZero`](Self::NotZero) only the lower half is looked
/// at, all that the kernel reads of an `int`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Is(u32, u32),
    IsNot(u32, u32),
    AnyBit(u32, u32),
    /// Of the whole 64 bits.
    NotZero(u32),
}

/// `AUDIT_ARCH_*` of this machine.
#[cfg(target_arch = "x86_64")]
pub(super) const MACHINE: u32 = 0xc000_003e;
/// `AUDIT_ARCH_*` of this machine.
#[cfg(target_arch = "aarch64")]
pub(super) const MACHINE: u32 = 0xc000_00b7;

// Offsets in `struct seccomp_data`; little-endian, both machines.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Makes the program.
pub(super) fn compile(policy: &BTreeMap<u32, Verdict>) -> Vec<sock_filter> {
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 1, 0, MACHINE),
        // The numbers of another machine's calls (32-bit programs) mean something else.
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(LOAD, 0, 0, NUMBER),
    ];
    program.extend(search(&runs(policy)));
    program
}

/// A run of numbers with one verdict: its first number. It goes on to the next run's.
type Run<'a> = (u32, Option<&'a Verdict>);

fn runs(policy: &BTreeMap<u32, Verdict>) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = vec![(0, None)];
    let mut next = 0;
    for (&number, verdict) in policy {
        if number > next {
            runs.push((next, None));
        }
        runs.push((number, Some(verdict)));
        next = number + 1;
    }
    runs.push((next, None));
    // A run of no length is replaced by what starts at the same number; equal neighbours are one.
    runs.dedup_by(|later, earlier| {
        let same_start = later.0 == earlier.0;
        if same_start {
            earlier.1 = later.1;
        }
        same_start
    });
    runs.dedup_by(|later, earlier| later.1 == earlier.1);
    runs
}

fn search(runs: &[Run<'_>]) -> Vec<sock_filter> {
    let (low, high) = match runs {
        [] => return answer(None),
        [(_, verdict)] => return answer(*verdict),
        _ => runs.split_at(runs.len() / 2),
    };
    let (lower, higher) = (search(low), search(high));
    // A conditional jump reaches 255 instructions; the unconditional one behind it reaches all.
    let mut code = vec![
        instruction(JUMP_AT_LEAST, 0, 1, high[0].0),
        instruction(JUMP, 0, 0, u32::try_from(lower.len()).unwrap_or(u32::MAX)),
    ];
    code.extend(lower);
    code.extend(higher);
    code
}

fn answer(verdict: Option<&Verdict>) -> Vec<sock_filter> {
    let value = match verdict {
        None => UNKNOWN,
        Some(Verdict::Allow) => libc::SECCOMP_RET_ALLOW,
        Some(Verdict::Refuse) => REFUSED,
        Some(Verdict::Kill) => libc::SECCOMP_RET_KILL_PROCESS,
        Some(Verdict::RefuseWhen(alternatives)) => {
            let mut code: Vec<_> =
                alternatives.iter().flat_map(|conditions| alternative(conditions)).collect();
            code.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
            return code;
        }
    };
    vec![instruction(RETURN, 0, 0, value)]
}

/// Refuses when all conditions hold; goes on behind itself when one does not.
fn alternative(conditions: &[Condition]) -> Vec<sock_filter> {
    let mut code = vec![instruction(RETURN, 0, 0, REFUSED)];
    for condition in conditions.iter().rev() {
        // A few instructions: policies have a handful of conditions.
        let rest = u8::try_from(code.len()).unwrap_or(u8::MAX);
        let mut check = test(*condition, rest);
        check.extend(code);
        code = check;
    }
    code
}

/// Goes on where the condition holds, else past the `rest` instructions that follow.
fn test(condition: Condition, rest: u8) -> Vec<sock_filter> {
    let load = |argument: u32, half: u32| instruction(LOAD, 0, 0, ARGUMENTS + 8 * argument + 4 * half);
    match condition {
        Condition::Is(argument, value) => vec![load(argument, 0), instruction(JUMP_EQUAL, 0, rest, value)],
        Condition::IsNot(argument, value) => vec![load(argument, 0), instruction(JUMP_EQUAL, rest, 0, value)],
        Condition::AnyBit(argument, bits) => {
            vec![load(argument, 0), instruction(JUMP_ANY_BIT, 0, rest, bits)]
        }
        Condition::NotZero(argument) => vec![
            load(argument, 0),
            instruction(JUMP_EQUAL, 0, 2, 0),
            load(argument, 1),
            instruction(JUMP_EQUAL, rest, 0, 0),
        ],
    }
}

pub(super) fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Runs a program as the kernel would.
#[cfg(test)]
pub(super) fn run(program: &[sock_filter], machine: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let (mut at, mut value) = (0_usize, 0_u32);
    loop {
        let instruction = program[at];
        at += 1;
        let mut jump = |taken: bool| at += usize::from(if taken { instruction.jt } else { instruction.jf });
        match instruction.code {
            LOAD => {
                value = match instruction.k {
                    NUMBER => number,
                    ARCHITECTURE => machine,
                    offset => {
                        let (index, half) = ((offset - ARGUMENTS) / 8, (offset - ARGUMENTS) % 8 / 4);
                        (arguments[index as usize] >> (32 * half)) as u32
                    }
                }
            }
            JUMP => at += instruction.k as usize,
            JUMP_EQUAL => jump(value == instruction.k),
            JUMP_AT_LEAST => jump(value >= instruction.k),
            JUMP_ANY_BIT => jump(value & instruction.k != 0),
            RETURN => return instruction.k,
            other => panic!("instruction {other}"),
        }
    }
}
