//! The back end: prepares artifacts and starts instances.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sandbox::egress::Network;
use sandbox::{Artifact, Backend, Contract, Error, Instance, Isolation, Prepared, Runtime, Spec, StartError};
use tokio::sync::Semaphore;

use crate::engine::Pool;
use crate::host::{Shared, linker};
use crate::instance::WasmInstance;
use crate::program::Programs;
use crate::settings::Settings;
use crate::ticker::Ticker;

/// Runs WebAssembly components in this process. Cheap to clone.
#[derive(Clone)]
pub struct WasmBackend {
    host: Arc<Host>,
}

/// What all instances share.
pub(crate) struct Host {
    pub(crate) programs: Arc<Programs>,
    pub(crate) ticker: Ticker,
    /// Free places of the pool: calls queue here, since a pool that is used up fails.
    pub(crate) places: Arc<Semaphore>,
    /// The way out.
    pub(crate) network: Arc<Network>,
}

impl WasmBackend {
    /// Reserves the pool's address space and opens the cache. Blocks for a few milliseconds.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let pool = Pool::reserve(settings.max_instances)?;
        let linker = linker(&pool.engine)
            .map_err(|error| Error::Unavailable(format!("WASI cannot be linked: {error:#}")))?;
        let ticker = Ticker::start(pool.engine.clone()).map_err(Error::host("starting the epoch thread"))?;
        let places = Arc::new(Semaphore::new(pool.places as usize));
        let network = settings.network.clone();
        let programs = Arc::new(Programs::new(pool, linker, settings)?);
        Ok(Self { host: Arc::new(Host { programs, ticker, places, network }) })
    }

    /// How many components this back end has compiled; the rest came from the cache.
    pub fn compiled(&self) -> u64 {
        self.host.programs.compiled()
    }
}

fn check(artifact: &Artifact) -> Result<(), Error> {
    if artifact.contract != Contract::Wasi {
        return Err(Error::Invalid("WebAssembly is called by the contract wasi only".into()));
    }
    match artifact.runtime {
        Runtime::Wasm | Runtime::Provided { .. } => Ok(()),
        ref other => Err(Error::Invalid(format!("{other} does not run as WebAssembly; the runtime is wasm"))),
    }
}

impl Backend for WasmBackend {
    fn isolation(&self) -> Isolation {
        Isolation::Wasm
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<Prepared, Error>> {
        async move {
            check(artifact)?;
            let program = self.host.programs.prepare(artifact).await?;
            Ok(Prepared { speaks: program.speaks(), one_at_a_time: false })
        }
        .boxed()
    }

    fn forget(&self, digest: &str) {
        self.host.programs.forget(digest);
    }

    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>> {
        async move {
            check(&spec.artifact)?;
            let loading = self.host.programs.get(&spec.artifact);
            let program = tokio::time::timeout(spec.init_timeout, loading)
                .await
                .map_err(|_| StartError::TimedOut)??;
            let instance =
                WasmInstance::new(self.host.clone(), program, Shared::new(spec, self.host.network.clone()));
            Ok(Arc::new(instance) as Arc<dyn Instance>)
        }
        .boxed()
    }
}
