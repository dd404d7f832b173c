//! Every bound, with its reason.

use std::time::Duration;

/// Groups of an account that can be made by request: each is a folder, and listing looks at all of them.
pub(crate) const GROUPS: usize = 10_000;

/// Streams of a group that can be made by request: listing looks at all of them.
pub(crate) const STREAMS: i64 = 10_000;

/// Subscriptions of a group (CloudWatch Logs quotas).
pub(crate) const SUBSCRIPTIONS: usize = 2;

/// How often subscriptions are looked after.
pub(crate) const DELIVER_EVERY: Duration = Duration::from_secs(1);

/// Events that a subscription is given at one look.
pub(crate) const DELIVER_EVENTS: usize = 1000;

/// Tails of an account at one time (CloudWatch Logs quotas: Live Tail sessions).
pub(crate) const TAILS: usize = 15;

/// Events of a group that a tail shows at one look (CloudWatch Logs: Live Tail, 500 a second).
pub(crate) const TAIL_EVENTS: usize = 500;

/// Tags of a group (CloudWatch Logs API: TagResource).
pub(crate) const TAGS: usize = 50;

/// Events of one PutLogEvents (CloudWatch Logs API).
pub(crate) const BATCH_EVENTS: usize = 10_000;

/// Bytes of one PutLogEvents: of its messages in UTF-8, and 26 for each (CloudWatch Logs API).
pub(crate) const BATCH_BYTES: usize = 1_048_576;

/// What an event counts besides its message (CloudWatch Logs API: PutLogEvents).
pub(crate) const EVENT_OVERHEAD: usize = 26;

/// Milliseconds that one PutLogEvents may span (CloudWatch Logs API: 24 hours).
pub(crate) const BATCH_SPAN_MS: i64 = 24 * HOUR_MS;

/// Milliseconds that an event may lie ahead (CloudWatch Logs API: 2 hours).
pub(crate) const AHEAD_MS: i64 = 2 * HOUR_MS;

/// Milliseconds that an event may be old (CloudWatch Logs API: 14 days).
pub(crate) const AGE_MS: i64 = 14 * 24 * HOUR_MS;

const HOUR_MS: i64 = 60 * 60 * 1000;

/// Readers of files at one time: going backward, each holds one segment of 8 MiB and a page of 1 MiB.
pub(crate) const READERS: usize = 8;
