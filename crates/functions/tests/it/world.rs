//! A data directory with the service on it, closed and opened at will.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base::{Clock, Region, RequestId, SystemClock, Timestamp};
use functions::model::*;
use functions::{Bounds, Deps, Error, Functions, Invoke, MIGRATIONS, Outcome};
use iam::{Caller, Principal};
use sandbox::{Backend, Isolation};

use crate::fake::{Fake, Stage};
use crate::zips;

pub(crate) const WAIT: Duration = Duration::from_secs(20);

/// The system's clock, so many milliseconds ahead.
#[derive(Debug, Default)]
pub(crate) struct Shifted(AtomicI64);

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().as_millis() + self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct World {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) functions: Functions,
    pub(crate) stage: Arc<Stage>,
    pub(crate) caller: Caller,
    pub(crate) logs: observe::Logs,
    pub(crate) metrics: Arc<observe::FunctionMetrics>,
    pub(crate) blobs: store::Blobs,
    pub(crate) store: store::Store,
    bounds: Bounds,
    clock: Arc<Shifted>,
}

/// Any name, for whoever wants it.
fn open_domains() -> functions::Domains {
    let mut domains = functions::Domains::default();
    domains.open(None, "*").unwrap();
    domains
}

pub(crate) fn bounds() -> Bounds {
    Bounds {
        max_instances: 100,
        max_memory_bytes: 100 << 30,
        max_queue: 100,
        queue_timeout: Duration::from_secs(20),
        init_timeout: Duration::from_secs(20),
        egress: sandbox::Egress::Public,
        egress_of: BTreeMap::new(),
        max_egress: sandbox::Egress::Public,
        domains: open_domains(),
        idle_timeout: Duration::from_secs(300),
        scaling: Default::default(),
        pace: Default::default(),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(bounds()).await
    }

    pub(crate) async fn with(bounds: Bounds) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::open(dir, bounds, Arc::default()).await.unwrap()
    }

    async fn open(dir: Arc<tempfile::TempDir>, bounds: Bounds, stage: Arc<Stage>) -> Result<Self, Error> {
        let at = |name: &str| dir.path().join(name);
        let shifted = Arc::new(Shifted::default());
        let clock = Arc::clone(&shifted) as Arc<dyn Clock>;
        let store =
            store::Store::open(&at("db"), &[iam::MIGRATIONS, queues::MIGRATIONS, MIGRATIONS]).unwrap();
        let key_file = at("key");
        let iam = iam::Iam::open(store.clone(), &key_file, iam::Bootstrap::default(), Arc::clone(&clock));
        let iam = iam.await.unwrap();
        let caller = Caller::new(iam.first_account().clone(), Principal::User { name: "admin".into() });
        let logs = observe::Logs::open(&at("logs"), Arc::clone(&clock)).unwrap();
        let metrics = Arc::new(observe::FunctionMetrics::new());
        let blobs = store::Blobs::open(&at("blobs")).unwrap();
        let backend = |isolation| Arc::new(Fake { isolation, stage: Arc::clone(&stage) }) as Arc<dyn Backend>;
        let waiting = queues::Deps {
            store: store.clone(),
            files: store::Blobs::open(&at("messages")).unwrap(),
            clock: Arc::clone(&clock),
        };
        let consumed = [(functions::EVENTS, bounds.pace.per_function)];
        let queues = queues::Queues::open(waiting, &consumed, &[functions::FAILED_EVENTS]).await.unwrap();
        let functions = Functions::open(Deps {
            queues,
            store: store.clone(),
            blobs: blobs.clone(),
            code_dir: at("code"),
            objects: None,
            outbox: None,
            images: Some(Arc::new(crate::fake::NoAnswer)),
            logs: logs.clone(),
            metrics: Arc::clone(&metrics),
            iam,
            clock,
            region: Region::default(),
            file_systems: Default::default(),
            backends: vec![backend(Isolation::Process), backend(Isolation::Wasm)],
            bounds: bounds.clone(),
        });
        let functions = functions.await?;
        Ok(Self { functions, dir, stage, caller, logs, metrics, blobs, store, bounds, clock: shifted })
    }

    /// Lets the clock show a later time. Who waits for a time is not woken by that.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// As after kill -9: nothing is told to end, and the directory is opened again.
    pub(crate) async fn crash(self) -> Self {
        self.reopen().await.unwrap()
    }

    /// The same with other bounds.
    pub(crate) async fn crash_into(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self.crash().await
    }

    /// The same; an error if the directory does not open.
    pub(crate) async fn reopen(self) -> Result<Self, Error> {
        let Self { dir, bounds, functions, .. } = self;
        drop(functions);
        Self::open(dir, bounds, Arc::default()).await
    }

    pub(crate) fn code_dir(&self) -> PathBuf {
        self.dir.path().join("code")
    }

    /// Folders of unpacked packages, and what is in staging.
    pub(crate) fn folders(&self) -> (Vec<String>, Vec<String>) {
        let names = |dir: PathBuf| -> Vec<String> {
            let entries = std::fs::read_dir(dir).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let mut folders = names(self.code_dir());
        folders.retain(|name| name != ".staging");
        folders.sort();
        (folders, names(self.code_dir().join(".staging")))
    }

    /// Waits until no package is kept, packed or unpacked.
    pub(crate) async fn nothing_kept(&self) {
        until("the folders are gone", || self.folders().0.is_empty().then_some(())).await;
        let gone = async { while !self.blobs.list().await.unwrap().is_empty() {} };
        tokio::time::timeout(WAIT, gone).await.expect("the blobs are gone in time");
    }

    pub(crate) fn named(&self, name: &str) -> FunctionRef {
        FunctionRef { account: self.caller.account.clone(), name: name.into(), qualifier: None }
    }

    pub(crate) fn version(&self, name: &str, qualifier: &str) -> FunctionRef {
        FunctionRef { qualifier: Some(qualifier.into()), ..self.named(name) }
    }

    pub(crate) fn args(name: &str, handler: &str) -> CreateFunction {
        CreateFunction {
            name: name.into(),
            description: String::new(),
            role: "arn:aws:iam::123456789012:role/any".into(),
            runtime: "python3.11".into(),
            handler: handler.into(),
            timeout_s: 3,
            memory_mb: 128,
            ephemeral_mb: 512,
            logging: Default::default(),
            log_group: None,
            environment: BTreeMap::new(),
            code: zips::package("x").into(),
            layers: Vec::new(),
            snap_start: false,
            traced: false,
            file_systems: Vec::new(),
            image_config: Default::default(),
            code_signing: None,
            tags: BTreeMap::new(),
            publish: false,
        }
    }

    pub(crate) async fn create(&self, name: &str, handler: &str) -> FunctionView {
        self.create_with(Self::args(name, handler), &[]).await
    }

    /// Creates and waits until it can be called.
    pub(crate) async fn create_with(&self, mut args: CreateFunction, tags: &[(&str, &str)]) -> FunctionView {
        args.tags.extend(tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let name = args.name.clone();
        let created = self.functions.create(&self.caller, args).await.unwrap();
        assert_eq!(created.configuration.state, State::Pending);
        self.settled(&self.named(&name)).await;
        created
    }

    /// Waits until nothing is being prepared, and answers what there is then.
    pub(crate) async fn settled(&self, function: &FunctionRef) -> FunctionView {
        until("settled", || {
            let view = self.functions.get(&self.caller, function).unwrap();
            let configuration = &view.configuration;
            let waits = configuration.state == State::Pending
                || configuration.update_status == UpdateStatus::InProgress;
            (!waits).then_some(view)
        })
        .await
    }

    pub(crate) fn call(&self, name: &str, event: &str) -> Invoke {
        Invoke {
            id: RequestId::random(),
            function: self.named(name),
            payload: event.to_owned().into(),
            client_context: None,
            trace_id: None,
            tail: true,
            trace: false,
        }
    }

    pub(crate) async fn invoke(&self, name: &str, event: &str) -> Result<Outcome, Error> {
        self.functions.invoke(&self.caller, self.call(name, event)).await
    }

    /// Invokes in a task.
    pub(crate) fn spawn(&self, name: &str, event: &str) -> tokio::task::JoinHandle<Result<Outcome, Error>> {
        let (functions, caller, call) = (self.functions.clone(), self.caller.clone(), self.call(name, event));
        tokio::spawn(async move { functions.invoke(&caller, call).await })
    }

    /// Waits until so many calls have begun on instances.
    pub(crate) async fn begun(&self, count: usize) -> Vec<String> {
        let mut begun = self.stage.begun.subscribe();
        let all = tokio::time::timeout(WAIT, begun.wait_for(|all| all.len() >= count)).await;
        all.expect("calls begin in time").unwrap().clone()
    }

    /// Waits until so many instances are up.
    pub(crate) async fn live(&self, count: i64) {
        let mut live = self.stage.live.subscribe();
        tokio::time::timeout(WAIT, live.wait_for(|live| *live == count))
            .await
            .expect("instances in time")
            .unwrap();
    }

    /// Waits until so many starts were asked for.
    pub(crate) async fn attempts(&self, count: u64) {
        let mut attempts = self.stage.attempts.subscribe();
        tokio::time::timeout(WAIT, attempts.wait_for(|all| *all >= count))
            .await
            .expect("starts in time")
            .unwrap();
    }

    /// A metric's value, by a part of its line.
    pub(crate) fn metric(&self, part: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.contains(part) && !line.starts_with('#'))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub(crate) fn started(&self) -> usize {
        self.stage.started.borrow().len()
    }
}

/// Tries until there is something; gives other tasks their turn in between.
pub(crate) async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(value) = found() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(WAIT, looking).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// The payload of a function error, with the request's id taken out.
pub(crate) fn error_payload(outcome: &Outcome) -> serde_json::Value {
    let error = outcome.result.as_ref().expect_err("the function failed");
    let mut value: serde_json::Value = serde_json::from_slice(&error.json).unwrap();
    if let Some(message) = value["errorMessage"].as_str() {
        let message = match message.strip_prefix("RequestId: ") {
            Some(rest) => rest[37..].to_owned(),
            None => message.to_owned(),
        };
        value["errorMessage"] = message.into();
    }
    value
}

pub(crate) fn tail(outcome: &Outcome) -> String {
    String::from_utf8(outcome.log_tail.clone().unwrap().to_vec()).unwrap()
}
