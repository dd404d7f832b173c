//! The server's end of one worker.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use base::InstanceId;
use futures_util::FutureExt;
use parking_lot::Mutex;
use sandbox::egress::Gate;
use sandbox::process::jail::{Beginning, Jail, Job, Launcher, Mount, ProgramClass};
use sandbox::{Artifact, Error, Exit, Limits, StartError};
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, oneshot, watch};

use super::backend::WorkerSettings;
use super::control::{Channel, FromWorker, MESSAGE, ToWorker};
use super::line::{FRAME, Line};
use super::outlet::Outlet;
use super::{BUILD, packages};
use crate::program::Programs;
use crate::sealed::{self, Holds};
use crate::trust::Trust;

/// Where a worker finds its own program.
const PROGRAM: &str = "/var/runtime/virga";
/// Where it finds packages.
const PACKAGES: &str = "/var/task";
/// Threads: as many as there are cores, those that may block, the clock's.
const PIDS: u32 = 1024;
/// Lines that are kept for further calls.
const IDLE_LINES: usize = 256;
/// Programs that stay loaded though no instance has them.
const RECENT: usize = 128;
/// How long a worker may take for what takes milliseconds; one that takes longer is ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long its end may take to be known once a call has broken off.
const END: Duration = Duration::from_secs(2);

/// A running worker. Dropping the last handle kills it.
pub(super) struct Worker {
    jail: Jail,
    ends: Arc<Ends>,
    lines: Mutex<Vec<Line>>,
    programs: AsyncMutex<Loaded>,
    folder: PathBuf,
    /// Instances that it has.
    pub(super) users: watch::Sender<usize>,
}

/// What the reader of its channel works with.
struct Ends {
    channel: Arc<Channel>,
    next: AtomicU64,
    asked: Mutex<Asked>,
    /// Whether the channel has closed.
    over: AtomicBool,
    /// Of its instances.
    gates: Mutex<HashMap<u64, Arc<Gate>>>,
}

#[derive(Default)]
struct Asked {
    closed: bool,
    waiting: HashMap<u64, oneshot::Sender<Result<(), String>>>,
}

#[derive(Default)]
struct Loaded {
    by_name: HashMap<(String, String), Weak<Code>>,
    recent: VecDeque<Arc<Code>>,
}

/// A program that the worker has. Dropped, the worker forgets it.
pub(super) struct Code {
    pub(super) number: u64,
    folder: PathBuf,
    ends: Arc<Ends>,
}

impl Code {
    /// The package, as the worker sees it.
    pub(super) fn dir(&self) -> String {
        format!("{PACKAGES}/{}", self.number)
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // A worker that does not listen has its end before it.
        let _ = self.ends.channel.try_send(&ToWorker::Unload { program: self.number });
        packages::remove(std::mem::take(&mut self.folder));
    }
}

/// Why a worker did not do what it was asked.
#[derive(Debug)]
pub(super) enum Refused {
    /// It says so.
    Said(String),
    /// It is gone, or as good as that.
    Gone,
}

impl Worker {
    /// Starts one. Returns when it can make instances.
    pub(super) async fn start(
        launcher: &Launcher,
        settings: &WorkerSettings,
        trust: Arc<Trust>,
    ) -> Result<Arc<Self>, StartError> {
        let failed = |error| StartError::from(Error::host("making a worker for WebAssembly")(error));
        let name = InstanceId::random();
        let folder = settings.dir.join(name.as_str());
        packages::make(&folder).map_err(failed)?;
        let folder = Folder(folder);
        let (channel, theirs) = Channel::pair().map_err(failed)?;
        let mut jail = launcher.spawn(job(settings, name, &folder, theirs)).await?;
        if let Some(output) = jail.take_output() {
            tokio::spawn(listen(output));
        }
        let channel = Arc::new(channel);
        let ends = Arc::new(Ends {
            channel,
            next: 1.into(),
            asked: Mutex::default(),
            over: false.into(),
            gates: Mutex::default(),
        });
        let worker = Arc::new(Self {
            jail,
            ends: Arc::clone(&ends),
            lines: Mutex::default(),
            programs: AsyncMutex::default(),
            folder: folder.keep(),
            users: watch::Sender::new(0),
        });
        let reader = Arc::downgrade(&worker);
        tokio::spawn(async move {
            read(&ends, trust).await;
            // One that has closed its channel, or says what makes no sense, is not left running: the tenant gets
            // another, and would have the memory of both.
            if let Some(worker) = reader.upgrade()
                && worker.ending().await.is_none()
            {
                worker.kill().await;
            }
        });
        let max_instances = settings.max_instances;
        let begin = |ask| ToWorker::Begin { ask, build: BUILD.to_owned(), max_instances };
        match worker.ask(begin, None).await {
            Ok(()) => Ok(worker),
            Err(Refused::Said(text)) => Err(Error::Unavailable(text).into()),
            Err(Refused::Gone) => Err(StartError::Exited(worker.ending().await.unwrap_or(Exit::Stopped))),
        }
    }

