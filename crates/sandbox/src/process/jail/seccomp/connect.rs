//! The filter of the way out: `connect` is told to the server, everything else is left to the other filter.
//!
//! It decides nothing: what a program could do by avoiding it ends in a network namespace that leads nowhere. The
//! kernel takes the strictest of all filters' answers, so a call that the other one refuses stays refused.

use libc::sock_filter;

use super::bpf::{ARCHITECTURE, JUMP_EQUAL, LOAD, MACHINE, NUMBER, RETURN, instruction};

/// The program.
pub(super) fn program() -> Vec<sock_filter> {
    // Small and positive on every machine.
    let connect = u32::try_from(libc::SYS_connect).unwrap_or(u32::MAX);
    vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 0, 3, MACHINE),
        instruction(LOAD, 0, 0, NUMBER),
        instruction(JUMP_EQUAL, 0, 1, connect),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::bpf;
    use super::*;

    #[test]
    fn only_connect_is_told() {
        let program = program();
        for number in 0..1024 {
            let expect = if i64::from(number) == libc::SYS_connect {
                libc::SECCOMP_RET_USER_NOTIF
            } else {
                libc::SECCOMP_RET_ALLOW
            };
            assert_eq!(bpf::run(&program, MACHINE, number, [0; 6]), expect, "{number}");
        }
        let other = bpf::run(&program, MACHINE ^ 1, libc::SYS_connect as u32, [0; 6]);
        assert_eq!(other, libc::SECCOMP_RET_ALLOW);
    }
}
