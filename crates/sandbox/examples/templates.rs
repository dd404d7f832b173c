//! Measures what templates give a Python function with 300 ms of initialisation: the start of an instance up to the
//! answer of its first call, plainly, from the image of its runtime and from that of its revision; what one more idle
//! instance holds; and many starts at once.
//!
//! Prints a JSON object for each. Times of the processors are of all that the instance runs. Arguments: rounds
//! (default 15), starts at once (default 100).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{AccountId, FunctionArn, InstanceId, Region, RequestId};
use bytes::Bytes;
use futures_util::future::try_join_all;
use sandbox::process::jail::{Launcher, MissingLimits};
use sandbox::process::{ProcessBackend, Settings};
use sandbox::{
    Artifact, Backend, BoxError, Call, Contract, Egress, Event, Instance, Limits, LogSink, Origin, Output,
    Payload, Runtime, Spec,
};

const SLOW: &str =
    "import json, logging, time\ntime.sleep(0.3)\ndef handler(event, context):\n    return event\n";
const QUICK: &str = "import json, logging\ndef handler(event, context):\n    return event\n";
/// Instances whose memory is looked at.
const HELD: usize = 16;

/// Shows what is printed: nothing, unless something is wrong.
struct Shown;

impl LogSink for Shown {
    fn write(&self, bytes: &[u8]) {
        eprint!("{}", String::from_utf8_lossy(bytes));
    }
}

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let rounds = arguments.next().transpose()?.unwrap_or(15).max(1);
    let at_once = arguments.next().transpose()?.unwrap_or(100).max(1);
    let folder = tempfile::tempdir()?;
    let launcher = Launcher::start(folder.path(), MissingLimits::Degrade)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(measure(folder.path(), &launcher, rounds, at_once));
    launcher.shutdown();
    result
}

/// A back end, and the function that is measured.
struct Bench {
    backend: ProcessBackend,
    slow: PathBuf,
    quick: PathBuf,
    runtime: Runtime,
}

async fn measure(folder: &Path, launcher: &Launcher, rounds: usize, at_once: usize) -> Result<(), BoxError> {
    let bench = Bench::new(folder, launcher, 0).await?;
    let plain = bench.starts(rounds, "slow", false, None).await?;
    println!("{}", serde_json::json!({ "start": "plain", "init_ms": 300, "found": plain }));
    let quick = bench.starts(rounds, "quick", false, None).await?;
    println!("{}", serde_json::json!({ "start": "plain", "init_ms": 0, "found": quick }));

    let bench = Bench::new(folder, launcher, 1 << 30).await?;
    bench.wait_for("quick", false, Origin::Runtime).await?;
    let quick = bench.starts(rounds, "quick", false, Some(Origin::Runtime)).await?;
    println!("{}", serde_json::json!({ "start": "runtime image", "init_ms": 0, "found": quick }));
    bench.wait_for("slow", true, Origin::Template).await?;
    let slow = bench.starts(rounds, "slow", true, Some(Origin::Template)).await?;
    println!("{}", serde_json::json!({ "start": "template", "init_ms": 300, "found": slow }));
    for resident in bench.backend.residents() {
        println!("resident {}: {} KiB", resident.name, resident.bytes >> 10);
    }
    bench.memory().await?;
    bench.at_once("one function", "slow", true, at_once).await?;
    bench.at_once("one function each", "quick", false, at_once).await
}

impl Bench {
    async fn new(folder: &Path, launcher: &Launcher, template_bytes: u64) -> Result<Self, BoxError> {
        let [slow, quick] = [("slow", SLOW), ("quick", QUICK)].map(|(name, source)| {
            let code = folder.join(name);
            std::fs::create_dir_all(&code)
                .and_then(|()| std::fs::write(code.join("app.py"), source))
                .map(|()| code)
        });
        let settings = Settings { template_bytes, ..Settings::new(folder.join("runtime")) };
        let backend = ProcessBackend::new(launcher.clone(), settings)?;
        let interpreters = backend.interpreters().list().await;
        let pythons = interpreters.iter().map(|interpreter| interpreter.runtime.clone());
        let mut pythons = pythons.filter(|runtime| matches!(runtime, Runtime::Python { .. }));
        let runtime = pythons.next_back().ok_or("there is no Python")?;
        Ok(Self { backend, slow: slow?, quick: quick?, runtime })
    }

