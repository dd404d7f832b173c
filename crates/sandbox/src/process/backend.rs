//! The process back end: from a [`Spec`] to a job for the jail and an engine for what runs in it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::ahead::{Ahead, Sizes};
use super::attach::{Ends, FromInside, attach};
use super::clients::{self, Description};
use super::compiled::{self, Compiled, Kept};
use super::entry;
use super::environment::{self, Facts};
use super::image_entry;
use super::imaging::{Found, Imaging};
use super::instance::{Course, Process};
use super::interpreters::{Interpreter, Interpreters, Looked};
use super::jail::{Beginning, BootJob, Image, Jail, Job, Launcher, Mount, ProgramClass, Root, Waiting};
use super::longpoll::Started;
use super::templates::Key;
use super::turns::Turns;
use crate::egress::Network;
use crate::{
    Artifact, Backend, Contract, Error, Instance, Isolation, Origin, Phases, Prepared, Resident, Runtime,
    Speaks, Spec, StartError,
};

/// Where an instance finds its Runtime API, inside its network namespace.
const RUNTIME_API_PORT: u16 = 9001;

/// What a booted runtime is shown of layers; beyond, the plain way is as quick.
const LAYERED_AT_MOST: usize = 32;

/// Bytes of memory of a function that does not say (Lambda API: `MemorySize`): what to expect of one whose size is not
/// known yet.
const USUAL_MEMORY: u64 = 128 << 20;

/// Where it finds Virga's own API; the second serves functions whose web server uses the first.
const ENDPOINT_PORTS: [u16; 2] = [9080, 9081];

/// What the back end is told.
pub struct Settings {
    /// A folder of the data directory for the runtime clients' files.
    pub runtime_dir: PathBuf,
    /// Takes the connections that functions make to Virga's API. One that finds the channel full is closed.
    pub endpoint: Option<mpsc::Sender<FromInside>>,
    /// The way out.
    pub network: Arc<Network>,
    /// Bytes a second that one instance may print in the long run; one that prints more waits.
    pub log_bytes_per_s: u64,
    /// Sandboxes to keep ready before anything is known of their functions.
    pub pool_sandboxes: u32,
    /// Instances to keep booted of each runtime that functions use and that takes long to boot.
    pub pool_runtimes: u32,
    /// Bytes of memory for templates: images of initialised processes that instances begin as. Zero is none.
    pub template_bytes: u64,
}

impl Settings {
    /// What most have: no endpoint, no pools, and logs at the usual rate.
    pub fn new(runtime_dir: PathBuf) -> Self {
        Self {
            runtime_dir,
            endpoint: None,
            network: Arc::new(Network::new(Vec::new())),
            log_bytes_per_s: super::output::BYTES_PER_S,
            pool_sandboxes: 0,
            pool_runtimes: 0,
            template_bytes: 0,
        }
    }
}

/// Runs functions as processes.
pub struct ProcessBackend {
    launcher: Launcher,
    interpreters: Interpreters,
    clients: PathBuf,
    endpoint: Option<mpsc::Sender<FromInside>>,
    network: Arc<Network>,
    log_bytes_per_s: u64,
    ahead: Ahead,
    turns: Turns,
    imaging: Imaging,
    compiled: Compiled,
}

/// The listeners that Virga keeps for one instance, and the ports by which it knows them.
struct Ports {
    runtime_api: Option<u16>,
    endpoint: Option<u16>,
    web: Option<u16>,
}

