//! How fast instances come and go: `churn_wasm SECONDS [COMPONENT]` makes instances, each with a call that its
//! guest answers, and destroys them, on every core, and prints `{"rate": instances a second}`.
//!
//! An instance here is what the server makes for one: started from prepared code, called once, so that it has a
//! place in the pool, memory and a store, and stopped. COMPONENT is a `wasi:http` handler; by default the sample.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base::{FunctionArn, InstanceId, RequestId};
use http_body_util::BodyExt;
use sandbox::{
    Artifact, Backend, Body, Call, Contract, Egress, Limits, LogSink, Output, Payload, Runtime, Spec,
};
use sandbox_wasm::{Settings, WasmBackend};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &[u8]) {}
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().context("usage: churn_wasm SECONDS [COMPONENT]")?.parse()?;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello-wasm/hello.wasm");
    let component = arguments.next().map_or(sample, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rate = runtime.block_on(churn(&component, Duration::from_secs_f64(seconds)))?;
    println!("{{\"rate\": {rate:.1}}}");
    Ok(())
}

async fn churn(component: &Path, length: Duration) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let package = dir.path().join("package");
    std::fs::create_dir(&package)?;
    std::fs::copy(component, package.join("function.wasm")).context("the component cannot be copied")?;
    let backend = WasmBackend::new(Settings::new(dir.path().join("cache")))?;
    life(&backend, &package).await?;
    let made = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let cores = std::thread::available_parallelism()?.get();
    let workers: Vec<_> = (0..cores)
        .map(|_| {
            let (backend, package, made) = (backend.clone(), package.clone(), made.clone());
            tokio::spawn(async move {
                while begun.elapsed() < length {
                    life(&backend, &package).await?;
                    made.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(made.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

/// One instance, from its start to its end.
async fn life(backend: &WasmBackend, package: &Path) -> anyhow::Result<()> {
    let instance = backend.start(Arc::new(spec(package)?)).await?;
    let request = http::Request::get("/").header("host", "localhost").body(Body::empty())?;
    let call = Call {
        id: RequestId::random(),
        deadline: Instant::now() + Duration::from_secs(3),
        deadline_unix_ms: 0,
        payload: Payload::Http(Box::new(request)),
    };
    match instance.invoke(call).await {
        Ok(Output::Http(response)) if response.status() == 200 => {
            response.into_body().collect().await.map_err(anyhow::Error::from_boxed)?;
        }
        Ok(_) => bail!("the component did not answer 200"),
        Err(fault) => bail!("{fault:?}"),
    }
    instance.stop().await;
    Ok(())
}

fn spec(package: &Path) -> anyhow::Result<Spec> {
    Ok(Spec {
        instance: InstanceId::random(),
        function: FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:churn:$LATEST")
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
            layers: None,
            image: None,
        },
        env: vec![("NAME".into(), "churn".into())],
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
