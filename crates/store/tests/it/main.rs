//! The store's conformance suite: what every engine behind the seam has to hold, and what SQLite's promises.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod blobs;
mod durability;
mod migrations;
mod transactions;
