//! A package on disk, a back end with its cache beside it, and shorthand for calls.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base::{FunctionArn, InstanceId, RequestId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use sandbox::process::jail::Launcher;
use sandbox::{
    Artifact, Backend, Body, Call, Contract, Egress, Error, Event, Fault, Instance, Limits, LogSink, Output,
    Payload, Prepared, Runtime, Spec, StartError,
};
use sandbox_wasm::{Separation, Settings, WasmBackend, WorkerSettings, Workers};
use tempfile::TempDir;

/// The sample of examples/hello-wasm.
pub(crate) const HELLO: &[u8] = include_bytes!("../../../../examples/hello-wasm/hello.wasm");
/// guests/probe.c
pub(crate) const PROBE: &[u8] = include_bytes!("guests/probe.wasm");
/// guests/command.c
pub(crate) const COMMAND: &[u8] = include_bytes!("guests/command.wasm");

/// How long a test waits for what should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps what guests print.
#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<u8>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl LogSink for Log {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().extend_from_slice(bytes);
    }
}

/// One test.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Whether it wants a runtime of several threads.
    pub(crate) threads: bool,
    /// The test; a panic is its failure.
    pub(crate) run: fn() -> BoxFuture<'static, ()>,
}

/// Makes a [`Case`] of an async function.
#[macro_export]
macro_rules! case {
    ($function:ident) => {
        $crate::support::Case { name: stringify!($function), threads: false, run: || Box::pin($function()) }
    };
    ($function:ident, threads) => {
        $crate::support::Case { threads: true, ..case!($function) }
    };
}

/// A worker of these tests, by its number on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(pub(crate) u32);

/// All of them that run just now: those that descend from this process, by way of the launcher and its pid 1.
pub(crate) fn workers() -> Vec<Process> {
    let numbers = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all = numbers.filter(|number| is_worker(*number) && descends(*number));
    all.map(Process).collect()
}

fn is_worker(number: u32) -> bool {
    let command = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|word| word == crate::WORKER.as_bytes())
}

fn descends(number: u32) -> bool {
    let parent = |number: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    std::iter::successors(Some(number), |number| parent(*number)).any(|number| number == std::process::id())
}

impl Process {
    /// What the threads have used that run guests.
    pub(crate) fn processor_time(self) -> Duration {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.0)) else { return Duration::ZERO };
        let spent = |thread: std::io::Result<std::fs::DirEntry>| {
            let thread = thread.ok()?.path();
            let name = std::fs::read_to_string(thread.join("comm")).ok()?;
            let text = std::fs::read_to_string(thread.join("schedstat")).ok().filter(|_| name == "wasm\n")?;
            text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
        };
        threads.filter_map(spent).sum()
    }

    /// What the kernel says of it under this name.
    pub(crate) fn status(self, name: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
        line.trim().to_owned()
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
    }

    /// Has it stand still. Returns when it does.
    pub(crate) fn stop(self) {
        self.signal(Signal::STOP);
        while !self.status("State").starts_with('T') {
            std::thread::yield_now();
        }
    }

    fn signal(self, signal: Signal) {
        let pid = Pid::from_raw(self.0.cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

/// Where a case's guests run.
#[derive(Clone)]
pub(crate) enum Place {
    /// In this process.
    Here,
    /// In workers, which this launcher starts.
    Apart(Launcher),
}

tokio::task_local! {
    /// Of the case that runs.
    pub(crate) static PLACE: Place;
}

/// Whether the case's guests run in workers.
pub(crate) fn apart() -> bool {
    PLACE.with(|place| matches!(place, Place::Apart(_)))
}

/// The back end that is tested.
pub(crate) struct Under {
    here: WasmBackend,
    apart: Option<Workers>,
}

impl Under {
    fn new(dir: &Path, settings: Settings, set: impl FnOnce(&mut WorkerSettings)) -> anyhow::Result<Self> {
        let max_instances = settings.max_instances;
        let here = WasmBackend::new(settings)?;
        let launcher = PLACE.with(|place| match place {
            Place::Here => None,
            Place::Apart(launcher) => Some(launcher.clone()),
        });
        let mut settings = WorkerSettings { max_instances, ..worker_settings(dir) };
        set(&mut settings);
        let apart = launcher.map(|launcher| Workers::new(here.clone(), launcher, settings)).transpose()?;
        Ok(Self { here, apart })
    }

    pub(crate) fn compiled(&self) -> u64 {
        self.here.compiled()
    }

    fn backend(&self) -> &dyn Backend {
        self.apart.as_ref().map_or(&self.here, |apart| apart)
    }
}

/// Workers that are this test's own program.
pub(crate) fn worker_settings(dir: &Path) -> WorkerSettings {
    WorkerSettings {
        separation: Separation::Always,
        tenants: Arc::new(|| 1),
        program: std::env::current_exe().unwrap(),
        arguments: vec![crate::WORKER.to_owned()],
        dir: dir.join("workers"),
        memory_bytes: 1 << 30,
        max_instances: 16,
        idle: Duration::from_secs(60),
    }
}

impl Backend for Under {
    fn isolation(&self) -> sandbox::Isolation {
        self.backend().isolation()
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<Prepared, Error>> {
        self.backend().prepare(artifact)
    }

    fn forget(&self, digest: &str) {
        self.backend().forget(digest);
    }

    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>> {
        self.backend().start(spec)
    }
}

/// A package, a back end and its log.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) backend: Under,
    pub(crate) log: Arc<Log>,
    pub(crate) limits: Limits,
}

impl Bench {
    /// With a package of one module.
    pub(crate) fn with(module: &[u8]) -> anyhow::Result<Self> {
        let bench = Self::empty(|_| {})?;
        bench.put("guest.wasm", module)?;
        Ok(bench)
    }

    /// With an empty package and other settings.
    pub(crate) fn empty(set: impl FnOnce(&mut Settings)) -> anyhow::Result<Self> {
        Self::made(set, |_| {})
    }

    /// With an empty package and other settings of workers.
    pub(crate) fn with_workers(set: impl FnOnce(&mut WorkerSettings)) -> anyhow::Result<Self> {
        Self::made(|_| {}, set)
    }

    fn made(
        set: impl FnOnce(&mut Settings),
        set_workers: impl FnOnce(&mut WorkerSettings),
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("package"))?;
        let mut settings = Settings::new(dir.path().join("cache"));
        settings.max_instances = 16;
        set(&mut settings);
        let limits = Limits {
            memory_bytes: 64 << 20,
            cpu_hundredths: None,
            tmp_bytes: 0,
            pids: 0,
            answer_bytes: 1 << 20,
        };
        let backend = Under::new(dir.path(), settings, set_workers)?;
        Ok(Self { dir, backend, log: Arc::default(), limits })
    }

    /// A back end as after a restart: the same cache, nothing in memory.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        let mut settings = Settings::new(self.cache());
        settings.max_instances = 16;
        self.backend = Under::new(self.dir.path(), settings, |_| {})?;
        Ok(())
    }

    pub(crate) fn cache(&self) -> std::path::PathBuf {
        self.dir.path().join("cache")
    }

    pub(crate) fn package(&self) -> std::path::PathBuf {
        self.dir.path().join("package")
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(std::fs::write(self.package().join(name), bytes)?)
    }

    pub(crate) fn artifact(&self) -> Artifact {
        Artifact {
            dir: self.package(),
            digest: "a".repeat(64),
            runtime: Runtime::Wasm,
            contract: Contract::Wasi,
            handler: String::new(),
            layers: None,
            image: None,
        }
    }

    pub(crate) async fn prepare(&self) -> Result<Prepared, Error> {
        self.backend.prepare(&self.artifact()).await
    }

    pub(crate) async fn start(&self) -> anyhow::Result<Started> {
        self.start_with(|_| {}).await
    }

    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut Spec)) -> anyhow::Result<Started> {
        let mut spec = Spec {
            instance: InstanceId::random(),
            function: FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST")
                .context("ARN")?,
            revision: "1".to_owned(),
            concurrency: 1,
            template: false,
            artifact: self.artifact(),
            env: vec![("NAME".into(), "Ada".into())],
            limits: self.limits,
            port: 0,
            file_systems: Vec::new(),
            egress: Egress::None,
            init_timeout: PATIENCE,
            output: self.log.clone(),
        };
        change(&mut spec);
        Ok(Started(self.backend.start(Arc::new(spec)).await?))
    }
}

