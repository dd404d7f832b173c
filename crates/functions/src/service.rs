//! The service handle: what it is built from, how it opens and stops, and how a change is made.
//!
//! Reads come from memory. A change goes through [`Inner::commit`] alone: the database first, then memory, then
//! whatever the change leaves without use. Changes of one function are made one at a time and each in a task of
//! its own, so that a caller who hangs up cannot leave the database and memory apart. The operations
//! themselves are in `operations`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base::{AccountId, Clock, FunctionArn, Region, RequestId};
use bytes::Bytes;
use futures_util::future::join_all;
use observe::FunctionLabels;
use parking_lot::Mutex;
use sandbox::{Backend, Contract, Egress, FunctionError, Speaks};
use tokio::task::AbortHandle;

use crate::asynchronous::{self, Asynchronous, Pace};
use crate::code::CodeStore;
use crate::concurrency::Concurrency;
use crate::domains::Domains;
use crate::file_systems::FileSystems;
use crate::image::Images;
use crate::keep_alive;
use crate::layers::{self, Shelf};
use crate::model::{Configuration, FunctionRef, UrlConfig};
use crate::objects::Objects;
use crate::outbox::Outbox;
use crate::pool::{self, Host, Target};
use crate::prepare::{self, Queue};
use crate::registry::{Key, Registry};
use crate::remember;
use crate::signing::Book;
use crate::startup::Timings;
use crate::tables::{self, Change, Everything};
use crate::vault::Vault;
use crate::version::{Function, Rows, Source};
use crate::{Error, limits};

/// What the service is built from.
pub struct Deps {
    /// Truth.
    pub store: store::Store,
    /// Queues, with the kinds [`EVENTS`](crate::EVENTS), consumed, and [`FAILED_EVENTS`](crate::FAILED_EVENTS).
    pub queues: queues::Queues,
    /// Packages as uploaded.
    pub blobs: store::Blobs,
    /// Unpacked packages, one folder a digest; everything in it can be made again from the blobs.
    pub code_dir: PathBuf,
    /// Fetches container images; without it there are none.
    pub images: Option<Arc<dyn Images>>,
    /// Reads packages that are given by reference; without it there are none.
    pub objects: Option<Arc<dyn Objects>>,
    /// Message queues that can be destinations; none where absent.
    pub outbox: Option<Arc<dyn Outbox>>,
    /// Function logs.
    pub logs: observe::Logs,
    /// Function metrics.
    pub metrics: Arc<observe::FunctionMetrics>,
    /// Credentials for instances.
    pub iam: iam::Iam,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Where functions live.
    pub region: Region,
    /// Folders that functions may share.
    pub file_systems: FileSystems,
    /// One of each isolation at most.
    pub backends: Vec<Arc<dyn Backend>>,
    /// The host's protection.
    pub bounds: Bounds,
}

/// Bounds that protect the host, and defaults.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Instances of all functions together.
    pub max_instances: usize,
    /// Bytes: the sum of all instances' memory limits.
    pub max_memory_bytes: u64,
    /// Calls that may wait for an instance, per function.
    pub max_queue: usize,
    /// How long a call may wait for an instance.
    pub queue_timeout: Duration,
    /// How long initialisation may take.
    pub init_timeout: Duration,
    /// `virga:egress` where the tag is absent.
    pub egress: Egress,
    /// The same for the functions of accounts that have a default of their own.
    pub egress_of: BTreeMap<AccountId, Egress>,
    /// The most that `virga:egress` may open.
    pub max_egress: Egress,
    /// Which host names functions may bring.
    pub domains: Domains,
    /// How long an idle instance is kept where the function does not say: until its past says something, and the
    /// most at any stretch.
    pub idle_timeout: Duration,
    /// How pools grow, and what all calls together may take.
    pub scaling: Scaling,
    /// Asynchronous invokes.
    pub pace: Pace,
}

impl Bounds {
    /// `virga:egress` of a function of this account where the tag is absent.
    pub(crate) fn default_egress(&self, account: &AccountId) -> &Egress {
        self.egress_of.get(account).unwrap_or(&self.egress)
    }
}

