//! What cases work with: a launcher, a data directory, and short ways to run a program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::InstanceId;
use futures_util::future::BoxFuture;
use sandbox::process::jail::{Beginning, Jail, Job, Launcher, MissingLimits, ProgramClass, Status};
use sandbox::{Exit, Limits, StartError};
use tokio::io::AsyncReadExt;

/// How long something on the host may take to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One test.
pub(crate) struct Case {
    /// Without its module.
    pub(crate) name: &'static str,
    /// Left out when running as an ordinary user.
    pub(crate) needs_root: bool,
    /// The test; a panic is its failure.
    pub(crate) run: fn(World) -> BoxFuture<'static, ()>,
}

/// Makes a [`Case`] of an async function.
#[macro_export]
macro_rules! case {
    ($function:ident) => {
        $crate::world::Case {
            name: stringify!($function),
            needs_root: false,
            run: |world| Box::pin($function(world)),
        }
    };
    ($function:ident, needs_root) => {
        $crate::world::Case {
            name: stringify!($function),
            needs_root: true,
            run: |world| Box::pin($function(world)),
        }
    };
}

/// Shared by all cases of a run.
#[derive(Clone)]
pub(crate) struct World {
    /// The launcher, started before any thread.
    pub(crate) launcher: Launcher,
    /// Whether this is the run with root.
    pub(crate) root: bool,
    folder: Arc<tempfile::TempDir>,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) output: String,
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl World {
    /// Starts the launcher; the process has one thread.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As the server's own: nobody else may look inside, not even the jail's user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let launcher = Launcher::start(&folder.path().join("data"), MissingLimits::Degrade).unwrap();
        Self { launcher, root: is_root(), folder: Arc::new(folder) }
    }

    pub(crate) fn end(self) {
        self.launcher.shutdown();
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A new folder with files: name, mode, content.
    pub(crate) fn code(&self, files: &[(&str, u32, &str)]) -> PathBuf {
        let dir = self.data().join(InstanceId::random().as_str());
        std::fs::create_dir_all(&dir).unwrap();
        for (name, mode, content) in files {
            let path = dir.join(name);
            path.parent().map(std::fs::create_dir_all).transpose().unwrap();
            write(&path, *mode, content.as_bytes());
        }
        dir
    }

    /// A job that runs a shell script, with mild limits.
    pub(crate) fn script(&self, script: &str) -> Job {
        job(&self.data(), script)
    }

    /// A job that runs a Python program with the distribution's interpreter.
    pub(crate) fn python(&self, program: &str) -> Job {
        let mut job = self.script("");
        job.argv = ["/usr/bin/python3", "-c", program].map(str::to_owned).to_vec();
        job
    }

    /// A number that no other process has among its arguments: seconds to sleep.
    pub(crate) fn token(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("1{:07}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the kernel holds the limits, by control groups.
    pub(crate) fn has_groups(&self) -> bool {
        self.launcher.report().complete()
    }

    /// Whether the kernel has all of Landlock that jails use.
    pub(crate) fn has_landlock(&self) -> bool {
        let report = self.launcher.report();
        report.checks.iter().any(|check| check.name == "landlock" && check.status == Status::Ok)
    }

    /// The launcher of this process.
    pub(crate) fn launcher_pid(&self) -> u32 {
        let is_launcher = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "virga-launcher\n")
        };
        children(std::process::id()).into_iter().find(is_launcher).unwrap()
    }

    pub(crate) async fn spawn(&self, job: Job) -> Result<Jail, StartError> {
        self.launcher.spawn(job).await
    }

    /// Runs a job to its end.
    pub(crate) async fn run(&self, job: Job) -> Outcome {
        let mut jail = self.spawn(job).await.unwrap();
        let output = read_all(&mut jail).await;
        Outcome { exit: jail.exited().await, output }
    }

    /// Runs a shell script to its end.
    pub(crate) async fn sh(&self, script: &str) -> Outcome {
        self.run(self.script(script)).await
    }
}

/// Everything a jail prints, until the last writer has ended.
pub(crate) async fn read_all(jail: &mut Jail) -> String {
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(jail.take_output().unwrap()).unwrap();
    let mut text = Vec::new();
    pipe.read_to_end(&mut text).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads output until a text has come.
pub(crate) async fn read_until(pipe: &mut tokio::net::unix::pipe::Receiver, wanted: &str) -> String {
    let mut text = Vec::new();
    loop {
        let mut bytes = [0_u8; 1024];
        let read = pipe.read(&mut bytes).await.unwrap();
        assert!(read > 0, "ended before {wanted:?}: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&bytes[..read]);
        if String::from_utf8_lossy(&text).contains(wanted) {
            return String::from_utf8_lossy(&text).into_owned();
        }
    }
}

/// A job that runs a shell script, with mild limits.
pub(crate) fn job(data: &Path, script: &str) -> Job {
    let instance = InstanceId::random();
    let code = data.join(instance.as_str());
    std::fs::create_dir_all(&code).unwrap();
    Job {
        instance,
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned())],
        class: ProgramClass::Interpreter,
        code,
        root: None,
        mounts: Vec::new(),
        layered: Vec::new(),
        shared: Vec::new(),
        limits: Limits {
            memory_bytes: 256 << 20,
            cpu_hundredths: Some(200),
            tmp_bytes: 8 << 20,
            pids: 64,
            answer_bytes: 0,
        },
        way_out: false,
        listen: Vec::new(),
        beginning: Beginning::Executed,
    }
}

/// Takes a jail's output and reads until a line has come.
pub(crate) async fn lines_of(jail: &mut Jail, wanted: &str) -> tokio::net::unix::pipe::Receiver {
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(jail.take_output().unwrap()).unwrap();
    read_until(&mut pipe, wanted).await;
    pipe
}

/// Waits for something that another process does.
pub(crate) async fn until(patience: Duration, mut happened: impl FnMut() -> bool) {
    let look = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience, look).await.expect("it did not happen in time");
}

/// Processes of the host with such an argument.
pub(crate) fn processes_with(argument: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0);
        // Not the shell whose script names it, nor a server that was told of it.
        arguments.next().is_some_and(|name| name.ends_with(b"sleep"))
            && arguments.any(|other| other == argument.as_bytes())
    };
    pids().filter(has).collect()
}

/// Control groups of that name, in every hierarchy.
pub(crate) fn groups_named(name: &str) -> Vec<PathBuf> {
    fn look(dir: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name {
                    found.push(entry.path());
                }
                if depth > 0 {
                    look(&entry.path(), name, depth - 1, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    look(Path::new("/sys/fs/cgroup"), name, 8, &mut found);
    found
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    pids().filter(|pid| stat(*pid).is_some_and(|(_, its)| its == parent)).collect()
}

/// Whether it is dead and not reaped.
pub(crate) fn is_zombie(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == "Z")
}

/// State and parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn pids() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Writes a file with a mode.
pub(crate) fn write(path: &Path, mode: u32, content: &[u8]) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
