//! Node's compiled code, made once a version and shown to its instances.
//!
//! Node compiles every module that it loads, which is a part of each cold start; from version 22.10 on it can read
//! what was compiled before from a folder. Whoever writes to that folder decides what code runs, and an event may make
//! an instance do things that its owner did not mean: so no instance ever writes to it. Virga makes it, behind the
//! first start of a revision that took long enough, by initialising the function once more in a sandbox of its own,
//! which gets no event, no folder of the host's, and hands over what was compiled in a file of fixed size
//! ([`parcel`]). Instances from then on see it read-only, in a folder that is their revision's alone ([`shelf`]).
//!
//! Node checks what it reads: by its own version and flags, the module's path and source, and a sum. What does not
//! match is compiled as if there were nothing, so nothing here can make a start fail that the code would not.

mod parcel;
mod shelf;

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::InstanceId;
use tokio::sync::mpsc;

use super::attach::{Ends, FromInside, attach};
use super::entry;
use super::instance::Course;
use super::interpreters::Interpreter;
use super::jail::{Beginning, Job, Launcher, Mount};
use super::output::BYTES_PER_S;
use super::turns::Turns;
use crate::egress::Network;
use crate::{Contract, Instance, Origin, Phases, Runtime, Spec};
use parcel::Unfit;
pub(crate) use shelf::Kept;
use shelf::Shelf;

/// Initialisation that takes less is not worth it.
const WORTH: Duration = Duration::from_millis(20);
/// Bytes on the disk of all versions' together.
const TOTAL_BYTES: u64 = 1 << 30;
/// Where an instance sees it.
const INSIDE: &str = "/var/cache/node";
/// Where Node writes while it is made.
const MAKING: &str = "/tmp/.virga-compiled";
/// Node's own variables for it. A function that has one of them sees to it itself.
const FOLDER: &str = "NODE_COMPILE_CACHE";
const DISABLED: &str = "NODE_DISABLE_COMPILE_CACHE";
/// Tells the client to hand over what was compiled; any value.
const MAKE: &str = "VIRGA_COMPILED";
/// Loaded before a web server, which has no client: it does that for it.
const PRELOAD: &str = "--require=/var/runtime/node/compiled.cjs";
/// How long a web server that is ready may take to hand over something.
const HANDS_OVER: Duration = Duration::from_secs(10);
/// For how long it may then go on loading.
const SETTLES: Duration = Duration::from_secs(1);
/// The first version whose modules can be asked to write what they have compiled (Node: `module.flushCompileCache`).
const FIRST: (u32, u32) = (22, 10);

/// Makes compiled code and hands it out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Compiled(Arc<Shared>);

struct Shared {
    launcher: Launcher,
    endpoint: Option<mpsc::Sender<FromInside>>,
    network: Arc<Network>,
    shelf: Shelf,
    turns: Turns,
}

impl Compiled {
    /// With what an earlier server has made in `dir`, which is only for this.
    pub(crate) fn open(
        launcher: Launcher,
        endpoint: Option<mpsc::Sender<FromInside>>,
        network: Arc<Network>,
        turns: Turns,
        dir: PathBuf,
    ) -> io::Result<Self> {
        let shelf = Shelf::open(dir, TOTAL_BYTES)?;
        Ok(Self(Arc::new(Shared { launcher, endpoint, network, shelf, turns })))
    }

    /// What an instance may be shown. To be kept until it sees it.
    pub(crate) fn find(&self, spec: &Spec, interpreter: Option<&Interpreter>) -> Option<Arc<Kept>> {
        self.0.shelf.get(&name(spec, interpreter?)?)
    }

    /// An instance is up. `job` is what was started, but for compiled code.
    pub(crate) fn started(&self, spec: &Arc<Spec>, interpreter: &Interpreter, job: Job, phases: Phases) {
        let Some(name) = name(spec, interpreter) else { return };
        // A web server may be a program of the package's, which is not Node.
        let is_node = job.argv.first().is_some_and(|program| !program.starts_with(entry::TASK));
        if phases.init < WORTH || !is_node || !self.0.shelf.begin(&name) {
            return;
        }
        let (compiled, spec) = (self.clone(), Arc::clone(spec));
        tokio::spawn(async move {
            let mut unfinished = Unfinished(&compiled.0.shelf, Some(&name));
            let Some(_turn) = compiled.0.turns.next().await else { return };
            let made = compiled.make(&name, &spec, job).await;
            unfinished.1 = None;
            match made {
                Ok(bytes) => tracing::debug!(function = %spec.function, bytes, "compiled code was kept"),
                Err(Failed { why, for_good }) => {
                    let again = compiled.0.shelf.failed(&name, for_good);
                    tracing::info!(function = %spec.function, why, again, "there is no compiled code");
                }
            }
        });
    }

    /// See [`crate::Backend::retire`].
    pub(crate) fn retire(&self, revision: &str) {
        self.0.shelf.retire(revision);
    }

    /// See [`crate::Backend::keep_only`].
    pub(crate) fn keep_only(&self, revisions: &HashSet<String>) {
        self.0.shelf.keep_only(revisions);
    }

