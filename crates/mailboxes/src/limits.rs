//! Every bound with its reason. Values are those of "Amazon SQS quotas" unless said otherwise.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Letters of a name, the suffix of those in order among them.
pub(crate) const NAME: usize = 80;

/// What the name of a mailbox in order ends in.
pub(crate) const FIFO: &str = ".fifo";

/// Bytes of a message, its attributes among them, and of all messages of a batch.
pub(crate) const MESSAGE_BYTES: usize = 1 << 20;

/// Seconds that a received message is hidden.
pub(crate) const VISIBILITY_S: RangeInclusive<i64> = 0..=43_200;

/// Seconds that a message may be delayed.
pub(crate) const DELAY_S: RangeInclusive<i64> = 0..=900;

/// Seconds that a message is kept.
pub(crate) const RETENTION_S: RangeInclusive<i64> = 60..=1_209_600;

/// Seconds that a receiver may wait.
pub(crate) const WAIT_S: RangeInclusive<i64> = 0..=20;

/// How often a message may be received before it is a dead letter.
pub(crate) const MAX_RECEIVES: RangeInclusive<i64> = 1..=1000;

/// Entries of a batch, and messages of one receive.
pub(crate) const BATCH: usize = 10;

/// Letters of an entry's id.
pub(crate) const ENTRY_ID: usize = 80;

/// Attributes of a message, and letters of an attribute's name and of its type.
pub(crate) const ATTRIBUTES: usize = 10;
/// See above.
pub(crate) const ATTRIBUTE_NAME: usize = 256;

/// Letters of a group's or a deduplication id.
pub(crate) const FIFO_ID: usize = 128;

/// For how long a deduplication id counts.
pub(crate) const DEDUPLICATION: Duration = Duration::from_secs(300);

/// Messages of one mailbox in somebody's hand.
pub(crate) const IN_FLIGHT: usize = 120_000;

/// Mailboxes in one page of a list.
pub(crate) const PAGE: usize = 1000;

/// Tags of a mailbox.
pub(crate) const TAGS: usize = 50;

/// Statements' actions that one AddPermission may name.
pub(crate) const ACTIONS: usize = 7;

/// Bytes of a policy (SQS: 8 KiB), so that the attributes of all mailboxes fit into memory.
pub(crate) const POLICY_BYTES: usize = 8192;

/// Source queues that a redrive allow policy may name.
pub(crate) const ALLOWED_SOURCES: usize = 10;

/// How long after one purge the next may come.
pub(crate) const BETWEEN_PURGES_MS: i64 = 60_000;

/// How often what is too old is removed. It is not received any more from the moment that it is too old.
pub(crate) const SWEEP: Duration = Duration::from_secs(60);

/// Tasks that are remembered for each source.
pub(crate) const MOVES_SHOWN: usize = 10;

/// Messages a second that a task may be held to.
pub(crate) const MOVES_PER_S: RangeInclusive<i64> = 1..=500;

/// Messages that a task moves at once where it is not held to a rate: one sync for many.
pub(crate) const MOVED_AT_ONCE: usize = 100;
