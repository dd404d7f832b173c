//! Function logs and metrics.
//!
//! [`Logs`] keeps lines in append-only files, a bounded number of bytes a log group; a line is with the kernel
//! before the call that wrote it returns, so that no answer is ever seen without its log. [`FunctionMetrics`]
//! counts with atomics only.
//!
//! Absent for now: spans, metering. What log groups are besides their lines (names, retention, filters) is in the crate `logs`.

mod backlogs;
mod histogram;
mod image_parts;
mod logs;
mod metrics;
mod residents;

pub use backlogs::Backlog;
pub use image_parts::ImageParts;
pub use logs::{Event, EventPage, GroupInfo, LogStream, Logs, LogsError, Matcher, Query, StreamInfo};
pub use metrics::{
    CONTENT_TYPE, Calls, Egress, Ending, FunctionLabels, FunctionMeter, FunctionMetrics, Phase,
};
pub use residents::Resident;
