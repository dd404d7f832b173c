//! WebAssembly functions, on wasmtime.
//!
//! A package holds one component: a `wasi:http/incoming-handler`, or a WASI command that reads its event on
//! stdin and answers on stdout. A preview-1 module is made a component first. [`WasmBackend`] compiles it
//! once, when it is deployed, and keeps the code on disk; every call then gets a fresh instance.
//!
//! The way of a call: an instance (`instance`) takes a place in the pool (`engine`), makes a store with the
//! little that a guest has on the host's side (`host`), and runs the guest in the caller's own task (`http`,
//! `event`). Nothing is spawned: dropping the call, or the response's body, ends the guest.
//!
//! Bounds: memory by the function's limit (`memory`), time by the caller, who drops the call: a busy guest
//! yields at every tick (`ticker`), and within the instance's share of the processor (`share`). Places in the pool are queued for. Output is streamed, never gathered,
//! but for a command's answer, which has a limit.
//!
//! Absent: preview 3, trailers of requests, upgrades, threads.

mod adapt;
mod backend;
mod cache;
mod config;
mod engine;
mod event;
mod fault;
mod host;
mod http;
mod inspect;
mod instance;
mod life;
mod memory;
mod network;
mod outgoing;
mod outside;
mod package;
mod program;
mod sealed;
mod settings;
mod share;
mod stdio;
mod stream;
mod ticker;
mod trust;
mod worker;

pub use adapt::componentize;
pub use backend::WasmBackend;
pub use settings::Settings;
pub use worker::{Separation, WorkerSettings, Workers, run_worker};