/// How pools grow, what all calls together may take, and what an account may keep.
#[derive(Debug, Clone)]
pub struct Scaling {
    /// How many instances there should be follows calls in flight over this time.
    pub stable_window: Duration,
    /// A burst is seen over this time.
    pub panic_window: Duration,
    /// It is one if it asks for so many times of what is ready.
    pub panic_threshold: f64,
    /// For so long an idle instance is kept whatever the past says; shorter gaps between calls are no part of it.
    pub keep_at_least: Duration,
    /// How often what is known of callers is written down, for the next server.
    pub remember_every: Duration,
    /// Calls in flight of all functions of an account, those that wait included.
    pub account_concurrency: u32,
    /// Bytes of the packages of all functions of an account, of every version.
    pub account_code_bytes: u64,
    /// Calls of all functions that may wait for an instance.
    pub max_waiting: usize,
    /// Bytes that these may hold.
    pub max_waiting_bytes: u64,
}

impl Default for Scaling {
    /// Knative's windows and threshold; Lambda's quota of concurrent executions; enough memory for each of as many
    /// calls as an account may have in flight to hold an ordinary event.
    fn default() -> Self {
        Self {
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2.0,
            keep_at_least: keep_alive::SHORTEST,
            remember_every: Duration::from_secs(300),
            account_concurrency: 1000,
            account_code_bytes: limits::ACCOUNT_CODE_BYTES,
            max_waiting: 10_000,
            max_waiting_bytes: 256 << 20,
        }
    }
}

/// A synchronous call with an event.
#[derive(Debug, Clone)]
pub struct Invoke {
    /// The id that the answer, the logs and the context carry.
    pub id: RequestId,
    /// What is called.
    pub function: FunctionRef,
    /// JSON (empty means `{}`); checked here.
    pub payload: Bytes,
    /// Decoded `X-Amz-Client-Context`.
    pub client_context: Option<String>,
    /// `X-Amzn-Trace-Id` of the request, if any.
    pub trace_id: Option<String>,
    /// Whether to collect the last 4 KiB of the log.
    pub tail: bool,
    /// Whether to measure what the call is made of.
    pub trace: bool,
}

/// What came of a call that reached the function.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The version that ran.
    pub executed_version: String,
    /// The answer or the function's error.
    pub result: Result<Bytes, FunctionError>,
    /// What the function says that its answer is, where it streamed it.
    pub content_type: Option<String>,
    /// The last 4 KiB of the log, where asked for.
    pub log_tail: Option<Bytes>,
    /// What the call was made of, where asked for.
    pub timings: Option<Timings>,
}

/// A function URL's target, found without locks or database.
#[derive(Clone)]
pub struct Route {
    /// The function behind the URL.
    pub function: FunctionArn,
    /// The URL's configuration.
    pub url: Arc<UrlConfig>,
    /// What the function exchanges: whether the gateway passes the request on or makes an event of it.
    pub speaks: Speaks,
    /// How it is called.
    pub contract: Contract,
    /// What calls get; `None` while the function cannot be called.
    pub(crate) target: Option<Arc<Target>>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Functions {
    pub(crate) inner: Arc<Inner>,
}

/// The service.
pub(crate) struct Inner {
    pub(crate) store: store::Store,
    pub(crate) code: Arc<CodeStore>,
    pub(crate) registry: Registry,
    pub(crate) shelf: Shelf,
    pub(crate) signing: Book,
    pub(crate) objects: Option<Arc<dyn Objects>>,
    pub(crate) outbox: Option<Arc<dyn Outbox>>,
    pub(crate) host: Arc<Host>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) asynchronous: Asynchronous,
    locks: Vec<tokio::sync::Mutex<()>>,
    /// Held while a function's reserved or provisioned concurrency changes. Taken before the function's own lock.
    pub(crate) claiming: tokio::sync::Mutex<()>,
    /// Held while what is known of callers is written down.
    pub(crate) remembering: tokio::sync::Mutex<()>,
    hasher: RandomState,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.get_mut() {
            task.abort();
        }
    }
}

