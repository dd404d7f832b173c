//! The control groups of one instance.
//!
//! A process joins version 2 groups as it is cloned and version 1 groups by writing itself into `tasks`:
//! moving somebody else takes a lock over every fork of the host, which costs milliseconds. The kernel's
//! documentation: cgroup-v1/memory.rst, cgroup-v2.rst.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};

use super::{FREEZE, Late, Place, Version, ending};
use crate::process::jail::wire::Bounds;

/// Microseconds of processor time that an instance may use up at once. One that has several processes does so on all
/// cores, and whoever is called meanwhile finds none free: with the kernel's default period, for half of a tenth of a
/// second. Shorter, and the kernel's tick of four milliseconds no longer sees to it.
const CPU_TURN_US: u64 = 10_000;
/// The longest time over which a share is counted: the kernel's default.
const CPU_PERIOD_MAX_US: u64 = 100_000;
/// The least quota that the kernel takes.
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// Quota and period, in microseconds, of so many hundredths of a core: a turn, and the time that it is a share of, in
/// hundreds, so that every share is exact.
fn quota_and_period(hundredths: u64) -> (u64, u64) {
    let period = (CPU_TURN_US * 100 / hundredths.max(1)).next_multiple_of(100);
    let period = period.clamp(CPU_TURN_US, CPU_PERIOD_MAX_US);
    ((hundredths * period / 100).max(CPU_QUOTA_MIN_US), period)
}

/// The groups of one instance. Not removed on drop: its processes must be gone first.
#[derive(Debug)]
pub(in crate::process::jail) struct Group {
    name: String,
    memory: Option<Place>,
    pids: Option<Place>,
    /// On version 1 only once a limit is asked for: a group of its own changes how processor time is shared.
    cpu: Option<Place>,
    /// Version 2.
    freezer: Option<Place>,
}

impl Group {
    /// At the places for memory, pids, processor time and freezing.
    pub(super) fn create(name: &str, places: [Option<&Place>; 4]) -> io::Result<Self> {
        let [memory, pids, cpu, freezer] = places.map(|place| place.map(|place| place.below(name)));
        let group = Self { name: name.to_owned(), memory, pids, cpu, freezer };
        for place in group.places() {
            if let Err(error) = std::fs::create_dir_all(&place.dir) {
                // Those made so far are empty.
                let _ = group.remove();
                return Err(error);
            }
        }
        Ok(group)
    }

    /// Adds the processor group where it was left out.
    pub(super) fn add_cpu(&mut self, cpu: &Place) -> io::Result<Late> {
        let place = self.cpu.insert(cpu.below(&self.name));
        std::fs::create_dir_all(&place.dir)?;
        Ok(Late { join: place.join()?, take_in: place.take_in()? })
    }

    pub(super) fn has_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// Writes the limits.
    pub(in crate::process::jail) fn limit(&self, bounds: &Bounds) -> io::Result<()> {
        let bytes = bounds.memory_bytes.to_string();
        match &self.memory {
            Some(Place { version: Version::One, dir }) => {
                write(dir, "memory.limit_in_bytes", &bytes)?;
                // Without swap accounting, or without swap, there is nothing to write to.
                let _ = write(dir, "memory.memsw.limit_in_bytes", &bytes);
                let _ = write(dir, "memory.swappiness", "0");
            }
            Some(Place { version: Version::Two, dir }) => {
                write(dir, "memory.max", &bytes)?;
                let _ = write(dir, "memory.swap.max", "0");
                // One process killed for memory ends them all.
                write(dir, "memory.oom.group", "1")?;
            }
            None => {}
        }
        if let Some(Place { dir, .. }) = &self.pids {
            // One is pid 1.
            write(dir, "pids.max", &bounds.pids.saturating_add(1).to_string())?;
        }
        if let (Some(place), Some(hundredths)) = (&self.cpu, bounds.cpu_hundredths) {
            let (quota, period) = quota_and_period(u64::from(hundredths));
            match place.version {
                Version::One => {
                    write(&place.dir, "cpu.cfs_period_us", &period.to_string())?;
                    write(&place.dir, "cpu.cfs_quota_us", &quota.to_string())?;
                }
                Version::Two => write(&place.dir, "cpu.max", &format!("{quota} {period}"))?,
            }
        }
        Ok(())
    }

