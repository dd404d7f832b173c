//! What the rest of Virga relies on in `iam`, through its public interface.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod clients;
mod identity;
mod policy;
mod suite;
mod support;
mod verify;
