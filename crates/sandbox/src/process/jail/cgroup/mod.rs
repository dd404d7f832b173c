//! Control groups, version 1 and 2, whichever the host has for each controller.
//!
//! An instance's groups are `BASE/virga/SERVER/INSTANCE`: SERVER is derived from the data directory, so a
//! server finds what an earlier one of the same directory left and touches nobody else's. BASE is found by
//! [`find`](Cgroups::find). Removing a group needs its processes gone; whoever removes kills first.
//!
//! Absent: I/O weights and limits, cpusets.

mod ending;
mod group;
mod hierarchy;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::host::{HostReport, Status};
use super::wire::Bounds;
pub(super) use group::Group;
use hierarchy::{Hierarchy, hierarchies};

/// Where the server itself goes when its group must be emptied (version 2).
const LEAF: &str = "virga-server";
/// The file of a version 2 group that freezes it: `1` or `0`.
const FREEZE: &str = "cgroup.freeze";

/// The version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    One,
    Two,
}

/// Where the groups of one controller are made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    version: Version,
    /// `BASE/virga/SERVER`
    dir: PathBuf,
}

impl Place {
    /// The folder of one instance.
    fn below(&self, name: &str) -> Self {
        Self { version: self.version, dir: self.dir.join(name) }
    }

    /// Version 1: the file that a process of one thread joins by writing `0` to it.
    fn join(&self) -> io::Result<OwnedFd> {
        Ok(OpenOptions::new().write(true).open(self.dir.join("tasks"))?.into())
    }

    /// The file that a process is moved by, with all its threads, by writing its number to it.
    fn take_in(&self) -> io::Result<OwnedFd> {
        Ok(OpenOptions::new().write(true).open(self.dir.join("cgroup.procs"))?.into())
    }
}

/// A version 1 group made after its processes: its two files.
#[derive(Debug)]
pub(super) struct Late {
    /// Pid 1 joins by writing `0` to it.
    pub(super) join: OwnedFd,
    /// Pid 1 writes the number of a program to it that runs already.
    pub(super) take_in: OwnedFd,
}

/// The controllers that can be used.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    memory: Option<Place>,
    pids: Option<Place>,
    cpu: Option<Place>,
    /// Version 2 only: version 1 keeps what it has frozen from being killed.
    freezer: Option<Place>,
}

impl Cgroups {
    /// Looks for a place to make groups in, by making the server's own. `server` is a name; `ours` are the
    /// pids that may be moved where version 2 asks for an empty group.
    pub(super) fn find(server: &str, ours: &[u32]) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let all = hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let two = all.iter().find(|h| h.version == Version::Two).and_then(|h| two(h, server, ours));
        let place = |controller: &str| {
            let one = all.iter().find(|h| h.version == Version::One && h.has(controller));
            match (one, &two) {
                (Some(hierarchy), _) => plain_dir(hierarchy, server),
                (None, Some(dir)) => lists(&dir.join("cgroup.controllers"), controller).then(|| dir.clone()),
                (None, None) => None,
            }
            .map(|dir| Place { version: if one.is_some() { Version::One } else { Version::Two }, dir })
        };
        let [memory, pids, cpu] = ["memory", "pids", "cpu"].map(place);
        let with_limits = [&memory, &pids, &cpu].into_iter().flatten().find(|p| p.version == Version::Two);
        // Freezing takes no controller: a group will do where the controllers are all of version 1.
        let freezer = with_limits.cloned().or_else(|| {
            let hierarchy = all.iter().find(|h| h.version == Version::Two)?;
            Some(Place { version: Version::Two, dir: plain_dir(hierarchy, server)? })
        });
        let freezer = freezer.filter(|place| place.dir.join(FREEZE).is_file());
        Self { memory, pids, cpu, freezer }
    }

    /// Whether memory is counted and held by the kernel.
    pub(super) fn hold_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Makes the groups of an instance, without limits.
    pub(super) fn create(&self, name: &str) -> io::Result<Group> {
        let cpu = self.cpu.as_ref().filter(|place| place.version == Version::Two);
        Group::create(name, [self.memory.as_ref(), self.pids.as_ref(), cpu, self.freezer.as_ref()])
    }

    /// Writes an instance's limits. Returns the group that its processes have yet to join.
    pub(super) fn limit(&self, group: &mut Group, bounds: &Bounds) -> io::Result<Option<Late>> {
        let cpu = self.cpu.as_ref().filter(|_| bounds.cpu_hundredths.is_some() && !group.has_cpu());
        let late = cpu.map(|cpu| group.add_cpu(cpu)).transpose()?;
        group.limit(bounds)?;
        Ok(late)
    }

    /// Kills and removes what an earlier server of the same name left. Returns what could not be removed.
    pub(super) fn remove_leftovers(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for place in self.places() {
            let Ok(entries) = std::fs::read_dir(&place.dir) else { continue };
            for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
                let left_over = Place { version: place.version, dir: entry.path() };
                if ending::kill_and_remove(&left_over).is_err() {
                    left.push(entry.path());
                }
            }
        }
        left
    }

    /// Removes the server's own groups, which must be empty. Another server's `virga` folder stays.
    pub(super) fn close(&self) {
        for place in self.places() {
            // A folder that is still in use is not empty, which is the one expected failure.
            let _ = std::fs::remove_dir(&place.dir);
            let _ = place.dir.parent().map(std::fs::remove_dir);
        }
    }

    /// Adds what was found to the report.
    pub(super) fn report(&self, report: &mut HostReport) {
        let mut say = |name: &str, place: &Option<Place>, otherwise: Status, instead: &str| match place {
            Some(Place { version, dir }) => {
                let version = if *version == Version::One { 1 } else { 2 };
                report.add(name, Status::Ok, format!("cgroup version {version} at {}", dir.display()));
            }
            None => report.add(name, otherwise, instead),
        };
        say(
            "memory limit",
            &self.memory,
            Status::Degraded,
            "no memory cgroup that this user may write: held by RLIMIT_DATA and a watch on resident size and \
             /tmp every 50 ms, which a fast allocation can overshoot for a moment",
        );
        say(
            "process limit",
            &self.pids,
            Status::Ok,
            "no pids cgroup that this user may write: held by RLIMIT_NPROC in each instance's user namespace",
        );
        say(
            "cpu limit",
            &self.cpu,
            Status::Degraded,
            "no cpu cgroup that this user may write: an instance may use every core",
        );
        say(
            "freezing",
            &self.freezer,
            Status::Ok,
            "no version 2 cgroup that this user may write: idle instances are stopped by signal",
        );
    }

    fn places(&self) -> BTreeSet<&Place> {
        [&self.memory, &self.pids, &self.cpu, &self.freezer].into_iter().flatten().collect()
    }
}