/// Functions whose rows one transaction writes when all are sealed: a megabyte or so.
const SEALED_AT_ONCE: usize = 100;

/// Changes of functions that do not share one of so many locks do not wait for each other.
const LOCKS: usize = 64;

impl Functions {
    /// Reads everything into memory, finishes what a crash interrupted (a `Pending` function becomes
    /// `Active` or `Failed`), and removes unpacked code that nothing refers to. Background tasks run on
    /// the current tokio runtime until `shutdown`.
    pub async fn open(deps: Deps) -> Result<Self, Error> {
        let inner = Arc::new(Inner {
            store: deps.store.clone(),
            code: Arc::new(CodeStore::open(
                deps.code_dir.clone(),
                deps.blobs.clone(),
                deps.backends.clone(),
                deps.images.clone(),
            )?),
            registry: Registry::new(deps.iam.first_account().clone(), deps.bounds.domains.clone()),
            shelf: Shelf::default(),
            signing: Book::default(),
            asynchronous: Asynchronous::new(deps.queues.clone(), &deps.bounds.pace),
            objects: deps.objects.clone(),
            outbox: deps.outbox.clone(),
            host: Host::new(deps),
            queue: Arc::default(),
            locks: (0..LOCKS).map(|_| tokio::sync::Mutex::default()).collect(),
            claiming: tokio::sync::Mutex::default(),
            remembering: tokio::sync::Mutex::default(),
            hasher: RandomState::new(),
            tasks: Mutex::default(),
        });
        inner.load().await?;
        inner.tidy_code().await?;
        inner.resume();
        let preparer = tokio::spawn(prepare::preparer(Arc::downgrade(&inner), Arc::clone(&inner.queue)));
        let reaper = tokio::spawn(pool::ticker(Arc::downgrade(&inner.host)));
        let every = inner.host.bounds.scaling.remember_every;
        let rememberer = tokio::spawn(remember::rememberer(Arc::downgrade(&inner), every));
        let dispatcher = tokio::spawn(asynchronous::dispatcher(Arc::downgrade(&inner)));
        let sweeper = tokio::spawn(asynchronous::sweeper(Arc::downgrade(&inner)));
        let tasks = [preparer, reaper, rememberer, dispatcher, sweeper].map(|task| task.abort_handle());
        inner.tasks.lock().extend(tasks);
        Ok(Self { inner })
    }

    /// Takes no more events off the queues; those in hand run to their end.
    pub fn stop_events(&self) {
        self.inner.asynchronous.stop.send_replace(true);
    }

    /// Refuses new calls, waits for those under way at most `grace`, stops every instance, and writes down what is
    /// known of callers.
    pub async fn shutdown(&self, grace: Duration) {
        self.stop_events();
        self.inner.host.shut_down(grace).await;
        if let Err(error) = self.inner.asynchronous.settled().await {
            tracing::warn!(%error, "not all outcomes of events were written down; they are delivered again");
        }
        self.inner.remember().await;
        for task in self.inner.tasks.lock().drain(..) {
            task.abort();
        }
    }

    /// Makes a change in a task of its own, which ends whether or not the caller waits for it.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        tokio::spawn(change).await.map_err(Error::internal)?
    }
}

impl Inner {
    async fn load(self: &Arc<Self>) -> Result<(), Error> {
        let all: Everything = self.store.read(|tx| tables::load(tx).map_err(Error::from)).await?;
        let mut functions: BTreeMap<(String, String), Rows> = BTreeMap::new();
        for (account, name, function) in all.functions {
            functions.insert((account, name), Rows { function, ..Rows::default() });
        }
        let mut sort = |rows: Vec<(String, String, String, String)>,
                        of: fn(&mut Rows) -> &mut Vec<(String, String)>| {
            for (account, name, key, document) in rows {
                if let Some(rows) = functions.get_mut(&(account, name)) {
                    of(rows).push((key, document));
                }
            }
        };
        sort(all.versions, |rows| &mut rows.versions);
        sort(all.aliases, |rows| &mut rows.aliases);
        sort(all.urls, |rows| &mut rows.urls);
        let mut rewritten = Vec::new();
        for (key, rows) in functions {
            rewritten.extend(self.load_function(key, &rows)?);
        }
        self.recall(all.habits);
        self.shelf.load(self.store.read(|tx| layers::tables::load(tx).map_err(Error::from)).await?)?;
        self.shelf.digests().iter().for_each(|digest| self.code.retain(digest));
        self.signing.load(&self.store).await?;
        if all.unsealed { self.seal(rewritten).await } else { Ok(()) }
    }

