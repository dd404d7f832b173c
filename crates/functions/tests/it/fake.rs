//! A back end without sandboxes. A function's handler is its script; tests open gates and wait for counts, so that no
//! test sleeps.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use sandbox::*;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// What every instance and test shares.
pub(crate) struct Stage {
    /// Calls with the handler `gate` pass one permit each.
    pub(crate) gate: Semaphore,
    /// Starts with the handler `start-gate` pass one permit each.
    pub(crate) start_gate: Semaphore,
    /// Instances with the handler `dies-slowly` are gone once they have passed one permit each.
    pub(crate) end_gate: Semaphore,
    /// Prepares with the handler `slow-prepare` pass one permit each; those with `not-yet` take one or are refused.
    pub(crate) prepare_gate: Semaphore,
    /// Instances started so far, in order.
    pub(crate) started: watch::Sender<Vec<Arc<Spec>>>,
    /// Instances not stopped.
    pub(crate) live: watch::Sender<i64>,
    /// Calls begun so far, by event.
    pub(crate) begun: watch::Sender<Vec<String>>,
    /// The traces of calls begun so far.
    pub(crate) traces: Mutex<Vec<String>>,
    /// Prepares so far.
    pub(crate) prepared: AtomicU64,
    /// Starts that failed on purpose, or were asked to.
    pub(crate) attempts: watch::Sender<u64>,
    /// So many of the next calls meet an instance that has ended before it takes them.
    pub(crate) not_delivered: AtomicU64,
    /// The layers of what was prepared last.
    pub(crate) layers: Mutex<Option<std::path::PathBuf>>,
    /// Digests that were forgotten, in order.
    pub(crate) forgotten: Mutex<Vec<String>>,
    /// Revisions that were retired, in order.
    pub(crate) retired: Mutex<Vec<String>>,
    /// The revisions that there were as a server started.
    pub(crate) kept: Mutex<HashSet<String>>,
    /// Instances that were frozen so far.
    pub(crate) frozen: AtomicU64,
    /// Bytes kept for fast starts, of one back end.
    pub(crate) residents: AtomicU64,
    /// How often that was asked.
    pub(crate) asked: AtomicU64,
    /// Answers of calls with the handler `stream`, in order.
    scripts: Mutex<VecDeque<Streamed>>,
}

/// Makes the answer of a call with the handler `stream`.
pub(crate) struct Script {
    pieces: mpsc::Sender<Bytes>,
    end: oneshot::Sender<StreamEnd>,
}

impl Script {
    pub(crate) async fn say(&self, piece: impl Into<Bytes>) {
        assert!(self.try_say(piece).await, "somebody takes it");
    }

    /// False once nobody takes it.
    pub(crate) async fn try_say(&self, piece: impl Into<Bytes>) -> bool {
        self.pieces.send(piece.into()).await.is_ok()
    }

    pub(crate) fn end(self, end: StreamEnd) {
        drop(self.pieces);
        self.end.send(end).expect("somebody waits for the end");
    }
}

impl Stage {
    /// What the next call with the handler `stream` answers.
    pub(crate) fn script(&self) -> Script {
        let (pieces, end, streamed) = Streamed::new(Some("a/b".to_owned()));
        self.scripts.lock().unwrap().push_back(streamed);
        Script { pieces, end }
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            gate: Semaphore::new(0),
            start_gate: Semaphore::new(0),
            end_gate: Semaphore::new(0),
            prepare_gate: Semaphore::new(0),
            started: watch::Sender::default(),
            live: watch::Sender::default(),
            begun: watch::Sender::default(),
            traces: Mutex::default(),
            prepared: AtomicU64::new(0),
            attempts: watch::Sender::default(),
            not_delivered: AtomicU64::new(0),
            layers: Mutex::default(),
            forgotten: Mutex::default(),
            retired: Mutex::default(),
            kept: Mutex::default(),
            frozen: AtomicU64::new(0),
            residents: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            scripts: Mutex::default(),
        }
    }
}

pub(crate) struct Fake {
    pub(crate) isolation: Isolation,
    pub(crate) stage: Arc<Stage>,
}

async fn pass(gate: &Semaphore) {
    gate.acquire().await.expect("gates are not closed").forget();
}

impl Backend for Fake {
    fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<Prepared, Error>> {
        Box::pin(async move {
            self.stage.prepared.fetch_add(1, Ordering::SeqCst);
            assert!(artifact.dir.is_dir(), "prepare sees the unpacked package");
            assert!(artifact.layers.as_ref().is_none_or(|layers| layers.is_dir()), "and its layers");
            self.stage.layers.lock().unwrap().clone_from(&artifact.layers);
            match artifact.handler.as_str() {
                "no-runtime" => return Err(Error::Invalid("python3.99 is not on this host".into())),
                "slow-prepare" => pass(&self.stage.prepare_gate).await,
                "not-yet" => match self.stage.prepare_gate.try_acquire() {
                    Ok(permit) => permit.forget(),
                    Err(_) => return Err(Error::NotYet("python3.99 may be on this host".into())),
                },
                _ => {}
            }
            let events = artifact.contract == Contract::Lambda || artifact.handler == "command";
            let speaks = if events { Speaks::Events } else { Speaks::Http };
            Ok(Prepared { speaks, one_at_a_time: artifact.contract == Contract::Lambda })
        })
    }

