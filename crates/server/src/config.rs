//! What an operator may set. The command line fills it in; nothing is read from the environment here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use base::AccountId;
use functions::Domains;
use iam::MissingRoles;
use sandbox::Egress;
use sandbox_wasm::Separation;

/// Everything that `serve` is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where all data is kept. One server a folder.
    pub data_dir: PathBuf,
    /// The public listener: function URLs and AWS-style APIs.
    pub listen: SocketAddr,
    /// The admin listener: metrics and health.
    pub admin: SocketAddr,
    /// What the first account is made from.
    pub first_start: FirstStart,
    /// Instances of all functions together.
    pub max_instances: u32,
    /// Sum of all instances' memory limits; `None` is three quarters of the host's memory.
    pub max_memory_mb: Option<u64>,
    /// Calls of one function that may wait for an instance.
    pub max_queue: u32,
    /// How long a call may wait for an instance.
    pub queue_timeout_s: u32,
    /// How long initialisation may take.
    pub init_timeout_s: u32,
    /// How long an idle instance is kept, at most, where the function does not say.
    pub idle_timeout_s: u32,
    /// Kibibytes a second that one instance may print in the long run.
    pub max_log_kb_s: u32,
    /// Calls in flight of all functions of an account.
    pub account_concurrency: u32,
    /// MB of the packages of all functions of an account, of every version.
    pub account_code_mb: u32,
    /// How many instances there should be follows calls in flight over this time.
    pub stable_window_s: u32,
    /// A burst is seen over this time.
    pub panic_window_s: u32,
    /// Calls of all functions that may wait for an instance.
    pub max_waiting: u32,
    /// What these may hold, MB.
    pub max_waiting_mb: u32,
    /// Events of asynchronous invokes that run or wait for an instance at once.
    pub async_at_once: u32,
    /// Those of one function.
    pub async_per_function: u32,
    /// After how long an event is tried again whose function failed; later tries wait twice that.
    pub async_retry_s: u32,
    /// How long failed events are kept, hours.
    pub keep_failed_h: u32,
    /// How long calls under way may take when the server is told to stop.
    pub drain_s: u32,
    /// Sandboxes kept ready before anything is known of their functions; 0 keeps none.
    pub pool_sandboxes: u32,
    /// Booted instances kept of each runtime in use that takes long to boot; 0 keeps none.
    pub pool_runtimes: u32,
    /// MiB of memory for templates, from which instances begin initialised.
    pub template_mb: u32,
    /// Whether WebAssembly functions run in processes of their tenants' own.
    pub wasm_workers: Separation,
    /// How to treat a limit that the host cannot enforce.
    pub missing_limits: MissingLimits,
    /// Whether functions may have roles that are not there.
    pub missing_roles: MissingRoles,
    /// What functions may connect to that do not say.
    pub egress: Egress,
    /// The same for the functions of single accounts.
    pub egress_of: BTreeMap<AccountId, Egress>,
    /// The most that a function may ask for; `egress` and each of `egress_of` must be within.
    pub max_egress: Egress,
    /// Which host names functions may bring for their URLs.
    pub domains: Domains,
    /// Where functions' names are looked up; empty: at the host's resolvers.
    pub resolvers: Vec<SocketAddr>,
    /// Certificates (PEM) that vouch, besides the host's own, for servers that WebAssembly functions speak `https` to.
    pub egress_certificates: Option<PathBuf>,
    /// Where container images come from.
    pub images: Images,
    /// Folders that functions may share, by the name or ARN of their access point.
    pub file_systems: Vec<(String, PathBuf)>,
    /// Where packages given by reference are read from.
    pub package_store: Option<PackageStore>,
    /// The server's own log.
    pub log_format: LogFormat,
    /// Directives of the log filter, for example `info,functions=debug`; `None` is `info`.
    pub log_filter: Option<String>,
}

/// What the first account is made from when the data directory is new; ignored afterwards.
#[derive(Clone, Default)]
pub struct FirstStart {
    /// Generated where absent.
    pub access_key_id: Option<String>,
    /// Generated where absent.
    pub secret_access_key: Option<String>,
    /// Twelve digits; generated where absent.
    pub account_id: Option<String>,
    /// `us-east-1` where absent.
    pub region: Option<String>,
}

impl std::fmt::Debug for FirstStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstStart")
            .field("access_key_id", &self.access_key_id)
            .field("account_id", &self.account_id)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// Where container images come from.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// Registries, `HOST[:PORT]`, without TLS. Those on loopback addresses need not be listed.
    pub plain_registries: Vec<String>,
    /// A file like Docker's `config.json` with the registries' credentials.
    pub credentials: Option<PathBuf>,
    /// Certificates (PEM) that registries may be vouched for by, besides the host's own.
    pub certificates: Option<PathBuf>,
    /// Folders of this machine that images may be taken from by path.
    pub local: Vec<PathBuf>,
    /// How much of an image has to be there before its function starts.
    pub parts: ImageParts,
    /// GiB that all images together may take.
    pub most_gb: u32,
}

/// How much of an image has to be there before its function starts, where it was built for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageParts {
    /// What it uses; the rest is fetched in the background.
    #[default]
    Background,
    /// What it uses; nothing else is fetched.
    Used,
    /// All of it.
    Off,
}

/// An S3-compatible store.
#[derive(Debug, Clone)]
pub struct PackageStore {
    /// `http[s]://HOST[:PORT]`
    pub url: String,
    /// Of the signatures.
    pub region: String,
    /// A file like AWS's shared credentials.
    pub credentials: PathBuf,
    /// Certificates (PEM) that vouch for it besides the host's own.
    pub certificates: Option<PathBuf>,
    /// Whether a bucket is a part of the host's name rather than of the path.
    pub virtual_hosts: bool,
}

/// How to treat a limit that the host cannot enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingLimits {
    /// Run without it and say so.
    Degrade,
    /// Run no processes.
    Refuse,
}

/// The form of the server's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::FirstStart;

    #[test]
    fn debug_hides_the_secret() {
        let first = FirstStart { secret_access_key: Some("very-secret".to_owned()), ..FirstStart::default() };
        assert!(!format!("{first:?}").contains("very-secret"));
    }
}
