//! What a call costs: `loop COMPONENT [CALLS] [ours|others] [FUNCTIONS]` prints microseconds a call, back to back
//! on one thread: of processor time (of the whole process) and of wall time. With FUNCTIONS above 1 it calls
//! that many in turn, each with compiled code of its own.
//!
//! Beside this crate's way it measures the plain ones, for comparison in the same run: an instance and
//! nothing else, and a request the way wasmtime's documentation serves one (a task and a whole WASI context
//! each), with places made on demand and with the pool.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base::{FunctionArn, InstanceId, RequestId};
use http_body_util::BodyExt;
use sandbox::{
    Artifact, Backend, Body, Call, Contract, Egress, Instance, Limits, LogSink, Output, Payload, Runtime,
    Spec,
};
use sandbox_wasm::{Settings, WasmBackend};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

type Exchange = Result<
    (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>),
    wasmtime_wasi_http::Error,
>;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &[u8]) {}
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let component = arguments.next().context("usage: loop COMPONENT [CALLS] [ours|others] [FUNCTIONS]")?;
    let calls = arguments.next().map_or(Ok(100_000), |n| n.parse())?;
    let which = arguments.next().unwrap_or_default();
    let functions = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for _ in 0..3 {
        if which != "others" {
            let spent = runtime.block_on(ours(Path::new(&component), calls, functions))?;
            println!("ours, whole call      {spent}");
        }
        if which != "ours" {
            for (name, pool) in [("on demand", false), ("pool     ", true)] {
                let plain = Plain::new(Path::new(&component), pool)?;
                println!("{name}, instance   {}", runtime.block_on(plain.instances(calls))?);
                println!("{name}, whole call {}", runtime.block_on(plain.requests(calls))?);
            }
        }
    }
    Ok(())
}

/// Both clocks at a moment.
struct Clocks {
    wall: Instant,
    processor: Duration,
}

impl Clocks {
    fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let processor = Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32);
        Self { wall: Instant::now(), processor }
    }

    fn per_call(&self, calls: u32) -> String {
        let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / f64::from(calls);
        let processor = micros(Self::now().processor - self.processor);
        format!("{processor:7.2} µs CPU {:8.2} µs wall", micros(self.wall.elapsed()))
    }
}

fn request<B>(body: B) -> anyhow::Result<http::Request<B>> {
    Ok(http::Request::get("/hello?name=x")
        .header("host", "localhost:8080")
        .header("user-agent", "loop")
        .header("accept", "*/*")
        .body(body)?)
}

async fn ours(component: &Path, calls: u32, functions: u32) -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    let backend = WasmBackend::new(Settings::new(dir.path().join("cache")))?;
    let mut instances = Vec::new();
    for n in 0..functions {
        let package = dir.path().join(n.to_string());
        std::fs::create_dir(&package)?;
        std::fs::write(package.join("hello.wasm"), variant(std::fs::read(component)?, n))?;
        instances.push(backend.start(Arc::new(spec(&package, n)?)).await?);
    }
    let id = RequestId::random();
    let mut started = Clocks::now();
    let mut instances = instances.iter().cycle();
    for round in 0..calls + calls / 10 {
        if round == calls / 10 {
            started = Clocks::now();
        }
        let instance = instances.next().context("there is a function")?;
        one(instance.as_ref(), &id).await?;
    }
    Ok(started.per_call(calls))
}

/// The same component with other bytes: a custom section of its own.
fn variant(mut component: Vec<u8>, n: u32) -> Vec<u8> {
    let name = format!("n{n:06}");
    component.extend_from_slice(&[0, name.len() as u8 + 1, name.len() as u8]);
    component.extend_from_slice(name.as_bytes());
    component
}

async fn one(instance: &dyn Instance, id: &RequestId) -> anyhow::Result<()> {
    let call = Call {
        id: *id,
        deadline: Instant::now() + Duration::from_secs(3),
        deadline_unix_ms: 0,
        payload: Payload::Http(Box::new(request(Body::empty())?)),
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

fn spec(dir: &Path, n: u32) -> anyhow::Result<Spec> {
    Ok(Spec {
        instance: InstanceId::random(),
        function: FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST")
            .context("the ARN is well-formed")?,
        revision: "1".to_owned(),
        concurrency: 1,
        template: false,
        artifact: Artifact {
            dir: dir.to_owned(),
            digest: format!("{n:064}"),
            runtime: Runtime::Wasm,
            contract: Contract::Wasi,
            handler: String::new(),
            layers: None,
            image: None,
        },
        env: vec![("NAME".into(), "loop".into())],
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

/// A request as wasmtime's documentation serves it.
struct Plain(ProxyPre<PlainState>);

struct PlainState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: PlainHooks,
}

struct PlainHooks;

impl WasiHttpHooks for PlainHooks {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<dyn Future<Output = Exchange> + Send> {
        Box::new(std::future::ready(Err(wasmtime_wasi_http::Error::HttpRequestDenied)))
    }
}

impl WasiView for PlainState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for PlainState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

impl Plain {
    fn new(component: &Path, pool: bool) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        if pool {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
        }
        let engine = Engine::new(&config)?;
        let component = Component::from_file(&engine, component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        Ok(Self(ProxyPre::new(linker.instantiate_pre(&component)?)?))
    }

    fn store(&self) -> Store<PlainState> {
        let wasi = WasiCtx::builder().env("NAME", "loop").inherit_stderr().build();
        let state =
            PlainState { wasi, http: WasiHttpCtx::new(), table: ResourceTable::new(), hooks: PlainHooks };
        Store::new(self.0.engine(), state)
    }

    async fn instances(&self, calls: u32) -> wasmtime::Result<String> {
        let started = Clocks::now();
        for _ in 0..calls {
            let mut store = self.store();
            std::hint::black_box(self.0.instantiate_async(&mut store).await?);
        }
        Ok(started.per_call(calls))
    }

    async fn requests(&self, calls: u32) -> anyhow::Result<String> {
        let started = Clocks::now();
        for _ in 0..calls {
            let mut store = self.store();
            let (sender, head) = tokio::sync::oneshot::channel();
            let body = http_body_util::Empty::<bytes::Bytes>::new();
            let incoming = store.data_mut().http().new_incoming_request(Scheme::Http, request(body)?)?;
            let outparam = store.data_mut().http().new_response_outparam(sender)?;
            let proxy = self.0.clone();
            let task = tokio::spawn(async move {
                let proxy = proxy.instantiate_async(&mut store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, incoming, outparam).await
            });
            let response = head.await?.map_err(anyhow::Error::from)?;
            std::hint::black_box(response.into_body().collect().await?);
            task.await??;
        }
        Ok(started.per_call(calls))
    }
}
