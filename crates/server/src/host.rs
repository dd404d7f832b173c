//! What the host can give to functions: interpreters, memory, means of isolation.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use sandbox::process::interpreters::Interpreters;
use sandbox::process::jail::{Check, Launcher, MissingLimits, Status};

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

impl From<Check> for Finding {
    fn from(check: Check) -> Self {
        let verdict = match check.status {
            Status::Ok => Verdict::Good,
            Status::Degraded | Status::Weaker => Verdict::Degraded,
            Status::Missing => Verdict::Missing,
        };
        Self { name: check.name, verdict, detail: check.detail }
    }
}

/// Lambda's names of the runtimes whose interpreters this host has, the newest of each family last.
pub async fn runtimes() -> Vec<String> {
    Interpreters::new(None).list().await.iter().map(|found| found.runtime.to_string()).collect()
}

/// Examines the host by doing what a server does at its start, in a folder of its own. The calling process
/// must have one thread.
pub fn examine() -> Result<Vec<Finding>> {
    let place = std::env::temp_dir().join(format!("virga-doctor-{}", std::process::id()));
    DirBuilder::new()
        .mode(0o700)
        .create(&place)
        .with_context(|| format!("cannot make {}", place.display()))?;
    let launcher = Launcher::start(&place, MissingLimits::Degrade);
    let mut findings: Vec<Finding> = match &launcher {
        Ok(launcher) => launcher.report().checks.into_iter().map(Finding::from).collect(),
        Err(error) => vec![Finding {
            name: "launcher".to_owned(),
            verdict: Verdict::Missing,
            detail: format!("it did not start: {error}"),
        }],
    };
    if let Ok(launcher) = launcher {
        launcher.shutdown();
    }
    if let Err(error) = std::fs::remove_dir_all(&place) {
        tracing::warn!(%error, path = %place.display(), "cannot remove the folder used for the examination");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    findings.extend(runtime.block_on(interpreters()));
    findings.push(memory());
    Ok(findings)
}

/// A line for each family of interpreters.
async fn interpreters() -> Vec<Finding> {
    let interpreters = Interpreters::new(None);
    let found = interpreters.list().await;
    let family = |name: &str, prefix: &str| {
        let of: Vec<String> = found
            .iter()
            .filter(|interpreter| interpreter.runtime.to_string().starts_with(prefix))
            .map(|interpreter| {
                format!(
                    "{} ({} at {})",
                    interpreter.runtime,
                    interpreter.version,
                    interpreter.executable.display()
                )
            })
            .collect();
        let (verdict, detail) = match of[..] {
            [] => {
                (Verdict::Degraded, format!("none found: functions with a {prefix} runtime cannot be made"))
            }
            _ => (Verdict::Good, of.join(", ")),
        };
        Finding { name: name.to_owned(), verdict, detail }
    };
    let mut findings = vec![family("Python", "python"), family("Node", "nodejs")];
    for (name, prefix) in [("PHP", "php"), ("Ruby", "ruby"), ("Java", "java")] {
        // Most hosts have no use for them.
        findings.push(Finding { verdict: Verdict::Good, ..family(name, prefix) });
    }
    findings
}

fn memory() -> Finding {
    let share = default_memory_bytes() >> 20;
    let detail = format!("all instances together may hold {share} MB unless --max-memory-mb says otherwise");
    Finding { name: "memory".to_owned(), verdict: Verdict::Good, detail }
}

/// Every connection and every instance takes descriptors: asks for as many as the host allows.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
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
