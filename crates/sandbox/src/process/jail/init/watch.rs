//! Memory without a cgroup: pid 1 adds up what its pid namespace holds, every few milliseconds.
//!
//! Counted: each process's anonymous and shared resident memory, its swap and its page tables (memory that is
//! only read costs those alone), and what `/tmp` and `/dev/shm` hold. Pages that a fork shares with its parent
//! count twice, as do pages of `/tmp` that are mapped: the sum errs on the side of the host. What no mapping
//! shows (memfd, System V's segments, queues and semaphores) the filter forbids here.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);
/// Times in a row that looking may fail: the program can take pid 1's means away, and must not gain by it.
const FAILURES: u32 = 20;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Within the limit.
    Within,
    /// Over it, or not to be known.
    Over,
}

/// The watch over one jail.
pub(super) struct Watch {
    limit: u64,
    /// Holds the most seen, eight bytes, for the server to read.
    peak_file: Option<OwnedFd>,
    peak: u64,
    next: Instant,
    failures: u32,
}

impl Watch {
    /// Over `limit` bytes.
    #[allow(clippy::disallowed_methods)] // Pid 1 is a process of its own: no clock can be handed in.
    pub(super) fn new(limit: u64, peak_file: Option<OwnedFd>) -> Self {
        Self { limit, peak_file, peak: 0, next: Instant::now(), failures: 0 }
    }

    /// Looks, if it is time to.
    pub(super) fn look(&mut self) -> Verdict {
        let now = Instant::now();
        if now < self.next {
            return Verdict::Within;
        }
        self.next = now + INTERVAL;
        let Ok(bytes) = held() else {
            self.failures += 1;
            return if self.failures > FAILURES { Verdict::Over } else { Verdict::Within };
        };
        self.failures = 0;
        if bytes > self.peak {
            self.peak = bytes;
            if let Some(file) = &self.peak_file {
                // The peak is for the report; the limit does not hang on it.
                let _ = rustix::io::pwrite(file, &bytes.to_ne_bytes(), 0);
            }
        }
        if bytes > self.limit { Verdict::Over } else { Verdict::Within }
    }
}

/// Bytes held by everything in this pid namespace.
fn held() -> io::Result<u64> {
    let mut sum = used("/tmp")? + used("/dev/shm")?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        match resident(pid) {
            Ok(bytes) => sum += bytes,
            // It ended meanwhile.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

fn resident(pid: u32) -> io::Result<u64> {
    let mut text = String::with_capacity(2048);
    fs::File::open(format!("/proc/{pid}/status"))?.read_to_string(&mut text)?;
    Ok(status_bytes(&text))
}

/// Adds the fields of proc_pid_status(5) that no other process's memory shares by design.
fn status_bytes(status: &str) -> u64 {
    let kilobytes = |line: &str| -> u64 {
        line.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let counted = ["RssAnon:", "RssShmem:", "VmSwap:", "VmPTE:"];
    let lines = status.lines().filter(|line| counted.iter().any(|field| line.starts_with(field)));
    lines.map(kilobytes).sum::<u64>() * 1024
}

fn used(path: &str) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::status_bytes;

    #[test]
    fn status_fields_are_added() {
        let status = "Name:\tx\nVmRSS:\t   900 kB\nRssAnon:\t   100 kB\nRssFile:\t  700 kB\nRssShmem:\t  20 kB\nVmSwap:\t  3 kB\nVmPTE:\t  50 kB\n";
        assert_eq!(status_bytes(status), 173 * 1024);
        assert_eq!(status_bytes("Name:\tkthread\n"), 0);
    }
}
