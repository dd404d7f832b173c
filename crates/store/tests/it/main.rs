//! The store's conformance suite: what every engine behind the seam has to hold, and what SQLite's promises.

mod blobs;
mod durability;
mod migrations;
mod transactions;
