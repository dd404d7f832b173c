//! What the program sees of files.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::process::jail::launcher::USER;
use crate::process::jail::sys;
use crate::process::jail::wire::{Doing, Failure};

/// Bytes of `/dev/shm`, which holds semaphores and shared arrays.
const SHARED_MEMORY: u64 = 64 << 20;
/// Bytes of `/tmp` while nothing is known of the function.
const TMP_AT_FIRST: u64 = 1 << 20;

/// What of a jail's own an image is given.
const OWN: [&str; 3] = ["/proc", "/dev", "/tmp"];

/// Where layers are, and folders that are shared with others.
pub(super) const LAYERS: &str = "/opt";
pub(super) const SHARED: &str = "/mnt";

/// How everything of a jail's own is mounted.
const BASE: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;

/// Mounts what every jail has of its own over the root that it was born into, which nobody can write to.
pub(super) fn set_up() -> Result<(), Failure> {
    sys::mount_new(c"proc", c"/proc", BASE | libc::MS_NOEXEC, c"")
        .doing("mounting /proc (a container runtime that masks parts of its own /proc forbids it)")?;
    temporary("/dev/shm", SHARED_MEMORY, BASE | libc::MS_NOEXEC)?;
    temporary("/tmp", TMP_AT_FIRST, BASE)
}

/// Gives `/tmp` the size that the function has. It is mounted before a runtime is booted, since Landlock's rules are
/// about the file system that is there when they are made.
pub(super) fn resize_tmp(bytes: u64) -> Result<(), Failure> {
    let options = CString::new(size_of_tmpfs(bytes)).map_err(std::io::Error::from).doing("sizing /tmp")?;
    sys::mount_new(c"tmpfs", c"/tmp", BASE | libc::MS_REMOUNT, &options).doing("sizing /tmp")
}

/// Mounts what the launcher has opened.
pub(super) fn attach_all(mounts: &[(OwnedFd, PathBuf)]) -> Result<(), Failure> {
    mounts.iter().try_for_each(|(mount, inside)| attach(mount, inside))
}

/// Mounts folders that are shared with others below a `/mnt` of the jail's own, so that no other jail sees their names;
/// where they are. That `/mnt` itself is read-only.
pub(super) fn attach_shared(shared: &[(OwnedFd, String)]) -> Result<Vec<PathBuf>, Failure> {
    if shared.is_empty() {
        return Ok(Vec::new());
    }
    room(SHARED, 0)?;
    furnish(SHARED, shared)?;
    Ok(shared.iter().map(|(_, name)| Path::new(SHARED).join(name)).collect())
}

/// Has a runtime that is booted see an empty `/opt` and `/mnt` of the jail's own. Landlock's rules, which are put on it
/// now, are about folders and what is below: about what is mounted in these later, but not on them. An interpreter below
/// `/opt` leaves no room there.
pub(super) fn make_rooms(mounts: &[(OwnedFd, PathBuf)]) -> Result<(), Failure> {
    if !mounts.iter().any(|(_, inside)| inside.starts_with(LAYERS)) {
        room(LAYERS, libc::MS_RDONLY)?;
    }
    room(SHARED, libc::MS_RDONLY)
}

/// Mounts these in a room, which is read-only before and after.
pub(super) fn furnish(room_of: &str, these: &[(OwnedFd, String)]) -> Result<(), Failure> {
    if these.is_empty() {
        return Ok(());
    }
    room(room_of, libc::MS_REMOUNT)?;
    for (mount, name) in these {
        let place = Path::new(room_of).join(name);
        make_place(mount, &place).doing(format!("making {}", place.display()))?;
        attach(mount, &place)?;
    }
    room(room_of, libc::MS_REMOUNT | libc::MS_RDONLY)
}

/// A tmpfs that holds nothing but places for mounts.
fn room(place: &str, flags: libc::c_ulong) -> Result<(), Failure> {
    let doing = || format!("mounting {place}");
    let target = CString::new(place).map_err(std::io::Error::from).doing(doing())?;
    let options = CString::new(size_of_tmpfs(0) + ",mode=755").map_err(std::io::Error::from);
    sys::mount_new(c"tmpfs", &target, BASE | libc::MS_NOEXEC | flags, &options.doing(doing())?).doing(doing())
}

/// A folder, or a file where that is what is mounted.
fn make_place(mount: &OwnedFd, place: &Path) -> std::io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(mount)?.st_mode);
    if kind == FileType::Directory {
        std::fs::create_dir(place)
    } else {
        std::fs::File::create_new(place).map(drop)
    }
}

/// Makes an image's tree the root. What the jail has of its own goes along; the rest is covered, and nothing leads there:
/// there is no way up from a root, and no capability to change it will be left.
pub(super) fn change_root(tree: &OwnedFd) -> Result<(), Failure> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let mut own = Vec::new();
    for place in OWN {
        let copy = rustix::mount::open_tree(CWD, place, flags).doing(format!("copying {place}"))?;
        own.push((copy, PathBuf::from(place)));
    }
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", CWD, c"/", empty).doing("mounting the image")?;
    rustix::process::fchdir(tree).doing("entering the image")?;
    rustix::process::chroot(c".").doing("making the image the root")?;
    attach_all(&own)
}

/// As mount options. The inodes cost kernel memory too and are bounded at one a page.
fn size_of_tmpfs(bytes: u64) -> String {
    // No size at all would mean no bound.
    let pages = (bytes / 4096).max(1);
    format!("size={},nr_inodes={}", pages * 4096, pages.clamp(256, 1 << 18))
}

/// A tmpfs of the program's user. Its pages are charged to the jail's memory.
fn temporary(target: &str, bytes: u64, flags: libc::c_ulong) -> Result<(), Failure> {
    let options = format!("{},mode=1777,uid={USER},gid={USER}", size_of_tmpfs(bytes));
    let doing = || format!("mounting {target}");
    let target = CString::new(target).map_err(std::io::Error::from).doing(doing())?;
    let options = CString::new(options).map_err(std::io::Error::from).doing(doing())?;
    sys::mount_new(c"tmpfs", &target, flags, &options).doing(doing())
}

/// Puts a detached mount at a path of the jail, following links as the program would.
fn attach(mount: &OwnedFd, inside: &Path) -> Result<(), Failure> {
    let doing = || format!("mounting {}", inside.display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let target =
        rustix::fs::openat2(CWD, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT).doing(doing())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", &target, c"", flags).doing(doing())
}
