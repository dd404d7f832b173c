//! The engines in real jails: functions of every kind, and what becomes of those that misbehave.

mod ahead;
mod egress;
mod errand;
mod events;
mod freeze;
mod java;
mod languages;
mod platform;
mod template;
mod web;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{AccountId, FunctionArn, InstanceId, Region, RequestId};
use bytes::Bytes;
use parking_lot::Mutex;
use sandbox::egress::Network;
use sandbox::process::{FromInside, ProcessBackend, Settings};
use sandbox::{
    Artifact, Backend, Call, Contract, Count, Egress, Event, Fault, Instance, Limits, LogSink, Output,
    Payload, Runtime, Spec, StartError,
};
use tokio::sync::mpsc;

use crate::world::{Case, World};

/// Bytes of an answer to an event.
pub(crate) const ANSWER_BYTES: usize = 100_000;

/// Bytes a second that an instance may print.
pub(crate) const LOG_BYTES_PER_S: u64 = 4 << 20;

/// Nothing here takes this long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CASES: [&[Case]; 10] = [
    events::CASES,
    freeze::CASES,
    web::CASES,
    platform::CASES,
    ahead::CASES,
    template::CASES,
    egress::CASES,
    errand::CASES,
    languages::CASES,
    java::CASES,
];

/// A back end on the world's launcher, with the receiving end of its functions' endpoint.
pub(crate) struct Engines {
    world: World,
    backend: ProcessBackend,
    endpoint: mpsc::Receiver<FromInside>,
}

/// Keeps what an instance prints, and what is counted of it.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<u8>>, Mutex<Vec<(Count, u64)>>);

impl Kept {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// How much was counted of this.
    pub(crate) fn counted(&self, what: Count) -> u64 {
        self.1.lock().iter().filter(|(counted, _)| *counted == what).map(|(_, by)| by).sum()
    }

    /// The last of it.
    pub(crate) fn tail(&self) -> String {
        let kept = self.0.lock();
        String::from_utf8_lossy(&kept[kept.len().saturating_sub(2000)..]).into_owned()
    }
}

impl LogSink for Kept {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().extend_from_slice(bytes);
    }

    fn count(&self, what: Count, by: u64) {
        self.1.lock().push((what, by));
    }
}

/// A function to be started.
pub(crate) struct Function {
    pub(crate) spec: Spec,
    pub(crate) log: Arc<Kept>,
}

impl Function {
    pub(crate) fn http(mut self) -> Self {
        self.spec.artifact.contract = Contract::Http;
        self
    }

    fn init_timeout(mut self, timeout: Duration) -> Self {
        self.spec.init_timeout = timeout;
        self
    }
}

/// A function that is up.
pub(crate) struct Running {
    pub(crate) instance: Arc<dyn Instance>,
    pub(crate) id: InstanceId,
    pub(crate) log: Arc<Kept>,
}

impl Engines {
    /// Without pools.
    pub(crate) fn new(world: &World) -> Self {
        Self::with(world, Vec::new(), 0, 0, 0)
    }

    fn with_pools(world: &World, sandboxes: u32, runtimes: u32) -> Self {
        Self::with(world, Vec::new(), sandboxes, runtimes, 0)
    }

    /// With so many bytes for templates.
    fn with_templates(world: &World, bytes: u64) -> Self {
        Self::with(world, Vec::new(), 0, 0, bytes)
    }

    fn with(
        world: &World,
        resolvers: Vec<std::net::SocketAddr>,
        pool_sandboxes: u32,
        pool_runtimes: u32,
        template_bytes: u64,
    ) -> Self {
        let (sender, endpoint) = mpsc::channel(256);
        let settings = Settings {
            runtime_dir: world.data().join("runtime"),
            endpoint: Some(sender),
            network: Arc::new(Network::new(resolvers)),
            log_bytes_per_s: LOG_BYTES_PER_S,
            pool_sandboxes,
            pool_runtimes,
            template_bytes,
        };
        let backend = ProcessBackend::new(world.launcher.clone(), settings).unwrap();
        Self { world: world.clone(), backend, endpoint }
    }

    /// A newest runtime of the host: `python`, `nodejs`, `php`, `ruby` or `java`.
    pub(crate) async fn runtime(&self, kind: &str) -> Runtime {
        let all = self.backend.interpreters().list().await;
        let runtimes = all.iter().map(|interpreter| interpreter.runtime.clone());
        let mut wanted = runtimes.filter(|runtime| runtime.to_string().starts_with(kind));
        wanted.next_back().expect("the tests need Python, Node, PHP, Ruby and Java on PATH")
    }

    pub(crate) async fn python(&self, source: &str) -> Function {
        self.function(self.runtime("python").await, "app.handler", &[("app.py", 0o644, source)])
    }

    pub(crate) async fn node(&self, source: &str) -> Function {
        self.function(self.runtime("nodejs").await, "index.handler", &[("index.js", 0o644, source)])
    }