    fn spec(&self, code: &str, revision: &str, template: bool) -> Result<Spec, BoxError> {
        let account = AccountId::parse("123456789012").ok_or("no account id")?;
        let env = [("_HANDLER", "app.handler"), ("TZ", ":UTC"), ("LANG", "en_US.UTF-8")];
        Ok(Spec {
            instance: InstanceId::random(),
            function: FunctionArn {
                region: Region::default(),
                account,
                name: "f".to_owned(),
                qualifier: None,
            },
            revision: revision.to_owned(),
            concurrency: 1,
            template,
            artifact: Artifact {
                dir: if code == "slow" { self.slow.clone() } else { self.quick.clone() },
                digest: "0".repeat(64),
                runtime: self.runtime.clone(),
                contract: Contract::Lambda,
                handler: "app.handler".to_owned(),
                layers: None,
                image: None,
            },
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
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
            init_timeout: Duration::from_secs(60),
            output: Arc::new(Shown),
        })
    }

    async fn start(&self, code: &str, template: bool) -> Result<(Arc<dyn Instance>, InstanceId), BoxError> {
        let spec = self.spec(code, code, template)?;
        let id = spec.instance.clone();
        Ok((self.backend.start(Arc::new(spec)).await?, id))
    }

    /// Starts until an image is used.
    async fn wait_for(&self, code: &str, template: bool, origin: Origin) -> Result<(), BoxError> {
        for _ in 0..100 {
            let (instance, _) = self.start(code, template).await?;
            let found = instance.phases().origin;
            instance.stop().await;
            if found == origin {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Err("the image is never there".into())
    }

    /// One start after another: microseconds to the first answer, and of the processors.
    async fn starts(
        &self,
        rounds: usize,
        code: &str,
        template: bool,
        origin: Option<Origin>,
    ) -> Result<serde_json::Value, BoxError> {
        let (mut times, mut processor) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let begun = Instant::now();
            let (instance, id) = self.start(code, template).await?;
            call(&*instance).await?;
            times.push(begun.elapsed().as_micros() as u64);
            processor.push(processes(&id).iter().map(|pid| processor_us(*pid)).sum::<u64>());
            if origin.is_some_and(|origin| origin != instance.phases().origin) {
                return Err("an instance began as something else".into());
            }
            instance.stop().await;
        }
        times.sort_unstable();
        processor.sort_unstable();
        Ok(serde_json::json!({
            "min_us": times[0], "p50_us": times[rounds / 2], "p90_us": times[rounds * 9 / 10],
            "processor_p50_us": processor[rounds / 2],
        }))
    }

    /// What one more idle instance holds: proportional set sizes, pid 1 included.
    async fn memory(&self) -> Result<(), BoxError> {
        let mut held = Vec::new();
        for _ in 0..HELD {
            let (instance, id) = self.start("slow", true).await?;
            call(&*instance).await?;
            held.push((instance, id));
        }
        let all: u64 = held.iter().flat_map(|(_, id)| processes(id)).map(pss_kib).sum();
        let own: u64 = held.iter().flat_map(|(_, id)| processes(id)).map(private_kib).sum();
        println!(
            "{}",
            serde_json::json!({ "idle_instances": HELD, "pss_kib_each": all / HELD as u64,
                "private_kib_each": own / HELD as u64 })
        );
        for (instance, _) in held {
            instance.stop().await;
        }
        Ok(())
    }

    async fn at_once(&self, what: &str, code: &str, template: bool, count: usize) -> Result<(), BoxError> {
        let begun = Instant::now();
        let starts = (0..count).map(|_| async {
            let (instance, _) = self.start(code, template).await?;
            call(&*instance).await?;
            Ok::<_, BoxError>(instance)
        });
        let instances = try_join_all(starts).await?;
        let elapsed = begun.elapsed();
        println!(
            "{}",
            serde_json::json!({ "at_once": what, "instances": count, "all_answered_ms": elapsed.as_millis() as u64 })
        );
        for instance in instances {
            instance.stop().await;
        }
        Ok(())
    }
}

async fn call(instance: &dyn Instance) -> Result<(), BoxError> {
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
    match instance.invoke(call).await {
        Ok(Output::Event(_)) => Ok(()),
        Ok(_) => Err("the handler failed".into()),
        Err(fault) => Err(format!("{fault:?}").into()),
    }
}

/// The processes in the control groups of an instance.
fn processes(id: &InstanceId) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(id.as_str()))
    })
    .collect()
}

/// Microseconds of processor time, of the process's threads that live (`schedstat` counts nanoseconds).
fn processor_us(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) / 1000
}

fn pss_kib(pid: u32) -> u64 {
    rollup(pid, &["Pss:"])
}

fn private_kib(pid: u32) -> u64 {
    rollup(pid, &["Private_Dirty:", "Private_Clean:"])
}

fn rollup(pid: u32, fields: &[&str]) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = text.lines().filter(|line| fields.iter().any(|field| line.starts_with(field)));
    lines.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}
