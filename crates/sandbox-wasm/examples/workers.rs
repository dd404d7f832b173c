//! What a worker costs, as a table: `workers COMPONENT [CALLS]` calls a `wasi:http` handler in this process and in
//! workers, in turns. What a first caller waits for; then p50, rate and processor time (the worker's included) with one
//! call and with eight in flight, medians of seven turns of so many calls; and what workers hold of memory.

use std::path::{Path, PathBuf};
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
/// Accounts with a worker each, for what a worker takes to make and holds.
const TENANTS: u32 = 15;
/// One more, whose worker is called.
const LOADED: u32 = TENANTS;

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
    let here = WasmBackend::new(Settings::new(dir.join("cache")))?;
    let apart = Workers::new(here.clone(), launcher.clone(), settings(dir)?)?;
    let mut packages = Vec::new();
    for number in 0..2 {
        let package =
            Package { dir: dir.join(format!("package{number}")), digest: number.to_string().repeat(64) };
        std::fs::create_dir(&package.dir)?;
        std::fs::copy(component, package.dir.join("function.wasm"))
            .context("the component cannot be copied")?;
        here.prepare(&package.spec(0)?.artifact).await?;
        packages.push(package);
    }
    println!("| | in the server | in a worker |\n|---|---|---|");
    firsts(&here, &apart, &packages).await?;
    let first = here.start(Arc::new(packages[0].spec(LOADED)?)).await?;
    let before = workers()?;
    let second = apart.start(Arc::new(packages[0].spec(LOADED)?)).await?;
    let worker =
        workers()?.into_iter().find(|worker| !before.contains(worker)).context("there is no worker")?;
    for in_flight in [1, 8] {
        compare(&first, &second, worker, calls, in_flight).await?;
    }
    memory("one function after all these calls", &[worker]);
    first.stop().await;
    second.stop().await;
    Ok(())
}

/// What callers wait for who come first: for an instance in the server; for a worker and an instance in it; for an
/// instance in a worker that has others. Then what so many workers hold.
async fn firsts(here: &WasmBackend, apart: &Workers, packages: &[Package]) -> anyhow::Result<()> {
    let (mut served, mut made, mut there) = (Vec::new(), Vec::new(), Vec::new());
    let mut kept = Vec::new();
    for tenant in 0..TENANTS {
        for (backend, package, times) in [
            (here as &dyn Backend, &packages[0], &mut served),
            (apart, &packages[0], &mut made),
            (apart, &packages[1], &mut there),
        ] {
            let began = Instant::now();
            let instance = backend.start(Arc::new(package.spec(tenant)?)).await?;
            one(instance.as_ref()).await?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
            kept.push(instance);
        }
    }
    let [served, made, there] = [served, made, there].map(median);
    println!("| a first call, the worker made for it | {served:.2} ms | {made:.1} ms |");
    println!("| a function's first call, others run there | | {there:.2} ms |");
    memory(&format!("two functions called once ({TENANTS} workers)"), &workers()?);
    for instance in kept {
        instance.stop().await;
    }
    Ok(())
}

async fn compare(
    first: &Arc<dyn Instance>,
    second: &Arc<dyn Instance>,
    worker: u32,
    calls: u32,
    in_flight: u32,
) -> anyhow::Result<()> {
    let mut seen = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (which, instance) in [first, second].into_iter().enumerate() {
            let spent = spent(instance, calls, in_flight, worker).await?;
            if round > 0 {
                seen[which].push(spent);
            }
        }
    }
    let row = |what: &str, unit: &str, of: fn(&Spent) -> f64| {
        let [server, worker] = [0, 1].map(|which: usize| median(seen[which].iter().map(of).collect()));
        println!("| {what}, {in_flight} in flight | {server:.1} {unit} | {worker:.1} {unit} |");
    };
    row("p50 of a call", "µs", |spent| spent.p50);
    row("calls a second", "", |spent| 1e6 / spent.wall);
    row("processor time a call", "µs", |spent| spent.processor);
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// What workers hold: their share of what they map, what is theirs alone, and what of it is pages of two megabytes.
fn memory(of: &str, workers: &[u32]) {
    let row = |what: &str, name: &str| {
        let read = |worker: &u32| {
            let text = field(&format!("/proc/{worker}/smaps_rollup"), name);
            text.split_ascii_whitespace().next().and_then(|number| number.parse().ok())
        };
        let all: Vec<f64> = workers.iter().filter_map(read).collect();
        let shown =
            if all.is_empty() { "not to be read".into() } else { format!("{:.1} MiB", median(all) / 1024.0) };
        println!("| memory of a worker, {of}: {what} | | {shown} |");
    };
    row("its share of all that it maps", "Pss");
    row("its own alone", "Private_Dirty");
    row("of that in huge pages", "AnonHugePages");
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

/// The numbers of the workers: processes with our word as their argument whose ancestor is this one.
fn workers() -> anyhow::Result<Vec<u32>> {
    let parent = |process: u32| status(process, "PPid").parse::<u32>().ok();
    let all =
        std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours = all.filter(|process: &u32| {
        let command = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|word| word == WORKER.as_bytes())
            && std::iter::successors(Some(*process), |process| parent(*process))
                .any(|process| process == std::process::id())
    });
    Ok(ours.collect())
}

fn status(process: u32, name: &str) -> String {
    field(&format!("/proc/{process}/status"), name)
}

fn field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
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
        idle: Duration::from_secs(600),
    })
}

/// A function's code.
struct Package {
    dir: PathBuf,
    digest: String,
}

impl Package {
    /// An instance for one of the tenants.
    fn spec(&self, tenant: u32) -> anyhow::Result<Spec> {
        let arn = format!(
            "arn:aws:lambda:us-east-1:{:012}:function:hello:$LATEST",
            100_000_000_000 + u64::from(tenant)
        );
        Ok(Spec {
            instance: InstanceId::random(),
            function: FunctionArn::parse(&arn).context("the ARN is well-formed")?,
            revision: "1".to_owned(),
            concurrency: 1,
            template: false,
            artifact: Artifact {
                dir: self.dir.clone(),
                digest: self.digest.clone(),
                runtime: Runtime::Wasm,
                contract: Contract::Wasi,
                handler: String::new(),
                layers: None,
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
            file_systems: Vec::new(),
            egress: Egress::None,
            init_timeout: Duration::from_secs(60),
            output: Arc::new(Nowhere),
        })
    }
}
