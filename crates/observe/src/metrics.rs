//! Metrics by OpenTelemetry's FaaS names, in Prometheus' text format.

use std::time::Duration;

/// What every function metric is labelled with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionLabels {
    /// `faas.name`
    pub function: String,
    /// `faas.version`
    pub version: String,
}

/// All metrics of functions.
pub struct FunctionMetrics {}

impl FunctionMetrics {
    /// A fresh set.
    pub fn new() -> Self {
        unimplemented!()
    }

    /// The handle through which one version counts: looked up once, then atomics only.
    pub fn meter(&self, _labels: &FunctionLabels) -> FunctionMeter {
        unimplemented!()
    }

    /// Prometheus' text format.
    pub fn encode(&self) -> String {
        unimplemented!()
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Success,
    /// With the function's error, an exit, a trap, too large an answer.
    Error,
    /// At its deadline.
    Timeout,
}

/// One version's metrics. No lock, no look-up.
#[derive(Clone)]
pub struct FunctionMeter {}

impl FunctionMeter {
    /// A call ended after running this long.
    pub fn invoked(&self, _ending: Ending, _duration: Duration) {}
    /// An instance came up.
    pub fn cold_start(&self, _init: Duration) {}
    /// An instance did not come up.
    pub fn init_error(&self) {}
    /// A call was refused: queue full or waited too long.
    pub fn throttled(&self) {}
    /// A call waited this long for an instance.
    pub fn waited(&self, _duration: Duration) {}
    /// Calls running, changed by this.
    pub fn running(&self, _change: i64) {}
    /// Calls waiting, changed by this.
    pub fn queued(&self, _change: i64) {}
    /// Instances, changed by this.
    pub fn instances(&self, _change: i64) {}
    /// Most bytes an instance held.
    pub fn memory(&self, _bytes: u64) {}
}
