//! Measures the long-poll engine: warm round trips of a handler of each interpreter in real jails.
//!
//! Prints, for each, how long starting took and the latencies of invocations one after another, from the
//! back end's seam: what the handler itself does (nothing) is the bare baseline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{AccountId, FunctionArn, InstanceId, Region, RequestId};
use bytes::Bytes;
use sandbox::process::jail::{Launcher, MissingLimits};
use sandbox::process::{ProcessBackend, Settings};
use sandbox::{
    Artifact, Backend, BoxError, Call, Contract, Egress, Event, Instance, Limits, LogSink, Output, Payload,
    Runtime, Spec,
};

const ROUNDS: usize = 5_000;
const FROZEN_ROUNDS: usize = 200;

/// Throws away what is printed.
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _bytes: &[u8]) {}
}

fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let launcher = Launcher::start(folder.path(), MissingLimits::Degrade)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(measure(folder.path(), launcher.clone()));
    launcher.shutdown();
    result
}

async fn measure(folder: &std::path::Path, launcher: Launcher) -> Result<(), BoxError> {
    let code = folder.join("code");
    std::fs::create_dir(&code)?;
    std::fs::write(code.join("app.py"), "def handler(event, context):\n    return event\n")?;
    std::fs::write(code.join("index.js"), "exports.handler = async (event) => event")?;
    std::fs::write(code.join("index.php"), "<?php return fn ($event) => $event;")?;
    std::fs::write(code.join("app.rb"), "def handler(event:, context:) = event\n")?;
    let backend = ProcessBackend::new(launcher, Settings::new(folder.join("runtime")))?;
    for interpreter in backend.interpreters().list().await {
        let handler = match interpreter.runtime {
            Runtime::Node { .. } => "index.handler",
            Runtime::Php { .. } => "index.php",
            _ => "app.handler",
        };
        let spec = spec(code.clone(), interpreter.runtime.clone(), handler)?;
        let begun = Instant::now();
        let instance = backend.start(Arc::new(spec)).await?;
        let start = begun.elapsed();
        let mut latencies = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            call(&*instance).await?;
            latencies.push(begun.elapsed());
        }
        latencies.sort_unstable();
        let (p50, p99) = (latencies[ROUNDS / 2], latencies[ROUNDS * 99 / 100]);
        println!(
            "{} {}: start {start:?}, p50 {p50:?}, p99 {p99:?}",
            interpreter.runtime, interpreter.version
        );
        frozen(&*instance).await?;
        instance.stop().await;
    }
    Ok(())
}

/// What freezing takes, and a call that finds the instance frozen.
async fn frozen(instance: &dyn Instance) -> Result<(), BoxError> {
    let (mut freezing, mut calling, mut thawed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..FROZEN_ROUNDS {
        for frozen in [true, false] {
            if frozen {
                let begun = Instant::now();
                instance.freeze();
                freezing.push(begun.elapsed());
            }
            // As an instance that has been idle for a while.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let begun = Instant::now();
            call(instance).await?;
            if frozen { &mut calling } else { &mut thawed }.push(begun.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[FROZEN_ROUNDS / 2]
    };
    let [freezing, calling, thawed] = [&mut freezing, &mut calling, &mut thawed].map(median);
    println!(
        "  freezing {freezing:?}; a call after 5 ms of idleness {thawed:?}, frozen meanwhile {calling:?}"
    );
    Ok(())
}

async fn call(instance: &dyn Instance) -> Result<(), BoxError> {
    let call = Call {
        id: RequestId::random(),
        deadline: Instant::now() + Duration::from_secs(10),
        deadline_unix_ms: i64::MAX,
        payload: Payload::Event(Event {
            json: Bytes::from_static(b"{\"name\":\"world\",\"numbers\":[1,2,3]}"),
            invoked_arn: "arn:aws:lambda:us-east-1:123456789012:function:f".to_owned(),
            trace_id: "Root=1-5759e988-bd862e3fe1be46a994272793".to_owned(),
            client_context: None,
            cognito_identity: None,
        }),
    };
    match instance.invoke(call).await {
        Ok(Output::Event(_)) => Ok(()),
        Ok(_) => Err("the handler failed".into()),
        Err(fault) => Err(format!("{fault:?}").into()),
    }
}

fn spec(dir: std::path::PathBuf, runtime: Runtime, handler: &str) -> Result<Spec, BoxError> {
    let account = AccountId::parse("123456789012").ok_or("no account id")?;
    let function = FunctionArn { region: Region::default(), account, name: "f".to_owned(), qualifier: None };
    Ok(Spec {
        instance: InstanceId::random(),
        function,
        revision: "1".to_owned(),
        concurrency: 1,
        template: false,
        artifact: Artifact {
            dir,
            digest: "0".repeat(64),
            runtime,
            contract: Contract::Lambda,
            handler: handler.to_owned(),
            layers: None,
            image: None,
        },
        env: vec![("_HANDLER".to_owned(), handler.to_owned())],
        limits: Limits {
            memory_bytes: 256 << 20,
            cpu_hundredths: None,
            tmp_bytes: 16 << 20,
            pids: 64,
            answer_bytes: 6 << 20,
        },
        port: 8080,
        file_systems: Vec::new(),
        egress: Egress::default(),
        init_timeout: Duration::from_secs(10),
        output: Arc::new(Nowhere),
    })
}
