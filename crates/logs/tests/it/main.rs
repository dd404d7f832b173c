//! What the API relies on in log groups, through their public interface.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod events;
mod groups;
mod keeping;
mod subscriptions;
mod support;
mod tail;
