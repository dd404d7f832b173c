//! Asking what may be an interpreter what it is.
//!
//! Every candidate on `PATH` and in the usual folders is asked for its version, its real executable and its
//! prefix: what `PATH` finds may be a shim that only works with a home directory around it.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::Interpreter;
use crate::Runtime;

/// The oldest versions that the runtime clients are written for.
const OLDEST_PYTHON: u8 = 8;
const OLDEST_NODE: u8 = 16;
const OLDEST_PHP: (u8, u8) = (8, 1);
const OLDEST_RUBY: (u8, u8) = (3, 0);
const OLDEST_JAVA: u8 = 17;

/// Prints version, executable and prefix, a line each; then compiles the runtime client, if told where it
/// is, since a read-only folder without compiled modules costs every cold start the compiling.
const ASK_PYTHON: &str = r#"
import os, sys
print("%d.%d.%d" % sys.version_info[:3])
print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
print(sys.base_prefix)
if len(sys.argv) > 1 and sys.version_info >= (3, 8):
    import py_compile
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    folder = os.path.dirname(sys.argv[1])
    for name in os.listdir(folder):
        if name.startswith("virga_") and name.endswith(".py"):
            file = os.path.join(folder, name)
            py_compile.compile(file, dfile="/var/runtime/python/" + name, invalidation_mode=mode)
"#;

const ASK_NODE: &str = "console.log(process.version.slice(1) + '\\n' + process.execPath)";

/// Prints nothing for a PHP that is no command-line program.
const ASK_PHP: &str = r#"if (PHP_SAPI === "cli") { echo PHP_VERSION, "\n", realpath(PHP_BINARY), "\n"; }"#;

const ASK_RUBY: &str =
    "require 'rbconfig'; puts RUBY_VERSION, File.realpath(RbConfig.ruby), RbConfig::CONFIG['prefix']";

/// Java prints its properties to its errors, one a line, and does nothing else.
const ASK_JAVA: [&str; 4] =
    ["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-XshowSettings:properties", "-version"];

/// Where the system keeps Java machines, each in a folder of its own; only one of them is on `PATH`.
const JAVA_HOMES: &str = "/usr/lib/jvm";

/// `PATH`, then where the system has its own.
pub(super) fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
    let homes = std::fs::read_dir(JAVA_HOMES).into_iter().flatten().flatten();
    let homes = homes.map(|home| home.path().join("bin"));
    std::env::split_paths(&path).filter(|folder| folder.is_absolute()).chain(usual).chain(homes).collect()
}

/// Those of `PATH` that are not in `/usr`.
pub(super) fn folders_elsewhere() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let outside = |folder: &PathBuf| {
        folder.is_absolute() && std::fs::canonicalize(folder).is_ok_and(|real| !real.starts_with("/usr"))
    };
    std::env::split_paths(&path).filter(outside).collect()
}

/// Files named like an interpreter, each once.
pub(super) fn candidates(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut candidates = Vec::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let named = entries.flatten().map(|entry| entry.path()).filter(|path| is_candidate(path));
        for path in named {
            if seen.insert(
                std::fs::canonicalize(&path).map_or_else(|_| path.clone(), |real| shim_key(real, &path)),
            ) {
                candidates.push(path);
            }
        }
    }
    candidates
}

/// Shims are mostly one script under many names: those differ by their name.
fn shim_key(real: PathBuf, path: &Path) -> PathBuf {
    let same_name = real.file_name() == path.file_name();
    let python_alias = path.file_name().is_some_and(|name| name == "python3") && is_candidate(&real);
    if same_name || python_alias { real } else { path.to_owned() }
}

fn is_candidate(path: &Path) -> bool {
    language_of(path).is_some()
}

/// What a candidate's name promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    Node,
    Php,
    Ruby,
    Java,
}

impl Language {
    /// `python3`, `python3.11`, `node`, `php8.2`, `ruby`: not `python3-config`.
    fn of_name(name: &str) -> Option<Self> {
        let version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let named = |start: &str| name.strip_prefix(start).is_some_and(version);
        match name {
            "node" | "nodejs" => Some(Self::Node),
            "java" => Some(Self::Java),
            _ if named("python3") => Some(Self::Python),
            _ if named("php") => Some(Self::Php),
            _ if named("ruby") => Some(Self::Ruby),
            _ => None,
        }
    }

