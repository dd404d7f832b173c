//! The transaction seam over SQLite, and the blob store.
mod blobs;
mod error;
mod sqlite;
mod tx;
pub use blobs::Blobs;
pub use error::Error;
pub use sqlite::Store;
pub use tx::{Migration, Row, Tx, Value};
