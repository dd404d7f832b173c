//! For the engines' tests: a program that is an ordinary child process, without a jail, and its Runtime API.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::RequestId;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use super::clients;
use super::instance::Tasks;
use super::interpreters::{Interpreter, Interpreters};
use super::longpoll::{Begun, LongPoll, Started};
use super::output::Output;
use super::output::tests::{Kept, pipe};
use crate::{Event, Fault, Output as CallOutput, StartError};

/// Nothing that a test waits for takes this long, unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer in these tests.
pub(crate) const ANSWER_BYTES: usize = 100_000;

/// A program that speaks the Runtime API.
pub(crate) struct Program {
    pub(crate) api: Arc<LongPoll>,
    pub(crate) log: Arc<Kept>,
    started: Option<Started>,
    child: Child,
    _folder: tempfile::TempDir,
    _tasks: Tasks,
}

/// The newest interpreter of this host whose runtime begins so: `python`, `nodejs`, `php`, `ruby`, `java`.
pub(crate) async fn interpreter(runtime: &str) -> Arc<Interpreter> {
    static FOUND: OnceCell<Interpreters> = OnceCell::const_new();
    let interpreters = FOUND.get_or_init(|| async { Interpreters::new(None) }).await;
    let all = interpreters.list().await;
    let wanted = |i: &&Arc<Interpreter>| i.runtime.to_string().starts_with(runtime);
    all.iter().rfind(wanted).expect("the tests need Python, Node, PHP, Ruby and Java on PATH").clone()
}

impl Program {
    /// Virga's Python client with these files.
    pub(crate) async fn python(handler: &str, files: &[(&str, &str)]) -> Self {
        Self::python_with(handler, files, &[]).await
    }

    /// And with these variables.
    pub(crate) async fn python_with(handler: &str, files: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        let python = interpreter("python").await.executable.clone();
        Self::start(handler, files, env, |clients| {
            let mut command = Command::new(python);
            command.args(["-X", "utf8"]).arg(clients.join("python/bootstrap.py"));
            command
        })
        .await
    }

    /// Virga's Node client with these files.
    pub(crate) async fn node(handler: &str, files: &[(&str, &str)]) -> Self {
        Self::node_with(handler, files, &[]).await
    }

    /// And with these variables.
    pub(crate) async fn node_with(handler: &str, files: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        let node = interpreter("nodejs").await.executable.clone();
        Self::start(handler, files, env, |clients| {
            let mut command = Command::new(node);
            command.arg(clients.join("node/bootstrap.cjs"));
            command
        })
        .await
    }

    /// Virga's PHP client with these files.
    pub(crate) async fn php(handler: &str, files: &[(&str, &str)]) -> Self {
        Self::described("php", handler, files, &[]).await
    }

    /// Virga's Ruby client with these files.
    pub(crate) async fn ruby(handler: &str, files: &[(&str, &str)]) -> Self {
        Self::described("ruby", handler, files, &[]).await
    }

    /// The client of a runtime, started as its description says.
    pub(crate) async fn described(
        runtime: &str,
        handler: &str,
        files: &[(&str, &str)],
        env: &[(&str, &str)],
    ) -> Self {
        let interpreter = interpreter(runtime).await;
        let start = clients::described(&interpreter.runtime).unwrap().start;
        Self::start(handler, files, env, |folder| {
            let mut command = Command::new(&interpreter.executable);
            let folder = folder.display().to_string();
            command.args(start.iter().map(|argument| argument.replace(clients::INSIDE, &folder)));
            command
        })
        .await
    }

