//! Ends what is in a group without waiting for the turn of any process in it.
//!
//! A pid namespace ends with its pid 1, but pid 1 has to run for that. Among a thousand processes that all want the
//! processor, in a group that may use little of it, it is throttled at each of its turns and has the next one when all
//! others had theirs: that was half a minute. So every process is killed by itself, and while they die they may use a
//! whole core and the memory that they ask for.
//!
//! Sources: cgroup-v2.rst (`cgroup.kill`), cgroup-v1/pids.rst, scheduler/sched-bwc.rst.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::group::write;
use super::{Place, Version};

/// For how long what is left over is killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often.
const RETRY: Duration = Duration::from_millis(2);

/// No process is made in it any more. For the group that counts processes.
pub(super) fn forbid_forks(place: &Place) {
    // Only what is faster with it depends on it.
    let _ = write(&place.dir, "pids.max", "0");
}

/// Kills every process in it, those that are frozen too.
pub(super) fn kill(place: &Place) -> io::Result<()> {
    // Since Linux 5.14, of version 2 alone.
    if place.version == Version::Two && write(&place.dir, "cgroup.kill", "1").is_ok() {
        return Ok(());
    }
    let pids = std::fs::read_to_string(place.dir.join("cgroup.procs"))?;
    for pid in pids.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
        // Gone already is as good.
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(())
}

/// Gives it a core, if it has less: as much time as it is counted over. For the group that holds processor time.
pub(super) fn give_core(place: &Place) {
    let read = |file: &str| std::fs::read_to_string(place.dir.join(file)).unwrap_or_default();
    let (file, text) = match place.version {
        Version::One => ("cpu.cfs_quota_us", read("cpu.cfs_quota_us") + " " + &read("cpu.cfs_period_us")),
        Version::Two => ("cpu.max", read("cpu.max")),
    };
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse::<i64>().ok());
    // `max`, -1 and nothing at all are no limit.
    if let (Some(Some(quota)), Some(Some(period))) = (numbers.next(), numbers.next())
        && (0..period).contains(&quota)
    {
        // It only dies more slowly otherwise.
        let _ = write(&place.dir, file, &period.to_string());
    }
}

/// Takes its limit of memory away. For the group that holds memory, once everything in it is killed: whoever dies in
/// the middle of taking memory need not make room first.
pub(super) fn give_memory(place: &Place) {
    // Of version 1, memory with swap is never less than memory; it is not there where swap is not counted.
    let files: &[(&str, &str)] = match place.version {
        Version::One => &[("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")],
        Version::Two => &[("memory.max", "max")],
    };
    for (file, unlimited) in files {
        let _ = write(&place.dir, file, unlimited);
    }
}

/// Kills every process in a group and removes it, waiting for the processes to be gone.
pub(super) fn kill_and_remove(place: &Place) -> io::Result<()> {
    let give_up = now() + PATIENCE;
    forbid_forks(place);
    loop {
        // What has gone meanwhile is seen below.
        let _ = kill(place);
        give_core(place);
        match std::fs::remove_dir(&place.dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if now() > give_up => return Err(error),
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

#[allow(clippy::disallowed_methods)] // The launcher is a process of its own: no clock can be handed in.
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, files: &[(&str, &str)], act: fn(&Place), expect: &[(&str, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        act(&Place { version, dir: folder.path().to_owned() });
        for (name, text) in expect {
            assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), *text, "{name}");
        }
    }

    #[test]
    fn the_dying_have_a_core_at_least() {
        use Version::{One, Two};
        for (quota, period, then) in [
            ("2000\n", "10000\n", "10000"),
            ("1000\n", "100000\n", "100000"),
            ("200000\n", "10000\n", "200000\n"),
            ("-1\n", "100000\n", "-1\n"),
        ] {
            let files = [("cpu.cfs_quota_us", quota), ("cpu.cfs_period_us", period)];
            check(One, &files, give_core, &[("cpu.cfs_quota_us", then)]);
        }
        // A plain file keeps what is not written over.
        for (max, then) in [
            ("1000  10000\n", "10000 10000\n"),
            ("150000 100000\n", "150000 100000\n"),
            ("max 100000\n", "max 100000\n"),
        ] {
            check(Two, &[("cpu.max", max)], give_core, &[("cpu.max", then)]);
        }
    }

    #[test]
    fn the_dying_have_memory() {
        let one = [("memory.memsw.limit_in_bytes", "99"), ("memory.limit_in_bytes", "99")];
        let unlimited = one.map(|(name, _)| (name, "-1"));
        check(Version::One, &one, give_memory, &unlimited);
        check(Version::Two, &[("memory.max", "999")], give_memory, &[("memory.max", "max")]);
    }

    #[test]
    fn a_kernel_with_cgroup_kill_is_asked_for_it() {
        let kill = |place: &Place| kill(place).unwrap();
        check(Version::Two, &[("cgroup.kill", "")], kill, &[("cgroup.kill", "1")]);
    }

    #[test]
    fn without_cgroup_kill_processes_are_killed_one_by_one() {
        for version in [Version::One, Version::Two] {
            let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("cgroup.procs"), format!("{}\n", child.id())).unwrap();
            kill(&Place { version, dir: folder.path().to_owned() }).unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
        }
    }
}