    fn forget(&self, digest: &str) {
        self.stage.forgotten.lock().unwrap().push(digest.to_owned());
    }

    fn retire(&self, revision: &str) {
        self.stage.retired.lock().unwrap().push(revision.to_owned());
    }

    fn keep_only(&self, revisions: &HashSet<String>) {
        self.stage.kept.lock().unwrap().clone_from(revisions);
    }

    fn residents(&self) -> Vec<Resident> {
        if self.isolation != Isolation::Process {
            return Vec::new();
        }
        self.stage.asked.fetch_add(1, Ordering::SeqCst);
        let bytes = self.stage.residents.load(Ordering::SeqCst);
        vec![Resident { name: "template".into(), count: 1, bytes }]
    }

    fn shrink(&self, bytes: u64) -> u64 {
        if self.isolation != Isolation::Process {
            return 0;
        }
        let given = bytes.min(self.stage.residents.load(Ordering::SeqCst));
        self.stage.residents.fetch_sub(given, Ordering::SeqCst);
        given
    }

    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>> {
        Box::pin(async move {
            self.stage.attempts.send_modify(|count| *count += 1);
            match spec.artifact.handler.as_str() {
                "init-error" => {
                    spec.output.write(b"Traceback\n");
                    let json = Bytes::from_static(
                        br#"{"errorType":"Runtime.ImportModuleError","errorMessage":"no module"}"#,
                    );
                    return Err(StartError::Init { json, error_type: None });
                }
                "init-exit" => return Err(StartError::Exited(Exit::Code(3))),
                "init-timeout" => return Err(StartError::TimedOut),
                "no-entry" => return Err(StartError::Entrypoint("bootstrap is not executable".into())),
                "host-fails" => return Err(StartError::Sandbox(Error::Unavailable("no namespaces".into()))),
                "start-invalid" => {
                    return Err(StartError::Sandbox(Error::Invalid("the module has gone bad".into())));
                }
                "start-gate" => pass(&self.stage.start_gate).await,
                _ => {}
            }
            self.stage.live.send_modify(|count| *count += 1);
            self.stage.started.send_modify(|all| all.push(Arc::clone(&spec)));
            Ok(Arc::new(FakeInstance {
                busy: Default::default(),
                spec,
                stage: Arc::clone(&self.stage),
                exit: watch::Sender::new(None),
            }) as Arc<dyn Instance>)
        })
    }
}

struct FakeInstance {
    /// Calls under way, to catch more than there may be.
    busy: std::sync::atomic::AtomicU32,
    spec: Arc<Spec>,
    stage: Arc<Stage>,
    exit: watch::Sender<Option<Exit>>,
}

impl FakeInstance {
    fn end(&self, exit: Exit) {
        let first = self.exit.send_if_modified(|ended| ended.is_none() && ended.replace(exit).is_none());
        if first {
            self.stage.live.send_modify(|count| *count -= 1);
        }
    }

    async fn run(&self, call: Call) -> Result<Output, Fault> {
        let unlucky = |left: u64| left.checked_sub(1);
        if self.stage.not_delivered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, unlucky).is_ok() {
            self.end(Exit::Signal(9));
            return match call.payload {
                Payload::Event(_) => Err(Fault::NotDelivered(Exit::Signal(9))),
                Payload::Http(request) => Ok(Output::NotTaken(request, Exit::Signal(9))),
            };
        }
        let (event, http) = match call.payload {
            Payload::Event(event) => {
                self.stage.traces.lock().unwrap().push(event.trace_id.clone());
                (event.json, None)
            }
            Payload::Http(request) => {
                let (head, body) = request.into_parts();
                let body = http_body_util::BodyExt::collect(body).await.expect("test bodies do not fail");
                (body.to_bytes(), Some(head))
            }
        };
        let text = String::from_utf8_lossy(&event).into_owned();
        self.stage.begun.send_modify(|all| all.push(text.clone()));
        self.spec.output.write(format!("saw {text}\n").as_bytes());
        let handler = self.spec.artifact.handler.as_str();
        let handler = text.trim_matches('"').strip_prefix("do ").unwrap_or(handler);
        let fault = |exit| {
            self.end(exit);
            Err(Fault::Exited(exit))
        };
        match handler {
            "gate" => pass(&self.stage.gate).await,
            "hang" => std::future::pending().await,
            "stream" => {
                let next = self.stage.scripts.lock().unwrap().pop_front();
                return Ok(Output::Stream(next.expect("a script for each call")));
            }
            "exit-1" => return fault(Exit::Code(1)),
            "exit-0" => return fault(Exit::Code(0)),
            "segfault" => return fault(Exit::Signal(11)),
            "oom" => return fault(Exit::OutOfMemory),
            "large" => return Err(Fault::AnswerTooLarge { size: 6_291_557, limit: 6_291_556 }),
            "trap" => return Err(Fault::Trap("unreachable executed".into())),
            "reset" => return Err(Fault::BadAnswer("connection reset".into())),
            "error" => {
                let json = Bytes::from_static(br#"{"errorType":"ValueError","errorMessage":"no"}"#);
                return Ok(Output::FunctionError(FunctionError { json, error_type: None }));
            }
            _ => {}
        }
        let Some(head) = http else { return Ok(Output::Event(event)) };
        Ok(Output::Http(respond(&head, event)))
    }
}

