//! What an operator may set. Everything has a default but the directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sandbox::egress::Network;

/// Settings of the WebAssembly back end.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where compiled code is kept. Made with mode 0700: what is in it is run as native code.
    pub cache_dir: PathBuf,
    /// Calls that hold an instance at the same time; further ones wait. A component with several memories
    /// counts once for each. Each place reserves about 4 GiB of address space and no memory.
    pub max_instances: u32,
    /// Bytes: the largest module or component that is compiled.
    pub max_module_bytes: u64,
    /// How long a deploy waits for the compiler.
    pub compile_timeout: Duration,
    /// Programs (compiled code) that stay loaded though no instance of them is started.
    pub loaded_programs: usize,
    /// The way out, and where names are looked up.
    pub network: Arc<Network>,
    /// Certificates (PEM) that servers may be vouched for by whom guests speak `https` to, besides the host's own.
    pub certificates: Option<PathBuf>,
}

impl Settings {
    /// The defaults, with compiled code under `cache_dir`.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            max_instances: 1000,
            max_module_bytes: 64 << 20,
            compile_timeout: Duration::from_secs(120),
            loaded_programs: 128,
            network: Arc::new(Network::new(Vec::new())),
            certificates: None,
        }
    }
}
