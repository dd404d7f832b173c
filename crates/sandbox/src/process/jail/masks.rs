//! Which entries of `/proc` a program does not get.
//!
//! A jail's own `/proc` shows its own processes, but also what belongs to the whole kernel: its parameters, its
//! configuration, its symbols, interrupts by device, free memory by zone. What programs have use for and what is
//! harmless is listed ([`KEPT`]); everything else is covered by an empty file or folder that cannot be written,
//! whatever a newer kernel may add.
//!
//! What a file's mode keeps from a user who owns nothing on the host is not covered again, for a mount costs ten
//! microseconds of every start; where a program's user is the host's root for want of others, everything is, and
//! `/proc/sys` cannot be written either. `/sys` does not exist in a jail. Left open, since every process has its
//! own: paths of the host in `/proc/self/mountinfo`.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use super::host::{HostReport, Status};
use super::sys;

/// In the root of all jails: what covers files.
pub(super) const FILE: &CStr = c"/run/masked/file";
/// In the root of all jails: what covers folders.
pub(super) const FOLDER: &CStr = c"/run/masked/folder";

/// What belongs to the kernel and stays: what programs read (processors and memory, by which libraries size their
/// pools, load, time, version, control groups, file systems and swap), what shows one's own alone (`locks`,
/// `sysvipc`, and the parts of `sys` that have namespaces), zeros (`iomem`, `ioports`), and lists of what the
/// kernel has names for.
const KEPT: [&str; 21] = [
    "cgroups",
    "consoles",
    "cpuinfo",
    "crypto",
    "devices",
    "dma",
    "execdomains",
    "filesystems",
    "iomem",
    "ioports",
    "loadavg",
    "locks",
    "meminfo",
    "misc",
    "stat",
    "swaps",
    "sys",
    "sysvipc",
    "uptime",
    "version",
    "vmstat",
];

/// The entries to cover.
#[derive(Debug)]
pub(super) struct Masks {
    /// With what each is covered.
    entries: Vec<(CString, &'static CStr)>,
    /// Whether `/proc/sys` must be kept from being written.
    parameters: bool,
}

impl Masks {
    /// Looks at the host's `/proc`. `as_root`: modes are no help, for a program's user is root outside.
    pub(super) fn find(as_root: bool, report: &mut HostReport) -> io::Result<Self> {
        let mut entries = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let name = entry.file_name();
            // A process, and a link to one's own: of the jail itself.
            let own = name.as_bytes().iter().all(u8::is_ascii_digit) || entry.file_type()?.is_symlink();
            if own || KEPT.iter().any(|kept| name == *kept) {
                continue;
            }
            let found = entry.metadata()?;
            if as_root || found.permissions().mode() & 0o007 != 0 {
                let path = CString::new(entry.path().as_os_str().as_bytes())?;
                entries.push((path, if found.is_dir() { FOLDER } else { FILE }));
            }
        }
        let detail = format!("{} entries of /proc are covered; /sys is not there", entries.len());
        report.add("proc", Status::Ok, detail);
        Ok(Self { entries, parameters: as_root })
    }

    /// Covers them in the jail that this process is in, whose `/proc` is mounted and not written to any more.
    pub(super) fn apply(&self) -> io::Result<()> {
        for (target, cover) in &self.entries {
            match sys::bind(cover, target) {
                // A driver that has gone took its entry along.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        if !self.parameters {
            return Ok(());
        }
        sys::bind(c"/proc/sys", c"/proc/sys")?;
        sys::make_read_only(c"/proc/sys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(as_root: bool) -> Vec<String> {
        let masks = Masks::find(as_root, &mut HostReport::default()).unwrap();
        masks.entries.iter().map(|(path, _)| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_belongs_to_the_kernel_is_covered() {
        let (some, all) = (covered(false), covered(true));
        for entry in ["/proc/cmdline", "/proc/interrupts", "/proc/fs"] {
            assert!(some.iter().any(|covered| covered == entry), "{entry}");
        }
        for entry in ["/proc/self", "/proc/1", "/proc/meminfo", "/proc/net", "/proc/sys"] {
            assert!(!all.iter().any(|covered| covered == entry), "{entry}");
        }
        assert!(some.iter().all(|entry| all.contains(entry)) && some.len() < all.len());
    }
}
