//! Lines as JSON objects (Lambda: Telemetry API, Event schema reference).

use std::time::Duration;

use base::{RequestId, Timestamp};
use sandbox::Runtime;
use serde_json::{Value, json};

use super::{Report, Status};

/// An event of the platform's.
pub(super) struct Event {
    kind: &'static str,
    record: Value,
}

impl Event {
    pub(super) fn line(self, now: Timestamp) -> String {
        json!({ "time": now.to_rfc3339(), "type": self.kind, "record": self.record }).to_string()
    }
}

pub(super) fn init_start(runtime: &Runtime) -> Event {
    let record =
        json!({ "initializationType": "on-demand", "phase": "init", "runtimeVersion": runtime.to_string() });
    Event { kind: "platform.initStart", record }
}

pub(super) fn start(id: RequestId, version: &str) -> Event {
    let record = json!({ "requestId": id.to_string(), "version": version });
    Event { kind: "platform.start", record }
}

pub(super) fn end(report: &Report<'_>) -> Event {
    let mut record = status(report);
    record["metrics"] = json!({ "durationMs": millis(report.duration) });
    Event { kind: "platform.runtimeDone", record }
}

pub(super) fn report(report: &Report<'_>) -> Event {
    let mut record = status(report);
    record["metrics"] = json!({
        "durationMs": millis(report.duration),
        "billedDurationMs": u64::try_from(report.billed_ms()).unwrap_or(u64::MAX),
        "memorySizeMB": report.configuration.memory_bytes() >> 20,
        "maxMemoryUsedMB": report.peak_bytes.div_ceil(1 << 20),
    });
    if let Some(init) = report.init {
        record["metrics"]["initDurationMs"] = json!(millis(init.total));
        if let Some(parts) = init.parts() {
            // Lambda has none of these.
            let [sandbox, runtime, code] = parts.map(|(_, duration)| millis(duration));
            let origin = init.phases.origin.as_str();
            record["start"] =
                json!({ "origin": origin, "sandboxMs": sandbox, "runtimeMs": runtime, "codeMs": code });
            if let Some(fetch) = init.fetch {
                record["start"]["fetchMs"] = json!(millis(fetch));
            }
        }
    }
    Event { kind: "platform.report", record }
}

pub(super) fn fault(happened: &str) -> Event {
    Event { kind: "platform.fault", record: json!(happened) }
}

pub(super) fn timed_out(id: RequestId, timeout_s: u32) -> Event {
    let message = format!("Task timed out after {timeout_s}.00 seconds");
    Event { kind: "platform.fault", record: json!({ "requestId": id.to_string(), "message": message }) }
}

pub(super) fn init_failed(init: Duration, error_type: Option<&str>) -> Event {
    let mut record = json!({
        "phase": "init",
        "status": if error_type.is_some() { "error" } else { "timeout" },
        "metrics": { "durationMs": millis(init) },
    });
    if let Some(error_type) = error_type {
        record["errorType"] = json!(error_type);
    }
    Event { kind: "platform.initReport", record }
}

fn status(report: &Report<'_>) -> Value {
    let id = report.id.to_string();
    match report.status {
        Status::Ran => json!({ "requestId": id, "status": "success" }),
        Status::Timeout => json!({ "requestId": id, "status": "timeout" }),
        Status::Error(error_type) => json!({ "requestId": id, "status": "error", "errorType": error_type }),
    }
}

/// With three decimals.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