    /// Has it do something, and waits until it is done. One that does not answer is killed.
    pub(super) async fn ask(
        &self,
        message: impl FnOnce(u64) -> ToWorker,
        with: Option<OwnedFd>,
    ) -> Result<(), Refused> {
        let ask = self.number();
        let (sender, answer) = oneshot::channel();
        {
            let mut asked = self.ends.asked.lock();
            if asked.closed {
                return Err(Refused::Gone);
            }
            asked.waiting.insert(ask, sender);
        }
        let asking = async {
            let message = message(ask);
            let sent = self.ends.channel.send(&message, with.as_ref().map(AsFd::as_fd)).await;
            match sent {
                Ok(()) => answer.await.map_err(|_| Refused::Gone)?.map_err(Refused::Said),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    Err(Refused::Said(error.to_string()))
                }
                Err(_) => Err(Refused::Gone),
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
            tracing::warn!("a worker for WebAssembly does not answer and is ended");
            self.jail.kill().now_or_never();
            Err(Refused::Gone)
        });
        self.ends.asked.lock().waiting.remove(&ask);
        outcome
    }

    /// Tells it something if there is room; whether there was.
    pub(super) fn tell(&self, message: &ToWorker) -> bool {
        self.ends.channel.try_send(message).is_ok()
    }

    /// A number that nothing else of this worker has.
    pub(super) fn number(&self) -> u64 {
        self.ends.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Questions of this instance are answered by this gate from here on; by none, without.
    pub(super) fn set_gate(&self, instance: u64, gate: Option<Arc<Gate>>) {
        let mut gates = self.ends.gates.lock();
        match gate {
            Some(gate) => gates.insert(instance, gate),
            None => gates.remove(&instance),
        };
    }

    /// Whether it takes no more orders.
    pub(super) fn is_over(&self) -> bool {
        self.ends.over.load(Ordering::Relaxed)
    }

    /// Resolves when it has ended. Whoever knows that finds it over: what it could not do goes to another one at once, maybe
    /// before the end of its channel was read.
    pub(super) async fn exited(&self) -> Exit {
        let exit = self.jail.exited().await;
        self.ends.over.store(true, Ordering::Relaxed);
        exit
    }

    /// How it ended, after a sign that it has; `None`: it goes on.
    pub(super) async fn ending(&self) -> Option<Exit> {
        tokio::time::timeout(END, self.exited()).await.ok()
    }

    /// Ends it. Returns when nothing of it is left.
    pub(super) async fn kill(&self) {
        self.jail.kill().await;
    }

    /// An idle line, or none. One that has closed meanwhile says so before anything is put on it.
    pub(super) fn idle_line(&self) -> Option<Line> {
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            let mut line = self.lines.lock().pop()?;
            if line.poll_frame(cx).is_pending() {
                return Some(line);
            }
        }
    }

    /// A new line.
    pub(super) async fn new_line(&self) -> io::Result<Line> {
        let (ours, theirs) = UnixStream::pair()?;
        self.ends.channel.send(&ToWorker::Line, Some(theirs.as_fd())).await?;
        Ok(Line::new(ours, FRAME))
    }

    /// Keeps a line that is between calls.
    pub(super) fn give_back(&self, mut line: Line) {
        if !line.is_clean() {
            return;
        }
        line.rest();
        let mut lines = self.lines.lock();
        if lines.len() < IDLE_LINES {
            lines.push(line);
        }
    }

    /// The artifact's code in this worker: loaded if it is not.
    pub(super) async fn load(
        self: &Arc<Self>,
        programs: &Arc<Programs>,
        artifact: &Artifact,
    ) -> Result<Arc<Code>, StartError> {
        let name = (artifact.digest.clone(), artifact.handler.clone());
        // One at a time: what is loaded is mostly loaded already.
        let mut loaded = self.programs.lock().await;
        if let Some(code) = loaded.by_name.get(&name).and_then(Weak::upgrade) {
            return Ok(code);
        }
        let bytes = programs.code(artifact).await?;
        let number = self.number();
        let code =
            Code { number, folder: self.folder.join(number.to_string()), ends: Arc::clone(&self.ends) };
        let (from, to) = (artifact.dir.clone(), code.folder.clone());
        let made = tokio::task::spawn_blocking(move || {
            packages::link(&from, &to)?;
            sealed::file(Holds::Code, &bytes)
        });
        let failed = Error::host("handing WebAssembly to a worker");
        let file = match made.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(file) => file,
            Err(error) => return Err(failed(error).into()),
        };
        match self.ask(|ask| ToWorker::Load { ask, program: number }, Some(file)).await {
            Ok(()) => {}
            Err(Refused::Said(text)) => return Err(failed(io::Error::other(text)).into()),
            Err(Refused::Gone) => {
                return Err(StartError::Exited(self.ending().await.unwrap_or(Exit::Stopped)));
            }
        }
        let code = Arc::new(code);
        loaded.keep(name, &code);
        Ok(code)
    }

    /// Its programs of a package are not found any more.
    pub(super) fn forget(self: Arc<Self>, digest: &str) {
        let digest = digest.to_owned();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let mut loaded = self.programs.lock().await;
                let numbers: Vec<_> = loaded
                    .by_name
                    .iter()
                    .filter(|((of, _), _)| *of == digest)
                    .filter_map(|(_, code)| code.upgrade().map(|code| code.number))
                    .collect();
                loaded.by_name.retain(|(of, _), _| *of != digest);
                loaded.recent.retain(|code| !numbers.contains(&code.number));
            });
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        packages::remove(std::mem::take(&mut self.folder));
    }
}

