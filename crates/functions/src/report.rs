//! The platform's own lines in a function's log, in Lambda's words.

use std::time::Duration;

use base::{RequestId, Timestamp};

use crate::model::Configuration;
use crate::startup::Startup;

/// What a REPORT line says.
pub(crate) struct Report<'a> {
    pub(crate) id: RequestId,
    pub(crate) duration: Duration,
    /// How the instance came up, if this is its first call.
    pub(crate) init: Option<Startup>,
    pub(crate) configuration: &'a Configuration,
    pub(crate) peak_bytes: u64,
    pub(crate) status: Status<'a>,
}

/// How a call ended, as far as the report tells.
pub(crate) enum Status<'a> {
    /// With an answer, or with the function's own error.
    Ran,
    /// At its deadline.
    Timeout,
    /// By this type of error of the platform's.
    Error(&'a str),
}

pub(crate) fn start(id: RequestId, version: &str) -> String {
    id.with_text(|id| ["START RequestId: ", id, " Version: ", version].concat())
}

pub(crate) fn end(id: RequestId) -> String {
    id.with_text(|id| ["END RequestId: ", id].concat())
}

/// An instance ended before it took a call; another one gets that.
pub(crate) fn not_delivered(exited: &str) -> String {
    format!("{exited}, before it took the event; another instance gets it")
}

pub(crate) fn timed_out(id: RequestId, now: Timestamp, timeout_s: u32) -> String {
    format!("{} {id} Task timed out after {timeout_s}.00 seconds", now.to_rfc3339())
}

/// Initialisation failed, with this type of error or by taking too long.
pub(crate) fn init_failed(init: Duration, error_type: Option<&str>) -> String {
    let status = match error_type {
        None => "timeout".to_owned(),
        Some(error_type) => format!("error\tError Type: {error_type}"),
    };
    format!("INIT_REPORT Init Duration: {} ms\tPhase: init\tStatus: {status}", millis(init))
}

impl Report<'_> {
    /// Billed time is rounded up to a millisecond and has initialisation in it (Lambda: since August 2025).
    pub(crate) fn line(&self) -> String {
        let billed = self.duration + self.init.map(|init| init.total).unwrap_or_default();
        let mut line = format!(
            "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
            self.id,
            millis(self.duration),
            billed.as_nanos().div_ceil(1_000_000),
            self.configuration.memory_bytes() >> 20,
            self.peak_bytes.div_ceil(1 << 20),
        );
        if let Some(init) = self.init {
            line.push_str(&format!("Init Duration: {} ms\t", millis(init.total)));
            line.push_str(&parts(&init));
        }
        match self.status {
            Status::Ran => {}
            Status::Timeout => line.push_str("Status: timeout"),
            Status::Error(error_type) => line.push_str(&format!("Status: error\tError Type: {error_type}")),
        }
        line
    }
}

/// What a start was made of, where that is known. Lambda has no such fields; none is called Duration, which tools
/// that read Lambda's look for.
fn parts(init: &Startup) -> String {
    let Some(parts) = init.parts() else { return String::new() };
    let [sandbox, runtime, code] = parts.map(|(_, duration)| millis(duration));
    let origin = init.phases.origin.as_str();
    format!("Start: {origin}\tSandbox: {sandbox} ms\tRuntime: {runtime} ms\tCode: {code} ms\t")
}

/// With two decimals, rounded. Whole numbers: every call has such a line.
fn millis(duration: Duration) -> Millis {
    Millis(duration.as_nanos().saturating_add(5_000) / 10_000)
}

/// Hundredths of a millisecond.
struct Millis(u128);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}
