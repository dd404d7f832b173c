//! Configuration, wiring and lifecycle: the only crate that names concrete back ends.
//!
//! The order of a start is fixed, since each step relies on the one before: the data directory and its lock
//! (what follows may touch only what is ours), the launcher (it forks, so the process must still have one
//! thread), the async runtime, the listeners (after the fork, so that no other process holds them), the store,
//! who may call, the back ends, the functions (they finish what a crash interrupted), then the interfaces.
//! `ready URL` is printed when all of it stands.
//!
//! The end runs backwards: no new connections, a bounded wait for calls under way, then everything that was
//! started is stopped. Killed instead, the next start cleans up.

mod admin;
mod config;
mod credentials;
mod data_dir;
mod file_systems;
pub mod host;
mod identity;
mod images;
mod logging;
mod objects;
mod outbox;
mod run;
mod signals;
pub mod steps;
mod subscribers;
mod tables;

use std::time::Duration;

use anyhow::{Context, Result};
use sandbox::process::jail;

pub use functions::Domains;
pub use sandbox::Egress;
pub use sandbox_wasm::Separation;

pub use iam::MissingRoles;

pub use config::{Config, FirstStart, ImageParts, Images, LogFormat, MissingLimits, PackageStore};

/// How long tasks that are left over may hold up the end of the process.
const LEFT_OVER: Duration = Duration::from_secs(1);

/// Has the server execute this program as a worker for WebAssembly, which is [`wasm_worker`].
pub const WASM_WORKER: &str = "wasm-worker";

/// Is such a worker, until the server that started it is gone. The calling process must have one thread.
pub fn wasm_worker() -> Result<()> {
    sandbox_wasm::run_worker().context("this worker for WebAssembly cannot go on")
}

/// Serves until a signal says stop. The calling process must have one thread.
pub fn serve(config: Config) -> Result<()> {
    logging::install(&config)?;
    host::raise_open_files();
    let data_dir = data_dir::DataDir::open(&config.data_dir)?;
    let missing = match config.missing_limits {
        MissingLimits::Degrade => jail::MissingLimits::Degrade,
        MissingLimits::Refuse => jail::MissingLimits::Refuse,
    };
    let launcher = jail::Launcher::start(data_dir.root(), missing).context("cannot start the launcher")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("virga").build();
    let runtime = runtime.context("cannot make the runtime")?;
    let outcome = runtime.block_on(run::run(&config, &data_dir, launcher.clone()));
    launcher.shutdown();
    runtime.shutdown_timeout(LEFT_OVER);
    outcome
}
