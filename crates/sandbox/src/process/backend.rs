//! The process back end: from a [`Spec`] to a job for the jail and an engine for what runs in it.

use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::ahead::{Ahead, Sizes};
use super::clients::{self, Description};
use super::entry;
use super::environment::{self, Facts};
use super::instance::{Course, Engine, Process, Tasks};
use super::interpreters::{Interpreter, Interpreters};
use super::jail::{Beginning, BootJob, Jail, Job, Launcher, Mount, Waiting};
use super::longpoll::{LongPoll, Started};
use super::output::Output;
use super::port::WebServer;
use super::route::Route;
use crate::{
    Artifact, Backend, Contract, Egress, Error, Instance, Isolation, Origin, Prepared, Resident, Runtime,
    Speaks, Spec, StartError,
};

/// Where an instance finds its Runtime API, inside its network namespace.
const RUNTIME_API_PORT: u16 = 9001;

/// Where it finds Virga's own API; the second serves functions whose web server uses the first.
const ENDPOINT_PORTS: [u16; 2] = [9080, 9081];

/// Connections that one instance may hold to Virga's API. It shares the server's with every other function.
const MAX_ENDPOINT_CONNECTIONS: usize = 64;

/// A connection that a function has made to Virga's API.
pub struct FromInside {
    /// The connection.
    pub stream: TcpStream,
    /// One of the few that its instance may hold; to be kept as long as the connection.
    pub place: OwnedSemaphorePermit,
}

/// What the back end is told.
pub struct Settings {
    /// A folder of the data directory for the runtime clients' files.
    pub runtime_dir: PathBuf,
    /// Takes the connections that functions make to Virga's API. One that finds the channel full is closed.
    pub endpoint: Option<mpsc::Sender<FromInside>>,
    /// Where functions on the host's own network find Virga's API, for example `http://127.0.0.1:9080`.
    pub endpoint_url_on_host: String,
    /// Sandboxes to keep ready before anything is known of their functions.
    pub pool_sandboxes: u32,
    /// Instances to keep booted of each runtime that functions use and that takes long to boot.
    pub pool_runtimes: u32,
}

/// Runs functions as processes.
pub struct ProcessBackend {
    launcher: Launcher,
    interpreters: Interpreters,
    clients: PathBuf,
    endpoint: Option<mpsc::Sender<FromInside>>,
    endpoint_url_on_host: String,
    ahead: Ahead,
}

/// The listeners that Virga keeps for one instance, and the ports by which it knows them.
struct Ports {
    runtime_api: Option<u16>,
    endpoint: Option<u16>,
    web: Option<u16>,
    /// Made on the host already, where the instance shares its network.
    on_host: Option<StdListener>,
}

