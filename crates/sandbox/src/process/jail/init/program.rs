//! Starting the program, and saying why it cannot be started.

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::net::SendFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::process::jail::image::Manifest;
use crate::process::jail::image::restore::{self, Ends};
use crate::process::jail::sys::{self, Fork, SingleThreaded};
use crate::process::jail::wire::{self, Cause, Doing, Failure, FromJail};

/// Where a program of a function starts.
pub(super) const WORKING_DIRECTORY: &str = "/var/task";

/// A program to start.
pub(super) struct Start<'a> {
    /// Program and arguments.
    pub(super) argv: &'a [String],
    /// The whole environment.
    pub(super) env: &'a [(String, String)],
    /// What its output goes to.
    pub(super) output: &'a OwnedFd,
    /// What it finds as descriptor 3.
    pub(super) orders: Option<&'a OwnedFd>,
    /// Its working directory.
    pub(super) folder: &'a str,
    /// What its process does before it becomes the program, where pid 1 has not done it.
    pub(super) lock: Option<&'a dyn Fn() -> Result<(), Failure>>,
    /// What is restored in place of executing the program.
    pub(super) image: Option<(&'a Manifest, &'a Ends)>,
    /// Landlock's, where the kernel has it: it is put under them once it is locked.
    pub(super) rules: Option<&'a OwnedFd>,
    /// With a way out: who is told of its calls of `connect`.
    pub(super) told: Option<Told<'a>>,
}

/// What it takes to tell the server of a program's calls of `connect`.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    /// Goes on top of the one that the program is locked with.
    pub(super) filter: &'a [libc::sock_filter],
    /// Where the descriptor goes that tells of them.
    pub(super) channel: &'a OwnedFd,
}

/// Starts the program and returns when `execve` has succeeded, or the image is restored.
pub(super) fn start(start: &Start<'_>, proof: SingleThreaded) -> Result<Pid, Failure> {
    let strings = Strings::new(start).map_err(|_| entrypoint("an argument or variable has a zero byte"))?;
    let (mut errors, report) =
        pipe_with(PipeFlags::CLOEXEC).map(|(r, w)| (File::from(r), File::from(w))).doing("making a pipe")?;
    match sys::fork(proof).doing("starting the program")? {
        Fork::Child => {
            let error = become_program(&strings, start, &report);
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            // Pid 1 reads this; if it is gone so are we.
            let _ = (&report).write_all(&number.to_ne_bytes());
            sys::exit(127)
        }
        Fork::Parent(pid) => {
            drop(report);
            let mut number = Vec::new();
            errors.read_to_end(&mut number).doing("waiting for the program to start")?;
            match <[u8; 4]>::try_from(number.as_slice()) {
                Err(_) if number.is_empty() => Ok(pid),
                _ if start.image.is_some() => Err(restore::failure(&number, pid)),
                Err(_) => Err(entrypoint("the program's start was reported in no known way")),
                Ok(number) => Err(explain(&start.argv[0], i32::from_ne_bytes(number))),
            }
        }
    }
}

