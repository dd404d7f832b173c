//! Which hierarchies are mounted and where this process is in each: pure text work.
//!
//! Sources: cgroups(7), proc_pid_mountinfo(5).

use std::path::{Path, PathBuf};

use super::Version;

/// One mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Version 1 only; version 2 lists them in each group.
    pub(super) controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The folder of the group that this process is in.
    pub(super) own: PathBuf,
}

impl Hierarchy {
    /// Whether it is this controller's (version 1).
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(super) fn hierarchies(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    mountinfo.lines().filter_map(|line| hierarchy(line, cgroup)).collect()
}

fn hierarchy(line: &str, cgroup: &str) -> Option<Hierarchy> {
    // 32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount) = (place.next()?, PathBuf::from(place.next()?));
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let options: Vec<&str> = kind.nth(1).unwrap_or_default().split(',').collect();
    let membership = cgroup.lines().find_map(|line| {
        // 4:memory:/a/b and 0::/a/b
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match version {
            Version::Two => controllers.is_empty(),
            Version::One => {
                !controllers.is_empty() && controllers.split(',').all(|name| options.contains(&name))
            }
        };
        ours.then_some((controllers, path))
    })?;
    let (controllers, path) = membership;
    // In a container the mount shows a part of the hierarchy: its root is a prefix of our path there.
    let below = Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/")).ok()?;
    let own = mount.join(below);
    let own = if own.components().any(|part| part.as_os_str() == "..") { mount.clone() } else { own };
    let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Some(Hierarchy { version, controllers, mount, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mountinfo: &str, cgroup: &str, expect: &[(Version, &str, &str, &str)]) {
        let found: Vec<_> = hierarchies(mountinfo, cgroup)
            .into_iter()
            .map(|h| (h.version, h.controllers.join(","), h.mount, h.own))
            .collect();
        let expect: Vec<_> = expect
            .iter()
            .map(|&(version, controllers, mount, own)| {
                (version, controllers.to_owned(), PathBuf::from(mount), PathBuf::from(own))
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn both_versions_side_by_side() {
        check(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/user.slice",
            &[
                (Version::One, "cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
                (Version::One, "memory", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a/b"),
                (Version::Two, "", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/user.slice"),
            ],
        );
    }

    #[test]
    fn version_two_alone() {
        check(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
            "0::/user.slice/user-1000.slice/session-1.scope",
            &[(
                Version::Two,
                "",
                "/sys/fs/cgroup",
                "/sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope",
            )],
        );
    }

    #[test]
    fn a_containers_mount_shows_a_part() {
        check(
            "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
            "4:memory:/docker/abc/inner",
            &[(Version::One, "memory", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/inner")],
        );
        check(
            "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
            "4:memory:/../../elsewhere",
            &[(Version::One, "memory", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory")],
        );
    }
}
