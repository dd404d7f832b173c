//! What cases work with: a launcher, a data directory, and short ways to run a program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::InstanceId;
use futures_util::future::BoxFuture;
use sandbox::process::jail::{Jail, Job, Launcher, MissingLimits};
use sandbox::{Egress, Exit, Limits, StartError};
use tokio::io::AsyncReadExt;

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
            write(&dir.join(name), *mode, content.as_bytes());
        }
        dir
    }

    /// A job that runs a shell script, with mild limits.
    pub(crate) fn script(&self, script: &str) -> Job {
        Job {
            instance: InstanceId::random(),
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned())],
            code: self.code(&[]),
            mounts: Vec::new(),
            limits: Limits {
                memory_bytes: 256 << 20,
                cpu_hundredths: Some(100),
                tmp_bytes: 8 << 20,
                pids: 64,
                answer_bytes: 0,
            },
            egress: Egress::None,
            listen: Vec::new(),
        }
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

/// Writes a file with a mode.
pub(crate) fn write(path: &Path, mode: u32, content: &[u8]) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
