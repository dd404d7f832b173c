//! Every constant with the reason for its value.

use std::time::Duration;

/// Bytes of a body that is kept in its row. A larger one goes into a file first, so that nobody's large messages hold the
/// writer that everybody's small ones wait for; below, a file's own syncs would cost more than the row's bytes.
pub(crate) const INLINE_BYTES: usize = 8 << 10;

/// Bytes of what goes beside a body, always in the row.
pub const HEAD_BYTES: usize = 16 << 10;

/// Bytes of a body.
pub const BODY_BYTES: usize = 16 << 20;

/// Messages of a queue that memory knows by number, ready and delayed each: two reads of a thousand a second feed more
/// than can be handed out, and ten thousand queues with a backlog take some hundred megabytes.
pub(crate) const WINDOW: usize = 256;

/// The same of a queue whose messages are received by its name: ten at a time by many at once.
pub(crate) const WINDOW_BY_NAME: usize = 4096;

/// The same of a queue in order within groups: beyond so many messages of blocked groups no open one is looked for, which is
/// what users of such queues know from elsewhere.
pub(crate) const WINDOW_IN_ORDER: usize = 20_000;

/// Messages read from the disk at once where a window is that large.
pub(crate) const LOAD: usize = 1024;

/// Messages that are removed in one transaction when a queue is emptied.
pub(crate) const PURGED_AT_ONCE: usize = 2000;

/// Bytes of contents that memory keeps of all messages that wait, so that what is received at once need not be read back.
pub(crate) const KEPT_BYTES: usize = 32 << 20;

/// Changes written in one transaction at most: beyond some hundred their share of a sync is noise.
pub(crate) const CHANGES_AT_ONCE: usize = 1024;

/// Bytes of changes written in one transaction at most; one more may be added to what is below it.
pub(crate) const CHANGE_BYTES_AT_ONCE: usize = 4 << 20;

/// Changes that wait to be written; who sends more waits for room.
pub(crate) const CHANGES_WAITING: usize = 4096;

/// After how long a change that found the disk full is tried again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// The longest that is slept without a look at the clock, which may have been set meanwhile.
pub(crate) const LOOK: Duration = Duration::from_secs(30);

/// Messages removed by one statement when those too old are removed.
pub(crate) const SWEPT_AT_ONCE: i64 = 500;
