//! The runtime clients that Virga brings for Python, Node, PHP, Ruby and Java, put where sandboxes can see them.
//!
//! The files are part of the binary. They are written once to a folder named after their content, so that
//! servers of two versions on one data directory do not disturb each other; the folder is `/var/runtime`.
//!
//! A runtime is described by a [`Description`]: how its client is started for a function that is known, and how
//! it is booted before one is. A client that is *booted ahead* finds descriptor 3 open: the read end
//! of a pipe. It loads what every function needs, then reads the pipe to its end. What it read is its orders:
//!
//! ```text
//! {"NAME": "value", ...}      the function's whole environment: one JSON object, UTF-8, then end of file
//! ```
//!
//! It closes the descriptor, makes that its environment and nothing else, changes to the folder that
//! `LAMBDA_TASK_ROOT` names (`/var/task`), and goes on as a client that was just started. Before the orders are
//! written there is no `/var/task`, no `/tmp`, no network but loopback without a listener, and no variable that
//! names a function; when they can be read, everything is in place. End of file without a byte means that no
//! function will come: the client ends.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Runtime;

/// Where the clients are inside.
pub(crate) const INSIDE: &str = "/var/runtime";
/// What Python is started with.
pub(crate) const PYTHON: &str = "/var/runtime/python/bootstrap.py";
/// What Python is started with to serve an application that a handler names as `module:name`.
pub(crate) const PYTHON_WEB: &str = "/var/runtime/python/web.py";
/// What Node is started with.
pub(crate) const NODE: &str = "/var/runtime/node/bootstrap.cjs";
/// What a PHP web server is started with, before its front controller.
pub(crate) const PHP_SERVER: &str = "/var/runtime/php/server.php";
/// What a Rack application is started with, before its `config.ru`.
pub(crate) const RUBY_SERVER: &str = "/var/runtime/ruby/server.rb";
/// `LANG` as the platform sets it where a function does not.
pub(crate) const USUAL_LANG: &str = "en_US.UTF-8";
/// How many events a client may have at once, where it is more than one: the name that AWS gives it for runtimes on
/// managed instances.
pub(crate) const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";
/// The Python client's module, relative to the folder.
pub(crate) const PYTHON_MODULE: &str = "python/virga_runtime.py";

const FILES: [(&str, &[u8]); 31] = [
    ("python/bootstrap.py", include_bytes!("clients/python/bootstrap.py")),
    ("python/ahead.py", include_bytes!("clients/python/ahead.py")),
    ("python/virga_template.py", include_bytes!("clients/python/virga_template.py")),
    (
        "python/packages/snapshot_restore_py.py",
        include_bytes!("clients/python/packages/snapshot_restore_py.py"),
    ),
    (PYTHON_MODULE, include_bytes!("clients/python/virga_runtime.py")),
    ("python/virga_streaming.py", include_bytes!("clients/python/virga_streaming.py")),
    ("python/virga_concurrent.py", include_bytes!("clients/python/virga_concurrent.py")),
    ("python/virga_logging.py", include_bytes!("clients/python/virga_logging.py")),
    ("python/web.py", include_bytes!("clients/python/web.py")),
    ("python/virga_web.py", include_bytes!("clients/python/virga_web.py")),
    ("python/virga_asgi.py", include_bytes!("clients/python/virga_asgi.py")),
    ("python/virga_wsgi.py", include_bytes!("clients/python/virga_wsgi.py")),
    ("node/bootstrap.cjs", include_bytes!("clients/node/bootstrap.cjs")),
    ("node/ahead.cjs", include_bytes!("clients/node/ahead.cjs")),
    ("node/compiled.cjs", include_bytes!("clients/node/compiled.cjs")),
    ("node/streaming.cjs", include_bytes!("clients/node/streaming.cjs")),
    ("node/warm.cjs", include_bytes!("clients/node/warm.cjs")),
    ("node/warm.mjs", include_bytes!("clients/node/warm.mjs")),
    ("php/bootstrap.php", include_bytes!("clients/php/bootstrap.php")),
    ("php/ahead.php", include_bytes!("clients/php/ahead.php")),
    ("php/runtime.php", include_bytes!("clients/php/runtime.php")),
    ("php/logger.php", include_bytes!("clients/php/logger.php")),
    ("php/server.php", include_bytes!("clients/php/server.php")),
    ("ruby/bootstrap.rb", include_bytes!("clients/ruby/bootstrap.rb")),
    ("ruby/ahead.rb", include_bytes!("clients/ruby/ahead.rb")),
    ("ruby/virga_runtime.rb", include_bytes!("clients/ruby/virga_runtime.rb")),
    ("ruby/server.rb", include_bytes!("clients/ruby/server.rb")),
    ("java/client.jar", include_bytes!("clients/java/client.jar")),
    ("java/handler.flags", include_bytes!("clients/java/handler.flags")),
    ("java/server.flags", include_bytes!("clients/java/server.flags")),
    // Made by build.rs.
    ("java/native.so", include_bytes!(concat!(env!("OUT_DIR"), "/native.so"))),
];