    /// Has the candidate say its version, its executable and, but for Node and PHP, its prefix.
    fn question(self, path: &Path, client: Option<&Path>) -> Command {
        let mut command = Command::new(path);
        match self {
            Self::Python => command.args(["-I", "-c", ASK_PYTHON]).args(client),
            Self::Node => command.args(["-e", ASK_NODE]).env_remove("NODE_OPTIONS"),
            Self::Php => command.args(["-n", "-r", ASK_PHP]),
            Self::Ruby => command.args(["--disable-gems", "-e", ASK_RUBY]).env_remove("RUBYOPT"),
            Self::Java => {
                for options in ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"] {
                    command.env_remove(options);
                }
                command.args(ASK_JAVA)
            }
        };
        command.stderr(if self == Self::Java { Stdio::piped() } else { Stdio::null() });
        command
    }
    /// Reads the answer.
    fn understand(self, answer: Output) -> Option<Interpreter> {
        if self == Self::Java {
            return java_from(&String::from_utf8_lossy(&answer.stderr));
        }
        let text = String::from_utf8(answer.stdout).ok()?;
        let mut lines = text.lines();
        let (version, executable) = (lines.next()?, PathBuf::from(lines.next()?));
        match self {
            Self::Python => python_from(version, executable, lines.next()?.into()),
            Self::Node => node_from(version, executable),
            Self::Php => php_from(version, executable),
            Self::Ruby => ruby_from(version, executable, lines.next()?.into()),
            Self::Java => None,
        }
    }
}

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is one.
    Is(Interpreter),
    /// It is none that can run functions.
    IsNone,
    /// It has not answered: it took too long, or the host had no room for it. Nothing is known.
    Nothing,
}

/// Asks a candidate. `client` is the module that Python compiles.
pub(super) async fn ask(path: &Path, client: Option<&Path>, patience: Duration) -> Answer {
    let Some(language) = language_of(path) else { return Answer::IsNone };
    let mut command = language.question(path, client);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let answer = match tokio::time::timeout(patience, command.output()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            let none = matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::ELOOP)
            );
            return if none { Answer::IsNone } else { Answer::Nothing };
        }
        Err(_) => return Answer::Nothing,
    };
    if answer.status.signal() == Some(libc::SIGKILL) {
        // As the kernel does where memory is short.
        return Answer::Nothing;
    }
    let found = if answer.status.success() { language.understand(answer) } else { None };
    found.map_or(Answer::IsNone, Answer::Is)
}

/// Whether asking the candidate may show it to be this runtime's.
pub(super) fn may_be(path: &Path, runtime: &Runtime) -> bool {
    let named = match runtime {
        Runtime::Python { minor } => (Language::Python, format!("python3.{minor}")),
        Runtime::Node { .. } => (Language::Node, String::new()),
        Runtime::Php { major, minor } => (Language::Php, format!("php{major}.{minor}")),
        Runtime::Ruby { major, minor } => (Language::Ruby, format!("ruby{major}.{minor}")),
        Runtime::Java { .. } => (Language::Java, String::new()),
        Runtime::Provided { .. } | Runtime::Wasm | Runtime::Static | Runtime::Image => return false,
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // One that is named after a version has that.
    language_of(path) == Some(named.0) && (!name.contains('.') || name == named.1)
}

fn language_of(path: &Path) -> Option<Language> {
    path.file_name().and_then(|name| name.to_str()).and_then(Language::of_name)
}

fn python_from(version: &str, executable: PathBuf, prefix: PathBuf) -> Option<Interpreter> {
    let minor: u8 = version.strip_prefix("3.")?.split('.').next()?.parse().ok()?;
    let library = format!("libpython3.{minor}.so");
    let supported = minor >= OLDEST_PYTHON && may_be_shown(&prefix) && executable.starts_with(&prefix);
    supported.then(|| Interpreter {
        runtime: Runtime::Python { minor },
        version: version.to_owned(),
        library_dir: own_library(&prefix, &library),
        executable,
        prefix,
    })
}

fn node_from(version: &str, executable: PathBuf) -> Option<Interpreter> {
    let major: u8 = version.split('.').next()?.parse().ok()?;
    let prefix = executable.parent()?.parent()?.to_owned();
    (major >= OLDEST_NODE && may_be_shown(&prefix)).then(|| Interpreter {
        runtime: Runtime::Node { major },
        version: version.to_owned(),
        library_dir: own_library(&prefix, "libnode.so"),
        executable,
        prefix,
    })
}

fn php_from(version: &str, executable: PathBuf) -> Option<Interpreter> {
    let (major, minor) = first_two(version)?;
    let prefix = executable.parent()?.parent()?.to_owned();
    ((major, minor) >= OLDEST_PHP && may_be_shown(&prefix)).then(|| Interpreter {
        runtime: Runtime::Php { major, minor },
        version: version.to_owned(),
        library_dir: None,
        executable,
        prefix,
    })
}

fn ruby_from(version: &str, executable: PathBuf, prefix: PathBuf) -> Option<Interpreter> {
    let (major, minor) = first_two(version)?;
    let supported = (major, minor) >= OLDEST_RUBY && may_be_shown(&prefix) && executable.starts_with(&prefix);
    supported.then(|| Interpreter {
        runtime: Runtime::Ruby { major, minor },
        version: version.to_owned(),
        library_dir: own_library(&prefix, "libruby"),
        executable,
        prefix,
    })
}

fn java_from(properties: &str) -> Option<Interpreter> {
    let property = |name: &str| {
        let line = properties.lines().find_map(|line| line.trim_start().strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(" = ")).map(str::trim_end)
    };
    let version = property("java.version")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    let (major, prefix): (u8, _) = (digits.parse().ok()?, PathBuf::from(property("java.home")?));
    (major >= OLDEST_JAVA && may_be_shown(&prefix)).then(|| Interpreter {
        runtime: Runtime::Java { major },
        version: version.to_owned(),
        // It finds its own libraries.
        library_dir: None,
        executable: prefix.join("bin/java"),
        prefix,
    })
}

fn first_two(version: &str) -> Option<(u8, u8)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    parts.next()?.zip(parts.next()?)
}

