//! Which users of the host jails run as.
//!
//! With root, each jail has a user of its own that owns nothing on the host, so that nothing is owned by two
//! jails and neither may signal or inspect the other even where a namespace leaks. Where root has only the
//! narrow range that container runtimes give, the users are taken from a part of it that distributions do not
//! assign by themselves. Without root, or with root over a single user, all jails run as the server's own user,
//! kept apart by their namespaces.

use std::io;

use rustix::process::Pid;

/// Users of the host to take in turn: the first and how many.
type Range = (u32, u32);

/// Far above what distributions and container runtimes assign.
const WIDE: Range = (2_000_000_000, 100_000);
/// Within the 65,536 users of a container: the upper part of what is for people (Debian policy 9.2.2: 1000 to 59999,
/// given from below), under what systemd and Debian give to services (from 60000).
const NARROW: Range = (40_000, 19_000);

/// Gives each jail its user.
#[derive(Debug)]
pub(super) enum Users {
    /// One each.
    Own {
        /// Of which.
        range: Range,
        /// Counts up.
        next: u32,
    },
    /// All the same: number 0 of the launcher's own user namespace.
    Shared,
}

impl Users {
    /// Looks at what this process may map. `start` sets servers apart that run side by side.
    pub(super) fn find(start: u32) -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::Shared;
        }
        let maps = ["/proc/self/uid_map", "/proc/self/gid_map"]
            .map(|file| std::fs::read_to_string(file).unwrap_or_default());
        Self::among([&maps[0], &maps[1]], start)
    }

    /// The best that root can give with these maps.
    fn among(maps: [&str; 2], start: u32) -> Self {
        let range = [WIDE, NARROW].into_iter().find(|range| maps.iter().all(|map| covers(map, *range)));
        range.map_or(Self::Shared, |range| Self::Own { range, next: start % range.1 })
    }

    /// The next one, in the launcher's user namespace.
    pub(super) fn take(&mut self) -> u32 {
        match self {
            Self::Own { range: (first, count), next } => {
                let user = *first + *next;
                *next = (*next + 1) % *count;
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

/// Maps a user and a group of a process's new user namespace to those `outside`, of ours: nothing else.
pub(in crate::process::jail) fn map(
    pid: Option<Pid>,
    inside: (u32, u32),
    outside: (u32, u32),
) -> io::Result<()> {
    let folder = pid.map_or("self".to_owned(), |pid| pid.as_raw_nonzero().to_string());
    let write = |file: &str, text: String| std::fs::write(format!("/proc/{folder}/{file}"), text);
    // Asked for before an unprivileged group mapping (user_namespaces(7)); and a jail has no use for groups.
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{} {} 1", inside.0, outside.0))?;
    write("gid_map", format!("{} {} 1", inside.1, outside.1))
}

/// Whether a map of user_namespaces(7) covers a range in one line.
fn covers(map: &str, (first, count): Range) -> bool {
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

    /// A container's: 65,536 users.
    const CONTAINER: &str = "         0     100000      65536\n";

    #[test]
    fn ranges_are_found_in_maps() {
        assert!(covers("         0          0 4294967295\n", WIDE));
        assert!(!covers(CONTAINER, WIDE) && covers(CONTAINER, NARROW));
        assert!(!covers("0 1000 1\n1 100000 1000\n", NARROW));
        assert!(!covers("", NARROW));
    }

    #[test]
    fn a_container_has_users_to_give() {
        let everything = "0 0 4294967295\n";
        let first = |maps| match Users::among(maps, 5) {
            Users::Own { range, next } => Some((range.0, next)),
            Users::Shared => None,
        };
        assert_eq!(first([everything, everything]), Some((2_000_000_000, 5)));
        assert_eq!(first([CONTAINER, everything]), Some((40_000, 5)));
        assert_eq!(first([CONTAINER, "0 1000 1\n"]), None, "groups count as well");
    }

    #[test]
    fn users_are_taken_in_turn() {
        let (first, count) = WIDE;
        let mut users = Users::Own { range: WIDE, next: count - 1 };
        assert_eq!([users.take(), users.take()], [first + count - 1, first]);
    }
}
