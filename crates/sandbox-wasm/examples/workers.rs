//! What a worker costs: `workers COMPONENT [CALLS]` calls a `wasi:http` handler in this process and in a worker, in
//! turns, and prints microseconds a call (wall time and processor time, the worker's included) with one call and with
//! eight in flight; then what the worker holds of memory, and how long it takes to make one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base::{FunctionArn, InstanceId, RequestId};
use futures_util::future::try_join_all;
use http_body_util::BodyExt;
use sandbox::process::jail::{Launcher, MissingLimits};
use sandbox::{
    Artifact, Backend, Body, Call, Contract, Egress, Instance, Limits, LogSink, Output, Payload, Runtime,
    Spec,
};
use sandbox_wasm::{Separation, Settings, WasmBackend, WorkerSettings, Workers};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKER: &str = "--worker";
const ROUNDS: usize = 7;

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &[u8]) {}
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let component = arguments.next().context("usage: workers COMPONENT [CALLS]")?;
    if component == WORKER {
        return Ok(sandbox_wasm::run_worker()?);
    }
    let calls: u32 = arguments.next().map_or(Ok(10_000), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let launcher = Launcher::start(&dir.path().join("data"), MissingLimits::Degrade)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(measure(dir.path(), &launcher, Path::new(&component), calls));
    launcher.shutdown();
    outcome
}

async fn measure(dir: &Path, launcher: &Launcher, component: &Path, calls: u32) -> anyhow::Result<()> {
    let package = dir.join("package");
    std::fs::create_dir(&package)?;
    std::fs::copy(component, package.join("function.wasm")).context("the component cannot be copied")?;
    let here = WasmBackend::new(Settings::new(dir.join("cache")))?;
    let apart = Workers::new(here.clone(), launcher.clone(), settings(dir)?)?;
    here.prepare(&spec(&package)?.artifact).await?;
    let first = here.start(Arc::new(spec(&package)?)).await?;
    let began = Instant::now();
    let second = apart.start(Arc::new(spec(&package)?)).await?;
    println!("an instance in a worker that is not there yet: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    let worker = worker()?;
    for in_flight in [1, 8] {
        let mut seen = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (which, instance) in [&first, &second].into_iter().enumerate() {
                let spent = spent(instance, calls, in_flight, worker).await?;
                if round > 0 {
                    seen[which].push(spent);
                }
            }
        }
        for (place, seen) in ["in the server", "in a worker"].into_iter().zip(seen) {
            let median = |of: fn(&Spent) -> f64| {
                let mut all: Vec<f64> = seen.iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            let (wall, p50, processor) =
                (median(|spent| spent.wall), median(|spent| spent.p50), median(|spent| spent.processor));
            println!(
                "{in_flight} in flight, {place:13}: a call every {wall:6.1} µs, p50 {p50:6.1} µs, {processor:6.1} µs of processor"
            );
        }
    }
    for name in ["RssAnon", "RssFile", "RssShmem", "Threads"] {
        println!("the worker's {name}: {}", status(worker, name));
    }
    first.stop().await;
    second.stop().await;
    Ok(())
}

/// Microseconds a call.
struct Spent {
    wall: f64,
    p50: f64,
    processor: f64,
}

async fn spent(
    instance: &Arc<dyn Instance>,
    calls: u32,
    in_flight: u32,
    worker: u32,
) -> anyhow::Result<Spent> {
    let before = processor(std::process::id()) + processor(worker);
    let began = Instant::now();
    let callers = (0..in_flight).map(|_| {
        let instance = instance.clone();
        async move {
            let calling = async move {
                let mut took = Vec::new();
                for _ in 0..calls / in_flight {
                    let began = Instant::now();
                    one(instance.as_ref()).await?;
                    took.push(began.elapsed());
                }
                anyhow::Ok(took)
            };
            tokio::spawn(calling).await?
        }
    });
    let mut took: Vec<Duration> = try_join_all(callers).await?.concat();
    let per_call = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(calls);
    let wall = per_call(began.elapsed());
    let processor = per_call(processor(std::process::id()) + processor(worker) - before);
    took.sort();
    Ok(Spent { wall, p50: took[took.len() / 2].as_secs_f64() * 1e6, processor })
}

async fn one(instance: &dyn Instance) -> anyhow::Result<()> {
    let request = http::Request::get("/hello?name=x")
        .header("host", "localhost:8080")
        .header("user-agent", "workers")
        .header("accept", "*/*")
        .body(Body::empty())?;
    let call = Call {
        id: RequestId::random(),
        deadline: Instant::now() + Duration::from_secs(3),
        deadline_unix_ms: 0,
        payload: Payload::Http(Box::new(request)),
    };
    match instance.invoke(call).await {
        Ok(Output::Http(response)) if response.status() == 200 => {
            let body = response.into_body().collect().await.map_err(anyhow::Error::from_boxed)?;
            std::hint::black_box(body);
            Ok(())
        }
        Ok(_) => bail!("not the answer of the sample"),
        Err(fault) => bail!("{fault:?}"),
    }
}

/// What all threads of a process have used.
fn processor(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let spent = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    threads.filter_map(spent).sum()
}

/// The number of the worker: the process with our word as its argument whose ancestor is this one.
fn worker() -> anyhow::Result<u32> {
    let parent = |process: u32| status(process, "PPid").parse::<u32>().ok();
    let all =
        std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut workers = all.filter(|process: &u32| {
        let command = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|word| word == WORKER.as_bytes())
            && std::iter::successors(Some(*process), |process| parent(*process))
                .any(|process| process == std::process::id())
    });
    workers.next().context("there is no worker")
}

fn status(process: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn settings(dir: &Path) -> anyhow::Result<WorkerSettings> {
    Ok(WorkerSettings {
        separation: Separation::Always,
        tenants: Arc::new(|| 1),
        program: std::env::current_exe()?,
        arguments: vec![WORKER.to_owned()],
        dir: dir.join("workers"),
        memory_bytes: 2 << 30,
        max_instances: 1000,
        idle: Duration::from_secs(60),
    })
}

fn spec(package: &Path) -> anyhow::Result<Spec> {
    Ok(Spec {
        instance: InstanceId::random(),
        function: FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST")
            .context("the ARN is well-formed")?,
        revision: "1".to_owned(),
        concurrency: 1,
        template: false,
        artifact: Artifact {
            dir: package.to_owned(),
            digest: "0".repeat(64),
            runtime: Runtime::Wasm,
            contract: Contract::Wasi,
            handler: String::new(),
            image: None,
        },
        env: vec![("NAME".into(), "workers".into())],
        limits: Limits {
            memory_bytes: 128 << 20,
            cpu_hundredths: None,
            tmp_bytes: 0,
            pids: 0,
            answer_bytes: 6 << 20,
        },
        port: 0,
        egress: Egress::None,
        init_timeout: Duration::from_secs(60),
        output: Arc::new(Nowhere),
    })
}
