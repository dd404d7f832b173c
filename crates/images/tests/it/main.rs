//! Images of strangers, by the crate's outside: layouts made here are pulled, and what came of it is looked at.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod ends;
mod hostile;
mod layout;
mod merging;
mod store;
mod tarball;
