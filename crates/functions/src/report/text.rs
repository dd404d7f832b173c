//! Lines of text, in Lambda's words.

use std::time::Duration;

use base::{RequestId, Timestamp};
use sandbox::Runtime;

use super::{Report, Status};
use crate::startup::Startup;

pub(super) fn init_start(runtime: &Runtime) -> String {
    format!("INIT_START Runtime Version: {runtime}")
}

pub(super) fn start(id: RequestId, version: &str) -> String {
    id.with_text(|id| ["START RequestId: ", id, " Version: ", version].concat())
}

pub(super) fn end(id: RequestId) -> String {
    id.with_text(|id| ["END RequestId: ", id].concat())
}

pub(super) fn timed_out(id: RequestId, now: Timestamp, timeout_s: u32) -> String {
    format!("{} {id} Task timed out after {timeout_s}.00 seconds", now.to_rfc3339())
}

/// Initialisation failed, with this type of error or by taking too long.
pub(super) fn init_failed(init: Duration, error_type: Option<&str>) -> String {
    let status = match error_type {
        None => "timeout".to_owned(),
        Some(error_type) => format!("error\tError Type: {error_type}"),
    };
    format!("INIT_REPORT Init Duration: {} ms\tPhase: init\tStatus: {status}", millis(init))
}

pub(super) fn report(report: &Report<'_>) -> String {
    let mut line = format!(
        "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
        report.id,
        millis(report.duration),
        report.billed_ms(),
        report.configuration.memory_bytes() >> 20,
        report.peak_bytes.div_ceil(1 << 20),
    );
    if let Some(init) = report.init {
        line.push_str(&format!("Init Duration: {} ms\t", millis(init.total)));
        line.push_str(&parts(&init));
    }
    match report.status {
        Status::Ran => {}
        Status::Timeout => line.push_str("Status: timeout"),
        Status::Error(error_type) => line.push_str(&format!("Status: error\tError Type: {error_type}")),
    }
    line
}

/// What a start was made of, where that is known. Lambda has no such fields; none is called Duration, which tools
/// that read Lambda's look for.
fn parts(init: &Startup) -> String {
    let Some(parts) = init.parts() else { return String::new() };
    let [sandbox, runtime, code] = parts.map(|(_, duration)| millis(duration));
    let origin = init.phases.origin.as_str();
    let fetch = init.fetch.map(|fetch| format!("Fetch: {} ms\t", millis(fetch))).unwrap_or_default();
    format!("Start: {origin}\tSandbox: {sandbox} ms\tRuntime: {runtime} ms\tCode: {code} ms\t{fetch}")
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