    /// A PHP handler; its source comes after the opening tag.
    pub(crate) async fn php(&self, source: &str) -> Function {
        let source = format!("<?php\n{source}");
        self.function(self.runtime("php").await, "index.php", &[("index.php", 0o644, &source)])
    }

    pub(crate) async fn ruby(&self, source: &str) -> Function {
        self.function(self.runtime("ruby").await, "app.handler", &[("app.rb", 0o644, source)])
    }

    /// A web server for Node, in `server.js`.
    pub(crate) async fn node_server(&self, source: &str) -> Function {
        self.function(self.runtime("nodejs").await, "server.js", &[("server.js", 0o644, source)]).http()
    }

    /// An executable script.
    pub(crate) fn provided(&self, source: &str) -> Function {
        let runtime = Runtime::parse("provided.al2023").unwrap();
        self.function(runtime, "", &[("bootstrap", 0o755, source)])
    }

    pub(crate) fn function(&self, runtime: Runtime, handler: &str, files: &[(&str, u32, &str)]) -> Function {
        let dir = self.world.code(files);
        let log = Arc::new(Kept::default());
        let spec = Spec {
            instance: InstanceId::random(),
            function: FunctionArn {
                region: Region::default(),
                account: AccountId::parse("123456789012").unwrap(),
                name: "greet".to_owned(),
                qualifier: Some("$LATEST".to_owned()),
            },
            revision: "1".to_owned(),
            concurrency: 1,
            template: false,
            artifact: artifact(dir, runtime, handler),
            env: [("_HANDLER", handler), ("LAMBDA_TASK_ROOT", "/var/task"), ("GREETING", "hello")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            limits: Limits {
                memory_bytes: 256 << 20,
                cpu_hundredths: None,
                tmp_bytes: 16 << 20,
                pids: 64,
                answer_bytes: ANSWER_BYTES,
            },
            port: 8080,
            file_systems: Vec::new(),
            egress: Egress::default(),
            init_timeout: PATIENCE,
            output: log.clone(),
        };
        Function { spec, log }
    }

    pub(crate) async fn try_start(&self, function: Function) -> Result<Running, (StartError, Arc<Kept>)> {
        let Function { spec, log } = function;
        let id = spec.instance.clone();
        match self.backend.start(Arc::new(spec)).await {
            Ok(instance) => Ok(Running { instance, id, log }),
            Err(error) => Err((error, log)),
        }
    }

    pub(crate) async fn start(&self, function: Function) -> Running {
        match self.try_start(function).await {
            Ok(running) => running,
            Err((error, log)) => panic!("{error}: {error:?}\n{}", log.text()),
        }
    }
}

fn artifact(dir: PathBuf, runtime: Runtime, handler: &str) -> Artifact {
    Artifact {
        dir,
        digest: "0".repeat(64),
        runtime,
        contract: Contract::Lambda,
        handler: handler.to_owned(),
        layers: None,
        image: None,
    }
}

impl Running {
    pub(crate) async fn invoke(&self, payload: Payload) -> Result<Output, Fault> {
        let call = Call {
            id: RequestId::random(),
            deadline: Instant::now() + PATIENCE,
            deadline_unix_ms: base::Clock::now(&base::SystemClock).as_millis() + 30_000,
            payload,
        };
        tokio::time::timeout(PATIENCE, self.instance.invoke(call)).await.expect("an answer in time")
    }

    pub(crate) async fn event(&self, json: &str) -> Result<Output, Fault> {
        self.invoke(Payload::Event(Event {
            json: Bytes::copy_from_slice(json.as_bytes()),
            invoked_arn: "arn:aws:lambda:us-east-1:123456789012:function:greet".to_owned(),
            trace_id: "Root=1-5759e988-bd862e3fe1be46a994272793".to_owned(),
            client_context: None,
            cognito_identity: None,
        }))
        .await
    }

    /// The result of an event that succeeds.
    pub(crate) async fn result(&self, json: &str) -> serde_json::Value {
        match self.event(json).await {
            Ok(Output::Event(answer)) => serde_json::from_slice(&answer).unwrap(),
            Ok(Output::FunctionError(error)) => panic!("{error:?}\n{}", self.log.text()),
            Ok(Output::Stream(_) | Output::Http(_) | Output::NotTaken(..)) => {
                panic!("a response to an event")
            }
            Err(fault) => panic!("{fault:?}\n{}", self.log.text()),
        }
    }

    async fn fault(&self, json: &str) -> Fault {
        self.event(json).await.err().expect("no output")
    }

    pub(crate) async fn request(
        &self,
        request: http::Request<sandbox::Body>,
    ) -> Result<http::Response<sandbox::Body>, Fault> {
        match self.invoke(Payload::Http(Box::new(request))).await? {
            Output::Http(response) => Ok(response),
            Output::NotTaken(_, exit) => Err(Fault::NotDelivered(exit)),
            Output::Event(_) | Output::Stream(_) | Output::FunctionError(_) => {
                panic!("an event's answer to a request")
            }
        }
    }
}
