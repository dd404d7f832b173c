//! Function logs and metrics.
mod logs;
mod metrics;
pub use logs::{Event, EventPage, GroupInfo, LogStream, Logs, LogsError, Query, StreamInfo};
pub use metrics::{Ending, FunctionLabels, FunctionMeter, FunctionMetrics};
