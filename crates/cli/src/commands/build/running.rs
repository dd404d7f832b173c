//! How steps are run: each in a sandbox, or, where that is said, as whoever runs `virga build`.
//!
//! What a step prints is shown on standard error, each line with the step's name; the first that fails ends the build
//! with its exit code. The folder is a copy, so that the original stays as it is. What a step leaves there is a
//! stranger's: only files, folders and links are looked at afterwards, and no link is followed to a device.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use server::Egress;
use server::steps::{Bounds, Confinement, Ended, Exit};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;

use super::steps::{self, Step};
use crate::failure::Failure;

/// Bytes of a line that are waited for before they are shown.
const LINE: usize = 8 << 10;
/// What `virga deploy --build` gives a package manager.
const MEMORY_MB: u32 = 2048;
const TIMEOUT_S: u32 = 900;
/// As `timeout` ends what took too long.
const TIMED_OUT: u8 = 124;
/// As a shell tells of SIGKILL.
const KILLED: u8 = 137;

/// Whether anything stands between a step and the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum How {
    /// A sandbox
    Confined,
    /// Nothing: a step may do what you may
    Unconfined,
}

/// Arguments about steps.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Run the steps of virga-build.json first, in a copy of the folder: in sandboxes, or =unconfined, where they may do
    /// what you may
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "confined")]
    run_steps: Option<How>,
    /// What a step may connect to, as in virga:egress (default: public)
    #[arg(long, value_name = "PLACES", requires = "run_steps")]
    step_egress: Option<Egress>,
    /// MB that a step may hold, its /tmp included (default: 2048)
    #[arg(long, value_name = "MB", requires = "run_steps", value_parser = clap::value_parser!(u32).range(16..1 << 20))]
    step_memory: Option<u32>,
    /// Seconds that a step may take (default: 900)
    #[arg(long, value_name = "SECONDS", requires = "run_steps", value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    step_timeout: Option<u32>,
    /// An environment variable of every step; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "run_steps", value_parser = crate::commands::deploy::parse_pair)]
    step_env: Vec<(String, String)>,
    /// A folder or file of this machine that steps see, read-only and where it is; may be repeated
    #[arg(long, value_name = "PATH", requires = "run_steps")]
    step_sees: Vec<PathBuf>,
}

impl Args {
    /// Whether steps are to be run.
    pub(super) fn wanted(&self) -> bool {
        self.run_steps.is_some()
    }

    /// What confines the steps of a folder, where it has some and they are to be. The process must have one thread.
    pub(super) fn confinement(&self, folder: &Path) -> Result<Option<Confinement>> {
        match self.run_steps {
            Some(How::Confined) => {}
            Some(How::Unconfined) => return self.nothing_confined().map(|()| None),
            None => return Ok(None),
        }
        // One that cannot be read is told when it is its turn.
        if !steps::of(folder).is_ok_and(|steps| !steps.is_empty()) {
            return Ok(None);
        }
        let sees = self
            .step_sees
            .iter()
            .map(|path| path.canonicalize().with_context(|| format!("--step-sees {}", path.display())));
        let bounds = Bounds {
            memory_mb: self.step_memory.unwrap_or(MEMORY_MB),
            time: Duration::from_secs(self.step_timeout.unwrap_or(TIMEOUT_S).into()),
            egress: self.step_egress.clone().unwrap_or(Egress::Public),
            sees: sees.collect::<Result<_>>()?,
        };
        let place = std::env::temp_dir().join(format!("virga-steps-{}", std::process::id()));
        let begun = Confinement::begin(place, bounds);
        begun
            .context("steps need a sandbox; --run-steps=unconfined does without, for folders that you trust")
            .map(Some)
    }