/// What the fake web server answers by path.
fn respond(head: &http::request::Parts, body: Bytes) -> http::Response<Body> {
    match head.uri.path() {
        "/stream" => http::Response::new(Body::boxed(Endless { frames: 0 })),
        "/drip" => http::Response::new(Body::boxed(Endless { frames: 1 })),
        "/upgrade" => http::Response::builder().status(101).body(Body::empty()).expect("the parts are valid"),
        "/chunks" => {
            let body = http_body_util::Full::new(Bytes::from_static(b"chunk"));
            http::Response::new(Body::boxed(body))
        }
        "/events" if body == "\"fail\"" => {
            http::Response::builder().status(500).body(Body::from("broken")).expect("the parts are valid")
        }
        _ => http::Response::new(Body::from(body)),
    }
}

/// A body that never ends and has few frames.
struct Endless {
    frames: u32,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        if self.frames == 0 {
            return std::task::Poll::Pending;
        }
        self.frames -= 1;
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"drop")))))
    }
}

/// Counts a call while it runs.
struct Busy<'a>(&'a std::sync::atomic::AtomicU32);

impl<'a> Busy<'a> {
    fn new(count: &'a std::sync::atomic::AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Instance for FakeInstance {
    fn invoke(&self, call: Call) -> BoxFuture<'_, Result<Output, Fault>> {
        Box::pin(async move {
            let busy = Busy::new(&self.busy);
            let most = self.spec.concurrency;
            assert!(busy.0.load(Ordering::SeqCst) <= most, "more calls at once than the instance takes");
            let mut exit = self.exit.subscribe();
            tokio::select! {
                output = self.run(call) => output,
                Ok(exit) = exit.wait_for(Option::is_some) => Err(Fault::Exited(exit.unwrap_or(Exit::Stopped))),
            }
        })
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        let mut exit = self.exit.subscribe();
        Box::pin(async move {
            exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Stopped)
        })
    }

    fn phases(&self) -> Phases {
        if self.spec.artifact.handler != "phased" {
            return Phases::default();
        }
        let millis = std::time::Duration::from_millis;
        Phases { origin: Origin::Template, sandbox: millis(2), runtime: millis(20), init: millis(300) }
    }

    fn freeze(&self) {
        assert_eq!(self.busy.load(Ordering::SeqCst), 0, "a call runs on what is frozen");
        self.stage.frozen.fetch_add(1, Ordering::SeqCst);
    }

    fn peak_memory(&self) -> u64 {
        30 << 20
    }

    fn collect_output(&self) {
        self.spec.output.write(b"last words\n");
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        if self.spec.artifact.handler != "dies-slowly" {
            self.end(Exit::Stopped);
            return Box::pin(std::future::ready(()));
        }
        Box::pin(async {
            // Given up, it has not passed.
            let passed = self.stage.end_gate.acquire().await.expect("gates are not closed");
            passed.forget();
            self.end(Exit::Stopped);
        })
    }
}

impl Drop for FakeInstance {
    fn drop(&mut self) {
        self.end(Exit::Stopped);
    }
}

/// Images of a registry that never answers.
pub(crate) struct NoAnswer;

impl functions::Images for NoAnswer {
    fn check(&self, _: &str) -> Result<(), functions::ImageError> {
        Ok(())
    }

    fn pull<'a>(
        &'a self,
        _: &'a base::AccountId,
        _: &'a str,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<functions::Pulled, functions::ImageError>> {
        Box::pin(std::future::pending())
    }

    fn find(&self, _: &str) -> Option<functions::Unpacked> {
        None
    }

    fn remove(&self, _: &str) {}

    fn sweep(&self, _: &std::collections::HashSet<String>) -> Result<(), functions::ImageError> {
        Ok(())
    }
}