/// Everything `execve` needs, allocated before the fork.
struct Strings {
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Strings {
    fn new(program: &Start<'_>) -> Result<Self, NulError> {
        let argv = program.argv.iter().map(|argument| CString::new(argument.as_str()));
        let env = program.env.iter().map(|(name, value)| CString::new(format!("{name}={value}")));
        Ok(Self { argv: argv.collect::<Result<_, _>>()?, env: env.collect::<Result<_, _>>()? })
    }
}

/// In the child. Returns only with what failed.
fn become_program(strings: &Strings, start: &Start<'_>, report: &File) -> io::Error {
    let set_up = || -> io::Result<()> {
        rustix::process::setsid()?;
        let null = File::open("/dev/null")?;
        sys::replace_stdio(null.as_fd(), 0)?;
        sys::replace_stdio(start.output.as_fd(), 1)?;
        sys::replace_stdio(start.output.as_fd(), 2)?;
        sys::close_on_exec()?;
        if let Some(orders) = start.orders {
            sys::give_orders(orders.as_fd())?;
        }
        sys::default_signals();
        std::env::set_current_dir(start.folder)?;
        if let Some(lock) = start.lock {
            lock().map_err(|failure| match failure.errno {
                0 => io::Error::other(failure.context),
                errno => io::Error::from_raw_os_error(errno),
            })?;
        }
        if let Some(rules) = start.rules {
            sys::landlock_restrict(rules.as_fd())?;
        }
        if let Some(Told { filter, channel }) = start.told {
            tell(filter, channel)?;
        }
        Ok(())
    };
    match (set_up(), start.image) {
        (Ok(()), None) => execute(strings),
        (Ok(()), Some((manifest, ends))) => {
            restore::become_image(manifest, ends, report.as_fd(), &strings.argv[0])
        }
        (Err(error), _) => error,
    }
}

/// Looks at a busy program, a millisecond apart.
const BUSY_LOOKS: u32 = 1_000;

/// Returns only with what failed. A program that was written a moment ago can be busy (execve(2), ETXTBSY): a process that the server
/// started meanwhile has a copy of the descriptor that it was written by, until it executes its own program.
fn execute(strings: &Strings) -> io::Error {
    let mut looks = 0;
    loop {
        let error = sys::execve(&strings.argv[0], &strings.argv, &strings.env);
        if error.raw_os_error() != Some(libc::ETXTBSY) || looks == BUSY_LOOKS {
            return error;
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has the server told of calls of `connect`. A failure is the host's, unlike those of the program, and is said here.
fn tell(filter: &[libc::sock_filter], channel: &OwnedFd) -> io::Result<()> {
    let told = sys::filter_and_tell(filter).and_then(|notifier| {
        wire::send(channel, &FromJail::Notifier, &[notifier.as_fd()], SendFlags::empty())
    });
    told.doing("having calls of connect told").map_err(|failure| {
        let errno = failure.errno;
        // Whoever it is said to may be gone.
        let _ = wire::send(channel, &FromJail::Failed(failure), &[], SendFlags::empty());
        io::Error::from_raw_os_error(errno)
    })
}

fn entrypoint(text: impl Into<String>) -> Failure {
    Failure { cause: Cause::Entrypoint, context: text.into(), errno: 0 }
}

/// Turns `execve`'s error number into what the program's owner can act on (execve(2), ERRORS).
fn explain(program: &str, number: i32) -> Failure {
    let path = Path::new(program);
    let found = std::fs::symlink_metadata(path);
    let text = match number {
        libc::ENOENT if found.is_err() => format!("{program} does not exist"),
        libc::ENOENT => missing_interpreter(program),
        libc::EACCES => match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => format!("{program} is a folder, not a program"),
            Ok(found) if found.file_type().is_fifo() || found.file_type().is_char_device() => {
                format!("{program} is not a regular file")
            }
            Ok(found) if found.mode() & 0o111 == 0 => {
                format!("{program} is not executable: set its mode to 755 before packing")
            }
            _ => format!("{program} may not be executed: permission denied"),
        },
        libc::ENOTDIR => format!("{program} does not exist: a part of the path is not a folder"),
        libc::ENOEXEC => wrong_format(program),
        libc::E2BIG => "arguments and environment are too large together".to_owned(),
        libc::ELOOP => format!("{program} is a chain of too many links"),
        libc::ENOMEM => format!("{program} does not fit into the memory limit"),
        _ => format!("{program} cannot be executed: {}", io::Error::from_raw_os_error(number)),
    };
    entrypoint(text)
}

/// The first bytes of a file.
fn head(program: &str) -> Vec<u8> {
    let mut head = Vec::new();
    // A pipe with that name must not stop pid 1.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(program);
    if let Ok(file) = file {
        // What could not be read is not there to be explained.
        let _ = file.take(256).read_to_end(&mut head);
    }
    head
}

fn missing_interpreter(program: &str) -> String {
    let head = head(program);
    let Some(line) = head.strip_prefix(b"#!") else {
        let what = if head.starts_with(b"\x7fELF") { "its dynamic loader" } else { "what it links to" };
        return format!("{program} is there, but {what} does not exist in the sandbox");
    };
    let line = String::from_utf8_lossy(line.split(|&byte| byte == b'\n').next().unwrap_or_default());
    if line.ends_with('\r') {
        return format!(
            "the first line of {program} ends with a carriage return: save it with Unix line ends"
        );
    }
    let interpreter = line.split_ascii_whitespace().next().unwrap_or_default().to_owned();
    format!("{program} is there, but its interpreter {interpreter} does not exist in the sandbox")
}

fn wrong_format(program: &str) -> String {
    let head = head(program);
    if head.is_empty() {
        format!("{program} is empty")
    } else if head.starts_with(b"\x7fELF") {
        format!("{program} is a binary for another machine than {}", std::env::consts::ARCH)
    } else {
        format!("{program} is neither a binary for Linux nor a script whose first line starts with #!")
    }
}
