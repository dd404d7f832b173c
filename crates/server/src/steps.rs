//! Steps of `virga build`, confined: each is an errand in a sandbox of this process's own. Needs no server.
//!
//! A step sees what functions see of the host (its `/usr`, a few files of `/etc`, the interpreters that it has elsewhere),
//! the folder that is built as [`APP`] and a home that the steps of one build share, both writable, and a `/tmp` of its
//! own. Nothing of the host's environment, nothing of its network but what the egress rule opens.
//!
//! Left out: a bound on what steps write but the disk's.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sandbox::egress::Network;
use sandbox::process::interpreters::{Interpreter, Interpreters};
use sandbox::process::jail::{HostReport, Launcher, MissingLimits, Mount, Status};
use sandbox::process::{Errand, Errands, SHARED_OWNER};
use sandbox::{Egress, FileSystem, Limits, LogSink};

pub use sandbox::Exit;
pub use sandbox::process::Ended;

/// Where a step finds the folder that is built.
pub const APP: &str = "/mnt/app";
/// Where it is at home.
const HOME: &str = "/mnt/home";
/// Where programs are looked for after the interpreters of elsewhere.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Certificates of the host, for package managers that bring a list of their own.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What a sandbox has of its own, so that nothing of the host's is seen there.
const HIDDEN: [&str; 6] = ["/tmp", "/proc", "/dev", "/sys", "/mnt", "/var/task"];
/// Processes and threads: compilers start many.
const PIDS: u32 = 4096;

/// What every step of a build is bounded by.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// MB, what is in its `/tmp` included.
    pub memory_mb: u32,
    /// How long it may take.
    pub time: Duration,
    /// What it may connect to.
    pub egress: Egress,
    /// Folders of the host that it sees, where they are there.
    pub sees: Vec<PathBuf>,
}

/// Takes what a step prints, as it comes.
pub type Prints = dyn Fn(&[u8]) + Send + Sync;

/// One step.
pub struct Step<'a> {
    /// Program and arguments.
    pub words: &'a [String],
    /// Variables beside those that every step has.
    pub env: Vec<(String, String)>,
    /// Takes what it prints, as it comes.
    pub output: Arc<Prints>,
}

/// Makes sandboxes for the steps of one build.
pub struct Confinement {
    launcher: Launcher,
    bounds: Bounds,
    interpreters: Interpreters,
    place: PathBuf,
}

impl Confinement {
    /// Looks whether this host can do it. `place` is for its own use, is made here and removed in the end. The calling
    /// process must have one thread.
    pub fn begin(place: PathBuf, bounds: Bounds) -> Result<Self> {
        let folder = |path: &Path| {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(path)
                .with_context(|| format!("cannot make {}", path.display()))
        };
        if let Some(hidden) =
            bounds.sees.iter().find(|path| HIDDEN.iter().any(|place| path.starts_with(place)))
        {
            bail!("{} cannot be shown to steps: they have a {} of their own", hidden.display(), top(hidden));
        }
        folder(&place)?;
        let started = folder(&place.join("home"))
            .and_then(|()| folder(&place.join("nothing")))
            // A step begins there, whoever it is.
            .and_then(|()| Ok(fs::set_permissions(place.join("nothing"), fs::Permissions::from_mode(0o755))?))
            .and_then(|()| Ok(Launcher::start(&place, MissingLimits::Degrade)?));
        let launcher = match started {
            Ok(launcher) => launcher,
            Err(error) => {
                let _ = fs::remove_dir_all(&place);
                return Err(error);
            }
        };
        let this = Self { launcher, bounds, interpreters: Interpreters::elsewhere(), place };
        let report = this.launcher.report();
        let missing: Vec<_> =
            report.with(Status::Missing).map(|check| format!("{}: {}", check.name, check.detail)).collect();
        if !missing.is_empty() {
            bail!("this host cannot confine steps ({})", missing.join("; "));
        }
        hand_over(&this.place.join("home"), &report)?;
        Ok(this)
    }

    /// Gives a folder to the steps to come.
    pub fn take(&self, folder: &Path) -> Result<()> {
        hand_over(folder, &self.launcher.report())
    }

    /// Runs a step in a folder that was [given](Self::take) before. Dropping the future ends it, a little later.
    pub async fn run(&self, step: Step<'_>, folder: &Path) -> Result<Ended> {
        let found = self.interpreters.list().await;
        let elsewhere: Vec<&Interpreter> =
            found.iter().map(AsRef::as_ref).filter(|interpreter| !interpreter.is_in_usr()).collect();
        let memory_bytes = u64::from(self.bounds.memory_mb) << 20;
        let errand = Errand {
            words: step.words.to_vec(),
            env: environment(&elsewhere, step.env),
            folders: [(folder.to_owned(), APP), (self.place.join("home"), HOME)]
                .map(|(folder, inside)| FileSystem { folder, name: name(inside) })
                .into(),
            mounts: mounts(&elsewhere, &self.bounds.sees),
            limits: Limits {
                memory_bytes,
                cpu_hundredths: None,
                tmp_bytes: memory_bytes,
                pids: PIDS,
                answer_bytes: 0,
            },
            time: self.bounds.time,
            egress: self.bounds.egress.clone(),
        };
        let network = Network::new(Vec::new());
        let errands = Errands::new(self.launcher.clone(), network, self.place.join("nothing"));
        Ok(errands.run(errand, Arc::new(Printed(step.output))).await?)
    }