/// An instance.
#[derive(Clone)]
pub(crate) struct Started(pub(crate) Arc<dyn Instance>);

pub(crate) fn call(payload: Payload) -> Call {
    Call { id: RequestId::random(), deadline: Instant::now() + PATIENCE, deadline_unix_ms: 0, payload }
}

impl Started {
    /// The whole outcome of a request.
    pub(crate) async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Fault> {
        match self.0.invoke(call(Payload::Http(Box::new(request)))).await? {
            Output::Http(response) => Ok(response),
            Output::NotTaken(_, exit) => Err(Fault::NotDelivered(exit)),
            _ => Err(Fault::BadAnswer("an event's answer to a request".into())),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<http::Response<Body>, Fault> {
        self.send(request("GET", path, Body::empty())).await
    }

    /// Status and body of a request that is answered.
    pub(crate) async fn text(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> anyhow::Result<(u16, String)> {
        let response =
            self.send(request(method, path, body.into())).await.map_err(|f| anyhow::anyhow!("{f:?}"))?;
        let status = response.status().as_u16();
        Ok((status, read(response.into_body()).await?))
    }

    pub(crate) async fn event(&self, json: impl Into<Bytes>) -> Result<Bytes, Fault> {
        let event = Event {
            json: json.into(),
            invoked_arn: String::new(),
            trace_id: String::new(),
            client_context: None,
            cognito_identity: None,
        };
        match self.0.invoke(call(Payload::Event(event))).await? {
            Output::Event(json) => Ok(json),
            _ => Err(Fault::BadAnswer("a response to an event".into())),
        }
    }
}

pub(crate) fn request(method: &str, path: &str, body: Body) -> http::Request<Body> {
    http::Request::builder().method(method).uri(path).header("host", "test").body(body).unwrap()
}

pub(crate) async fn read(body: Body) -> anyhow::Result<String> {
    let all = body.collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok(String::from_utf8_lossy(&all.to_bytes()).into_owned())
}

/// The next piece of a body.
pub(crate) async fn piece(body: &mut Body) -> anyhow::Result<String> {
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await?;
    match frame.context("the body ended")?.map_err(anyhow::Error::from_boxed)?.into_data() {
        Ok(data) => Ok(String::from_utf8_lossy(&data).into_owned()),
        Err(_) => bail!("not data"),
    }
}

/// A preview-1 command of one function, written as text. `body` may use `$write` (fd, iovec, count,
/// written), `$exit` and two pages of memory.
pub(crate) fn command(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 2)
            (func $main (export "_start") {body}))"#
    );
    wat::parse_str(text).unwrap()
}

/// Files in a directory with this extension.
pub(crate) fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}
