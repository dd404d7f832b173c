//! The platform's own lines in a function's log, in the format that the function asked for.

mod json;
mod text;

use std::time::Duration;

use base::{Clock, RequestId};
use sandbox::Runtime;

use crate::logging::{LogLevel, Logging};
use crate::model::Configuration;
use crate::startup::Startup;

/// How one call went.
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
#[derive(Clone, Copy)]
pub(crate) enum Status<'a> {
    /// With an answer, or with the function's own error.
    Ran,
    /// At its deadline.
    Timeout,
    /// By this type of error of the platform's.
    Error(&'a str),
}

impl Report<'_> {
    /// Milliseconds, rounded up, with initialisation in them (Lambda: since August 2025).
    fn billed_ms(&self) -> u128 {
        let billed = self.duration + self.init.map(|init| init.total).unwrap_or_default();
        billed.as_nanos().div_ceil(1_000_000)
    }
}

/// Writes the lines of one function. `None`: the function does not want to see such a line.
pub(crate) struct Lines<'a> {
    configuration: &'a Configuration,
    clock: &'a dyn Clock,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(configuration: &'a Configuration, clock: &'a dyn Clock) -> Self {
        Self { configuration, clock }
    }

    /// The text, or the event if its level is wanted.
    fn line(
        &self,
        level: LogLevel,
        text: impl FnOnce() -> String,
        event: impl FnOnce() -> json::Event,
    ) -> Option<String> {
        match self.configuration.logging {
            Logging::Text => Some(text()),
            Logging::Json { system, .. } if system <= level => Some(event().line(self.clock.now())),
            Logging::Json { .. } => None,
        }
    }

    /// An instance begins.
    pub(crate) fn init_start(&self, runtime: &Runtime) -> Option<String> {
        self.line(LogLevel::Info, || text::init_start(runtime), || json::init_start(runtime))
    }

    /// A call begins.
    pub(crate) fn start(&self, id: RequestId) -> Option<String> {
        let version = &self.configuration.version;
        self.line(LogLevel::Info, || text::start(id, version), || json::start(id, version))
    }

    /// The code is done with a call.
    pub(crate) fn end(&self, report: &Report<'_>) -> Option<String> {
        self.line(LogLevel::Debug, || text::end(report.id), || json::end(report))
    }

    /// What a call took.
    pub(crate) fn report(&self, report: &Report<'_>) -> Option<String> {
        let level = if matches!(report.status, Status::Ran) { LogLevel::Info } else { LogLevel::Warn };
        self.line(level, || text::report(report), || json::report(report))
    }

    /// Something went wrong with a call; `happened` begins with its id.
    pub(crate) fn fault(&self, happened: String) -> Option<String> {
        match self.configuration.logging {
            Logging::Text => Some(happened),
            Logging::Json { .. } => Some(json::fault(&happened).line(self.clock.now())),
        }
    }

    /// A call was stopped at its deadline.
    pub(crate) fn timed_out(&self, id: RequestId, timeout_s: u32) -> Option<String> {
        let text = || text::timed_out(id, self.clock.now(), timeout_s);
        self.line(LogLevel::Warn, text, || json::timed_out(id, timeout_s))
    }

    /// An instance ended before it took a call; another one gets that.
    pub(crate) fn not_delivered(&self, exited: &str) -> Option<String> {
        self.fault(format!("{exited}, before it took the event; another instance gets it"))
    }

    /// Initialisation failed, with this type of error or by taking too long.
    pub(crate) fn init_failed(&self, init: Duration, error_type: Option<&str>) -> Option<String> {
        let text = || text::init_failed(init, error_type);
        self.line(LogLevel::Warn, text, || json::init_failed(init, error_type))
    }
}
