//! Every bound on what a request may bring, with its reason.

/// Bytes of a synchronous event (Lambda quotas: 6 MB, in the exact number that its refusals name).
pub(crate) const EVENT: usize = 6_291_556;

/// Bytes of an asynchronous event (Lambda quotas: 1 MB).
pub(crate) const QUEUED_EVENT: usize = 1 << 20;

/// Failed events in one page.
pub(crate) const FAILED_EVENTS_PAGE: usize = 100;

/// Bytes of a request with a package in it: Lambda takes 50 MB of zip directly, base64 makes that a third
/// longer, and the other members need a little.
pub(crate) const UPLOAD: usize = 70_167_211;

/// Bytes of any other request. The largest documented one is a few hundred kilobytes.
pub(crate) const OTHER: usize = 1 << 20;

/// Bytes of a decoded client context (Lambda API: Invoke, ClientContext).
pub(crate) const CLIENT_CONTEXT: usize = 3_583;

/// Milliseconds that a package's download link is good for, as with Lambda's.
pub(crate) const LINK_LIFETIME_MS: i64 = 10 * 60 * 1000;

/// Functions or versions in one page (Lambda API: ListFunctions).
pub(crate) const FUNCTION_PAGE: usize = 50;

/// Log events in one page (CloudWatch Logs API: FilterLogEvents, limit).
pub(crate) const EVENTS_PAGE: usize = 10_000;

/// Bytes of a request to CloudWatch Logs: 1 MiB of messages, which may take six times that in JSON, and 10,000 times
/// what stands around them.
pub(crate) const LOG_EVENTS: usize = 7 << 20;

/// Bytes of a request to SQS: 1 MiB of messages, which may take six times that in JSON, and what stands around them.
pub(crate) const MESSAGES: usize = 7 << 20;

/// Streams that FilterLogEvents may be asked for (CloudWatch Logs API: InputLogStreamNames).
pub(crate) const STREAM_NAMES: usize = 100;

/// Log groups that one StartLiveTail follows (CloudWatch Logs API: logGroupIdentifiers).
pub(crate) const TAIL_GROUPS: usize = 10;

/// Log groups or streams in one page (CloudWatch Logs API: DescribeLogGroups, limit).
pub(crate) const DESCRIBE_PAGE: usize = 50;