    /// Ends whatever still runs. Returns when it is gone; nothing can be run any more.
    pub fn end(&self) {
        self.launcher.shutdown();
    }
}

impl Drop for Confinement {
    fn drop(&mut self) {
        self.end();
        if fs::remove_dir_all(&self.place).is_err() {
            // Package managers keep their caches in folders that nothing can be removed from.
            make_writable(&self.place);
            if let Err(error) = fs::remove_dir_all(&self.place) {
                eprintln!("warning: {} could not be removed: {error}", self.place.display());
            }
        }
    }
}

/// Gives the owner back what a step took from folders. Links are not followed.
pub fn make_writable(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

/// Makes what is in a folder the steps' own. Links are not followed.
fn hand_over(folder: &Path, report: &HostReport) -> Result<()> {
    if !report.separate_users {
        // They are this process's user.
        return Ok(());
    }
    let told = || format!("cannot give {} to the steps", folder.display());
    lchown(folder, Some(SHARED_OWNER), Some(SHARED_OWNER)).with_context(told)?;
    for entry in fs::read_dir(folder).with_context(told)? {
        let entry = entry.with_context(told)?;
        if entry.file_type().with_context(told)?.is_dir() {
            hand_over(&entry.path(), report)?;
        } else {
            lchown(entry.path(), Some(SHARED_OWNER), Some(SHARED_OWNER)).with_context(told)?;
        }
    }
    Ok(())
}

/// What every step has, then its own.
fn environment(elsewhere: &[&Interpreter], own: Vec<(String, String)>) -> Vec<(String, String)> {
    // The newest of a language first.
    let folders =
        elsewhere.iter().rev().filter_map(|i| i.executable.parent()).map(|f| f.display().to_string());
    let path: Vec<String> = folders.chain([PATH.to_owned()]).collect();
    let usual = [("PATH", path.join(":")), ("HOME", HOME.to_owned()), ("LANG", "C.UTF-8".to_owned())];
    let certificates = ["PIP_CERT", "NODE_EXTRA_CA_CERTS", "COMPOSER_CAFILE", "SSL_CERT_FILE"];
    let certificates = certificates.iter().filter(|_| Path::new(CERTIFICATES).is_file());
    let mut environment: Vec<(String, String)> = usual
        .into_iter()
        .chain(certificates.map(|name| (*name, CERTIFICATES.to_owned())))
        .filter(|(name, _)| own.iter().all(|(other, _)| other != name))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    environment.extend(own);
    environment
}

/// Interpreters that `/usr` does not hold, and what is to be seen besides, each where it is on the host.
fn mounts(elsewhere: &[&Interpreter], sees: &[PathBuf]) -> Vec<Mount> {
    let mut folders: Vec<PathBuf> = elsewhere.iter().map(|i| i.prefix.clone()).chain(sees.to_vec()).collect();
    // What is above comes first, or it would hide what is below.
    folders.sort();
    folders.dedup();
    folders.into_iter().map(|folder| Mount { host: folder.clone(), inside: folder }).collect()
}

/// The first folder of a path.
fn top(path: &Path) -> String {
    format!("/{}", path.iter().nth(1).unwrap_or_default().to_string_lossy())
}

/// `/mnt/NAME` as a name.
fn name(inside: &str) -> String {
    inside.trim_start_matches("/mnt/").to_owned()
}

/// What is printed goes to a function.
struct Printed(Arc<Prints>);

impl LogSink for Printed {
    fn write(&self, bytes: &[u8]) {
        (self.0)(bytes);
    }
}

#[cfg(test)]
mod tests {
    use sandbox::Runtime;

    use super::*;

    fn node(prefix: &str, major: u8) -> Interpreter {
        Interpreter {
            runtime: Runtime::Node { major },
            version: format!("{major}.0.0"),
            executable: Path::new(prefix).join("bin/node"),
            prefix: prefix.into(),
            library_dir: None,
        }
    }

    #[test]
    fn the_newest_interpreter_is_found_first_and_a_steps_own_variables_win() {
        let (old, new) = (node("/x/18", 18), node("/x/22", 22));
        let own = vec![("HOME".to_owned(), "/tmp".to_owned()), ("A".to_owned(), "b".to_owned())];
        let environment = environment(&[&old, &new], own);
        let value = |name: &str| {
            let mut found = environment.iter().filter(|(other, _)| other == name).map(|(_, value)| value);
            let value = found.next().cloned();
            assert!(found.next().is_none(), "{name} is there twice");
            value
        };
        assert_eq!(value("PATH").unwrap(), format!("/x/22/bin:/x/18/bin:{PATH}"));
        assert_eq!((value("HOME").as_deref(), value("A").as_deref()), (Some("/tmp"), Some("b")));
    }

    #[test]
    fn what_is_above_is_mounted_first() {
        let inner = node("/x/y/18", 18);
        let mounted = mounts(&[&inner], &["/x/y".into(), "/x/y/18".into()]);
        let inside: Vec<_> = mounted.iter().map(|mount| mount.inside.to_str().unwrap()).collect();
        assert_eq!(inside, ["/x/y", "/x/y/18"]);
    }
}