impl ProcessBackend {
    /// Writes the runtime clients. Inside an async runtime, also begins to look for interpreters.
    pub fn new(launcher: Launcher, settings: Settings) -> Result<Self, Error> {
        let writing = format!("writing the runtime clients to {}", settings.runtime_dir.display());
        // Mounted and started by its absolute path.
        let runtime_dir = std::path::absolute(&settings.runtime_dir).map_err(Error::host(writing.clone()))?;
        let clients = clients::install(&runtime_dir).map_err(Error::host(writing))?;
        let interpreters = Interpreters::new(Some(clients.join(clients::PYTHON_MODULE)));
        if tokio::runtime::Handle::try_current().is_ok() {
            interpreters.begin();
        }
        let Settings {
            endpoint,
            network,
            log_bytes_per_s,
            pool_sandboxes,
            pool_runtimes,
            template_bytes,
            ..
        } = settings;
        let sizes = Sizes { sandboxes: pool_sandboxes as usize, runtimes: pool_runtimes as usize };
        let ahead = Ahead::new(launcher.clone(), sizes);
        let nothing = runtime_dir.join("nothing");
        std::fs::create_dir_all(&nothing).map_err(Error::host("making an empty folder"))?;
        let turns = Turns::default();
        let imaging = Imaging::new(
            launcher.clone(),
            endpoint.clone(),
            network.clone(),
            turns.clone(),
            nothing,
            template_bytes,
        );
        let compiled = Compiled::open(
            launcher.clone(),
            endpoint.clone(),
            network.clone(),
            turns.clone(),
            runtime_dir.join("compiled"),
        );
        let compiled = compiled.map_err(Error::host("opening the folder of compiled code"))?;
        Ok(Self {
            launcher,
            interpreters,
            clients,
            endpoint,
            network,
            log_bytes_per_s,
            ahead,
            turns,
            imaging,
            compiled,
        })
    }

    /// The host's interpreters, for whoever tells people about them.
    pub fn interpreters(&self) -> &Interpreters {
        &self.interpreters
    }

    /// The interpreter that a runtime needs; `None` for one that brings its own program.
    async fn interpreter(&self, runtime: &Runtime) -> Result<Option<Arc<Interpreter>>, Error> {
        match runtime {
            Runtime::Provided { .. } | Runtime::Image => Ok(None),
            Runtime::Wasm => Err(Error::Invalid("the runtime wasm does not run as a process".to_owned())),
            managed => match self.interpreters.find(managed).await {
                Looked::Found(interpreter) => Ok(Some(interpreter)),
                Looked::Absent(silent) => {
                    let there = self.interpreters.summary().await;
                    let silent = named(&silent, " (this never answered: ", ")");
                    Err(Error::Invalid(format!("{managed} is not on this host; it has {there}{silent}")))
                }
                Looked::NotKnown(open) => {
                    let open = named(&open, ": there is no answer yet from ", "");
                    Err(Error::NotYet(format!("Whether {managed} is on this host is not known yet{open}.")))
                }
            },
        }
    }

    async fn check(&self, artifact: &Artifact) -> Result<Prepared, Error> {
        let interpreter = self.interpreter(&artifact.runtime).await?;
        let contract = artifact.contract;
        let checked = tokio::task::spawn_blocking({
            let (artifact, interpreter) = (artifact.clone(), interpreter.clone());
            // However much memory there will be.
            move || entry::command(&artifact, interpreter.as_deref(), 0).map(drop)
        });
        checked.await.unwrap_or_else(|error| Err(Error::host("checking a package")(error.into())))?;
        if let Some((_, boot)) =
            interpreter.as_deref().and_then(|i| self.boots(artifact, i, USUAL_MEMORY, AHEAD))
        {
            self.ahead.expect(&artifact.runtime, boot);
        }
        let speaks = if contract == Contract::Http { Speaks::Http } else { Speaks::Events };
        Ok(Prepared { speaks, one_at_a_time: speaks == Speaks::Events })
    }