    /// Removes unpacked code that nothing refers to, and what was made of it, and makes again what is missing.
    async fn tidy_code(&self) -> Result<(), Error> {
        let (backends, revisions) = (self.host.backends.clone(), self.registry.revisions());
        let kept = tokio::task::spawn_blocking(move || {
            backends.iter().for_each(|backend| backend.keep_only(&revisions));
        });
        kept.await.map_err(Error::internal)?;
        let mut referenced = self.registry.digests();
        referenced.extend(self.shelf.digests());
        self.code.sweep(&referenced).await?;
        for layers in self.registry.layers() {
            if let Err(error) = self.code.restore_layers(&layers).await {
                tracing::error!(%error, "the layers of a function could not be put together again");
            }
        }
        Ok(())
    }

    /// Writes rows that an earlier server wrote with environment variables in plain, sealed; and leaves nothing of
    /// what they were in the file. Begun again where a crash came between.
    async fn seal(&self, rows: Vec<Change>) -> Result<(), Error> {
        tracing::info!(functions = rows.len(), "sealing environment variables in the database");
        for rows in rows.chunks(SEALED_AT_ONCE) {
            let rows = rows.to_vec();
            let apply = move |tx: &mut dyn store::Tx| {
                rows.iter().try_for_each(|change| tables::apply(tx, change)).map_err(Error::from)
            };
            self.store.write(apply).await?;
        }
        self.store.erase_remains().await?;
        self.store.write(|tx| tables::sealed(tx).map_err(Error::from)).await
    }

    /// Puts in force what functions have reserved and provisioned. Once their code is there: instances are started.
    fn resume(&self) {
        for (_, function) in self.registry.all() {
            if function.concurrency != Concurrency::default() {
                let claimed = function.claim().reserved;
                self.host.apply(&function.arn, function.asked(), claimed, function.targets());
            }
        }
    }

    fn load_function(&self, (account, name): (String, String), rows: &Rows) -> Result<Option<Change>, Error> {
        let account = base::AccountId::parse(&account)
            .ok_or_else(|| Error::internal(format!("the owner {account} of {name} is no account")))?;
        let arn = self.arn(&FunctionRef { account: account.clone(), name: name.clone(), qualifier: None });
        let artifact = |configuration: &Configuration| self.code.artifact(configuration);
        let vault = Vault::new(&self.host.iam, &arn);
        let source = Source { artifact: &artifact, vault: &vault };
        let (function, unsealed) = Function::from_rows(arn.clone(), rows, source)?;
        let sealed = (!unsealed.is_empty()).then(|| function.rewritten(&unsealed, &vault)).transpose()?;
        let function = Arc::new(function);
        let key = (account, name);
        function
            .versions()
            .flat_map(|version| version.digests())
            .for_each(|digest| self.code.retain(&digest));
        self.reclaim(&key, &function);
        self.registry.put(&key, None, Some(&function));
        if function.versions().any(|version| version.unsettled()) {
            self.queue.push(key);
        }
        Ok(sealed)
    }

    /// Claims the names that a function has had: each was its own when it was written, but may have been closed since.
    fn reclaim(&self, key: &Key, function: &Function) {
        for name in function.domains() {
            if let Err(error) = self.registry.domains.claim(key, &[], std::slice::from_ref(&name)) {
                tracing::warn!(function = %function.arn, %error, "a function is not reached by its domain");
            }
        }
    }

