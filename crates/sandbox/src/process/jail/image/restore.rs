//! Restoring: what pid 1 does in place of executing a program.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::process::{Pid, WaitOptions};

use super::{FileIdentity, Manifest, ORDERS, TEMPLATE_PID};
use crate::process::jail::sys;
use crate::process::jail::wire::{Cause, Failure};

/// What a restore takes beside its manifest.
#[derive(Debug)]
pub(in crate::process::jail) struct Ends {
    /// The image.
    pub(in crate::process::jail) image: OwnedFd,
    /// What the program will read its environment from.
    pub(in crate::process::jail) orders: OwnedFd,
}

/// Makes sure that no process gets the template's number. Wants pid 1's capabilities.
pub(in crate::process::jail) fn skip_template_pid() -> io::Result<()> {
    // The kernel goes on after it (CONFIG_CHECKPOINT_RESTORE).
    std::fs::write("/proc/sys/kernel/ns_last_pid", TEMPLATE_PID.to_string())
}

/// In the child: becomes the image's process. Returns only with what failed.
pub(in crate::process::jail) fn become_image(
    manifest: &Manifest,
    ends: &Ends,
    report: BorrowedFd<'_>,
    name: &CString,
) -> io::Error {
    let put_in_place = || -> io::Result<OwnedFd> {
        let image_place = manifest.report + 1;
        let files_place = image_place + 1;
        let count = i32::try_from(manifest.files.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // First out of the way: what a place is made for may be open there.
        let beyond = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, files_place + count);
        let (image, orders, report) =
            (beyond(ends.image.as_fd())?, beyond(ends.orders.as_fd())?, beyond(report)?);
        for (file, place) in manifest.files.iter().zip(files_place..) {
            sys::place(open(file)?, place)?;
        }
        sys::place(orders, ORDERS)?;
        sys::place(report, manifest.report)?;
        sys::place(image.try_clone()?, image_place)?;
        Ok(image)
    };
    match put_in_place() {
        Ok(image) => sys::execute_file(image.as_fd(), name),
        Err(error) => error,
    }
}

/// Opens a file if it still is the one that the image was made with.
fn open(wanted: &FileIdentity) -> io::Result<OwnedFd> {
    // Neither a pipe of that name nor a terminal must stop us.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(&wanted.path)?;
    let found = file.metadata()?;
    if !found.is_file() || FileIdentity::of(wanted.path.clone(), &found) != *wanted {
        return Err(io::Error::from_raw_os_error(libc::ESTALE));
    }
    Ok(file.into())
}

/// What the child wrote before it ended, as a failure. Reaps it.
pub(in crate::process::jail) fn failure(written: &[u8], pid: Pid) -> Failure {
    let status = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    let failure = |context: String, errno| Failure { cause: Cause::Host, context, errno };
    match (<[u8; 4]>::try_from(written), <[u8; 8]>::try_from(written)) {
        (Ok(number), _) => match i32::from_ne_bytes(number) {
            libc::ESTALE => failure("restoring an image: a file has changed since".to_owned(), 0),
            number => failure("restoring an image".to_owned(), number),
        },
        (_, Ok(entry)) => {
            let call = u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
            let errno = status.ok().flatten().and_then(|(_, status)| status.exit_status()).unwrap_or(0);
            failure(format!("restoring an image: system call {call}"), errno)
        }
        _ => failure("restoring an image: it broke off".to_owned(), 0),
    }
}
