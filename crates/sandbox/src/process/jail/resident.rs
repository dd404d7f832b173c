//! What a waiting jail holds where no control group counts it: the sum over its processes, asked of `/proc`.

use std::fs::read_to_string;
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes that pid 1 and what it has started hold for themselves; 0 where the host does not tell.
pub(super) fn of_jail(pidfd: &OwnedFd) -> u64 {
    let information = read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap_or_default();
    let pid = information.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    let Some(init) = pid else { return 0 };
    let children = read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
    [init].into_iter().chain(children.split_ascii_whitespace()).map(of_process).sum()
}

fn of_process(pid: &str) -> u64 {
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = |field: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("");
        line.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    ["RssAnon:", "RssShmem:", "VmPTE:"].into_iter().map(kilobytes).sum::<u64>() * 1024
}