impl Loaded {
    fn keep(&mut self, name: (String, String), code: &Arc<Code>) {
        self.by_name.retain(|_, code| code.strong_count() > 0);
        self.by_name.insert(name, Arc::downgrade(code));
        self.recent.push_back(Arc::clone(code));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

/// A folder that is removed unless it is kept.
struct Folder(PathBuf);

impl std::ops::Deref for Folder {
    type Target = PathBuf;

    fn deref(&self) -> &PathBuf {
        &self.0
    }
}

impl Folder {
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            packages::remove(std::mem::take(&mut self.0));
        }
    }
}

fn job(settings: &WorkerSettings, name: InstanceId, folder: &Folder, channel: OwnedFd) -> Job {
    let program = [PROGRAM.to_owned()];
    let program_file = Mount { host: settings.program.clone(), inside: PROGRAM.into() };
    Job {
        instance: name,
        argv: program.into_iter().chain(settings.arguments.iter().cloned()).collect(),
        env: Vec::new(),
        class: ProgramClass::Wasm,
        code: folder.to_path_buf(),
        root: None,
        mounts: vec![program_file],
        layered: Vec::new(),
        shared: Vec::new(),
        limits: Limits {
            memory_bytes: settings.memory_bytes,
            cpu_hundredths: None,
            tmp_bytes: 0,
            pids: PIDS,
            answer_bytes: 0,
        },
        way_out: false,
        listen: Vec::new(),
        beginning: Beginning::Handed(Arc::new(channel)),
    }
}

/// Reads its channel to the end.
async fn read(ends: &Ends, trust: Arc<Trust>) {
    let mut outlet = Outlet::new(Arc::clone(&ends.channel), trust);
    let mut buffer = vec![0; MESSAGE];
    while let Ok(Some((message, _))) = ends.channel.receive(&mut buffer).await {
        match message {
            FromWorker::Done { ask, outcome } => {
                if let Some(waiting) = ends.asked.lock().waiting.remove(&ask) {
                    // Given up: nobody waits.
                    let _ = waiting.send(outcome);
                }
            }
            FromWorker::Question { question, instance, wanted } => {
                let gate = ends.gates.lock().get(&instance).cloned();
                outlet.ask(question, gate, wanted).await;
            }
        }
    }
    ends.over.store(true, Ordering::Relaxed);
    let mut asked = ends.asked.lock();
    asked.closed = true;
    // Whoever waits is told by the drop.
    asked.waiting.clear();
}

/// Puts what a worker itself prints, which is only what went wrong with it, into the server's log, within bounds.
async fn listen(output: OwnedFd) {
    use tokio::io::AsyncReadExt;
    /// Bytes of one worker that are logged.
    const LOGGED: usize = 16 << 10;
    let Ok(mut output) = tokio::net::unix::pipe::Receiver::from_owned_fd(output) else { return };
    let mut buffer = vec![0; 4 << 10];
    let mut logged = 0;
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        if logged < LOGGED {
            logged += read;
            tracing::warn!(said = %String::from_utf8_lossy(&buffer[..read]).trim_end(), "a worker for WebAssembly");
        }
    }
}
