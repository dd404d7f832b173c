//! Which users of the host jails run as.
//!
//! With root and a wide enough range, each jail has a user of its own, so that nothing on the host is owned
//! by two jails and neither may signal or inspect the other even where a namespace leaks. Otherwise all jails
//! run as the server's own user, kept apart by their namespaces.

use std::io;

use rustix::process::Pid;

/// First of the users taken where there is root: far above what distributions and container runtimes assign.
const FIRST: u32 = 2_000_000_000;
/// How many, taken in turn.
const COUNT: u32 = 100_000;

/// Gives each jail its user.
#[derive(Debug)]
pub(super) enum Users {
    /// One each.
    Own {
        /// Counts up.
        next: u32,
    },
    /// All the same: number 0 of the launcher's own user namespace.
    Shared,
}

impl Users {
    /// Looks at what this process may map. `start` sets servers apart that run side by side.
    pub(super) fn find(start: u32) -> Self {
        let wide = |file: &str| std::fs::read_to_string(file).is_ok_and(|map| covers(&map, FIRST, COUNT));
        let root = rustix::process::geteuid().is_root();
        if root && wide("/proc/self/uid_map") && wide("/proc/self/gid_map") {
            Self::Own { next: start % COUNT }
        } else {
            Self::Shared
        }
    }

    /// The next one, in the launcher's user namespace.
    pub(super) fn take(&mut self) -> u32 {
        match self {
            Self::Own { next } => {
                let user = FIRST + *next;
                *next = (*next + 1) % COUNT;
                user
            }
            Self::Shared => rustix::process::geteuid().as_raw(),
        }
    }

    /// Whether each jail has its own.
    pub(super) fn are_separate(&self) -> bool {
        matches!(self, Self::Own { .. })
    }
}

/// Maps `inside` of a process's new user namespace to `outside` of ours: user and group, nothing else.
pub(super) fn map(pid: Option<Pid>, inside: u32, outside_user: u32, outside_group: u32) -> io::Result<()> {
    let folder = pid.map_or("self".to_owned(), |pid| pid.as_raw_nonzero().to_string());
    let write = |file: &str, text: String| std::fs::write(format!("/proc/{folder}/{file}"), text);
    // Asked for before an unprivileged group mapping (user_namespaces(7)); and a jail has no use for groups.
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{inside} {outside_user} 1"))?;
    write("gid_map", format!("{inside} {outside_group} 1"))
}

/// Whether a map of user_namespaces(7) covers a range in one line.
fn covers(map: &str, first: u32, count: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> =
            line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
        let &[inside, _, length] = numbers.as_slice() else { return false };
        inside <= u64::from(first) && u64::from(first) + u64::from(count) <= inside + length
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_in_maps() {
        assert!(covers("         0          0 4294967295\n", FIRST, COUNT));
        assert!(!covers("0 100000 65536\n", FIRST, COUNT));
        assert!(!covers("0 1000 1\n1 100000 65536\n", FIRST, COUNT));
        assert!(!covers("", FIRST, COUNT));
    }

    #[test]
    fn users_are_taken_in_turn() {
        let mut users = Users::Own { next: COUNT - 1 };
        assert_eq!([users.take(), users.take()], [FIRST + COUNT - 1, FIRST]);
    }
}
