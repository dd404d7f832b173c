//! File systems of the server's own (FUSE), mounted where jails are shown folders from.
//!
//! The launcher opens the device and mounts it, since the server cannot; it never reads or answers a request, all of which are
//! about a stranger's files. The mount is in the launcher's mount namespace only: the server sees what lies beneath, and when
//! the launcher ends nothing is left. The server must answer whatever is asked about names at once, since the launcher looks at
//! such folders too.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::net::SendFlags;

use crate::process::jail::sys;
use crate::process::jail::wire::{self, Doing, Failure, Mounted};

/// Puts a file system over a folder; the device.
pub(super) fn mount(folder: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/fuse", flags, Mode::empty()).doing("opening /dev/fuse")?;
    // Jails have other users, and files the rights that they say.
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
        device.as_raw_fd()
    );
    let doing = || format!("mounting on {}", folder.display());
    let text = |bytes: &[u8]| CString::new(bytes).map_err(std::io::Error::from).doing(doing());
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_RDONLY;
    sys::mount_new(c"fuse", &text(folder.as_os_str().as_bytes())?, flags, &text(options.as_bytes())?)
        .doing(doing())?;
    Ok(device)
}

/// Takes it away. Who has it open, or mounted elsewhere, keeps it.
pub(super) fn unmount(folder: &Path) -> Result<(), Failure> {
    rustix::mount::unmount(folder, UnmountFlags::DETACH).doing(format!("unmounting {}", folder.display()))
}

/// Tells the server how it went. It may have given up.
pub(super) fn answer(reply: Vec<OwnedFd>, outcome: Result<Option<OwnedFd>, Failure>) {
    let Some(reply) = reply.into_iter().next() else { return };
    let (device, failure) = match outcome {
        Ok(device) => (device, None),
        Err(failure) => (None, Some(failure)),
    };
    let descriptors: Vec<_> = device.iter().map(AsFd::as_fd).collect();
    let _ = wire::send(&reply, &Mounted { failure }, &descriptors, SendFlags::DONTWAIT);
}