/// The `lib` of a prefix that the loader does not search, when it holds the interpreter's library.
fn own_library(prefix: &Path, library: &str) -> Option<PathBuf> {
    if prefix.starts_with("/usr") {
        return None;
    }
    let lib = prefix.join("lib");
    let mut names = std::fs::read_dir(&lib).ok()?.flatten().map(|entry| entry.file_name());
    let holds = names.any(|name| name.to_str().is_some_and(|name| name.starts_with(library)));
    holds.then_some(lib)
}

/// A prefix is shown to functions whole, so it must be a folder of an interpreter's own: not the root, and
/// not a home directory that somebody installed Python into.
fn may_be_shown(prefix: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let broad = ["/", "/home", "/root", "/opt", "/var", "/tmp", "/etc", "/srv", "/mnt"].map(Path::new);
    let in_home = prefix.parent() == Some(Path::new("/home"));
    prefix.is_absolute() && !broad.contains(&prefix) && !in_home && home.as_deref() != Some(prefix)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn broad_prefixes_are_not_shown() {
        for prefix in ["/", "/home", "/home/someone", "relative", "/root"] {
            assert!(!may_be_shown(Path::new(prefix)), "{prefix}");
        }
        assert!(may_be_shown(Path::new("/usr")));
        assert!(may_be_shown(Path::new("/home/someone/.versions/3.11.7")));
    }

    #[test]
    fn names_promise_a_language() {
        for (name, language) in [
            ("python3", Some(Language::Python)),
            ("python3.12", Some(Language::Python)),
            ("python3-config", None),
            ("node", Some(Language::Node)),
            ("php", Some(Language::Php)),
            ("php8.2", Some(Language::Php)),
            ("php-cgi8.2", None),
            ("phpize", None),
            ("ruby3.1", Some(Language::Ruby)),
            ("rubygems", None),
            ("java", Some(Language::Java)),
            ("javac", None),
        ] {
            assert_eq!(Language::of_name(name), language, "{name}");
        }
    }

    #[test]
    fn java_says_where_it_is_among_its_properties() {
        let said = "Property settings:\n    java.home = /usr/lib/jvm/x\n    java.vendor = V\n    java.version = 17.0.15\n    java.version.date = 2025-04-15\n";
        let found = java_from(said).unwrap();
        assert_eq!((found.runtime, found.version.as_str()), (Runtime::Java { major: 17 }, "17.0.15"));
        assert_eq!(found.executable, Path::new("/usr/lib/jvm/x/bin/java"));
        assert_eq!(java_from(&said.replace("17.0.15", "11.0.2")), None, "older than its client");
        let early = java_from(&said.replace("17.0.15", "26-ea")).unwrap();
        assert_eq!(early.runtime, Runtime::Java { major: 26 });
    }

    #[tokio::test]
    async fn asks_what_is_behind_a_shim_and_passes_over_what_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let shim = write("python3.99", "#!/bin/sh\nprintf '3.99.1\\n/x/v/bin/python3.99\\n/x/v\\n'\n");
        let broken = write("python3.98", "#!/bin/sh\nexit 1\n");
        let killed = write("python3.97", "#!/bin/sh\nkill -9 $$\n");
        write("python3-config", "");
        let candidates = candidates(&[folder.path().to_owned()]);
        assert_eq!(candidates.len(), 3, "{candidates:?}");
        let patience = Duration::from_secs(30);
        let Answer::Is(found) = ask(&shim, None, patience).await else { panic!("it is one") };
        assert_eq!(found.executable, Path::new("/x/v/bin/python3.99"));
        assert_eq!(found.runtime, Runtime::Python { minor: 99 });
        assert_eq!(ask(&broken, None, patience).await, Answer::IsNone);
        assert_eq!(ask(&folder.path().join("node"), None, patience).await, Answer::IsNone);
        assert_eq!(ask(&killed, None, patience).await, Answer::Nothing);
        // One that would answer is quick on some machines, however little time it has.
        let silent = write("python3.96", "#!/bin/sh\nexec sleep 1000\n");
        assert_eq!(ask(&silent, None, Duration::from_millis(50)).await, Answer::Nothing);
    }

    #[test]
    fn names_say_what_a_candidate_may_be() {
        for (name, runtime, may) in [
            ("python3", "python3.11", true),
            ("python3.11", "python3.11", true),
            ("python3.12", "python3.11", false),
            ("node", "nodejs22.x", true),
            ("node", "python3.11", false),
            ("php8.2", "php8.2", true),
            ("php", "php8.3", true),
            ("ruby3.1", "ruby3.2", false),
            ("java", "java17", true),
            ("node", "provided.al2023", false),
        ] {
            let runtime = Runtime::parse(runtime).unwrap();
            assert_eq!(may_be(&Path::new("/x").join(name), &runtime), may, "{name} {runtime}");
        }
    }
}