    /// Starts the program and the engine beside it; it need not be ready yet. `images`: whether it may begin as one.
    async fn spawn(&self, spec: &Spec, images: bool) -> Result<Spawned, StartError> {
        let interpreter = self.interpreter(&spec.artifact.runtime).await?;
        let argv = entry::command(&spec.artifact, interpreter.as_deref(), spec.limits.memory_bytes)
            .map_err(|error| StartError::Entrypoint(error.to_string()))?;
        let ports = self.ports(spec);
        let job = self.job(spec, argv, interpreter.as_deref(), &ports);
        let asked = Course::now();
        let interpreter = interpreter.as_deref();
        let image = if images { self.image_for(spec, &job, interpreter) } else { None };
        let begun = image.as_ref().map(|found| (found.key.clone(), Arc::clone(&found.image)));
        let (jail, origin) = self.jail(spec, job.clone(), interpreter, image).await?;
        let course = Course { origin, asked, executed: Course::now() };
        let ends = Ends {
            web: ports.web,
            network: &self.network,
            endpoint: self.endpoint.as_ref(),
            log_bytes_per_s: self.log_bytes_per_s,
        };
        let (process, started) =
            attach(jail, spec, ends, course).map_err(Error::host("taking an instance's ends"))?;
        // Where the restore itself failed it was started otherwise.
        let image = begun.filter(|_| matches!(origin, Origin::Template | Origin::Runtime));
        Ok(Spawned { process, started, job, image })
    }

    /// A jail that runs the job: from the pools where they have what it takes, else made for it.
    async fn jail(
        &self,
        spec: &Spec,
        job: Job,
        interpreter: Option<&Interpreter>,
        image: Option<Found>,
    ) -> Result<(Jail, Origin), StartError> {
        if let Some(Found { key, image, origin }) = image {
            let restored = Job { beginning: Beginning::Restored(Arc::clone(&image)), ..job.clone() };
            match self.sandboxed(restored).await {
                Ok((jail, _)) => return Ok((jail, origin)),
                Err(error) => self.imaging.failed(&key, &image, &error),
            }
        }
        let booted = interpreter.and_then(|i| self.booted_for(spec, &job, i));
        // Held until a jail sees it.
        let kept = self.compiled.find(spec, interpreter);
        if let Some((waiting, layered)) = booted {
            // What the runtime needs to see it sees already.
            let rest = Job { mounts: Vec::new(), layered, ..job.clone() };
            let rest = with_compiled(rest, kept.as_deref());
            match waiting.run(rest).await {
                Ok(jail) => return Ok((jail, Origin::Runtime)),
                Err(error) => went_wrong(&error),
            }
        }
        self.sandboxed(with_compiled(job, kept.as_deref())).await
    }

    /// A jail that runs the job, in a sandbox made ahead where there is one.
    async fn sandboxed(&self, job: Job) -> Result<(Jail, Origin), StartError> {
        if let Some(waiting) = self.ahead.take_sandbox() {
            match waiting.run(job.clone()).await {
                Ok(jail) => return Ok((jail, Origin::Sandbox)),
                Err(error @ StartError::Entrypoint(_)) => return Err(error),
                Err(error) => went_wrong(&error),
            }
        }
        Ok((self.launcher.spawn(job).await?, Origin::Cold))
    }

    /// A booted runtime that is what the job would have started, and what it is to see of layers.
    fn booted_for(
        &self,
        spec: &Spec,
        job: &Job,
        interpreter: &Interpreter,
    ) -> Option<(Waiting, Vec<(PathBuf, String)>)> {
        let memory_bytes = spec.limits.memory_bytes;
        let (description, boot) = self.boots(&spec.artifact, interpreter, memory_bytes, AHEAD)?;
        if !begins_alike(description, &boot, job, &spec.artifact) {
            return None;
        }
        let layered = match &spec.artifact.layers {
            // An interpreter below `/opt` leaves no room for them.
            Some(_) if interpreter.prefix.starts_with(entry::LAYERS) => return None,
            Some(layers) => top_of(layers)?,
            None => Vec::new(),
        };
        let waiting = self.ahead.take_runtime(&spec.artifact.runtime, boot, memory_bytes)?;
        Some((waiting, layered))
    }

