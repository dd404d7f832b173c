//! A process for each tenant: WebAssembly instances where an escape from the runtime finds nothing of the server's.
//!
//! [`Workers`] stands before [`WasmBackend`](crate::WasmBackend) and looks like it. Where tenants are to be apart, an
//! instance is made in the tenant's *worker*: this same program, executed in an ordinary jail of the process back end
//! (no network, no file of the host but its own executable and the packages of its tenant, no capability), which then
//! keeps itself to the few system calls that running WebAssembly takes ([`sandbox::process::jail::keep_to_wasm`]). In
//! it everything is as in the server (`inside`): the engine, the pool, limits, the clock.
//!
//! Between the two are sockets that the worker is handed; it opens none. One carries what is rare (`control`): code,
//! instances, names and connections that guests ask for. A call has a *line* of its own for as long as it lasts
//! (`line`, `exchange`): requests, answers and what is printed, in order, each direction held back by the socket or
//! by a window; closing it ends the call. Idle lines are kept for further calls.
//!
//! Decided in the server: what is compiled, what code a worker gets (checked, then copied into a sealed memory file),
//! where a guest may connect to, whose certificates count. The server believes a worker nothing but what its own tenant could have said.
//!
//! A worker that dies takes its tenant's calls with it, and the next start makes another. It ends when it has had no
//! instance for a while, with the server, and with the launcher.
//!
//! Left out: `wasi:sockets` (there is no network to connect in), a share of the processor for a tenant.

mod backend;
mod control;
mod exchange;
mod head;
mod inside;
mod instance;
mod line;
mod outlet;
mod packages;
mod process;
mod separation;

pub use backend::{WorkerSettings, Workers};
pub use inside::run as run_worker;
pub(crate) use inside::{Asker, Relayed};
pub use separation::Separation;

/// What server and worker must agree on: they are the same program, unless it was replaced meanwhile.
const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " 2");
