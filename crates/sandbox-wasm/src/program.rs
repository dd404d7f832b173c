//! Compiled code that is ready to be run: loaded once a version, shared by its instances.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sandbox::{Artifact, Error, Speaks};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::adapt::componentize;
use crate::cache::{Cache, Key};
use crate::engine::Pool;
use crate::host::Guest;
use crate::inspect::Outline;
use crate::package::{module_path, read_module};
use crate::settings::Settings;

/// Compilations at the same time. One that nobody waits for any more keeps its turn to its end: the compiler cannot
/// be interrupted.
const COMPILERS: usize = 2;

/// A component, linked and looked through.
pub(crate) struct Program {
    pub(crate) entry: Entry,
    /// Places of the pool that an instance takes.
    pub(crate) weight: u32,
}

/// How a program is called.
pub(crate) enum Entry {
    Http(ProxyPre<Guest>),
    Command(CommandPre<Guest>),
}

impl Program {
    /// Links compiled code; `places` is the size of the pool that it will run in.
    pub(crate) fn link(linker: &Linker<Guest>, component: &Component, places: u32) -> Result<Self, Error> {
        let weight = weight(component, places)?;
        let pre = linker
            .instantiate_pre(component)
            .map_err(|error| Error::Invalid(format!("the component cannot be linked: {error:#}")))?;
        let entry = match ProxyPre::new(pre.clone()) {
            Ok(proxy) => Entry::Http(proxy),
            Err(not_http) => match CommandPre::new(pre) {
                Ok(command) => Entry::Command(command),
                Err(not_command) => {
                    return Err(Error::Invalid(format!(
                        "the component's exports are not as WASI 0.2 has them: {not_http:#}; {not_command:#}"
                    )));
                }
            },
        };
        Ok(Self { entry, weight })
    }

    pub(crate) fn speaks(&self) -> Speaks {
        match self.entry {
            Entry::Http(_) => Speaks::Http,
            Entry::Command(_) => Speaks::Events,
        }
    }
}

/// All programs: in memory, on disk, or to be compiled.
pub(crate) struct Programs {
    engine: Engine,
    places: u32,
    linker: Linker<Guest>,
    cache: Cache,
    settings: Settings,
    loaded: Mutex<Loaded>,
    /// Turns at the compiler, two: each compilation uses all cores, but one that does not come to an end must not
    /// keep all others waiting.
    compiler: Arc<Semaphore>,
    /// What is being compiled or waits for its turn: the same code is compiled once.
    compiling: Mutex<HashMap<Key, Weak<AsyncMutex<()>>>>,
    compiled: AtomicU64,
}

#[derive(Default)]
struct Loaded {
    all: HashMap<Key, Weak<Program>>,
    /// By digest and handler, to which no file has to be looked at: what starts of instances find.
    named: HashMap<(String, String), Weak<Program>>,
    recent: VecDeque<Arc<Program>>,
}

impl Loaded {
    fn find(&self, key: &Key) -> Option<Arc<Program>> {
        self.all.get(key).and_then(Weak::upgrade)
    }

    fn named(&self, artifact: &Artifact) -> Option<Arc<Program>> {
        self.named.get(&name(artifact)).and_then(Weak::upgrade)
    }

    fn name(&mut self, artifact: &Artifact, program: &Arc<Program>) {
        if self.named.len() >= 2 * self.recent.len().max(16) {
            self.named.retain(|_, program| program.strong_count() > 0);
        }
        self.named.insert(name(artifact), Arc::downgrade(program));
    }

    fn forget(&mut self, digest: &str) {
        self.all.retain(|key, _| !key.is_of(digest));
        self.named.retain(|(named, _), _| named != digest);
    }

    fn insert(&mut self, key: Key, program: &Arc<Program>, keep: usize) {
        if self.all.len() >= 2 * self.recent.len().max(16) {
            self.all.retain(|_, program| program.strong_count() > 0);
        }
        self.all.insert(key, Arc::downgrade(program));
        self.recent.push_back(program.clone());
        while self.recent.len() > keep {
            self.recent.pop_front();
        }
    }
}

fn name(artifact: &Artifact) -> (String, String) {
    (artifact.digest.clone(), artifact.handler.clone())
}

impl Programs {
    pub(crate) fn new(
        engine: Engine,
        linker: Linker<Guest>,
        places: u32,
        settings: Settings,
    ) -> Result<Self, Error> {
        Ok(Self {
            cache: Cache::open(&settings.cache_dir, &engine)?,
            engine,
            places,
            linker,
            settings,
            loaded: Mutex::default(),
            compiler: Arc::new(Semaphore::new(COMPILERS)),
            compiling: Mutex::default(),
            compiled: AtomicU64::new(0),
        })
    }

    /// How many components were compiled.
    pub(crate) fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    /// The artifact's program, for an instance: mostly one that is loaded.
    pub(crate) async fn get(self: &Arc<Self>, artifact: &Artifact) -> Result<Arc<Program>, Error> {
        if let Some(program) = self.loaded.lock().named(artifact) {
            return Ok(program);
        }
        let program = self.prepare(artifact).await?;
        self.loaded.lock().name(artifact, &program);
        Ok(program)
    }