    /// What the job may begin as.
    fn image_for(&self, spec: &Spec, job: &Job, interpreter: Option<&Interpreter>) -> Option<Found> {
        if !may_be_template(spec) {
            return None;
        }
        let interpreter = interpreter?;
        let (description, boot) =
            self.boots(&spec.artifact, interpreter, spec.limits.memory_bytes, |it| it.imageable)?;
        let boot = begins_alike(description, &boot, job, &spec.artifact).then_some(boot);
        self.imaging.find(spec, boot)
    }

    /// How a runtime is booted before a function is known, where that is wanted and the function uses Virga's client.
    fn boots(
        &self,
        artifact: &Artifact,
        interpreter: &Interpreter,
        memory_bytes: u64,
        wanted: fn(&Description) -> bool,
    ) -> Option<(&'static Description, BootJob)> {
        let description = clients::described(&artifact.runtime).filter(|description| wanted(description))?;
        if artifact.contract != Contract::Lambda {
            return None;
        }
        let executable = interpreter.executable.to_string_lossy().into_owned();
        let arguments = description.arguments(description.boot, memory_bytes);
        let boot = BootJob {
            argv: [executable].into_iter().chain(arguments).collect(),
            env: environment::before_a_function(interpreter),
            mounts: self.mounts(Some(interpreter)),
            way_out: true,
        };
        Some((description, boot))
    }

    fn ports(&self, spec: &Spec) -> Ports {
        let web = spec.artifact.contract == Contract::Http;
        let endpoint = ENDPOINT_PORTS.into_iter().find(|port| !web || *port != spec.port);
        Ports {
            runtime_api: (!web).then_some(RUNTIME_API_PORT),
            endpoint: endpoint.filter(|_| self.endpoint.is_some()),
            web: web.then_some(spec.port),
        }
    }

