//! The host's side of a guest: what is in its store and which functions it may call.
//!
//! Most calls use little of WASI, so a store holds little: streams, the directory of the package, clocks
//! and sockets come into being when the guest first asks for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use sandbox::Spec;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{bail, format_err};
use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::filesystem::{
    WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView, WasiFilesystemView,
};
use wasmtime_wasi::p2::bindings::{self, cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::sockets::WasiSocketsView;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::memory::Memory;
use crate::network;
use crate::outgoing::Hooks;
use crate::outside::Outside;
use crate::share::Share;
use crate::stdio::{Answer, Log, LogStream};

/// Bytes that a resource (a stream, headers, a body …) may cost the host: what wasmtime lets headers grow to. A
/// guest may hold as many as its own memory has room for at that price, within bounds.
const RESOURCE: u64 = 128 << 10;
const MIN_RESOURCES: u64 = 256;
const MAX_RESOURCES: u64 = 10_000;
/// Resources of an ordinary call.
const USUAL_RESOURCES: usize = 16;
/// Bytes of randomness in one go.
const MAX_RANDOM: u64 = 1 << 20;
/// Where a guest sees its package.
const TASK_DIR: &str = "/var/task";

/// What an instance's calls have in common.
pub(crate) struct Shared {
    pub(crate) spec: Arc<Spec>,
    pub(crate) outside: Outside,
    pub(crate) peak_memory: AtomicU64,
    /// What the calls may take of the processor, if that has a limit.
    pub(crate) share: Option<Arc<Share>>,
    files: OnceLock<WasiFilesystemCtx>,
}

impl Shared {
    pub(crate) fn new(spec: Arc<Spec>, outside: Outside) -> Self {
        let share = spec.limits.cpu_hundredths.map(|share| Arc::new(Share::new(share, Instant::now())));
        Self { spec, outside, peak_memory: AtomicU64::new(0), share, files: OnceLock::new() }
    }
}

/// What is in a guest's store.
pub(crate) struct Guest {
    shared: Arc<Shared>,
    log: Log,
    pub(crate) memory: Memory,
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: Hooks,
    stdin: Stdin,
    answer: Option<Answer>,
    wasi: Option<Box<WasiCtx>>,
    files: Option<WasiFilesystemCtx>,
}

enum Stdin {
    Unread(Bytes),
    Open(MemoryInputPipe),
}

impl Guest {
    /// For a call whose stdout goes to the log.
    pub(crate) fn new(shared: Arc<Shared>, log: Log) -> Self {
        let mut table = ResourceTable::with_capacity(USUAL_RESOURCES);
        let resources = (shared.spec.limits.memory_bytes / RESOURCE).clamp(MIN_RESOURCES, MAX_RESOURCES);
        table.set_max_capacity(resources as usize);
        Self {
            memory: Memory::new(shared.spec.limits.memory_bytes),
            table,
            http: WasiHttpCtx::new(),
            hooks: Hooks::new(shared.clone(), log.clone()),
            stdin: Stdin::Unread(Bytes::new()),
            answer: None,
            wasi: None,
            files: None,
            log,
            shared,
        }
    }

    /// For a call that reads `event` on stdin and answers on stdout.
    pub(crate) fn command(shared: Arc<Shared>, log: Log, event: Bytes, answer: Answer) -> Self {
        let mut guest = Self::new(shared, log);
        guest.stdin = Stdin::Unread(event);
        guest.answer = Some(answer);
        guest
    }

    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.shared.spec.env
    }

    pub(crate) fn share(&self) -> Option<Arc<Share>> {
        self.shared.share.clone()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    fn log(&self) -> DynOutputStream {
        Box::new(LogStream::new(self.log.clone()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.peak_memory.fetch_max(self.memory.peak, Ordering::Relaxed);
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            Box::new(network::context(&self.shared.spec.egress, &self.shared.outside))
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// The guest's file system: its package, to be read. Opened once an instance, when a guest first asks.
fn files(guest: &mut Guest) -> WasiFilesystemCtxView<'_> {
    let Guest { files, shared, table, .. } = guest;
    let ctx = files.get_or_insert_with(|| shared.files.get_or_init(|| package(&shared.spec)).clone());
    WasiFilesystemCtxView { ctx, table }
}

fn package(spec: &Spec) -> WasiFilesystemCtx {
    struct Opened(WasiCtx, ResourceTable);
    impl WasiView for Opened {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.0, table: &mut self.1 }
        }
    }
    let mut builder = WasiCtx::builder();
    let dir = &spec.artifact.dir;
    if let Err(error) = builder.preopened_dir(dir, TASK_DIR, FsPerms::ReadOnly) {
        tracing::warn!(dir = %dir.display(), error = format!("{error:#}"), "a guest does not see its package");
    }
    Opened(builder.build(), ResourceTable::new()).filesystem().ctx.clone()
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Interfaces that are answered from the guest's own state.
struct Own;

impl HasData for Own {
    type Data<'a> = &'a mut Guest;
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Everything that a guest may import.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    io::error::add_to_linker::<_, Table>(l, |guest: &mut Guest| &mut guest.table)?;
    io::poll::add_to_linker::<_, Table>(l, |guest: &mut Guest| &mut guest.table)?;
    io::streams::add_to_linker::<_, Table>(l, |guest: &mut Guest| &mut guest.table)?;
    cli::environment::add_to_linker::<_, Own>(l, |guest| guest)?;
    cli::exit::add_to_linker::<_, Own>(l, |guest| guest)?;
    cli::stdin::add_to_linker::<_, Own>(l, |guest| guest)?;
    cli::stdout::add_to_linker::<_, Own>(l, |guest| guest)?;
    cli::stderr::add_to_linker::<_, Own>(l, |guest| guest)?;
    random::random::add_to_linker::<_, Own>(l, |guest| guest)?;
    random::insecure::add_to_linker::<_, Own>(l, |guest| guest)?;
    random::insecure_seed::add_to_linker::<_, Own>(l, |guest| guest)?;
    add_wasi(l)?;
    crate::config::add_to_linker(l)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    Ok(linker)
}

fn add_wasi(l: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::WasiCli;
    use wasmtime_wasi::clocks::WasiClocks;
    use wasmtime_wasi::sockets::WasiSockets;
    let options = bindings::LinkOptions::default();
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(l, files)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, files)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(l, Guest::sockets)?;
    sockets::network::add_to_linker::<_, WasiSockets>(l, &(&options).into(), Guest::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<_, Own>(l, |guest| guest)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, Guest::sockets)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(l, Guest::sockets)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, Guest::sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(l, Guest::sockets)
}

impl cli::environment::Host for Guest {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.shared.spec.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(vec![self.shared.spec.artifact.handler.clone()])
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(Some(TASK_DIR.into()))
    }
}

impl cli::exit::Host for Guest {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(format_err!(I32Exit(i32::from(status.is_err()))))
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        Err(format_err!(I32Exit(status.into())))
    }
}

