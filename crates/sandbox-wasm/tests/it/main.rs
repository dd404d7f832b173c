//! The WebAssembly back end with real guests: built ones from C (guests/, see examples/hello-wasm/build.sh)
//! and small ones written as text where a test needs just one thing.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod bombs;
mod calls;
mod events;
mod hostile;
mod prepare;
mod support;
mod wasi;
