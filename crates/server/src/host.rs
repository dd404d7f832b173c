//! What the host can give to functions: interpreters, memory, means of isolation.

use std::path::Path;

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// There, with less than it should give.
    Degraded,
    /// Not there: some functions cannot run.
    Missing,
}

impl Verdict {
    /// A word for scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

/// One line of `virga doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub detail: String,
}

/// Lambda's names of the runtimes whose interpreters this host has, the newest of each family last.
pub async fn runtimes() -> Vec<String> {
    Vec::new()
}

/// Examines the host.
pub fn examine(_data: &Path) -> Vec<Finding> {
    Vec::new()
}

/// Bytes of memory that functions may hold together by default: three quarters of what the host has.
pub(crate) fn default_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total_bytes(&text).unwrap_or(1 << 30) / 4 * 3
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(total_bytes("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(total_bytes("nothing"), None);
        assert!(default_memory_bytes() > 0);
    }
}
