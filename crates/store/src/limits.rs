//! Every bound of the store, with the reason for its value.

use std::time::Duration;

/// Bytes of parameters that one transaction may write. A larger body would hold the writer that everybody's
/// small transactions wait for; it belongs into a blob.
pub const MAX_TRANSACTION_BYTES: usize = 16 << 20;

/// Closures in one commit. Beyond some hundreds the fsync's share of each is noise.
pub(crate) const MAX_BATCH: usize = 512;

/// How long a batch may gather closures: the first in it waits so long for those after it.
pub(crate) const MAX_BATCH_TIME: Duration = Duration::from_millis(10);

/// Closures that wait for the writer; a caller beyond them waits for room.
pub(crate) const WRITE_QUEUE: usize = 1024;

/// Closures that wait for a reader.
pub(crate) const READ_QUEUE: usize = 256;

/// Reading connections, each with its thread. Reads are for start-up and listings, never for calls.
pub(crate) const READERS: usize = 3;

/// How long a connection waits for a lock that another process (an operator's shell, a backup) holds.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements that each connection keeps. The product has fewer distinct ones than this.
pub(crate) const STATEMENT_CACHE: usize = 256;
