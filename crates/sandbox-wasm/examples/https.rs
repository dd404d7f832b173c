//! What a guest's request to another server costs, as a table: `https [CALLS]` has a component ask a server of this very
//! process, plain and encrypted, from instances of this process and of a worker, in turns. Medians of five turns.
//!
//! The processor time is everybody's: the guest's, the other server's, the worker's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base::{FunctionArn, InstanceId, RequestId};
use http_body_util::BodyExt;
use sandbox::process::jail::{Launcher, MissingLimits};
use sandbox::{
    Artifact, Backend, Body, Call, Contract, Egress, Instance, Limits, LogSink, Output, Payload, Runtime,
    Spec,
};
use sandbox_wasm::{Separation, Settings, WasmBackend, WorkerSettings, Workers};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKER: &str = "--worker";
const ROUNDS: usize = 5;
/// Asks whom its path names.
const PROBE: &[u8] = include_bytes!("../tests/it/guests/probe.wasm");

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &[u8]) {}
}

fn main() -> anyhow::Result<()> {
    let first = std::env::args().nth(1);
    if first.as_deref() == Some(WORKER) {
        return Ok(sandbox_wasm::run_worker()?);
    }
    let calls: u32 = first.map_or(Ok(1000), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let launcher = Launcher::start(&dir.path().join("data"), MissingLimits::Degrade)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(measure(dir.path(), &launcher, calls));
    launcher.shutdown();
    outcome
}

async fn measure(dir: &Path, launcher: &Launcher, calls: u32) -> anyhow::Result<()> {
    let mut own = Settings::new(dir.join("cache"));
    own.certificates = Some(certificate("authority.pem"));
    let here = WasmBackend::new(own)?;
    let apart = Workers::new(here.clone(), launcher.clone(), settings(dir)?)?;
    std::fs::create_dir(dir.join("package"))?;
    std::fs::write(dir.join("package/probe.wasm"), PROBE)?;
    here.prepare(&spec(dir)?.artifact).await?;
    let instances = [here.start(Arc::new(spec(dir)?)).await?, apart.start(Arc::new(spec(dir)?)).await?];
    let plain = serve(None).await?;
    let resuming = serve(Some(secured(true)?)).await?;
    let forgetful = serve(Some(secured(false)?)).await?;
    println!("| | in the server | in a worker |\n|---|---|---|");
    for (what, path) in [
        ("`http`", format!("/fetch/localhost:{plain}")),
        ("`https`, going on from an earlier handshake", format!("/fetch-tls/localhost:{resuming}")),
        ("`https`, a whole handshake", format!("/fetch-tls/localhost:{forgetful}")),
    ] {
        let mut seen = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (which, instance) in instances.iter().enumerate() {
                let spent = spent(instance.as_ref(), &path, calls).await?;
                seen[which].extend((round > 0).then_some(spent));
            }
        }
        let shown = seen.map(|all| {
            let [p50, processor] = [0, 1].map(|which: usize| {
                let mut all: Vec<f64> = all.iter().map(|spent: &[f64; 2]| spent[which]).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            });
            format!("{p50:.0} µs, {processor:.0} µs")
        });
        println!("| {what}: p50, processor time of all three | {} | {} |", shown[0], shown[1]);
    }
    for instance in instances {
        instance.stop().await;
    }
    Ok(())
}

/// Microseconds: the median, and of processor a call.
async fn spent(instance: &dyn Instance, path: &str, calls: u32) -> anyhow::Result<[f64; 2]> {
    let before = processor();
    let mut took = Vec::new();
    for _ in 0..calls {
        let began = Instant::now();
        one(instance, path).await?;
        took.push(began.elapsed());
    }
    took.sort();
    let of = |time: Duration| time.as_secs_f64() * 1e6;
    Ok([of(took[took.len() / 2]), of(processor() - before) / f64::from(calls)])
}

async fn one(instance: &dyn Instance, path: &str) -> anyhow::Result<()> {
    let request = http::Request::get(path).header("host", "localhost").body(Body::empty())?;
    let call = Call {
        id: RequestId::random(),
        deadline: Instant::now() + Duration::from_secs(10),
        deadline_unix_ms: 0,
        payload: Payload::Http(Box::new(request)),
    };
    let Ok(Output::Http(response)) = instance.invoke(call).await else { bail!("no answer") };
    let body = response.into_body().collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
    if body != "status 204" {
        bail!("{path}: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// A server that answers every request with 204; its port.
async fn serve(acceptor: Option<TlsAcceptor>) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    Some(acceptor) => answer(acceptor.accept(stream).await?).await,
                    None => answer(stream).await,
                }
            });
        }
    });
    Ok(port)
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await? > 0 {}
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    stream.shutdown().await
}

/// What encrypts for the other server, which may remember whom it has spoken to.
fn secured(remembers: bool) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate("good.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(certificate("good.key"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    if !remembers {
        config.send_tls13_tickets = 0;
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates").join(name)
}

/// What this process, the launcher's and the worker's threads have used.
fn processor() -> Duration {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|process| is_ours(*process)).map(of_process).sum()
}

fn is_ours(process: u32) -> bool {
    let parent = |process: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    std::iter::successors(Some(process), |process| parent(*process))
        .any(|process| process == std::process::id())
}

fn of_process(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let spent = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    threads.filter_map(spent).sum()
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

fn spec(dir: &Path) -> anyhow::Result<Spec> {
    Ok(Spec {
        instance: InstanceId::random(),
        function: FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:probe:$LATEST")
            .context("the ARN is well-formed")?,
        revision: "1".to_owned(),
        concurrency: 1,
        template: false,
        artifact: Artifact {
            dir: dir.join("package"),
            digest: "0".repeat(64),
            runtime: Runtime::Wasm,
            contract: Contract::Wasi,
            handler: String::new(),
            layers: None,
            image: None,
        },
        env: Vec::new(),
        limits: Limits {
            memory_bytes: 128 << 20,
            cpu_hundredths: None,
            tmp_bytes: 0,
            pids: 0,
            answer_bytes: 6 << 20,
        },
        port: 0,
        file_systems: Vec::new(),
        egress: Egress::Open,
        init_timeout: Duration::from_secs(60),
        output: Arc::new(Nowhere),
    })
}
