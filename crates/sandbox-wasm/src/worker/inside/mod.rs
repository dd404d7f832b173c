//! A worker's own side: the program that runs in the jail.
//!
//! It begins with one thread, gives up all system calls but those that it needs, and only then reads a word. From
//! there on it is what the server is for its own instances: one engine, one pool, one ticker.

mod asker;
mod call;
mod relayed;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use base::{FunctionArn, InstanceId};
use parking_lot::{Mutex, RwLock};
use rustix::net::SocketType;
use sandbox::{Artifact, Contract, Egress, Instance, Limits, LogSink, Runtime, Spec};
use tokio::net::UnixStream;
use wasmtime::component::Linker;

use super::BUILD;
use super::control::{Channel, FromWorker, MESSAGE, Start, ToWorker};
use super::line::Line;
use crate::cache;
use crate::engine::Host;
use crate::host::{Guest, Shared};
use crate::instance::WasmInstance;
use crate::outside::Outside;
use crate::program::Program;
pub(crate) use asker::Asker;
use asker::Questions;
pub(crate) use relayed::Relayed;

/// Where the server's socket is.
const CHANNEL: i32 = 3;
/// Threads for reading files.
const BLOCKING: usize = 8;

/// Runs a worker until the server is gone. The calling process must have one thread and have been started as a worker.
pub fn run() -> io::Result<()> {
    let channel = channel()?;
    sandbox::process::jail::keep_to_wasm()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .thread_name("wasm")
        .build()?;
    let outcome = runtime.block_on(async { serve(Channel::new(channel)?).await });
    runtime.shutdown_background();
    outcome
}

#[allow(unsafe_code, reason = "the descriptor that a worker is started with has no owner yet")]
fn channel() -> io::Result<OwnedFd> {
    let refused = || io::Error::other("this is started by the server alone");
    // SAFETY: the descriptor, if there is one, came with the program's start; nothing in this process has made or
    // taken it, and this is called once.
    let channel = unsafe { OwnedFd::from_raw_fd(CHANNEL) };
    let kind = rustix::net::sockopt::socket_type(&channel);
    if kind != Ok(SocketType::SEQPACKET) {
        // Not ours to close.
        std::mem::forget(channel);
        return Err(refused());
    }
    rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC)?;
    Ok(channel)
}

/// What all of a worker's tasks share.
struct Inside {
    host: Arc<Host>,
    linker: Linker<Guest>,
    places: u32,
    programs: Mutex<HashMap<u64, Arc<Program>>>,
    instances: RwLock<HashMap<u64, Arc<WasmInstance>>>,
    channel: Arc<Channel>,
    questions: Arc<Questions>,
}

async fn serve(channel: Channel) -> io::Result<()> {
    let channel = Arc::new(channel);
    let mut buffer = vec![0; MESSAGE];
    let Some((ToWorker::Begin { ask, build, max_instances }, _)) = channel.receive(&mut buffer).await? else {
        return Err(io::Error::other("the server's first word is not known"));
    };
    let begun = begin(&build, max_instances, &channel);
    let outcome = begun.as_ref().map(drop).map_err(Clone::clone);
    channel.send(&FromWorker::Done { ask, outcome }, None).await?;
    let Ok(inside) = begun else { return Ok(()) };
    let inside = Arc::new(inside);
    while let Some((message, descriptor)) = channel.receive(&mut buffer).await? {
        inside.obey(message, descriptor);
    }
    Ok(())
}

fn begin(build: &str, max_instances: u32, channel: &Arc<Channel>) -> Result<Inside, String> {
    if build != BUILD {
        return Err("the server's program was replaced by another version: start the server again".to_owned());
    }
    let (host, linker, places) = Host::start(max_instances).map_err(|error| error.to_string())?;
    Ok(Inside {
        host: Arc::new(host),
        linker,
        places,
        programs: Mutex::default(),
        instances: RwLock::default(),
        channel: Arc::clone(channel),
        questions: Arc::new(Questions::new(Arc::clone(channel))),
    })
}

/// For what an instance of a worker never prints to: calls have their own.
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &[u8]) {}
}