    /// What says something about a sandbox makes no sense without one.
    fn nothing_confined(&self) -> Result<()> {
        let said = [
            ("--step-egress", self.step_egress.is_some()),
            ("--step-memory", self.step_memory.is_some()),
            ("--step-timeout", self.step_timeout.is_some()),
            ("--step-sees", !self.step_sees.is_empty()),
        ];
        match said.into_iter().find(|(_, said)| *said) {
            Some((flag, _)) => bail!("{flag} is about a sandbox, and --run-steps=unconfined has none"),
            None => Ok(()),
        }
    }
}

/// Runs a folder's steps, one after the other, in it.
pub(super) async fn run(
    steps: &[Step],
    folder: &Path,
    args: &Args,
    confinement: Option<&Confinement>,
) -> Result<()> {
    if let Some(confinement) = confinement {
        confinement.take(folder)?;
    }
    for step in steps {
        match confinement {
            Some(confinement) => confined(step, folder, args, confinement).await?,
            None => unconfined(step, folder, args).await?,
        }
    }
    only_files(folder, &folder.canonicalize()?)
}

async fn confined(step: &Step, folder: &Path, args: &Args, confinement: &Confinement) -> Result<()> {
    let mut ending = Ending(Some(confinement));
    let lines = Arc::new(Mutex::new(Lines { name: step.name.clone(), pending: Vec::new() }));
    let told = lines.clone();
    let given = server::steps::Step {
        words: &step.words,
        env: variables(step, args).map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        output: Arc::new(move |bytes| told.lock().unwrap_or_else(PoisonError::into_inner).add(bytes)),
    };
    let ended = confinement.run(given, folder).await.with_context(|| format!("step {}", step.name));
    lines.lock().unwrap_or_else(PoisonError::into_inner).end();
    ending.0 = None;
    let (said, code) = match ended? {
        Ended::Exit(Exit::Code(0)) => return Ok(()),
        Ended::Exit(Exit::Code(code)) => (format!("exit status: {code}"), u8::try_from(code).unwrap_or(1)),
        Ended::Exit(Exit::Signal(signal)) => {
            (format!("signal: {signal}"), u8::try_from(128 + signal).unwrap_or(1))
        }
        Ended::Exit(Exit::OutOfMemory) => ("it was over its memory (--step-memory)".to_owned(), KILLED),
        Ended::Exit(Exit::Stopped) => ("it was stopped".to_owned(), KILLED),
        Ended::TimedOut => ("it took too long (--step-timeout)".to_owned(), TIMED_OUT),
    };
    Err(Failure::Exit { message: format!("step {} failed: {said}", step.name), code }.into())
}

/// Ends what a step does when the build is given up, before its folder goes.
struct Ending<'a>(Option<&'a Confinement>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(confinement) = self.0 {
            confinement.end();
        }
    }
}

/// Variables of every step, then its own.
fn variables<'a>(step: &'a Step, args: &'a Args) -> impl Iterator<Item = (&'a str, &'a str)> {
    let common = args.step_env.iter().filter(|(key, _)| !step.env.contains_key(key));
    let common = common.map(|(key, value)| (key.as_str(), value.as_str()));
    common.chain(step.env.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

async fn unconfined(step: &Step, folder: &Path, args: &Args) -> Result<()> {
    let (mut child, output) = start(step, folder, args)?;
    let mut output = Receiver::from_owned_fd(output).context("cannot read what a step prints")?;
    let mut lines = Lines { name: step.name.clone(), pending: Vec::new() };
    let mut buffer = [0; 4096];
    let status = loop {
        tokio::select! {
            read = output.read(&mut buffer) => match read.context("cannot read what a step prints")? {
                0 => break child.wait().await,
                count => lines.add(&buffer[..count]),
            },
            status = child.wait() => {
                // What it wrote is there by now. Whatever it left running is not waited for.
                while let Ok(count @ 1..) = output.try_read(&mut buffer) {
                    lines.add(&buffer[..count]);
                }
                break status;
            }
        }
    };
    lines.end();
    let status = status.with_context(|| format!("cannot wait for step {}", step.name))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Exit { message: format!("step {} failed: {status}", step.name), code: code(status) }.into())
}