    /// Initialises the function once more and keeps what was compiled; its bytes.
    async fn make(&self, name: &str, spec: &Arc<Spec>, job: Job) -> Result<u64, Failed> {
        let parcel = parcel::empty().map_err(Failed::host)?;
        let handed = Arc::new(parcel.try_clone().map_err(Failed::host)?);
        self.initialise(spec, making(job, spec.artifact.contract, handed), &parcel).await?;
        let (compiled, name) = (self.clone(), name.to_owned());
        let kept = tokio::task::spawn_blocking(move || compiled.keep(&name, parcel));
        kept.await.map_err(|error| Failed::host(error.into()))?
    }

    /// Returns once it is up and gone again.
    async fn initialise(&self, spec: &Arc<Spec>, job: Job, parcel: &OwnedFd) -> Result<(), Failed> {
        let again =
            |error: crate::StartError| Failed::once(format!("initialising it once more failed: {error}"));
        let jail = self.0.launcher.spawn(job).await.map_err(again)?;
        let now = Course::now();
        let web = (spec.artifact.contract == Contract::Http).then_some(spec.port);
        let ends = Ends {
            web,
            network: &self.0.network,
            endpoint: self.0.endpoint.as_ref(),
            log_bytes_per_s: BYTES_PER_S,
        };
        let course = Course { origin: Origin::Cold, asked: now, executed: now };
        let (process, started) = attach(jail, spec, ends, course).map_err(Failed::host)?;
        let ready = tokio::time::timeout(spec.init_timeout, process.ready(started)).await;
        if web.is_some() && matches!(ready, Ok(Ok(()))) {
            // It may end meanwhile, or be no Node at all.
            let handed = tokio::time::timeout(HANDS_OVER, handed_over(parcel));
            tokio::select! {
                _ = handed => {}
                _ = process.exited() => {}
            }
            let _ = tokio::time::timeout(SETTLES, process.exited()).await;
        }
        process.stop().await;
        ready.unwrap_or(Err(crate::StartError::TimedOut)).map_err(again)
    }

    /// Blocking.
    fn keep(&self, name: &str, parcel: OwnedFd) -> Result<u64, Failed> {
        let folder = self.0.shelf.unfinished();
        let kept = parcel::open(parcel, &folder).map_err(Failed::from).and_then(|bytes| {
            match self.0.shelf.made(name, &folder, bytes) {
                Ok(true) => Ok(bytes),
                Ok(false) => Err(Failed::once("the version is gone".to_owned())),
                Err(error) => Err(Failed::host(error)),
            }
        });
        if kept.is_err() && folder.exists() {
            // Else the next start of the server does it.
            let _ = std::fs::remove_dir_all(&folder);
        }
        kept
    }
}

/// Returns once there is something in the parcel.
async fn handed_over(parcel: &OwnedFd) {
    while parcel::is_empty(parcel).unwrap_or(false) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Why there is none.
struct Failed {
    why: String,
    /// Another attempt would come to the same.
    for_good: bool,
}

impl Failed {
    fn once(why: String) -> Self {
        Self { why, for_good: false }
    }

    fn host(error: io::Error) -> Self {
        Self::once(format!("the host failed: {error}"))
    }
}

impl From<Unfit> for Failed {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Empty => Self { why: "it is nothing, or too much".to_owned(), for_good: true },
            Unfit::Malformed => Self { why: "it has no known form".to_owned(), for_good: true },
            Unfit::Host(error) => Self::host(error),
        }
    }
}

/// The name of what an instance's revision may have; `None` where it can have none.
fn name(spec: &Spec, interpreter: &Interpreter) -> Option<String> {
    let Runtime::Node { .. } = interpreter.runtime else { return None };
    // What it does to files that others see, it must not do once more behind everybody's back.
    let alone = spec.file_systems.is_empty();
    let own = spec.env.iter().any(|(name, _)| name == FOLDER || name == DISABLED);
    let wanted = spec.template && alone && !own && can_hand_over(&interpreter.version);
    wanted.then(|| shelf::name(&spec.revision, &interpreter.version)).flatten()
}

fn can_hand_over(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    numbers.next().flatten().zip(numbers.next().flatten()).is_some_and(|version| version >= FIRST)
}

/// The job of an instance that is shown compiled code.
pub(crate) fn shown(mut job: Job, folder: &Path) -> Job {
    job.mounts.push(Mount { host: folder.to_owned(), inside: INSIDE.into() });
    job.env.push((FOLDER.to_owned(), INSIDE.to_owned()));
    job
}

/// The job that makes it.
fn making(mut job: Job, contract: Contract, parcel: Arc<OwnedFd>) -> Job {
    job.env.push((FOLDER.to_owned(), MAKING.to_owned()));
    job.env.push((MAKE.to_owned(), "1".to_owned()));
    if contract == Contract::Http {
        match job.env.iter_mut().find(|(name, _)| name == "NODE_OPTIONS") {
            Some((_, options)) => *options = format!("{options} {PRELOAD}"),
            None => job.env.push(("NODE_OPTIONS".to_owned(), PRELOAD.to_owned())),
        }
    }
    Job { instance: InstanceId::random(), beginning: Beginning::Handed(parcel), ..job }
}

/// A making that may be broken off, by a panic or the runtime's end.
struct Unfinished<'a>(&'a Shelf, Option<&'a str>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.1 {
            self.0.failed(name, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_asked_for_it() {
        for (version, can) in [
            ("20.20.2", false),
            ("22.9.0", false),
            ("22.10.0", true),
            ("24.0.1", true),
            ("22", false),
            ("", false),
        ] {
            assert_eq!(can_hand_over(version), can, "{version}");
        }
    }
}
