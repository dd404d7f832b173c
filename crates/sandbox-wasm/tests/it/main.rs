//! The WebAssembly back end with real guests: built ones from C (guests/, see examples/hello-wasm/build.sh)
//! and small ones written as text where a test needs just one thing.

mod calls;
mod events;
mod prepare;
mod support;
