//! Measures starts from zero: from the request to the answer of the first call, without pools and with those that
//! `virga serve` keeps by default, in turn.
//!
//! Prints a JSON object for each runtime of the host and for a native binary: medians in microseconds, and the phases
//! of the median start. Arguments: rounds (default 15), pause between rounds in milliseconds (default 400), in which
//! the pools fill.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{AccountId, FunctionArn, InstanceId, Region, RequestId};
use bytes::Bytes;
use sandbox::process::jail::{Launcher, MissingLimits};
use sandbox::process::{ProcessBackend, Settings};
use sandbox::{
    Artifact, Backend, BoxError, Call, Contract, Egress, Event, Limits, LogSink, Output, Payload, Phases,
    Runtime, Spec,
};

/// Throws away what is printed.
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _bytes: &[u8]) {}
}

fn main() -> Result<(), BoxError> {
    if let Ok(api) = std::env::var("AWS_LAMBDA_RUNTIME_API") {
        return native(&api);
    }
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let rounds = arguments.next().transpose()?.unwrap_or(15).max(1);
    let pause = Duration::from_millis(arguments.next().transpose()?.unwrap_or(400));
    let folder = tempfile::tempdir()?;
    let launcher = Launcher::start(folder.path(), MissingLimits::Degrade)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(measure(folder.path(), &launcher, rounds, pause));
    launcher.shutdown();
    result
}

/// This program as a function: the smallest client there is.
fn native(api: &str) -> Result<(), BoxError> {
    let mut stream = std::net::TcpStream::connect(api)?;
    let mut buffer = [0; 4096];
    loop {
        stream.write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let length = stream.read(&mut buffer)?;
        let head = String::from_utf8_lossy(&buffer[..length]).to_lowercase();
        let id = head.lines().find_map(|line| line.strip_prefix("lambda-runtime-aws-request-id: "));
        let Some(id) = id else { return Ok(()) };
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        let answer = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}");
        stream.write_all(answer.as_bytes())?;
        if stream.read(&mut buffer)? == 0 {
            return Ok(());
        }
    }
}

async fn measure(folder: &Path, launcher: &Launcher, rounds: u64, pause: Duration) -> Result<(), BoxError> {
    let code = folder.join("code");
    std::fs::create_dir(&code)?;
    std::fs::write(code.join("app.py"), "def handler(event, context):\n    return event\n")?;
    std::fs::write(code.join("index.js"), "exports.handler = async (event) => event")?;
    std::fs::write(code.join("index.php"), "<?php return fn ($event) => $event;")?;
    std::fs::write(code.join("app.rb"), "def handler(event:, context:) = event\n")?;
    std::fs::copy("/proc/self/exe", code.join("bootstrap"))?;
    std::fs::set_permissions(code.join("bootstrap"), std::fs::Permissions::from_mode(0o755))?;
    let backend = |name: &str, sandboxes, runtimes| {
        let template_bytes = if runtimes > 0 { 1 << 30 } else { 0 };
        let usual = Settings::new(folder.join(name));
        let settings =
            Settings { pool_sandboxes: sandboxes, pool_runtimes: runtimes, template_bytes, ..usual };
        ProcessBackend::new(launcher.clone(), settings)
    };
    let off = backend("off", 0, 0)?;
    let on = backend("on", 4, 1)?;
    let mut kinds = vec![(Runtime::Provided { name: "provided.al2023" }, "bootstrap")];
    for interpreter in off.interpreters().list().await {
        let handler = match interpreter.runtime {
            Runtime::Node { .. } => "index.handler",
            Runtime::Php { .. } => "index.php",
            _ => "app.handler",
        };
        kinds.push((interpreter.runtime.clone(), handler));
    }
    on.interpreters().list().await;
    for (runtime, handler) in kinds {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (backend, times) in [&off, &on].into_iter().zip(&mut times) {
                tokio::time::sleep(pause).await;
                let found = from_zero(backend, code.clone(), &runtime, handler).await?;
                // The first fills caches and pools.
                if round > 0 {
                    times.push(found);
                }
            }
        }
        let [off, on] = times.map(middle);
        println!(
            "{}",
            serde_json::json!({ "runtime": runtime.to_string(), "pools_off": off, "pools_on": on })
        );
    }
    tokio::time::sleep(pause).await;
    for resident in on.residents() {
        println!("resident {}: {} of {} KiB together", resident.name, resident.count, resident.bytes >> 10);
    }
    Ok(())
}

fn middle(mut times: Vec<(Duration, Phases)>) -> serde_json::Value {
    times.sort_unstable_by_key(|(time, _)| *time);
    let (median, phases) = times[times.len() / 2];
    let us = |time: Duration| time.as_micros() as u64;
    serde_json::json!({
        "p50_us": us(median),
        "min_us": us(times[0].0),
        "origin": phases.origin.as_str(),
        "sandbox_us": us(phases.sandbox),
        "runtime_us": us(phases.runtime),
        "init_us": us(phases.init),
    })
}

async fn from_zero(
    backend: &ProcessBackend,
    code: PathBuf,
    runtime: &Runtime,
    handler: &str,
) -> Result<(Duration, Phases), BoxError> {
    let spec = spec(code, runtime.clone(), handler)?;
    let begun = Instant::now();
    let instance = backend.start(Arc::new(spec)).await?;
    let call = Call {
        id: RequestId::random(),
        deadline: Instant::now() + Duration::from_secs(10),
        deadline_unix_ms: i64::MAX,
        payload: Payload::Event(Event {
            json: Bytes::from_static(b"{}"),
            invoked_arn: "arn:aws:lambda:us-east-1:123456789012:function:f".to_owned(),
            trace_id: "Root=1-5759e988-bd862e3fe1be46a994272793".to_owned(),
            client_context: None,
            cognito_identity: None,
        }),
    };
    let answer = instance.invoke(call).await;
    let time = begun.elapsed();
    instance.stop().await;
    match answer {
        Ok(Output::Event(_)) => Ok((time, instance.phases())),
        Ok(_) => Err("the handler failed".into()),
        Err(fault) => Err(format!("{fault:?}").into()),
    }
}

fn spec(dir: PathBuf, runtime: Runtime, handler: &str) -> Result<Spec, BoxError> {
    let account = AccountId::parse("123456789012").ok_or("no account id")?;
    let function = FunctionArn { region: Region::default(), account, name: "f".to_owned(), qualifier: None };
    let variables =
        [("_HANDLER", handler), ("LAMBDA_TASK_ROOT", "/var/task"), ("TZ", ":UTC"), ("LANG", "en_US.UTF-8")];
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
        env: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
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