fn start(step: &Step, folder: &Path, args: &Args) -> Result<(tokio::process::Child, OwnedFd)> {
    let (output, input) = io::pipe().context("cannot make a pipe")?;
    let error = input.try_clone().context("cannot make a pipe")?;
    let mut command = Command::new(&step.words[0]);
    command.args(&step.words[1..]).envs(variables(step, args)).current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(input).stderr(error);
    let child = command.spawn();
    let child = child.with_context(|| format!("step {}: cannot run {}", step.name, step.words[0]))?;
    Ok((child, output.into()))
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Refuses what would make whoever looks at the folder wait for ever, or read what is no file: pipes, sockets, devices, and
/// links to where the kernel has such.
fn only_files(folder: &Path, root: &Path) -> Result<()> {
    let told = || format!("cannot look at {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(told)? {
        let path = entry.with_context(told)?.path();
        let kind = path.symlink_metadata().with_context(told)?.file_type();
        if kind.is_dir() {
            only_files(&path, root)?;
        } else if !(kind.is_file() || kind.is_symlink() && leads_to_files(&path, root)) {
            let name: OsString = path.strip_prefix(folder).unwrap_or(&path).into();
            bail!("a step made {}, which is neither a file nor a folder nor a link to one", name.display());
        }
    }
    Ok(())
}

/// Whether a link leads nowhere, or to what can be read without harm.
fn leads_to_files(link: &Path, root: &Path) -> bool {
    let Ok(real) = link.canonicalize() else { return true };
    let special =
        ["/dev", "/proc", "/sys"].iter().any(|place| real.starts_with(place) && !root.starts_with(place));
    !special && real.metadata().is_ok_and(|about| about.is_file() || about.is_dir())
}

/// What a step prints, by lines.
struct Lines {
    name: String,
    pending: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        self.pending.extend(bytes);
        while let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=at).collect();
            self.show(&line[..at]);
        }
        if self.pending.len() >= LINE {
            self.end();
        }
    }

    fn end(&mut self) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.show(&rest);
        }
    }

    fn show(&self, line: &[u8]) {
        let text = [self.name.as_bytes(), b" | ", line, b"\n"].concat();
        // Nobody looks any more: the step goes on.
        let _ = io::stderr().lock().write_all(&text);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_step_made_is_files_folders_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("app"), folder.path().join("outside"));
        std::fs::create_dir_all(root.join("deep")).unwrap();
        std::fs::write(&outside, "").unwrap();
        for (name, target) in [("ok", "deep"), ("nowhere", "not-there"), ("deep/out", "../../outside")] {
            symlink(target, root.join(name)).unwrap();
        }
        let check = || only_files(&root, &root.canonicalize().unwrap()).map_err(|error| error.to_string());
        assert_eq!(check(), Ok(()), "a link out of the folder is the listing's to refuse");
        for target in ["/dev/zero", "/proc/self/mem", "/dev"] {
            symlink(target, root.join("deep/bad")).unwrap();
            assert!(check().unwrap_err().contains("made bad, which is neither"), "{target}");
            std::fs::remove_file(root.join("deep/bad")).unwrap();
        }
        let _socket = std::os::unix::net::UnixDatagram::bind(root.join("socket")).unwrap();
        assert!(check().unwrap_err().contains("made socket"));
    }

    #[test]
    fn a_steps_own_variables_win() {
        let args =
            Args { step_env: vec![("A".into(), "1".into()), ("B".into(), "2".into())], ..Args::default() };
        let env = [("A".to_owned(), "mine".to_owned())].into();
        let step = Step { name: String::new(), words: Vec::new(), env };
        assert_eq!(variables(&step, &args).collect::<Vec<_>>(), [("B", "2"), ("A", "mine")]);
    }
}
