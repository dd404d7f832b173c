//! The transaction seam over SQLite, and the blob store.
//!
//! [`Store::write`] and [`Store::read`] take a synchronous closure over a small [`Tx`]. Writes of many callers
//! are grouped into one commit and so into one fsync; `Ok` from a write means that it is on the disk. Bodies
//! too large for a row go to [`Blobs`] first, and their digest into a row.
//!
//! Invariants:
//! - a closure's changes are kept whole or not at all, whatever else shares its commit;
//! - a failed commit stops the writer for good, since what a failed fsync has lost cannot be known;
//! - nothing runs on the async runtime's threads.
//!
//! Absent for now: a second engine, a change feed, leases, remote blob storage.

mod blobs;
mod error;
mod job;
mod limits;
mod migrate;
mod sqlite;
mod statement;
mod tx;
mod writer;

pub use blobs::Blobs;
pub use error::Error;
pub use limits::MAX_TRANSACTION_BYTES;
pub use sqlite::Store;
pub use tx::{Migration, Row, Tx, Value};
