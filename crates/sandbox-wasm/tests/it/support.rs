//! A package on disk, a back end with its cache beside it, and shorthand for calls.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base::{FunctionArn, InstanceId, RequestId};
use bytes::Bytes;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use sandbox::{
    Artifact, Backend, Body, Call, Contract, Egress, Error, Event, Fault, Instance, Limits, LogSink, Output,
    Payload, Prepared, Runtime, Spec,
};
use sandbox_wasm::{Settings, WasmBackend};
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

/// A package, a back end and its log.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) backend: WasmBackend,
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
        Ok(Self { dir, backend: WasmBackend::new(settings)?, log: Arc::default(), limits })
    }

    /// A back end as after a restart: the same cache, nothing in memory.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        let mut settings = Settings::new(self.cache());
        settings.max_instances = 16;
        self.backend = WasmBackend::new(settings)?;
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
