//! Beginning instances as images, and making the images.
//!
//! An instance of a function that has a network of its own and Virga's client begins, where it can, as the template
//! of its revision: its initialisation has run. Else as the template of its runtime: the interpreter is up and holds
//! what functions commonly import. Else it is started the plain way, and what is missing is made behind it: the
//! runtime's template at the first start that could have used it, a revision's after the first whose initialisation
//! took long enough to be worth it.
//!
//! What is made runs as any instance does, in a jail with all limits, when it is its turn ([`super::turns`]). Before an image is used it is restored once: what cannot go on is not kept.
//!
//! Who pays: an image's pages are the server's; those that an instance writes to are its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::InstanceId;
use tokio::sync::mpsc;

use super::attach::{Ends, FromInside, attach};
use super::instance::Course;
use super::jail::{Beginning, BootJob, Image, Jail, Job, Launcher, ProgramClass, Refusal, Wanted, Why};
use super::output::BYTES_PER_S;
use super::templates::{Key, Templates};
use super::turns::Turns;
use crate::egress::Network;
use crate::{Count, Exit, Limits, Origin, Phases, Resident, Spec, StartError};

/// Initialisation that takes less is not worth an image.
const WORTH: Duration = Duration::from_millis(15);
/// How long the client of a runtime may take to boot, or an image to show that it can go on.
const BOOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Tells the client that it is a template; any value.
const TEMPLATE: &str = "VIRGA_TEMPLATE";
/// Tells a restored client to end at once; any value.
const PROBE: &str = "VIRGA_PROBE";

/// Makes images and hands them out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Imaging(Arc<Shared>);

struct Shared {
    launcher: Launcher,
    endpoint: Option<mpsc::Sender<FromInside>>,
    network: Arc<Network>,
    templates: Templates,
    /// An empty folder, in place of a function's code.
    nothing: PathBuf,
    turns: Turns,
}

/// What an instance may begin as.
pub(crate) struct Found {
    /// Of the image.
    pub(crate) key: Key,
    pub(crate) image: Arc<Image>,
    pub(crate) origin: Origin,
}

impl Imaging {
    /// Nothing is made yet. `nothing` is an empty folder; all images together hold `total_bytes` at most.
    pub(crate) fn new(
        launcher: Launcher,
        endpoint: Option<mpsc::Sender<FromInside>>,
        network: Arc<Network>,
        turns: Turns,
        nothing: PathBuf,
        total_bytes: u64,
    ) -> Self {
        let templates = Templates::new(total_bytes);
        Self(Arc::new(Shared { launcher, endpoint, network, templates, nothing, turns }))
    }

    /// The best image that an instance may begin as. `boot` is how its runtime's client is booted without a function,
    /// `None` where the function must not begin as that.
    pub(crate) fn find(&self, spec: &Spec, boot: Option<BootJob>) -> Option<Found> {
        let revision = Key::Revision(spec.revision.clone());
        if spec.template
            && let Some(image) = self.0.templates.get(&revision)
        {
            return Some(Found { key: revision, image, origin: Origin::Template });
        }
        let key = Key::Runtime(spec.artifact.runtime.to_string());
        let boot = boot?;
        match self.0.templates.get(&key) {
            Some(image) => Some(Found { key, image, origin: Origin::Runtime }),
            None => {
                self.make_runtime(key, boot);
                None
            }
        }
    }

    /// It could not be restored.
    pub(crate) fn failed(&self, key: &Key, image: &Arc<Image>, error: &StartError) {
        tracing::warn!(
            ?key,
            error = error as &dyn std::error::Error,
            "an image could not be restored; it is dropped"
        );
        self.0.templates.fail(key, image);
    }

    /// Whether an instance that began as an image and did not come up is to be started the plain way: the image may be
    /// why. Its own client would have told of an error of the function's.
    pub(crate) fn is_to_blame(&self, key: &Key, image: &Arc<Image>, error: &StartError) -> bool {
        let suspect = match (key, error) {
            (Key::Revision(_), StartError::Exited(_)) => true,
            // The function's initialisation runs in it, and may end the process as it likes, if not by that.
            (Key::Runtime(_), StartError::Exited(Exit::Signal(signal))) => *signal != libc::SIGKILL,
            _ => false,
        };
        if suspect && matches!(key, Key::Revision(_)) {
            self.failed(key, image, error);
        }
        suspect
    }