impl cli::stdin::Host for Guest {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        if let Stdin::Unread(event) = &mut self.stdin {
            self.stdin = Stdin::Open(MemoryInputPipe::new(std::mem::take(event)));
        }
        let Stdin::Open(pipe) = &self.stdin else { bail!("stdin is not open") };
        let stream: DynInputStream = Box::new(pipe.clone());
        Ok(self.table.push(stream)?)
    }
}

impl cli::stdout::Host for Guest {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream = match &self.answer {
            Some(answer) => Box::new(answer.clone()),
            None => self.log(),
        };
        Ok(self.table.push(stream)?)
    }
}

impl cli::stderr::Host for Guest {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream = self.log();
        Ok(self.table.push(stream)?)
    }
}

fn random_bytes(length: u64) -> wasmtime::Result<Vec<u8>> {
    if length > MAX_RANDOM {
        bail!("{length} random bytes at once are more than the {MAX_RANDOM} that are given");
    }
    let mut bytes = vec![0; length as usize];
    getrandom::fill(&mut bytes).map_err(|error| format_err!("the host has no randomness: {error}"))?;
    Ok(bytes)
}

fn random_u64() -> wasmtime::Result<u64> {
    getrandom::u64().map_err(|error| format_err!("the host has no randomness: {error}"))
}

impl random::random::Host for Guest {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        random_bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        random_u64()
    }
}

impl random::insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        random_bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        random_u64()
    }
}

impl random::insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((random_u64()?, random_u64()?))
    }
}