    /// Any program; it is told the folder of the runtime clients.
    pub(crate) async fn start(
        handler: &str,
        files: &[(&str, &str)],
        env: &[(&str, &str)],
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let task = folder.path().join("task");
        std::fs::create_dir(&task).unwrap();
        for (name, text) in files {
            let path = task.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let (read, write) = pipe();
        let log = Arc::new(Kept::default());
        let output = Arc::new(Output::new(read, log.clone()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let most = env.iter().find(|(name, _)| *name == clients::MAX_CONCURRENCY);
        let most = most.map_or(1, |(_, most)| most.parse().unwrap());
        let (api, started) = LongPoll::new(output.clone(), ANSWER_BYTES, most);
        let mut tasks = Tasks::default();
        tasks.spawn(api.clone().serve(listener));
        tasks.spawn(async move { output.follow().await });
        let child = command(&clients::install(folder.path()).unwrap())
            .current_dir(&task)
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("LAMBDA_TASK_ROOT", &task)
            .env("_HANDLER", handler)
            .env("AWS_LAMBDA_FUNCTION_NAME", "greet")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "7")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/greet")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(write.try_clone().unwrap())
            .stderr(write)
            .spawn()
            .unwrap();
        Self { api, log, started: Some(started), child, _folder: folder, _tasks: tasks }
    }

    /// How initialisation ended.
    pub(crate) async fn started(&mut self) -> Result<Begun, StartError> {
        let started = self.started.take().expect("asked once");
        tokio::time::timeout(PATIENCE, started).await.expect("it starts in time").unwrap()
    }

    /// Calls it with an event.
    pub(crate) async fn call(&self, event: &str) -> Result<CallOutput, Fault> {
        self.call_with(RequestId::random(), event_of(event)).await
    }

    /// Calls it with everything.
    pub(crate) async fn call_with(&self, id: RequestId, event: Event) -> Result<CallOutput, Fault> {
        let call = self.api.invoke(id, now_ms() + 10_000, event);
        tokio::time::timeout(PATIENCE, call).await.expect("it answers in time")
    }

    /// The result of an event that succeeds.
    pub(crate) async fn result(&self, event: &str) -> String {
        match self.call(event).await {
            Ok(CallOutput::Event(json)) => String::from_utf8(json.to_vec()).unwrap(),
            Ok(CallOutput::FunctionError(error)) => panic!("{error:?}\n{}", self.log.text()),
            Ok(CallOutput::Stream(_) | CallOutput::Http(_) | CallOutput::NotTaken(..)) => {
                panic!("a response to an event")
            }
            Err(fault) => panic!("{fault:?}\n{}", self.log.text()),
        }
    }

    /// An answer that comes in pieces: its type, what it is together, and the type and report of the error that ended it.
    pub(crate) async fn streamed(
        &self,
        event: &str,
    ) -> (String, Vec<u8>, Option<(String, serde_json::Value)>) {
        let mut answer = match self.call(event).await {
            Ok(CallOutput::Stream(answer)) => answer,
            Ok(CallOutput::Event(json)) => panic!("it came as a whole: {json:?}"),
            Ok(CallOutput::FunctionError(error)) => panic!("{error:?}\n{}", self.log.text()),
            Ok(CallOutput::Http(_) | CallOutput::NotTaken(..)) => panic!("a response to an event"),
            Err(fault) => panic!("{fault:?}\n{}", self.log.text()),
        };
        let content_type = answer.content_type.take().unwrap_or_default();
        let reading = async {
            let mut all = Vec::new();
            while let Some(piece) = answer.next().await {
                all.extend_from_slice(&piece);
            }
            (all, answer.end().await.unwrap_or_else(|fault| panic!("{fault:?}\n{}", self.log.text())))
        };
        let (all, error) = tokio::time::timeout(PATIENCE, reading).await.expect("it ends in time");
        let error = error.map(|error| {
            (error.error_type.unwrap_or_default(), serde_json::from_slice(&error.json).unwrap())
        });
        (content_type, all, error)
    }

    /// The error of an event that fails: its type as it was announced, and the report.
    pub(crate) async fn error(&self, event: &str) -> (Option<String>, serde_json::Value) {
        match self.call(event).await {
            Ok(CallOutput::FunctionError(error)) => {
                (error.error_type, serde_json::from_slice(&error.json).unwrap())
            }
            Ok(CallOutput::Event(json)) => panic!("it succeeded: {json:?}"),
            Ok(CallOutput::Stream(_) | CallOutput::Http(_) | CallOutput::NotTaken(..)) => {
                panic!("a response to an event")
            }
            Err(fault) => panic!("{fault:?}\n{}", self.log.text()),
        }
    }

    /// Calls it with all events at once; the results in their order.
    pub(crate) async fn results(&self, events: &[&str]) -> Vec<String> {
        futures_util::future::join_all(events.iter().map(|event| self.result(event))).await
    }

    /// The report of an initialisation that fails.
    pub(crate) async fn init_error(&mut self) -> (Option<String>, serde_json::Value) {
        match self.started().await {
            Err(StartError::Init { json, error_type }) => {
                (error_type, serde_json::from_slice(&json).unwrap())
            }
            other => panic!("{other:?}\n{}", self.log.text()),
        }
    }

    /// Waits until the process has ended; its exit code.
    pub(crate) async fn exit_code(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().code()).await.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An event with nothing special about it.
pub(crate) fn event_of(json: &str) -> Event {
    Event {
        json: Bytes::copy_from_slice(json.as_bytes()),
        invoked_arn: "arn:aws:lambda:us-east-1:123456789012:function:greet:7".to_owned(),
        trace_id: "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0".to_owned(),
        client_context: None,
        cognito_identity: None,
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    base::Clock::now(&base::SystemClock).as_millis()
}