/// What has to be known of a runtime that Virga brings a client for.
#[derive(Debug)]
pub(crate) struct Description {
    /// After the interpreter: starts the client for a function that is known.
    pub(crate) start: &'static [&'static str],
    /// After the interpreter: starts the client that waits for orders.
    pub(crate) boot: &'static [&'static str],
    /// Before both, what fits it into the function's memory, in bytes.
    pub(crate) sized: Option<fn(u64) -> String>,
    /// Whether a few are kept booted while functions use the runtime: pays where booting takes long and the
    /// process cannot be copied.
    pub(crate) boot_ahead: bool,
    /// Whether its client can be a template: a process of one thread whose memory is kept as an image.
    pub(crate) imageable: bool,
    /// Variables that the interpreter reads as it starts, by name or, ending in `*`, by how they begin; one after
    /// `!` is none of them. A function that wants another value than the booted client had is started the plain way.
    pub(crate) read_at_start: &'static [&'static str],
    /// Files and folders of a package that change what it does before the handler's file is loaded, or what it may
    /// have loaded before: a function that has one is started the plain way.
    pub(crate) shaping: &'static [&'static str],
    /// The same of what layers bring.
    pub(crate) shaping_layers: &'static [&'static str],
}

impl Description {
    /// The arguments after the interpreter.
    pub(crate) fn arguments(
        &self,
        these: &'static [&'static str],
        memory_bytes: u64,
    ) -> impl Iterator<Item = String> {
        let sized = self.sized.map(|sized| sized(memory_bytes));
        sized.into_iter().chain(these.iter().map(|&argument| argument.to_owned()))
    }

    /// Whether a variable changes how the interpreter starts.
    pub(crate) fn reads_at_start(&self, name: &str) -> bool {
        for pattern in self.read_at_start {
            let (verdict, pattern) = pattern.strip_prefix('!').map_or((true, *pattern), |rest| (false, rest));
            let matches = pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start));
            if matches {
                return verdict;
            }
        }
        false
    }

    /// Whether the package says more about how the interpreter starts.
    pub(crate) fn is_shaped_by(&self, package: &Path) -> bool {
        self.shaping.iter().any(|name| package.join(name).exists())
    }

    /// Whether layers do.
    pub(crate) fn is_shaped_by_layers(&self, layers: &Path) -> bool {
        self.shaping_layers.iter().any(|name| may_be_there(layers, name))
    }

    /// Whether a client that was booted with one environment is what the other would have started.
    pub(crate) fn starts_alike(&self, booted: &[(String, String)], wanted: &[(String, String)]) -> bool {
        let read = |environment: &[(String, String)]| -> BTreeMap<String, String> {
            environment.iter().filter(|(name, _)| self.reads_at_start(name)).cloned().collect()
        };
        read(booted) == read(wanted)
    }
}

