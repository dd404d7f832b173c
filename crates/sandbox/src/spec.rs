//! What to run and within which bounds.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{FunctionArn, InstanceId};
use serde::{Deserialize, Serialize};

use crate::Egress;

/// How code is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contract {
    /// The Lambda Runtime API: the code asks for events.
    Lambda,
    /// A web server on `$PORT`.
    Http,
    /// A component exporting `wasi:http/incoming-handler`, or a WASI command.
    Wasi,
}

/// What stands between the code and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces, cgroups and seccomp around an ordinary process.
    Process,
    /// WebAssembly.
    Wasm,
    /// No code runs: the server answers with the package's files ([`crate::SiteBackend`]).
    Static,
}

/// What runs the code, by Lambda's identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// `python3.MINOR`
    Python {
        /// The minor version.
        minor: u8,
    },
    /// `nodejsMAJOR.x`
    Node {
        /// The major version.
        major: u8,
    },
    /// `phpMAJOR.MINOR`, named like the others: Lambda has none.
    Php {
        /// The major version.
        major: u8,
        /// The minor version.
        minor: u8,
    },
    /// `rubyMAJOR.MINOR`
    Ruby {
        /// The major version.
        major: u8,
        /// The minor version.
        minor: u8,
    },
    /// `javaMAJOR`
    Java {
        /// The major version.
        major: u8,
    },
    /// `provided`, `provided.al2`, `provided.al2023`: the code brings its own `bootstrap`.
    Provided {
        /// The identifier as the user wrote it.
        name: &'static str,
    },
    /// `wasm`
    Wasm,
    /// `static`: files that are served as they are.
    Static,
    /// Whatever is in a container image. Has no identifier: a function whose package is an image has it.
    Image,
}

impl Runtime {
    /// Reads an identifier such as `python3.11`; `None` is not one of ours. Whether the host has the
    /// version is the back end's to say.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "wasm" => return Some(Self::Wasm),
            "static" => return Some(Self::Static),
            "provided" => return Some(Self::Provided { name: "provided" }),
            "provided.al2" => return Some(Self::Provided { name: "provided.al2" }),
            "provided.al2023" => return Some(Self::Provided { name: "provided.al2023" }),
            _ => {}
        }
        if let Some(minor) = text.strip_prefix("python3.") {
            return canonical(minor).map(|minor| Self::Python { minor });
        }
        if let Some(version) = text.strip_prefix("php") {
            return pair(version).map(|(major, minor)| Self::Php { major, minor });
        }
        if let Some(version) = text.strip_prefix("ruby") {
            return pair(version).map(|(major, minor)| Self::Ruby { major, minor });
        }
        if let Some(major) = text.strip_prefix("java") {
            return canonical(major).map(|major| Self::Java { major });
        }
        let major = text.strip_prefix("nodejs")?.strip_suffix(".x")?;
        canonical(major).map(|major| Self::Node { major })
    }

    /// Whether the host's interpreter runs it, with a client of Virga's.
    pub fn is_managed(&self) -> bool {
        match self {
            Self::Python { .. }
            | Self::Node { .. }
            | Self::Php { .. }
            | Self::Ruby { .. }
            | Self::Java { .. } => true,
            Self::Provided { .. } | Self::Wasm | Self::Static | Self::Image => false,
        }
    }
}

/// A decimal number as it would be printed: no sign, no leading zero.
fn canonical(digits: &str) -> Option<u8> {
    digits.parse().ok().filter(|number: &u8| number.to_string() == digits)
}

/// `MAJOR.MINOR`
fn pair(version: &str) -> Option<(u8, u8)> {
    let (major, minor) = version.split_once('.')?;
    canonical(major).zip(canonical(minor))
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python { minor } => write!(f, "python3.{minor}"),
            Self::Node { major } => write!(f, "nodejs{major}.x"),
            Self::Php { major, minor } => write!(f, "php{major}.{minor}"),
            Self::Ruby { major, minor } => write!(f, "ruby{major}.{minor}"),
            Self::Java { major } => write!(f, "java{major}"),
            Self::Provided { name } => f.write_str(name),
            Self::Wasm => f.write_str("wasm"),
            Self::Static => f.write_str("static"),
            Self::Image => f.write_str("image"),
        }
    }
}

/// What a container image says about its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Program and arguments. A program without a slash is looked for in the image's `PATH`.
    pub argv: Vec<String>,
    /// Where it starts, absolute; empty is the root.
    pub working_directory: String,
    /// `USER[:GROUP]`, names of the image or numbers; empty is root.
    pub user: String,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