impl ProcessBackend {
    /// Writes the runtime clients. Inside an async runtime, also begins to look for interpreters.
    pub fn new(launcher: Launcher, settings: Settings) -> Result<Self, Error> {
        let writing = format!("writing the runtime clients to {}", settings.runtime_dir.display());
        // Mounted and started by its absolute path.
        let runtime_dir = std::path::absolute(&settings.runtime_dir).map_err(Error::host(writing.clone()))?;
        let clients = clients::install(&runtime_dir).map_err(Error::host(writing))?;
        let interpreters = Interpreters::new(Some(clients.join(clients::PYTHON_MODULE)));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let interpreters = interpreters.clone();
            runtime.spawn(async move {
                interpreters.list().await;
            });
        }
        let Settings { endpoint, endpoint_url_on_host, pool_sandboxes, pool_runtimes, .. } = settings;
        let sizes = Sizes { sandboxes: pool_sandboxes as usize, runtimes: pool_runtimes as usize };
        let ahead = Ahead::new(launcher.clone(), sizes);
        Ok(Self { launcher, interpreters, clients, endpoint, endpoint_url_on_host, ahead })
    }

    /// The host's interpreters, for whoever tells people about them.
    pub fn interpreters(&self) -> &Interpreters {
        &self.interpreters
    }

    /// The interpreter that a runtime needs; `None` for one that brings its own program.
    async fn interpreter(&self, runtime: &Runtime) -> Result<Option<Arc<Interpreter>>, Error> {
        match runtime {
            Runtime::Provided { .. } => Ok(None),
            Runtime::Wasm => Err(Error::Invalid("the runtime wasm does not run as a process".to_owned())),
            Runtime::Python { .. } | Runtime::Node { .. } => match self.interpreters.find(runtime).await {
                Some(interpreter) => Ok(Some(interpreter)),
                None => {
                    let there = self.interpreters.summary().await;
                    Err(Error::Invalid(format!("{runtime} is not on this host; it has {there}")))
                }
            },
        }
    }

    async fn check(&self, artifact: &Artifact) -> Result<Prepared, Error> {
        let interpreter = self.interpreter(&artifact.runtime).await?;
        let contract = artifact.contract;
        let checked = tokio::task::spawn_blocking({
            let (artifact, interpreter) = (artifact.clone(), interpreter.clone());
            move || entry::command(&artifact, interpreter.as_deref()).map(drop)
        });
        checked.await.unwrap_or_else(|error| Err(Error::host("checking a package")(error.into())))?;
        if let Some((_, boot)) = interpreter.as_deref().and_then(|i| self.boots(artifact, i)) {
            self.ahead.expect(&artifact.runtime, || boot);
        }
        let speaks = if contract == Contract::Http { Speaks::Http } else { Speaks::Events };
        Ok(Prepared { speaks, one_at_a_time: speaks == Speaks::Events })
    }

    /// Starts the program and the engine beside it; it need not be ready yet.
    async fn spawn(&self, spec: &Spec) -> Result<(Process, Option<Started>), StartError> {
        let interpreter = self.interpreter(&spec.artifact.runtime).await?;
        let argv = entry::command(&spec.artifact, interpreter.as_deref())
            .map_err(|error| StartError::Entrypoint(error.to_string()))?;
        let mut ports = self.ports(spec).map_err(Error::host("binding a port for an instance"))?;
        let job = self.job(spec, argv, interpreter.as_deref(), &ports);
        let asked = Course::now();
        let (mut jail, origin) = self.jail(spec, job, interpreter.as_deref()).await?;
        let course = Course { origin, asked, executed: Course::now() };

        let host = Error::host("taking an instance's ends");
        let attach = || -> std::io::Result<_> {
            let missing = || std::io::Error::other("the jail has no output");
            let output = Output::new(jail.take_output().ok_or_else(missing)?, spec.output.clone())?;
            let inside = jail.take_listeners().into_iter().chain(ports.on_host.take());
            let listeners = inside.map(TcpListener::from_std).collect::<std::io::Result<Vec<_>>>()?;
            Ok((Arc::new(output), listeners.into_iter()))
        };
        let (output, mut listeners) = { attach }().map_err(host)?;
        let jail = Arc::new(jail);
        let mut tasks = Tasks::default();
        let (engine, started) = match ports.web {
            Some(port) => {
                let on_host = spec.egress == Egress::Host;
                let route = if on_host { Route::Host(port) } else { Route::Inside(jail.clone(), port) };
                (Engine::Web(WebServer::new(route)), None)
            }
            None => {
                let (api, started) =
                    LongPoll::new(output.clone(), spec.limits.answer_bytes, spec.concurrency);
                if let Some(listener) = listeners.next() {
                    tasks.spawn(api.clone().serve(listener));
                }
                (Engine::Events(api), Some(started))
            }
        };
        if let (Some(endpoint), Some(listener)) = (&self.endpoint, listeners.next()) {
            tasks.spawn(pass_on(listener, endpoint.clone()));
        }
        Ok((Process::new(jail, engine, output, course, tasks), started))
    }

    /// A jail that runs the job: from the pools where they have what it takes, else made for it.
    async fn jail(
        &self,
        spec: &Spec,
        job: Job,
        interpreter: Option<&Interpreter>,
    ) -> Result<(Jail, Origin), StartError> {
        if let Some(waiting) = interpreter.and_then(|i| self.booted_for(spec, &job, i)) {
            // What the runtime needs to see it sees already.
            let rest = Job { mounts: Vec::new(), ..job.clone() };
            match waiting.run(rest).await {
                Ok(jail) => return Ok((jail, Origin::Runtime)),
                Err(error) => went_wrong(&error),
            }
        }
        let sandbox = if spec.egress == Egress::None { self.ahead.take_sandbox() } else { None };
        if let Some(waiting) = sandbox {
            match waiting.run(job.clone()).await {
                Ok(jail) => return Ok((jail, Origin::Sandbox)),
                Err(error @ StartError::Entrypoint(_)) => return Err(error),
                Err(error) => went_wrong(&error),
            }
        }
        Ok((self.launcher.spawn(job).await?, Origin::Cold))
    }

    /// A booted runtime that is what the job would have started.
    fn booted_for(&self, spec: &Spec, job: &Job, interpreter: &Interpreter) -> Option<Waiting> {
        if spec.egress != Egress::None {
            return None;
        }
        let (description, boot) = self.boots(&spec.artifact, interpreter)?;
        if !description.starts_alike(&boot.env, &job.env) || entry::brings_libraries(&spec.artifact.dir) {
            return None;
        }
        self.ahead.take_runtime(&spec.artifact.runtime, || boot, spec.limits.memory_bytes)
    }

    /// How a runtime is booted before a function is known, where that pays and the function uses Virga's client.
    fn boots(
        &self,
        artifact: &Artifact,
        interpreter: &Interpreter,
    ) -> Option<(&'static Description, BootJob)> {
        let description =
            clients::described(&artifact.runtime).filter(|description| description.boot_ahead)?;
        if artifact.contract != Contract::Lambda {
            return None;
        }
        let executable = interpreter.executable.to_string_lossy().into_owned();
        let arguments = description.boot.iter().map(|&argument| argument.to_owned());
        let boot = BootJob {
            argv: [executable].into_iter().chain(arguments).collect(),
            env: environment::before_a_function(interpreter),
            mounts: self.mounts(Some(interpreter)),
        };
        Some((description, boot))
    }

    fn ports(&self, spec: &Spec) -> std::io::Result<Ports> {
        let web = spec.artifact.contract == Contract::Http;
        if spec.egress == Egress::None {
            let endpoint = ENDPOINT_PORTS.into_iter().find(|port| !web || *port != spec.port);
            return Ok(Ports {
                runtime_api: (!web).then_some(RUNTIME_API_PORT),
                endpoint: endpoint.filter(|_| self.endpoint.is_some()),
                web: web.then_some(spec.port),
                on_host: None,
            });
        }
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        if web {
            // Free when we looked; the listener is closed so that the function can have the port.
            return Ok(Ports { runtime_api: None, endpoint: None, web: Some(port), on_host: None });
        }
        listener.set_nonblocking(true)?;
        Ok(Ports { runtime_api: Some(port), endpoint: None, web: None, on_host: Some(listener) })
    }

    fn job(&self, spec: &Spec, argv: Vec<String>, interpreter: Option<&Interpreter>, ports: &Ports) -> Job {
        let on_host = spec.egress == Egress::Host;
        let endpoint_url = if on_host {
            Some(self.endpoint_url_on_host.clone())
        } else {
            ports.endpoint.map(|port| format!("http://127.0.0.1:{port}"))
        };
        let env = environment::build(&Facts {
            given: &spec.env,
            interpreter,
            runtime_api: ports.runtime_api,
            concurrency: spec.concurrency,
            port: ports.web,
            endpoint_url,
        });
        let inside = [ports.runtime_api, ports.endpoint].into_iter().flatten();
        Job {
            instance: spec.instance.clone(),
            argv,
            env,
            code: spec.artifact.dir.clone(),
            mounts: self.mounts(interpreter),
            limits: spec.limits,
            egress: spec.egress,
            listen: if on_host { Vec::new() } else { inside.collect() },
            beginning: Beginning::Executed,
        }
    }

    /// The runtime clients, and an interpreter's own prefix where `/usr` does not hold it: nothing else.
    fn mounts(&self, interpreter: Option<&Interpreter>) -> Vec<Mount> {
        let clients = Mount { host: self.clients.clone(), inside: clients::INSIDE.into() };
        let own = interpreter.filter(|interpreter| !interpreter.is_in_usr());
        let own = own.map(|i| Mount { host: i.prefix.clone(), inside: i.prefix.clone() });
        interpreter.map(|_| clients).into_iter().chain(own).collect()
    }

    async fn bring_up(&self, spec: Arc<Spec>) -> Result<Arc<dyn Instance>, StartError> {
        let deadline = tokio::time::Instant::now() + spec.init_timeout;
        let _busy = self.ahead.busy();
        let spawned = tokio::time::timeout_at(deadline, self.spawn(&spec)).await;
        let (process, started) = spawned.unwrap_or(Err(StartError::TimedOut))?;
        let ready = tokio::time::timeout_at(deadline, process.ready(started)).await;
        match ready.unwrap_or(Err(StartError::TimedOut)) {
            Ok(()) => Ok(Arc::new(process)),
            Err(error) => {
                process.stop().await;
                Err(error)
            }
        }
    }
}

impl Backend for ProcessBackend {
    fn isolation(&self) -> Isolation {
        Isolation::Process
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<Prepared, Error>> {
        Box::pin(self.check(artifact))
    }

    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>> {
        Box::pin(self.bring_up(spec))
    }

    fn residents(&self) -> Vec<Resident> {
        self.ahead.residents()
    }

    fn shrink(&self, bytes: u64) -> u64 {
        self.ahead.shrink(bytes)
    }
}

/// What was made ahead may have died just now, or not take the function's limits: the plain way is left.
fn went_wrong(error: &StartError) {
    tracing::debug!(error = error as &dyn std::error::Error, "what was made ahead could not be used");
}

/// Hands the connections that an instance makes to Virga's API to the server.
async fn pass_on(listener: TcpListener, endpoint: mpsc::Sender<FromInside>) {
    let places = Arc::new(Semaphore::new(MAX_ENDPOINT_CONNECTIONS));
    loop {
        // The place first: beyond the bound, connections wait in the instance's own backlog.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                if endpoint.try_send(FromInside { stream, place }).is_err() {
                    tracing::debug!("a function's connection to the endpoint found no room");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a function's connection to the endpoint was not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}