/// Whether a tree may show something at a path. A link may lead anywhere in the sandbox, so it counts whatever is behind
/// it, and is not followed here.
fn may_be_there(tree: &Path, name: &str) -> bool {
    let mut at = tree.to_owned();
    for part in Path::new(name) {
        at.push(part);
        match at.symlink_metadata() {
            Ok(found) if found.is_symlink() => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

static DESCRIBED_PYTHON: Description = Description {
    // No user site: it would be below /tmp, which the function itself writes.
    start: &["-s", "-X", "utf8", PYTHON],
    boot: &["-s", "-X", "utf8", "/var/runtime/python/ahead.py"],
    sized: None,
    boot_ahead: false,
    // Where the restorer is written for the machine.
    imageable: cfg!(target_arch = "x86_64"),
    read_at_start: &[
        "PYTHON*",
        "LD_*",
        "GLIBC_TUNABLES",
        "MALLOC_*",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TZDIR",
    ],
    // Imported as the interpreter starts.
    shaping: &["sitecustomize.py", "sitecustomize"],
    shaping_layers: &["python/sitecustomize.py", "python/sitecustomize"],
};

static DESCRIBED_NODE: Description = Description {
    start: &[NODE],
    boot: &["/var/runtime/node/ahead.cjs"],
    sized: None,
    boot_ahead: true,
    imageable: false,
    read_at_start: &[
        // A convention of packages.
        "!NODE_ENV",
        "NODE_*",
        "UV_*",
        "OPENSSL_*",
        "SSL_*",
        "ICU_*",
        "LD_*",
        "GLIBC_TUNABLES",
        "MALLOC_*",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TZDIR",
    ],
    shaping: &[],
    shaping_layers: &[],
};

static DESCRIBED_PHP: Description = Description {
    start: &PHP_START,
    boot: &PHP_BOOT,
    sized: None,
    boot_ahead: false,
    imageable: cfg!(target_arch = "x86_64"),
    read_at_start: &[
        "PHP_INI_SCAN_DIR",
        "PHPRC",
        "USE_ZEND_ALLOC*",
        "OPENSSL_*",
        "SSL_*",
        "LD_*",
        "GLIBC_TUNABLES",
        "MALLOC_*",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TZDIR",
    ],
    shaping: &["php/conf.d"],
    shaping_layers: &["php/conf.d"],
};

/// Errors go to the log, once, and `$_ENV` is filled; everything else is as php.ini says.
const PHP_START: [&str; 7] = [
    "-d",
    "display_errors=0",
    "-d",
    "log_errors=1",
    "-d",
    "variables_order=EGPCS",
    "/var/runtime/php/bootstrap.php",
];
const PHP_BOOT: [&str; 7] = [
    "-d",
    "display_errors=0",
    "-d",
    "log_errors=1",
    "-d",
    "variables_order=EGPCS",
    "/var/runtime/php/ahead.php",
];

static DESCRIBED_RUBY: Description = Description {
    start: &["/var/runtime/ruby/bootstrap.rb"],
    boot: &["/var/runtime/ruby/ahead.rb"],
    sized: None,
    boot_ahead: false,
    imageable: cfg!(target_arch = "x86_64"),
    read_at_start: &[
        "RUBY*",
        "GEM_*",
        "BUNDLE_*",
        "BUNDLER_*",
        "OPENSSL_*",
        "SSL_*",
        "LD_*",
        "GLIBC_TUNABLES",
        "MALLOC_*",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TZDIR",
    ],
    // Gems of the package's own may be other versions of what has been loaded.
    shaping: &["Gemfile", "gems.rb", "vendor"],
    shaping_layers: &["ruby"],
};

static DESCRIBED_JAVA: Description = Description {
    start: &JAVA_START,
    boot: &JAVA_BOOT,
    sized: Some(java_heap),
    boot_ahead: true,
    // A machine has threads from its first moment.
    imageable: false,
    read_at_start: &[
        "JAVA_*",
        "JDK_JAVA_OPTIONS",
        "_JAVA_OPTIONS",
        "_JAVA_*",
        "JDK_*",
        "CLASSPATH",
        "LD_*",
        "GLIBC_TUNABLES",
        "MALLOC_*",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TZDIR",
    ],
    shaping: &[],
    shaping_layers: &[],
};

/// The machine's own flags are in a file, since those that a function has in `JAVA_TOOL_OPTIONS` come before a file's
/// and after the command line's. Text is UTF-8, whatever the locale.
const JAVA_START: [&str; 7] = [
    "-XX:Flags=/var/runtime/java/handler.flags",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-Dstderr.encoding=UTF-8",
    // Where it is booted there is no such folder yet.
    "-Duser.dir=/var/task",
    "-jar",
    "/var/runtime/java/client.jar",
];
const JAVA_BOOT: [&str; 8] = [
    "-XX:Flags=/var/runtime/java/handler.flags",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-Dstderr.encoding=UTF-8",
    // Where it is booted there is no such folder yet.
    "-Duser.dir=/var/task",
    "-jar",
    "/var/runtime/java/client.jar",
    "ahead",
];
/// A Java web server, before its jar or its main class.
pub(crate) const JAVA_SERVER: [&str; 4] = [
    "-XX:Flags=/var/runtime/java/server.flags",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-Dstderr.encoding=UTF-8",
];

/// What the machine takes for the size of its host. Its flags give all of that to the heap: 85 in a hundred of the
/// function's memory, and at least [`BESIDE_HEAP`] less, but half of it at least. A heap that is full is an error with
/// a line in it, in place of the kernel's end of the process.
pub(crate) fn java_heap(memory_bytes: u64) -> String {
    let left = memory_bytes.saturating_sub(BESIDE_HEAP).min(memory_bytes / 100 * 85).max(memory_bytes / 2);
    format!("-XX:MaxRAM={}k", left >> 10)
}

/// Bytes of a machine that are no heap: its own code and threads, classes, compiled code.
const BESIDE_HEAP: u64 = 64 << 20;

/// The description of a runtime; `None` for those that bring their own client.
pub(crate) fn described(runtime: &Runtime) -> Option<&'static Description> {
    match runtime {
        Runtime::Python { .. } => Some(&DESCRIBED_PYTHON),
        Runtime::Node { .. } => Some(&DESCRIBED_NODE),
        Runtime::Php { .. } => Some(&DESCRIBED_PHP),
        Runtime::Ruby { .. } => Some(&DESCRIBED_RUBY),
        Runtime::Java { .. } => Some(&DESCRIBED_JAVA),
        Runtime::Provided { .. } | Runtime::Wasm | Runtime::Static | Runtime::Image => None,
    }
}

/// Writes the clients below `runtime_dir` unless they are there, and returns their folder.
pub(crate) fn install(runtime_dir: &Path) -> io::Result<PathBuf> {
    let folder = runtime_dir.join(content_name());
    if folder.is_dir() {
        return Ok(folder);
    }
    let unfinished = runtime_dir.join(format!(".{}.{}", content_name(), std::process::id()));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    for (name, text) in FILES {
        let path = unfinished.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
            // Read by a mapped user, whatever the server's umask is.
            fs::set_permissions(parent, Permissions::from_mode(0o755))?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    match fs::rename(&unfinished, &folder) {
        Ok(()) => Ok(folder),
        // Another server was quicker.
        Err(_) if folder.is_dir() => fs::remove_dir_all(&unfinished).map(|()| folder),
        Err(error) => Err(error),
    }
}

fn content_name() -> String {
    let mut hash = Sha256::new();
    for (name, text) in FILES {
        for part in [name.as_bytes(), text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex::encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shapes_an_interpreters_start() {
        let node = described(&Runtime::Node { major: 20 }).unwrap();
        for (name, reads) in
            [("NODE_OPTIONS", true), ("NODE_ENV", false), ("TZ", true), ("TZX", false), ("A", false)]
        {
            assert_eq!(node.reads_at_start(name), reads, "{name}");
        }
        let environment = |variables: &[(&str, &str)]| -> Vec<(String, String)> {
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let booted = environment(&[("TZ", ":UTC"), ("PATH", "/x")]);
        for (wanted, alike) in [
            (&[("A", "b"), ("TZ", ":UTC"), ("NODE_ENV", "production")][..], true),
            (&[("TZ", "Europe/Berlin")], false),
            (&[("A", "b")], false),
            (&[("TZ", ":UTC"), ("NODE_OPTIONS", "--expose-gc")], false),
        ] {
            assert_eq!(node.starts_alike(&booted, &environment(wanted)), alike, "{wanted:?}");
        }
        assert!(described(&Runtime::Python { minor: 11 }).unwrap().reads_at_start("PYTHONHASHSEED"));
    }

    #[test]
    fn what_layers_bring_shapes_a_start() {
        let layers = tempfile::tempdir().unwrap();
        let shaped = |runtime| described(&runtime).unwrap().is_shaped_by_layers(layers.path());
        let (python, php) = (Runtime::Python { minor: 11 }, Runtime::Php { major: 8, minor: 2 });
        fs::create_dir_all(layers.path().join("php/lib")).unwrap();
        fs::create_dir(layers.path().join("python")).unwrap();
        assert!(!shaped(python.clone()) && !shaped(php.clone()));
        fs::write(layers.path().join("python/sitecustomize.py"), "").unwrap();
        std::os::unix::fs::symlink("/nowhere", layers.path().join("php/conf.d")).unwrap();
        assert!(shaped(python) && shaped(php), "a link counts whatever is behind it");
        assert!(!shaped(Runtime::Ruby { major: 3, minor: 1 }));
        std::os::unix::fs::symlink("elsewhere", layers.path().join("ruby")).unwrap();
        assert!(shaped(Runtime::Ruby { major: 3, minor: 1 }));
    }

    #[test]
    fn a_heap_leaves_room_for_the_machine() {
        for (memory_mb, heap_kb) in
            [(128, 65_536), (256, 196_608), (512, 445_644), (1024, 891_289), (64, 32_768)]
        {
            assert_eq!(java_heap(memory_mb << 20), format!("-XX:MaxRAM={heap_kb}k"), "{memory_mb} MB");
        }
    }

    #[test]
    fn installs_once() {
        let data = tempfile::tempdir().unwrap();
        let folder = install(data.path()).unwrap();
        let client = folder.join(PYTHON_MODULE);
        assert_eq!(fs::metadata(&client).unwrap().permissions().mode() & 0o777, 0o644);
        fs::write(folder.join("mark"), "").unwrap();
        assert_eq!(install(data.path()).unwrap(), folder);
        assert!(folder.join("mark").exists(), "it was written again");
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "nothing unfinished is left");
    }
}

#[cfg(test)]
mod concurrency_tests;
#[cfg(test)]
mod java_tests;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod php_tests;
#[cfg(test)]
mod python_tests;
#[cfg(test)]
mod ruby_tests;
#[cfg(test)]
mod streaming_tests;
