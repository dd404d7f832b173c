//! What the program sees of files.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::process::jail::launcher::USER;
use crate::process::jail::sys::{self, attribute};
use crate::process::jail::wire::{Doing, Failure};

/// Bytes of `/dev/shm`, which holds semaphores and shared arrays.
const SHARED_MEMORY: u64 = 64 << 20;

/// The jail's root, mounted but not yet alone.
pub(super) struct Root(());

/// Binds the launcher's root over itself, goes there and mounts what is the jail's own. The working directory
/// is the launcher's root when called, the jail's afterwards.
pub(super) fn enter_root(mounts: &[(OwnedFd, PathBuf)], tmp_bytes: u64) -> Result<Root, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, c".", flags).doing("copying the root")?;
    rustix::mount::move_mount(&tree, c"", CWD, c".", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing("mounting the root")?;
    rustix::process::fchdir(&tree).doing("entering the root")?;
    let base = libc::MS_NOSUID | libc::MS_NODEV;
    sys::mount_new(c"proc", c"proc", base | libc::MS_NOEXEC, c"")
        .doing("mounting /proc (a container runtime that masks parts of its own /proc forbids it)")?;
    temporary("dev/shm", SHARED_MEMORY, base | libc::MS_NOEXEC)?;
    temporary("tmp", tmp_bytes, base)?;
    for (mount, inside) in mounts {
        attach(mount, inside)?;
    }
    // Last: nothing can be mounted on a name that a read-only mount lacks, and the root needs no more names.
    let read_only = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV;
    sys::restrict_mount(tree.as_fd(), read_only, false).doing("making the root read-only")?;
    Ok(Root(()))
}

impl Root {
    /// Makes it the root and lets go of the host's files.
    pub(super) fn leave_host(self) -> Result<(), Failure> {
        rustix::process::pivot_root(c".", c".").doing("changing the root")?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH).doing("letting go of the host's root")?;
        std::env::set_current_dir("/").doing("entering the new root")
    }
}

/// A tmpfs of the program's user. Its pages are charged to the jail's memory; its inodes cost kernel memory
/// too and are bounded at one a page.
fn temporary(target: &str, bytes: u64, flags: libc::c_ulong) -> Result<(), Failure> {
    // No size at all would mean no bound.
    let pages = (bytes / 4096).max(1);
    let inodes = pages.clamp(256, 1 << 18);
    let options = format!("size={},nr_inodes={inodes},mode=1777,uid={USER},gid={USER}", pages * 4096);
    let doing = || format!("mounting /{target}");
    let target = CString::new(target).map_err(std::io::Error::from).doing(doing())?;
    let options = CString::new(options).map_err(std::io::Error::from).doing(doing())?;
    sys::mount_new(c"tmpfs", &target, flags, &options).doing(doing())
}

/// Puts a detached mount at a path of the jail, following links as the program would.
fn attach(mount: &OwnedFd, inside: &Path) -> Result<(), Failure> {
    let doing = || format!("mounting {}", inside.display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let target = rustix::fs::openat2(CWD, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT).doing(doing())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", &target, c"", flags).doing(doing())
}