/// Version 1, or version 2 without controllers: below our own group, so that what bounds the server bounds its
/// instances; else below the root.
fn plain_dir(hierarchy: &Hierarchy, server: &str) -> Option<PathBuf> {
    [&hierarchy.own, &hierarchy.mount].into_iter().find_map(|base| {
        let dir = base.join("virga").join(server);
        let made = base.is_dir() && std::fs::create_dir_all(&dir).is_ok();
        // A folder made by another user can exist and be of no use.
        (made && writable(&dir.join("cgroup.procs"))).then_some(dir)
    })
}

/// Version 2: the nearest of our own group and its ancestors that is ours to write and gives controllers to
/// its children. A group with processes in it cannot ("no internal processes"), the root excepted; our own,
/// where we are alone, is emptied into a leaf, as systemd asks of a delegated unit.
fn two(hierarchy: &Hierarchy, server: &str, ours: &[u32]) -> Option<PathBuf> {
    let mut fallback = None;
    // A server that was started by one of ours is in its leaf.
    let own = match hierarchy.own.file_name() {
        Some(name) if name == LEAF => hierarchy.own.parent().unwrap_or(&hierarchy.own),
        _ => &hierarchy.own,
    };
    for base in own.ancestors().take_while(|base| base.starts_with(&hierarchy.mount)) {
        if !writable(&base.join("cgroup.procs")) {
            continue;
        }
        if !enable(base) && base == own && alone(base, ours) {
            move_into(&base.join(LEAF), ours);
            enable(base);
        }
        let parent = base.join("virga");
        let dir = parent.join(server);
        if std::fs::create_dir_all(&dir).is_err() {
            continue;
        }
        enable(&parent);
        enable(&dir);
        if lists(&dir.join("cgroup.subtree_control"), "memory") {
            return Some(dir);
        }
        if fallback.is_none() && lists(&dir.join("cgroup.subtree_control"), "pids") {
            fallback = Some(dir);
        } else {
            let _ = std::fs::remove_dir(&dir);
            let _ = std::fs::remove_dir(&parent);
        }
    }
    fallback
}

/// Gives the controllers that a group has to its children. Whether memory is among them then.
///
/// All in one write: memory is refused where processes are in the group, and then the others must not be given
/// either, or the group would become the root of a threaded subtree whose children take no process.
fn enable(dir: &Path) -> bool {
    let control = dir.join("cgroup.subtree_control");
    let missing: Vec<_> = ["memory", "pids", "cpu"]
        .into_iter()
        .filter(|controller| {
            lists(&dir.join("cgroup.controllers"), controller) && !lists(&control, controller)
        })
        .map(|controller| format!("+{controller}"))
        .collect();
    let populated = std::fs::read_to_string(dir.join("cgroup.procs")).map_or(true, |pids| !pids.is_empty());
    if !missing.is_empty() && (!populated || missing[0] == "+memory") {
        // What counts is read back.
        let _ = std::fs::write(&control, missing.join(" "));
    }
    lists(&control, "memory")
}

fn alone(dir: &Path, ours: &[u32]) -> bool {
    let pids = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    !pids.is_empty() && pids.lines().all(|line| line.parse().is_ok_and(|pid| ours.contains(&pid)))
}

fn move_into(leaf: &Path, ours: &[u32]) {
    if std::fs::create_dir_all(leaf).is_ok() {
        for pid in ours {
            let _ = std::fs::write(leaf.join("cgroup.procs"), pid.to_string());
        }
    }
}

fn lists(file: &Path, controller: &str) -> bool {
    std::fs::read_to_string(file)
        .is_ok_and(|text| text.split_ascii_whitespace().any(|word| word == controller))
}

/// Whether this process may write the file. Asked of the effective user, which `access(2)` does not.
fn writable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() != 0)
        && std::fs::OpenOptions::new().write(true).open(file).is_ok()
}