    /// An instance is up. `job` is what the plain way would have started.
    pub(crate) fn started(&self, spec: &Arc<Spec>, job: Job, phases: Phases) {
        let key = Key::Revision(spec.revision.clone());
        // What it did to files that others see, it must not do once more behind everybody's back.
        let alone = spec.file_systems.is_empty();
        let worth = alone && spec.template && phases.origin != Origin::Template && phases.init >= WORTH;
        if worth && self.0.templates.begin(&key) {
            let (imaging, spec) = (self.clone(), Arc::clone(spec));
            self.in_background(key, async move { imaging.make_revision(&spec, job).await });
        }
    }

    /// See [`crate::Backend::retire`].
    pub(crate) fn retire(&self, revision: &str) {
        self.0.templates.retire(revision);
    }

    /// See [`crate::Backend::residents`].
    pub(crate) fn residents(&self) -> Vec<Resident> {
        self.0.templates.residents()
    }

    /// See [`crate::Backend::shrink`].
    pub(crate) fn shrink(&self, bytes: u64) -> u64 {
        self.0.templates.shrink(bytes)
    }

    fn make_runtime(&self, key: Key, boot: BootJob) {
        if !self.0.templates.begin(&key) {
            return;
        }
        let imaging = self.clone();
        self.in_background(key.clone(), async move {
            let Key::Runtime(runtime) = &key else { return };
            match imaging.image_of_runtime(boot).await {
                Ok(image) => imaging.keep(&key, format!("template {runtime}"), image),
                Err(refusal) => imaging.has_none(&key, &refusal),
            }
        });
    }

    /// Runs a making when it is its turn and nothing else is started.
    fn in_background(&self, key: Key, making: impl Future<Output = ()> + Send + 'static) {
        let imaging = self.clone();
        tokio::spawn(async move {
            let unfinished = Unfinished(&imaging.0.templates, Some(key));
            let Some(_turn) = imaging.0.turns.next().await else { return };
            making.await;
            unfinished.finish();
        });
    }

    fn keep(&self, key: &Key, name: String, image: Image) {
        let bytes = image.bytes();
        if self.0.templates.made(key, name, image) {
            tracing::debug!(?key, bytes, "a template was made");
        }
    }

