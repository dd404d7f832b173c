//! The launcher's two mount namespaces.
//!
//! *Host*: the host's files, and the root of all jails mounted somewhere among them, writable. Here the
//! launcher lives and opens what a jail is to see. *Jail*: that root alone, read-only. Here pid 1 is cloned,
//! so that it gets a copy of a dozen mounts, none of them the host's: it has nothing to leave, and no
//! unmounting to wait for (`umount` waits for every processor, which takes tens of milliseconds on a busy
//! host).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::process::jail::sys::{self, attribute};
use crate::process::jail::wire::{Doing, Failure};

/// Both, held open.
#[derive(Debug)]
pub(super) struct Views {
    host: OwnedFd,
    jail: OwnedFd,
    /// The root of all jails, as the host view has it.
    root: OwnedFd,
}

impl Views {
    /// Makes the jail view. The working directory is the root of all jails, before and after.
    pub(super) fn split() -> Result<Self, Failure> {
        let root = File::open(".").doing("opening the root")?.into();
        let host = mount_namespace().doing("opening the launcher's mount namespace")?;
        show_proc().doing("binding /proc")?;
        sys::unshare(UnshareFlags::NEWNS).doing("making the jails' mount namespace")?;
        rustix::process::pivot_root(c".", c".").doing("changing the root")?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH).doing("letting go of the host's root")?;
        std::env::set_current_dir("/").doing("entering the new root")?;
        let top = File::open("/").doing("opening the new root")?;
        let read_only = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV;
        sys::restrict_mount(top.as_fd(), read_only, false).doing("making the root read-only")?;
        let jail = mount_namespace().doing("opening the jails' mount namespace")?;
        let views = Self { host, jail, root };
        views.return_to_host().doing("returning to the host's files")?;
        Ok(views)
    }

    /// Does something with the jails' root as the root, then returns to the host's files.
    pub(super) fn in_jail<T>(&self, action: impl FnOnce() -> T) -> io::Result<T> {
        enter(&self.jail)?;
        let result = action();
        if self.return_to_host().is_err() {
            // Every path would mean something else from here on. Every jail dies with us.
            sys::exit(1);
        }
        Ok(result)
    }

    fn return_to_host(&self) -> io::Result<()> {
        enter(&self.host)?;
        rustix::process::fchdir(&self.root).map_err(Into::into)
    }
}

fn enter(namespace: &OwnedFd) -> io::Result<()> {
    let kind = Some(LinkNameSpaceType::Mount);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).map_err(Into::into)
}

fn mount_namespace() -> io::Result<OwnedFd> {
    File::open("/proc/self/ns/mnt").map(Into::into)
}

/// A jail may mount a `/proc` of its own only where it can see one already (`mount_too_revealing` in the
/// kernel); its own covers this one for good.
fn show_proc() -> io::Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, c"/proc", flags)?;
    rustix::mount::move_mount(&tree, c"", CWD, c"proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Into::into)
}
