//! The back end that puts tenants' instances apart.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::AccountId;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sandbox::process::jail::Launcher;
use sandbox::{Artifact, Backend, Error, Instance, Isolation, Prepared, Resident, Spec, StartError};
use tokio::sync::Mutex as AsyncMutex;

use super::Separation;
use super::instance::Placed;
use super::process::Worker;
use crate::WasmBackend;
use crate::backend::check;

/// Settings of workers.
#[derive(Clone)]
pub struct WorkerSettings {
    /// When there are workers.
    pub separation: Separation,
    /// How many tenants the server has just now.
    pub tenants: Arc<dyn Fn() -> usize + Send + Sync>,
    /// The program to execute, on the host: this one. It is to call [`run_worker`](super::run_worker).
    pub program: PathBuf,
    /// What has it do so.
    pub arguments: Vec<String>,
    /// A folder of the data directory for what workers see of packages, on the packages' file system. Whatever is in
    /// it is removed.
    pub dir: PathBuf,
    /// Bytes of memory of one worker, all its instances together.
    pub memory_bytes: u64,
    /// Calls that hold an instance at the same time in one worker; further ones wait.
    pub max_instances: u32,
    /// How long a worker without instances is kept.
    pub idle: Duration,
}

/// Runs WebAssembly in this process or in workers. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    here: WasmBackend,
    launcher: Launcher,
    settings: Arc<WorkerSettings>,
    tenants: Arc<Mutex<HashMap<AccountId, Tenant>>>,
}

/// A tenant's worker, if it has one. The lock is held while one starts.
type Tenant = Arc<AsyncMutex<Option<Arc<Worker>>>>;

/// An instance's hold on its worker.
pub(super) struct Place {
    pub(super) worker: Arc<Worker>,
    /// What was waited for the worker.
    pub(super) took: Duration,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.users.send_modify(|users| *users = users.saturating_sub(1));
    }
}

impl Workers {
    /// Before a back end that runs everything in this process. Empties the settings' folder.
    pub fn new(here: WasmBackend, launcher: Launcher, settings: WorkerSettings) -> Result<Self, Error> {
        let clear = || match std::fs::remove_dir_all(&settings.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => super::packages::make(&settings.dir),
        };
        clear().map_err(Error::host("making the folder of WebAssembly workers"))?;
        Ok(Self { here, launcher, settings: Arc::new(settings), tenants: Arc::default() })
    }

    /// A place in the tenant's worker, which is started if there is none.
    async fn place(&self, account: &AccountId) -> Result<Place, StartError> {
        let began = Instant::now();
        let tenant = self.tenants.lock().entry(account.clone()).or_default().clone();
        let mut slot = tenant.lock().await;
        let worker = match slot.as_ref().filter(|worker| !worker.is_over()) {
            Some(worker) => worker.clone(),
            None => {
                *slot = None;
                let worker = Worker::start(&self.launcher, &self.settings, self.here.trust.clone()).await?;
                tokio::spawn(end_when_idle(tenant.clone(), worker.clone(), self.settings.idle));
                slot.insert(worker).clone()
            }
        };
        worker.users.send_modify(|users| *users += 1);
        Ok(Place { worker, took: began.elapsed() })
    }

    async fn start_apart(&self, spec: Arc<Spec>) -> Result<Arc<dyn Instance>, StartError> {
        check(&spec.artifact)?;
        let limit = spec.init_timeout;
        let starting = async {
            let place = self.place(&spec.function.account).await?;
            let code = place.worker.load(&self.here.programs, &spec.artifact).await?;
            Placed::start(spec, place, code, self.here.network.clone()).await
        };
        let placed = tokio::time::timeout(limit, starting).await.map_err(|_| StartError::TimedOut)??;
        Ok(Arc::new(placed))
    }

    fn workers(&self) -> Vec<Arc<Worker>> {
        let tenants: Vec<_> = self.tenants.lock().values().cloned().collect();
        // One that is just starting has nothing yet.
        tenants.iter().filter_map(|tenant| tenant.try_lock().ok()?.clone()).collect()
    }
}

/// Ends a worker that has had no instance for a while, or lets go of one that has ended.
async fn end_when_idle(tenant: Tenant, worker: Arc<Worker>, idle: Duration) {
    let mut users = worker.users.subscribe();
    loop {
        let waiting = async {
            // Neither can fail: the sender lives in the worker.
            let _ = users.wait_for(|users| *users == 0).await;
            tokio::time::timeout(idle, users.wait_for(|users| *users > 0)).await.is_err()
        };
        let over = tokio::select! {
            over = waiting => over,
            _ = worker.exited() => true,
        };
        if !over {
            continue;
        }
        let mut slot = tenant.lock().await;
        let is_used = *worker.users.borrow() > 0 && !worker.is_over();
        if is_used {
            continue;
        }
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, &worker)) {
            *slot = None;
        }
        drop(slot);
        return worker.kill().await;
    }
}

impl Backend for Workers {
    fn isolation(&self) -> Isolation {
        Isolation::Wasm
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<Prepared, Error>> {
        self.here.prepare(artifact)
    }

    fn forget(&self, digest: &str) {
        self.here.forget(digest);
        for worker in self.workers() {
            worker.forget(digest);
        }
    }

    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>> {
        if self.settings.separation.applies((self.settings.tenants)()) {
            return self.start_apart(spec).boxed();
        }
        self.here.start(spec)
    }

    fn residents(&self) -> Vec<Resident> {
        self.here.residents()
    }
}
