//! The back end: prepares artifacts and starts instances.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sandbox::egress::Network;
use sandbox::{Artifact, Backend, Contract, Error, Instance, Isolation, Prepared, Runtime, Spec, StartError};

use crate::engine::Host;
use crate::host::Shared;
use crate::instance::WasmInstance;
use crate::outside::Outside;
use crate::program::Programs;
use crate::settings::Settings;
use crate::trust::Trust;

/// Runs WebAssembly components in this process. Cheap to clone.
#[derive(Clone)]
pub struct WasmBackend {
    host: Arc<Host>,
    pub(crate) programs: Arc<Programs>,
    /// The way out.
    pub(crate) network: Arc<Network>,
    pub(crate) trust: Arc<Trust>,
}

impl WasmBackend {
    /// Reserves the pool's address space and opens the cache. Blocks for a few milliseconds.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let (host, linker, places) = Host::start(settings.max_instances)?;
        let network = settings.network.clone();
        let trust = Trust::new(settings.certificates.as_deref());
        let trust = Arc::new(trust.map_err(Error::host("setting TLS up for WebAssembly"))?);
        let programs = Arc::new(Programs::new(host.engine.clone(), linker, places, settings)?);
        Ok(Self { host: Arc::new(host), programs, network, trust })
    }

    /// How many components this back end has compiled; the rest came from the cache.
    pub fn compiled(&self) -> u64 {
        self.programs.compiled()
    }
}

pub(crate) fn check(artifact: &Artifact) -> Result<(), Error> {
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
            let program = self.programs.prepare(artifact).await?;
            Ok(Prepared { speaks: program.speaks(), one_at_a_time: false })
        }
        .boxed()
    }

    fn forget(&self, digest: &str) {
        self.programs.forget(digest);
    }

    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>> {
        async move {
            check(&spec.artifact)?;
            let loading = self.programs.get(&spec.artifact);
            let program = tokio::time::timeout(spec.init_timeout, loading)
                .await
                .map_err(|_| StartError::TimedOut)??;
            let outside = Outside::here(&spec, self.network.clone(), self.trust.clone());
            let instance = WasmInstance::new(self.host.clone(), program, Shared::new(spec, outside));
            Ok(Arc::new(instance) as Arc<dyn Instance>)
        }
        .boxed()
    }
}