    /// The version 2 folder to clone into.
    pub(in crate::process::jail) fn clone_into(&self) -> io::Result<Option<OwnedFd>> {
        let two = self.places().find(|place| place.version == Version::Two);
        two.map(|place| File::open(&place.dir).map(Into::into)).transpose()
    }

    /// The version 1 files that a process joins by writing `0` to them.
    pub(in crate::process::jail) fn joins(&self) -> io::Result<Vec<OwnedFd>> {
        self.places().filter(|place| place.version == Version::One).map(Place::join).collect()
    }

    /// The file that holds the most memory used, in bytes; readable until the group is removed.
    pub(in crate::process::jail) fn peak_file(&self) -> Option<File> {
        let place = self.memory.as_ref()?;
        let names: &[&str] = match place.version {
            Version::One => &["memory.max_usage_in_bytes"],
            // The peak is counted since Linux 5.19.
            Version::Two => &["memory.peak", "memory.current"],
        };
        names.iter().find_map(|name| File::open(place.dir.join(name)).ok())
    }

    /// The file that freezes the group.
    pub(in crate::process::jail) fn freeze_file(&self) -> Option<File> {
        let place = self.freezer.as_ref()?;
        OpenOptions::new().write(true).open(place.dir.join(FREEZE)).ok()
    }

    /// The most memory used, in bytes; 0 where nothing counts.
    pub(in crate::process::jail) fn peak(&self) -> u64 {
        let mut text = String::new();
        let read = self.peak_file().is_some_and(|mut file| file.read_to_string(&mut text).is_ok());
        if read { text.trim().parse().unwrap_or(0) } else { 0 }
    }

    /// How many processes the kernel has killed in it for memory.
    pub(in crate::process::jail) fn out_of_memory_kills(&self) -> u64 {
        let Some(Place { version, dir }) = &self.memory else { return 0 };
        let file = if *version == Version::One { "memory.oom_control" } else { "memory.events" };
        let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Version 1 kills one process where version 2 kills the group: a descriptor that becomes readable when
    /// the group runs out of memory, for us to kill the rest. `None` where the kernel does it.
    pub(in crate::process::jail) fn out_of_memory_event(&self) -> io::Result<Option<OwnedFd>> {
        let Some(Place { version: Version::One, dir }) = &self.memory else { return Ok(None) };
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control = File::open(dir.join("memory.oom_control"))?;
        let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        write(dir, "cgroup.event_control", &registration)?;
        Ok(Some(event))
    }

    /// Kills every process in it and helps the dying on. Does not wait for them.
    pub(in crate::process::jail) fn end(&self) {
        self.pids.iter().for_each(ending::forbid_forks);
        // Version 2 does it in one.
        let (two, one): (Vec<_>, Vec<_>) = self.places().partition(|place| place.version == Version::Two);
        let killed = two.into_iter().chain(one).any(|place| ending::kill(place).is_ok());
        self.cpu.iter().for_each(ending::give_core);
        if killed {
            self.memory.iter().for_each(ending::give_memory);
        }
    }

    /// Removes the groups; `ResourceBusy` while a process is in one.
    pub(in crate::process::jail) fn remove(&self) -> io::Result<()> {
        for place in self.places() {
            match std::fs::remove_dir(&place.dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        // Version 2 has one folder for all controllers; doing a thing to it again does no harm but to open
        // files twice, which is what the comparison avoids.
        let all = [&self.memory, &self.pids, &self.cpu, &self.freezer].map(Option::as_ref);
        let is_first = move |index: &usize| !all[..*index].contains(&all[*index]);
        (0..all.len()).filter(is_first).filter_map(move |index| all[index])
    }
}

pub(super) fn write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    // Not `fs::write`, which truncates and creates: these files are the kernel's.
    let mut file = OpenOptions::new().write(true).open(dir.join(file))?;
    io::Write::write_all(&mut file, value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_uses_up_a_share_at_once_does_so_in_a_short_time() {
        for (hundredths, quota, period) in [
            (1, 1_000, 100_000),
            (10, 10_000, 100_000),
            (33, 10_032, 30_400),
            (50, 10_000, 20_000),
            (100, 10_000, 10_000),
            (1_600, 160_000, 10_000),
        ] {
            assert_eq!(quota_and_period(hundredths), (quota, period), "{hundredths}");
        }
    }
}
