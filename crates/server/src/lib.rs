//! Wiring and lifecycle: the only crate that names concrete back ends.
mod admin;
mod config;
mod data_dir;
pub mod host;
mod logging;
mod signals;
mod tables;

pub use config::{Config, FirstStart, LogFormat, MissingLimits};

/// Serves.
pub fn serve(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("wip")
}
