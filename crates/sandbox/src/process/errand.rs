//! A program that is run to its end: no events, no requests, an exit code.
//!
//! What builds are made of. It runs in the jail that an instance runs in, as a program that nobody vouches for: its own
//! namespaces and user, the system's files and those that it is shown, hard bounds, an egress rule. What it may write to
//! are folders of whoever sends it, and a `/tmp` of its own. It ends with everything that it has started.
//!
//! Left out: a bound on what it writes to those folders but the disk's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::InstanceId;

use super::egress;
use super::instance::Tasks;
use super::jail::{Beginning, Job, Launcher, Mount, ProgramClass};
use super::output::Output;
use crate::egress::{Gate, Network};
use crate::{Egress, Error, Exit, FileSystem, Limits, LogSink, StartError};

/// What to run, and in what.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Program and arguments. A program without a slash is looked for in the `PATH` of `env`; one that is not there ends
    /// as a shell has it, with 127.
    pub words: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Folders that it may write to, as `/mnt/NAME`. It starts in the first.
    pub folders: Vec<FileSystem>,
    /// Folders and files that it sees beside the system's.
    pub mounts: Vec<Mount>,
    /// Its bounds.
    pub limits: Limits,
    /// How long it may take.
    pub time: Duration,
    /// What it may connect to.
    pub egress: Egress,
}

/// How one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or by its bounds.
    Exit(Exit),
    /// It took too long.
    TimedOut,
}

/// Runs errands.
pub struct Errands {
    launcher: Launcher,
    network: Arc<Network>,
    /// An empty folder, which is where an instance has its code.
    nothing: PathBuf,
}

impl Errands {
    /// `nothing` is a folder without anything in it.
    pub fn new(launcher: Launcher, network: Network, nothing: PathBuf) -> Self {
        Self { launcher, network: Arc::new(network), nothing }
    }

    /// Runs one to its end; what it prints goes to `output` as it comes. Returns when nothing of it is left. Dropping the
    /// future ends it, a little later.
    pub async fn run(&self, errand: Errand, output: Arc<dyn LogSink>) -> Result<Ended, StartError> {
        let (time, egress) = (errand.time, errand.egress.clone());
        let mut jail = self.launcher.spawn(self.job(errand)?).await?;
        let pipe = jail.take_output().ok_or_else(|| broken("it has no output"))?;
        let way_out = jail.take_way_out();
        let jail = Arc::new(jail);
        let printed = Output::new(pipe, output.clone()).map_err(Error::host("taking a program's output"))?;
        let printed = Arc::new(printed);
        let mut tasks = Tasks::default();
        if let Some(way_out) = way_out {
            let gate = Gate::new(egress, Arc::clone(&self.network), output);
            tasks.spawn(egress::serve(way_out, gate, jail.clone()));
        }
        tasks.spawn({
            let printed = printed.clone();
            async move { printed.follow().await }
        });
        let ended = match tokio::time::timeout(time, jail.exited()).await {
            Ok(exit) => Ended::Exit(exit),
            Err(_) => {
                jail.kill().await;
                Ended::TimedOut
            }
        };
        printed.drain();
        Ok(ended)
    }

    fn job(&self, errand: Errand) -> Result<Job, Error> {
        let start = match (errand.folders.first(), errand.words.first()) {
            (Some(folder), Some(_)) => format!("cd '/mnt/{}' && exec \"$@\"", folder.name),
            _ => return Err(Error::Invalid("an errand needs a program and a folder to start in".to_owned())),
        };
        if errand.folders.iter().any(|folder| folder.name.contains('\'')) {
            return Err(Error::Invalid("an errand's folder has a quotation mark in its name".to_owned()));
        }
        let shell = ["/bin/sh", "-c", &start, "sh"].map(str::to_owned);
        Ok(Job {
            instance: InstanceId::random(),
            argv: shell.into_iter().chain(errand.words).collect(),
            env: errand.env,
            class: ProgramClass::Native,
            code: self.nothing.clone(),
            root: None,
            mounts: errand.mounts,
            layered: Vec::new(),
            shared: errand.folders,
            limits: errand.limits,
            way_out: true,
            listen: Vec::new(),
            beginning: Beginning::Executed,
        })
    }
}

fn broken(text: &str) -> Error {
    Error::host("taking a program's ends")(std::io::Error::other(text.to_owned()))
}
