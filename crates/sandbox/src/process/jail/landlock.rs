//! A second wall behind the mounts: what a program may read, write and execute, by Landlock.
//!
//! The mounts decide what a jail can see; these rules decide again what may be done with it, so that a file that
//! came to be there by a mistake of ours, or a descriptor of the host's that leaked, still cannot be used. They
//! also keep the program's signals from pid 1, and the host's abstract sockets from a program on the host's
//! network, which nothing else does.
//!
//! Put on the program alone, between fork and execve: pid 1 stays outside, so that the program cannot look into
//! it even where both have one user. Whatever the kernel's version knows is used; an installation that fails on
//! a kernel that has Landlock is a failed start. Sources: landlock(7), the kernel's landlock.rst.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::host::{HostReport, Status};
use super::sys::{self, LandlockHandled};

// Rights, by their kernel values (`LANDLOCK_ACCESS_FS_*`).
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// Of version 1: up to `MAKE_SYM`.
const FIRST: u64 = (1 << 13) - 1;

/// What may be done with a file rather than a folder.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
/// Programs and libraries.
const RUN: u64 = EXECUTE | READ_FILE | READ_DIR;
/// The program's own folders, where it may do everything but make devices.
const OWN: u64 = ALL & !(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV);
const ALL: u64 = (1 << 16) - 1;

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`.
const SCOPES: u64 = 0b11;

/// What a jail has at its top. The root itself may be listed; what is not named here may not be read. Nothing of
/// `/proc` is written: a process's memory, its user mapping and the kernel's parameters are the least of what
/// could go wrong there.
const PLACES: [(&str, u64); 9] = [
    ("/", READ_DIR),
    ("/usr", RUN),
    ("/etc", READ_FILE | READ_DIR),
    ("/var", RUN),
    ("/opt", RUN),
    ("/proc", READ_FILE | READ_DIR),
    ("/dev", READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV),
    ("/dev/shm", OWN & !EXECUTE),
    ("/tmp", OWN),
];

/// The same of a jail whose root is an image: all of it may be read and executed.
const PLACES_OF_IMAGES: [(&CStr, u64); 5] = [
    (c"/", RUN),
    (c"/proc", READ_FILE | READ_DIR),
    (c"/dev", READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV),
    (c"/dev/shm", OWN & !EXECUTE),
    (c"/tmp", OWN),
];

/// Where distributions that have not merged them into `/usr` keep programs and libraries.
const UNMERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// The wall of all jails, but for what each mounts.
#[derive(Debug)]
pub(super) struct Landlock {
    /// The kernel's version; 0 is none.
    version: u32,
    places: Vec<(CString, u64)>,
}

impl Landlock {
    /// Asks the kernel what it has, and tells the report.
    pub(super) fn find(report: &mut HostReport) -> Self {
        let version = sys::landlock_version().unwrap_or(0);
        let (status, detail) = describe(version);
        report.add("landlock", status, detail);
        let unmerged = UNMERGED.into_iter().filter(|place| {
            // What is a link leads into /usr.
            std::fs::symlink_metadata(place).is_ok_and(|found| found.is_dir())
        });
        let places = PLACES.into_iter().chain(unmerged.map(|place| (place, RUN)));
        let places = places.filter_map(|(place, access)| Some((CString::new(place).ok()?, access)));
        Self { version, places: places.collect() }
    }

    /// The rules for a program that also sees `mounts`, and may write to `shared`. `None` where the kernel has no Landlock.
    pub(super) fn rules<'a>(
        &self,
        mounts: impl Iterator<Item = &'a Path>,
        shared: &[PathBuf],
    ) -> io::Result<Option<OwnedFd>> {
        if self.version == 0 {
            return Ok(None);
        }
        let places = self.places.iter().map(|(place, access)| (place.as_c_str(), *access));
        let ruleset = self.ruleset(places)?;
        for mount in mounts.filter(|mount| !self.covers(mount)) {
            let place = rustix::fs::openat(CWD, mount, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
            let access = if kind == FileType::Directory { RUN } else { RUN & OF_FILES };
            sys::landlock_allow(ruleset.as_fd(), place.as_fd(), access)?;
        }
        for folder in shared {
            let place = rustix::fs::openat(CWD, folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            sys::landlock_allow(ruleset.as_fd(), place.as_fd(), OWN & handled(self.version).0.files)?;
        }
        Ok(Some(ruleset))
    }

    /// The rules for a program whose root is an image. `None` where the kernel has no Landlock.
    pub(super) fn rules_of_image(&self) -> io::Result<Option<OwnedFd>> {
        if self.version == 0 {
            return Ok(None);
        }
        self.ruleset(PLACES_OF_IMAGES.into_iter()).map(Some)
    }

    fn ruleset<'a>(&self, places: impl Iterator<Item = (&'a CStr, u64)>) -> io::Result<OwnedFd> {
        let (handled, size) = handled(self.version);
        let ruleset = sys::landlock_ruleset(&handled, size)?;
        for (place, access) in places {
            let place = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            sys::landlock_allow(ruleset.as_fd(), place.as_fd(), access & handled.files)?;
        }
        Ok(ruleset)
    }

    /// Whether a place is below one that has a rule of its own.
    fn covers(&self, mount: &Path) -> bool {
        let root = Path::new("/");
        let places = self.places.iter().map(|(place, _)| Path::new(OsStr::from_bytes(place.as_bytes())));
        places.filter(|place| *place != root).any(|place| mount.starts_with(place))
    }
}

/// What a version takes charge of, and how much of the structure it reads.
fn handled(version: u32) -> (LandlockHandled, usize) {
    let files = match version {
        0 | 1 => FIRST,
        2 => (FIRST << 1) | 1,
        3 | 4 => TRUNCATE | (FIRST << 1) | 1,
        _ => ALL,
    };
    let scoped = if version >= 6 { SCOPES } else { 0 };
    let words = match version {
        0..=3 => 1,
        4 | 5 => 2,
        _ => 3,
    };
    (LandlockHandled { files, network: 0, scoped }, words * size_of::<u64>())
}

fn describe(version: u32) -> (Status, String) {
    match version {
        0 => (
            Status::Weaker,
            "not in this kernel, or off (see lsm= in its parameters): namespaces and mounts stand alone"
                .to_owned(),
        ),
        1..=5 => (
            Status::Weaker,
            format!("version {version}: files; signals and abstract sockets need version 6 (Linux 6.12)"),
        ),
        _ => (Status::Ok, format!("version {version}: files, devices, signals and abstract sockets")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_asked_for_what_it_knows() {
        let rights = |version| handled(version).0.files;
        // landlock(7): up to MAKE_SYM; then REFER, TRUNCATE, IOCTL_DEV.
        assert_eq!(rights(1), 0x1fff);
        assert_eq!(rights(2), 0x3fff);
        assert_eq!([rights(3), rights(4)], [0x7fff, 0x7fff]);
        assert_eq!([rights(5), rights(6), rights(9)], [0xffff; 3]);
        assert_eq!([1, 4, 6].map(|version| handled(version).1), [8, 16, 24]);
        assert_eq!([5, 6].map(|version| handled(version).0.scoped), [0, 0b11]);
    }

    #[test]
    fn rules_can_be_made_on_this_host() {
        let wall = Landlock::find(&mut HostReport::default());
        let mounts = ["/var/task", "/usr/share"].map(Path::new);
        assert!(mounts.iter().all(|mount| wall.covers(mount)));
        assert!(!wall.covers(Path::new("/home/user/.venv")) && !wall.covers(Path::new("/variable")));
    }
}