    /// What is made without a template from now on, or until the next attempt.
    fn has_none(&self, key: &Key, refusal: &Refusal) {
        let again = match refusal {
            Refusal::Unfit(..) => {
                self.0.templates.refuse(key);
                false
            }
            Refusal::BrokeOff(_) => self.0.templates.broke_off(key),
        };
        match key {
            Key::Runtime(runtime) if !again => {
                tracing::warn!(%runtime, reason = %refusal, "a runtime has no template");
            }
            _ => tracing::info!(?key, reason = %refusal, again, "there is no template"),
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted { most_bytes: self.0.templates.most_bytes(), rehearse: true }
    }

    async fn image_of_runtime(&self, boot: BootJob) -> Result<Image, Refusal> {
        let BootJob { argv, env, mounts, .. } = boot;
        let limits = Limits {
            memory_bytes: 512 << 20,
            cpu_hundredths: None,
            tmp_bytes: 1 << 20,
            pids: 16,
            answer_bytes: 0,
        };
        let job = Job {
            instance: InstanceId::random(),
            argv,
            env: with(env, TEMPLATE),
            code: self.0.nothing.clone(),
            root: None,
            mounts,
            layered: Vec::new(),
            shared: Vec::new(),
            limits,
            // It reads its orders and does no more.
            way_out: true,
            listen: Vec::new(),
            beginning: Beginning::Template,
            class: ProgramClass::Interpreter,
        };
        let jail =
            self.0.launcher.spawn(job.clone()).await.map_err(|error| Refusal::BrokeOff(error.to_string()))?;
        let image = match stops(&jail, BOOT_TIMEOUT).await {
            Ok(()) => self.0.launcher.take_image(&jail, self.wanted()).await,
            Err(refusal) => Err(refusal),
        };
        jail.kill().await;
        self.proven(image?, job).await
    }

    async fn make_revision(&self, spec: &Arc<Spec>, job: Job) {
        let key = Key::Revision(spec.revision.clone());
        match self.image_of_revision(spec, job).await {
            Ok(image) => {
                let version = spec.function.qualifier.as_deref().unwrap_or("$LATEST");
                self.keep(&key, format!("template {}:{version}", spec.function.name), image);
            }
            Err(refusal) => {
                // The owner's to know: what was hoped for is not there, and why.
                let line = format!(
                    "VIRGA No template of this version: {refusal}. Every instance runs its initialisation.\n"
                );
                spec.output.write(line.as_bytes());
                spec.output.count(Count::NoTemplate(refusal.reason()), 1);
                tracing::info!(function = %spec.function, "a function has no template");
                self.has_none(&key, &refusal);
            }
        }
    }

    async fn image_of_revision(&self, spec: &Arc<Spec>, job: Job) -> Result<Image, Refusal> {
        let job = Job {
            instance: InstanceId::random(),
            env: with(job.env, TEMPLATE),
            beginning: Beginning::Template,
            ..job
        };
        let failed =
            |error: StartError| Refusal::BrokeOff(format!("initialising it once more failed: {error}"));
        let jail = self.0.launcher.spawn(job.clone()).await.map_err(failed)?;
        let now = Course::now();
        let course = Course { origin: Origin::Cold, asked: now, executed: now };
        let endpoint = self.0.endpoint.as_ref();
        let ends = Ends { web: None, network: &self.0.network, endpoint, log_bytes_per_s: BYTES_PER_S };
        let attached = attach(jail, spec, ends, course);
        let (process, started) =
            attached.map_err(|error| Refusal::BrokeOff(format!("the host failed: {error}")))?;
        let jail = Arc::clone(process.jail());
        let stopped = tokio::select! {
            stopped = stops(&jail, spec.init_timeout) => stopped,
            ready = process.ready(started) => Err(match ready {
                Ok(()) => Refusal::Unfit(Why::Other, "its runtime client does not stop".to_owned()),
                Err(error) => failed(error),
            }),
        };
        let image = match stopped {
            // From here on its end is no news: who takes the image ends it.
            Ok(()) => self.0.launcher.take_image(&jail, self.wanted()).await,
            Err(refusal) => Err(refusal),
        };
        crate::Instance::stop(&process).await;
        self.proven(image?, job).await
    }

    /// Restores an image once: its client is to read its orders and end.
    async fn proven(&self, image: Image, job: Job) -> Result<Image, Refusal> {
        let image = Arc::new(image);
        let probe = Job {
            instance: InstanceId::random(),
            env: with(Vec::new(), PROBE),
            beginning: Beginning::Restored(Arc::clone(&image)),
            ..job
        };
        let failed = |error: StartError| Refusal::BrokeOff(format!("its image cannot be restored: {error}"));
        let jail = self.0.launcher.spawn(probe).await.map_err(failed)?;
        let exit = tokio::time::timeout(BOOT_TIMEOUT, jail.exited()).await;
        jail.kill().await;
        match exit {
            Ok(Exit::Code(0)) => {
                Arc::try_unwrap(image).map_err(|_| Refusal::BrokeOff("its image is still in use".to_owned()))
            }
            Ok(exit) => {
                Err(Refusal::Unfit(Why::Other, format!("it does not go on from its image: {exit:?}")))
            }
            Err(_) => Err(Refusal::Unfit(Why::Other, "it does not go on from its image".to_owned())),
        }
    }
}

/// Waits for a template to stop.
async fn stops(jail: &Jail, timeout: Duration) -> Result<(), Refusal> {
    let stopped = async {
        tokio::select! {
            () = jail.stopped() => Ok(()),
            exit = jail.exited() => Err(Refusal::BrokeOff(format!("it ended: {exit:?}"))),
        }
    };
    let timed_out = |_| Refusal::BrokeOff("its initialisation timed out".to_owned());
    tokio::time::timeout(timeout, stopped).await.unwrap_or_else(|elapsed| Err(timed_out(elapsed)))
}

fn with(mut env: Vec<(String, String)>, name: &str) -> Vec<(String, String)> {
    env.push((name.to_owned(), "1".to_owned()));
    env
}

/// A making that may be broken off, by a panic or the runtime's end.
struct Unfinished<'a>(&'a Templates, Option<Key>);

impl Unfinished<'_> {
    fn finish(mut self) {
        self.1 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.1 {
            self.0.broke_off(key);
        }
    }
}