    /// The artifact's program as its files say. They and the compiler are used on threads that may block.
    pub(crate) async fn prepare(self: &Arc<Self>, artifact: &Artifact) -> Result<Arc<Program>, Error> {
        let found = {
            let (this, artifact) = (self.clone(), artifact.clone());
            blocking(move || this.find(&artifact)).await?
        };
        let key = match found {
            Found::Program(program) => return Ok(program),
            Found::Missing(key) => key,
        };
        self.compiled_once(artifact, key).await
    }

    async fn compiled_once(self: &Arc<Self>, artifact: &Artifact, key: Key) -> Result<Arc<Program>, Error> {
        let (this, artifact) = (self.clone(), artifact.clone());
        let limit = self.settings.compile_timeout;
        let seconds = limit.as_secs();
        let turn = async {
            let alone = self.alone(&key).lock_owned().await;
            (alone, self.compiler.clone().acquire_owned().await)
        };
        let turn = tokio::time::timeout(limit, turn).await.map_err(|_| {
            Error::Unavailable(format!("the compiler has been busy with other modules for {seconds} seconds"))
        })?;
        let compiling = blocking(move || {
            // Held until the compiler is done, which may be after nobody waits for it any more.
            let _turn = turn;
            this.load(&key).map_or_else(|| this.compile(&artifact, key), Ok)
        });
        tokio::time::timeout(limit, compiling).await.unwrap_or_else(|_| {
            Err(Error::Invalid(format!("the module could not be compiled within {seconds} seconds")))
        })
    }

    /// What those who want the same code compiled wait for.
    fn alone(&self, key: &Key) -> Arc<AsyncMutex<()>> {
        let mut compiling = self.compiling.lock();
        if let Some(alone) = compiling.get(key).and_then(Weak::upgrade) {
            return alone;
        }
        compiling.retain(|_, alone| alone.strong_count() > 0);
        let alone = Arc::default();
        compiling.insert(key.clone(), Arc::downgrade(&alone));
        alone
    }

    /// Removes the compiled code of a package from the disk. What is loaded is not found any more, so that the same
    /// package uploaded anew is written again, and goes as others take its place.
    pub(crate) fn forget(&self, digest: &str) {
        self.loaded.lock().forget(digest);
        if let Err(error) = self.cache.forget(digest) {
            tracing::warn!(digest, %error, "compiled WebAssembly that nothing uses could not be removed");
        }
    }

    fn find(&self, artifact: &Artifact) -> Result<Found, Error> {
        let key = Key::of(artifact, &module_path(artifact)?);
        Ok(self.load(&key).map_or(Found::Missing(key), Found::Program))
    }

    fn load(&self, key: &Key) -> Option<Arc<Program>> {
        if let Some(program) = self.loaded.lock().find(key) {
            return Some(program);
        }
        let component = self.cache.load(&self.engine, key)?;
        self.link(key, &component).ok()
    }

    fn compile(&self, artifact: &Artifact, key: Key) -> Result<Arc<Program>, Error> {
        let path = module_path(artifact)?;
        let binary = read_module(&artifact.dir.join(&path), self.settings.max_module_bytes)?;
        let component = componentize(&binary)?;
        let outline = Outline::read(&component)?;
        outline.speaks()?;
        outline.check_imports()?;
        let code = self.engine.precompile_component(&component).map_err(|error| refused(&path, &error))?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let component = self.cache.store(&self.engine, &key, &code)?;
        self.link(&key, &component)
    }

    fn link(&self, key: &Key, component: &Component) -> Result<Arc<Program>, Error> {
        let program = Arc::new(Program::link(&self.linker, component, self.places)?);
        self.loaded.lock().insert(key.clone(), &program, self.settings.loaded_programs);
        Ok(program)
    }

    /// The artifact's compiled code, whole, to be handed to a worker: compiled first if need be.
    pub(crate) async fn code(self: &Arc<Self>, artifact: &Artifact) -> Result<Vec<u8>, Error> {
        let read = |this: Arc<Self>, artifact: Artifact| {
            blocking(move || Ok(this.cache.read(&Key::of(&artifact, &module_path(&artifact)?))))
        };
        if let Some(code) = read(self.clone(), artifact.clone()).await? {
            return Ok(code);
        }
        self.prepare(artifact).await?;
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let code = read(self.clone(), artifact.clone()).await?;
        code.ok_or_else(|| Error::host("reading compiled WebAssembly")(gone()))
    }
}

fn weight(component: &Component, places: u32) -> Result<u32, Error> {
    let needs = component.resources_required().ok_or_else(|| {
        Error::Invalid("the component imports modules or components, which is not supported".into())
    })?;
    let weight = Pool::weight(needs.num_memories, needs.num_tables);
    if weight > places.min(crate::engine::MAX_INNER) {
        return Err(Error::Invalid(format!(
            "the component has {} memories and {} tables, more than one instance may have here",
            needs.num_memories, needs.num_tables
        )));
    }
    Ok(weight)
}

enum Found {
    Program(Arc<Program>),
    Missing(Key),
}

fn refused(path: &Path, error: &wasmtime::Error) -> Error {
    Error::Invalid(format!("{} does not compile: {error:#}", path.display()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::Host { context: "preparing WebAssembly".into(), source: std::io::Error::other(error) })
    })
}