    /// The ARN of a function, qualified as it was asked for.
    pub(crate) fn arn(&self, function: &FunctionRef) -> FunctionArn {
        FunctionArn {
            region: self.host.region.clone(),
            account: function.account.clone(),
            name: function.name.clone(),
            qualifier: function.qualifier.clone(),
        }
    }

    /// The lock that changes of this function are made under.
    pub(crate) async fn lock(&self, key: &Key) -> tokio::sync::MutexGuard<'_, ()> {
        // The remainder is below LOCKS.
        let index = (self.hasher.hash_one(key) % LOCKS as u64) as usize;
        self.locks[index].lock().await
    }

    /// Makes a change durable, then visible, then lets go of what nothing needs any more. Under the function's
    /// lock, in a task that is not dropped halfway.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        key: &Key,
        old: Option<&Arc<Function>>,
        mut new: Option<Function>,
    ) -> Result<(), Error> {
        if let Some(new) = &mut new {
            new.forget_policies();
        }
        let change = match &new {
            Some(new) => Function::change(old.map(|old| &**old), new, &Vault::new(&self.host.iam, &new.arn))?,
            None => Change {
                account: key.0.to_string(),
                name: key.1.clone(),
                remove_all: true,
                ..Change::default()
            },
        };
        let domains = new.as_ref().map(Function::domains).unwrap_or_default();
        let before = old.map(|old| old.domains()).unwrap_or_default();
        let claimed = self.registry.domains.claim(key, &before, &domains)?;
        let written = self.store.write(move |tx| tables::apply(tx, &change).map_err(Error::from)).await;
        if let Err(error) = written {
            self.registry.domains.give_back(key, &claimed);
            return Err(error);
        }
        let new = new.map(Arc::new);
        let digests = |function: Option<&Arc<Function>>| -> Vec<String> {
            let versions = function.into_iter().flat_map(|function| function.versions());
            versions.flat_map(|version| version.digests()).collect()
        };
        digests(new.as_ref()).iter().for_each(|digest| self.code.retain(digest));
        self.registry.put(key, old.map(|old| &**old), new.as_ref());
        match (&new, old) {
            (Some(new), _) => {
                self.host.apply(&new.arn, new.asked(), new.claim().reserved, new.targets());
            }
            (None, Some(old)) => self.host.forget(&old.arn),
            (None, None) => {}
        }
        let targets = |function: Option<&Arc<Function>>| -> Vec<Arc<Target>> {
            function.into_iter().flat_map(|function| function.targets()).map(Arc::clone).collect()
        };
        let mut gone = targets(old);
        let kept = targets(new.as_ref());
        gone.retain(|old| !kept.iter().any(|kept| Arc::ptr_eq(kept, old)));
        self.let_go(key.clone(), gone, digests(old));
        Ok(())
    }

    /// Stops what runs of targets that are gone, each after its last call; then the code can go, and the
    /// metrics of versions that are no more. Until then the code counts as referred to, since instances see it.
    fn let_go(self: &Arc<Self>, key: Key, gone: Vec<Arc<Target>>, digests: Vec<String>) {
        let service: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            join_all(gone.iter().map(|target| target.retire())).await;
            let Some(service) = service.upgrade() else { return };
            for plan in gone.iter().map(|target| target.plan()) {
                if let Some(backend) = service.host.backend(plan.configuration.settings.isolation) {
                    backend.retire(&plan.configuration.revision_id);
                }
            }
            for digest in digests {
                service.code.release(&digest);
                service.code.collect(&digest).await;
            }
            // Under the lock, so that a function made anew under the same name does not lose its own.
            let _lock = service.lock(&key).await;
            for target in gone {
                service.forget_metrics(&key, &target.plan().configuration.version);
            }
        });
    }

    fn forget_metrics(&self, key: &Key, version: &str) {
        let exists = self.registry.get(key).is_some_and(|function| function.version(Some(version)).is_some());
        if !exists {
            let labels = FunctionLabels {
                account: key.0.to_string(),
                function: key.1.clone(),
                version: version.to_owned(),
            };
            self.host.metrics.forget(&labels);
        }
    }
}