impl Inside {
    fn obey(self: &Arc<Self>, message: ToWorker, descriptor: Option<OwnedFd>) {
        match message {
            ToWorker::Line => {
                if let Some(descriptor) = descriptor {
                    tokio::spawn(call::serve(Arc::clone(self), descriptor));
                }
            }
            ToWorker::Load { ask, program } => {
                let inside = Arc::clone(self);
                tokio::task::spawn_blocking(move || {
                    let outcome = inside.load(program, descriptor);
                    inside.say(ask, outcome);
                });
            }
            ToWorker::Unload { program } => drop(self.programs.lock().remove(&program)),
            ToWorker::Start { ask, instance, start } => {
                let outcome = self.start(instance, start);
                self.say(ask, outcome);
            }
            ToWorker::Stop { ask, instance } => {
                let (inside, stopped) = (Arc::clone(self), self.instances.write().remove(&instance));
                tokio::spawn(async move {
                    if let Some(stopped) = stopped {
                        stopped.stop().await;
                    }
                    inside.say(ask, Ok(()));
                });
            }
            ToWorker::Answer { question, answer } => self.questions.answered(question, answer, descriptor),
            ToWorker::Begin { .. } => {}
        }
    }

    /// Tells that something is done; 0 is nobody's.
    fn say(self: &Arc<Self>, ask: u64, outcome: Result<(), String>) {
        if ask == 0 {
            return;
        }
        let inside = Arc::clone(self);
        tokio::spawn(async move {
            // The server is gone: so is this process, at once.
            let _ = inside.channel.send(&FromWorker::Done { ask, outcome }, None).await;
        });
    }

    fn load(&self, number: u64, code: Option<OwnedFd>) -> Result<(), String> {
        let code = code.ok_or("the code did not arrive: too many files are open")?;
        let component = cache::map(&self.host.engine, &code).map_err(|error| format!("{error:#}"))?;
        let program =
            Program::link(&self.linker, &component, self.places).map_err(|error| error.to_string())?;
        self.programs.lock().insert(number, Arc::new(program));
        Ok(())
    }

    fn start(&self, number: u64, start: Start) -> Result<(), String> {
        let program = self.programs.lock().get(&start.program).cloned();
        let program = program.ok_or("the instance's code is not loaded")?;
        let outside = Outside::Asked(Asker::new(Arc::clone(&self.questions), number));
        let shared = Shared::new(Arc::new(spec(start)), outside);
        let instance = WasmInstance::new(Arc::clone(&self.host), program, shared);
        self.instances.write().insert(number, Arc::new(instance));
        Ok(())
    }

    fn instance(&self, number: u64) -> Option<Arc<WasmInstance>> {
        self.instances.read().get(&number).cloned()
    }
}

/// What an instance needs of a specification. Its names are the server's affair.
fn spec(start: Start) -> Spec {
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:function";
    Spec {
        instance: InstanceId::random(),
        // It has exactly this shape.
        #[allow(clippy::expect_used)]
        function: FunctionArn::parse(arn).expect("a well-formed ARN"),
        revision: String::new(),
        artifact: Artifact {
            dir: start.dir.into(),
            digest: String::new(),
            runtime: Runtime::Wasm,
            contract: Contract::Wasi,
            handler: start.handler,
            layers: None,
            image: None,
        },
        env: start.env,
        limits: Limits {
            memory_bytes: start.memory_bytes,
            cpu_hundredths: start.cpu_hundredths,
            tmp_bytes: 0,
            pids: 0,
            answer_bytes: start.answer_bytes,
        },
        concurrency: 1,
        template: false,
        port: 0,
        file_systems: Vec::new(),
        egress: if start.shut { Egress::None } else { Egress::Public },
        init_timeout: Duration::ZERO,
        output: Arc::new(Nowhere),
    }
}

/// A socket that was handed over.
fn stream(descriptor: OwnedFd) -> io::Result<UnixStream> {
    rustix::io::ioctl_fionbio(descriptor.as_fd(), true)?;
    UnixStream::from_std(StdUnixStream::from(descriptor))
}

fn line(descriptor: OwnedFd) -> io::Result<Line> {
    // The server's frames are as long as its calls.
    Ok(Line::new(stream(descriptor)?, usize::MAX))
}
