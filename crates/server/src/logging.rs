//! The server's own log: structured, to standard error. What functions print goes elsewhere.

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::{Config, LogFormat};

/// Installs the process's subscriber.
pub(crate) fn install(config: &Config) -> Result<()> {
    let directives = config.log_filter.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(directives)
        .with_context(|| format!("VIRGA_LOG={directives} is not a filter like info,functions=debug"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match config.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