/// Unpacked code, as `prepare` sees it.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The unpacked package: what `/var/task` shows, or `/` where it is an image.
    pub dir: PathBuf,
    /// SHA-256 of the package as uploaded, 64 hexadecimal digits: the key of every cache.
    pub digest: String,
    /// What runs it.
    pub runtime: Runtime,
    /// How it is called.
    pub contract: Contract,
    /// The function's `Handler`. For an event handler `module.function`; for a web server the file to run
    /// (empty: `bootstrap`); for WebAssembly the file in the package (empty: the only `.wasm` in its root).
    pub handler: String,
    /// What `/opt` shows, where the function has layers. Not of images.
    pub layers: Option<PathBuf>,
    /// How it is run, where it is a container image ([`Runtime::Image`]).
    pub image: Option<Arc<Image>>,
}

/// What an artifact's instances exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// JSON events in, JSON out.
    Events,
    /// HTTP requests in, responses out.
    Http,
}

/// The outcome of `prepare`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// What to put into [`crate::Call::payload`].
    pub speaks: Speaks,
    /// Whether one instance takes one call at a time, unless its version asks for more ([`Spec::concurrency`]).
    pub one_at_a_time: bool,
}

/// Hard bounds on one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, `/tmp` included.
    pub memory_bytes: u64,
    /// Hundredths of a core; `None` is no limit.
    pub cpu_hundredths: Option<u32>,
    /// Bytes that `/tmp` holds.
    pub tmp_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes of an event's answer (Lambda quotas: 6,291,556).
    pub answer_bytes: usize,
}

/// What is counted of instances, for the owner of their function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Bytes from instances to places outside.
    Sent,
    /// Bytes from places outside.
    Received,
    /// Connections made to places outside.
    Connections,
    /// Connections and names that the egress rules refused.
    Refused,
    /// A template that the version does not have, by [`NO_TEMPLATE`]'s reasons.
    NoTemplate(&'static str),
}

/// Why a version may have no template.
pub const NO_TEMPLATE: [&str; 7] =
    ["threads", "processes", "sockets", "files", "memory", "other", "broken_off"];

/// Takes what an instance prints, as it comes (not cut at lines), and what is counted of it.
pub trait LogSink: Send + Sync + 'static {
    /// Called with bytes of stdout or stderr in the order they were read. Must not block for long.
    fn write(&self, bytes: &[u8]);

    /// So many more of this. Must not block.
    fn count(&self, _what: Count, _by: u64) {}
}

/// A folder of the host that instances share (Lambda: file system access), as `/mnt/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// On the host.
    pub folder: PathBuf,
    /// Its name inside `/mnt`: one plain name.
    pub name: String,
}

/// Everything an instance is started with.
pub struct Spec {
    /// Names the instance: its cgroup, its log stream.
    pub instance: InstanceId,
    /// The function and version it runs (qualified).
    pub function: FunctionArn,
    /// Names the version's code and configuration together: instances of one revision differ in nothing but their
    /// credentials and log streams.
    pub revision: String,
    /// The code.
    pub artifact: Artifact,
    /// The whole environment but what only the back end knows: `AWS_LAMBDA_RUNTIME_API`, `PORT`,
    /// `AWS_ENDPOINT_URL`, `PATH`, `HOME` and `LD_LIBRARY_PATH` are the back end's to add.
    pub env: Vec<(String, String)>,
    /// Its bounds.
    pub limits: Limits,
    /// Calls that it will be given at once at most.
    pub concurrency: u32,
    /// Whether it may begin as a copy of another instance of its revision that has been initialised already.
    pub template: bool,
    /// The port that a web server listens on.
    pub port: u16,
    /// Folders that it shares with others, writable.
    pub file_systems: Vec<FileSystem>,
    /// What it may connect to.
    pub egress: Egress,
    /// How long initialisation may take.
    pub init_timeout: Duration,
    /// Where stdout and stderr go.
    pub output: Arc<dyn LogSink>,
}

#[cfg(test)]
mod tests {
    use super::Runtime;

    #[test]
    fn runtimes_are_named_like_lambdas() {
        for name in [
            "python3.11",
            "nodejs20.x",
            "php8.2",
            "ruby3.1",
            "java17",
            "provided",
            "provided.al2",
            "provided.al2023",
            "wasm",
            "static",
        ] {
            assert_eq!(Runtime::parse(name).map(|r| r.to_string()).as_deref(), Some(name));
        }
        for bad in [
            "",
            "python",
            "python3",
            "python3.",
            "python3.011",
            "python2.7",
            "nodejs20",
            "nodejs+1.x",
            "go1.x",
            "php8",
            "php8.02",
            "ruby3.1.2",
            "ruby",
            "java8.al2",
            "java017",
        ] {
            assert_eq!(Runtime::parse(bad), None, "{bad}");
        }
    }
}
