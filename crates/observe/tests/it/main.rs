//! What the rest of Virga relies on in the logs, through their public interface.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod following;
mod keeping;
mod support;
mod writing;