    fn job(&self, spec: &Spec, argv: Vec<String>, interpreter: Option<&Interpreter>, ports: &Ports) -> Job {
        let env = environment::build(&Facts {
            given: &spec.env,
            interpreter,
            image: spec.artifact.image.is_some(),
            runtime_api: ports.runtime_api,
            concurrency: spec.concurrency,
            port: ports.web,
            endpoint_url: ports.endpoint.map(|port| format!("http://127.0.0.1:{port}")),
        });
        Job {
            instance: spec.instance.clone(),
            argv,
            env,
            class: class(&spec.artifact.runtime),
            code: spec.artifact.dir.clone(),
            root: spec.artifact.image.as_ref().map(|image| Root {
                folder: image_entry::folder(image).to_owned(),
                user: image_entry::shown_as(&spec.artifact.dir, image),
            }),
            mounts: self.mounts(interpreter).into_iter().chain(layers(&spec.artifact)).collect(),
            layered: Vec::new(),
            shared: spec.file_systems.clone(),
            limits: spec.limits,
            // Where nothing may be reached there is one too: it is what says so.
            way_out: true,
            listen: [ports.runtime_api, ports.endpoint].into_iter().flatten().collect(),
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

    /// Has what later starts of the revision begin with made, where it is not there. `job` is what the plain way starts.
    async fn came_up(&self, spec: &Arc<Spec>, job: Job, phases: Phases) {
        if may_be_template(spec) {
            self.imaging.started(spec, job, phases);
        } else if let Ok(Some(interpreter)) = self.interpreter(&spec.artifact.runtime).await {
            self.compiled.started(spec, &interpreter, job, phases);
        }
    }

    async fn bring_up(&self, spec: Arc<Spec>) -> Result<Arc<dyn Instance>, StartError> {
        // Waited for before the function's own time begins.
        self.interpreter(&spec.artifact.runtime).await?;
        let deadline = tokio::time::Instant::now() + spec.init_timeout;
        let _busy = self.ahead.busy();
        self.turns.start();
        let mut images = true;
        loop {
            let spawned = tokio::time::timeout_at(deadline, self.spawn(&spec, images)).await;
            let Spawned { process, started, job, image } = spawned.unwrap_or(Err(StartError::TimedOut))?;
            let ready = tokio::time::timeout_at(deadline, process.ready(started)).await;
            let error = match ready.unwrap_or(Err(StartError::TimedOut)) {
                Ok(()) => {
                    self.came_up(&spec, job, process.phases()).await;
                    return Ok(Arc::new(process));
                }
                Err(error) => error,
            };
            process.stop().await;
            match image {
                Some((key, image)) if self.imaging.is_to_blame(&key, &image, &error) => images = false,
                _ => return Err(error),
            }
        }
    }
}

/// The job with the compiled code that there is.
fn with_compiled(job: Job, kept: Option<&Kept>) -> Job {
    match kept {
        Some(kept) => compiled::shown(job, kept.folder()),
        None => job,
    }
}

/// A program on its way to being ready.
struct Spawned {
    process: Process,
    started: Option<Started>,
    /// What was started, but for the image.
    job: Job,
    /// What it began as.
    image: Option<(Key, Arc<Image>)>,
}

/// Runtimes that are kept booted.
const AHEAD: fn(&Description) -> bool = |description| description.boot_ahead;

/// Whether nothing of a function changes how its interpreter starts.
fn begins_alike(description: &Description, boot: &BootJob, job: &Job, artifact: &Artifact) -> bool {
    description.starts_alike(&boot.env, &job.env)
        && !entry::brings_libraries(&artifact.dir)
        && !description.is_shaped_by(&artifact.dir)
        && !artifact
            .layers
            .as_ref()
            .is_some_and(|layers| entry::brings_libraries(layers) || description.is_shaped_by_layers(layers))
}

/// What is at the top of a function's layers, to be mounted one by one; `None` where there is a link, which cannot be, or too much.
fn top_of(layers: &Path) -> Option<Vec<(PathBuf, String)>> {
    let mut top = Vec::new();
    for entry in std::fs::read_dir(layers).ok()? {
        let entry = entry.ok()?;
        let kind = entry.file_type().ok()?;
        if !(kind.is_dir() || kind.is_file()) || top.len() == LAYERED_AT_MOST {
            return None;
        }
        top.push((entry.path(), entry.file_name().into_string().ok()?));
    }
    Some(top)
}

/// What a function's layers are shown as.
fn layers(artifact: &Artifact) -> Option<Mount> {
    artifact.layers.clone().map(|host| Mount { host, inside: entry::LAYERS.into() })
}

/// Whether its instances may be alike but for what a restored one is told.
fn may_be_template(spec: &Spec) -> bool {
    let imageable =
        clients::described(&spec.artifact.runtime).is_some_and(|description| description.imageable);
    imageable && spec.artifact.contract == Contract::Lambda
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

    fn retire(&self, revision: &str) {
        self.imaging.retire(revision);
        self.compiled.retire(revision);
    }

    fn keep_only(&self, revisions: &HashSet<String>) {
        self.compiled.keep_only(revisions);
    }

    fn residents(&self) -> Vec<Resident> {
        let mut residents = self.ahead.residents();
        residents.extend(self.imaging.residents());
        residents
    }

    fn shrink(&self, bytes: u64) -> u64 {
        let freed = self.ahead.shrink(bytes);
        freed + self.imaging.shrink(bytes.saturating_sub(freed))
    }
}

/// What was made ahead may have died just now, or not take the function's limits: the plain way is left.
fn went_wrong(error: &StartError) {
    tracing::debug!(error = error as &dyn std::error::Error, "what was made ahead could not be used");
}

/// Files by name, between two texts; nothing where there are none.
fn named(files: &[PathBuf], before: &str, after: &str) -> String {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    if names.is_empty() { String::new() } else { format!("{before}{}{after}", names.join(", ")) }
}

/// What kind of program runs a runtime's functions.
fn class(runtime: &Runtime) -> ProgramClass {
    if runtime.is_managed() { ProgramClass::Interpreter } else { ProgramClass::Native }
}
