//! Which Python, Node, PHP and Ruby interpreters and Java machines the host has.
//!
//! Each candidate is asked ([`ask`]), a few at the same time and each for a bounded time. On a host that has no
//! time left one may not answer: then nothing is known of it, and it is asked again, with more patience, a few
//! times. Whoever needs a runtime that it might be waits for a while, and is told that it is *not known yet*, which is
//! something else than *not there*. One that has never answered is taken for none at last.
//!
//! Nothing is kept across restarts: what an interpreter says depends on more than its file (the settings of a shim,
//! libraries that are packages of their own), and asking takes a second.

mod ask;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use crate::Runtime;
use ask::Answer;

/// How often candidates are asked: for how long they are left alone before, and how long each may take.
const ROUNDS: [(Duration, Duration); 3] = [
    (Duration::ZERO, Duration::from_secs(30)),
    (Duration::from_secs(2), Duration::from_secs(60)),
    (Duration::from_secs(10), Duration::from_secs(120)),
];
/// How many are asked at the same time: they would take the processor from each other.
const AT_ONCE: usize = 4;
/// How long to wait for one that might be what is needed; clients of the API give up after a minute.
const WAIT: Duration = Duration::from_secs(25);

/// An interpreter that can run functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// By Lambda's name.
    pub runtime: Runtime,
    /// The whole version.
    pub version: String,
    /// The real executable.
    pub executable: PathBuf,
    /// The folder that it and its library live under.
    pub prefix: PathBuf,
    /// Where its own shared library is, when the system's loader would not look there.
    pub library_dir: Option<PathBuf>,
}

impl Interpreter {
    /// Whether the minimal view of `/usr` that every sandbox has holds it.
    pub fn is_in_usr(&self) -> bool {
        self.prefix.starts_with("/usr")
    }
}

/// What is known of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// The host has it.
    Found(Arc<Interpreter>),
    /// The host has not; who never answered and might have been it.
    Absent(Vec<PathBuf>),
    /// These have not answered yet, and may be it.
    NotKnown(Vec<PathBuf>),
}

/// The host's interpreters, looked for once. Cheap to clone.
#[derive(Clone)]
pub struct Interpreters(Arc<Shared>);

struct Shared {
    client: Option<PathBuf>,
    folders: Vec<PathBuf>,
    rounds: Vec<(Duration, Duration)>,
    wait: Duration,
    known: watch::Sender<Known>,
}

/// What is known so far.
#[derive(Default)]
struct Known {
    answered: Vec<Interpreter>,
    /// The best of them, one a runtime, in the order of their names.
    chosen: Vec<Arc<Interpreter>>,
    /// Those that have not answered; `None` before anybody looked.
    left: Option<Vec<PathBuf>>,
    /// Those that never did.
    silent: Vec<PathBuf>,
    /// Whether each was asked once.
    all_asked: bool,
    looking: bool,
}

impl Known {
    fn is_over(&self) -> bool {
        self.left.as_ref().is_some_and(Vec::is_empty)
    }

    fn hear(&mut self, path: &Path, answer: Answer) {
        let Answer::Nothing = answer else {
            self.left.iter_mut().for_each(|left| left.retain(|other| other != path));
            if let Answer::Is(interpreter) = answer {
                self.answered.push(interpreter);
                self.chosen = choose(self.answered.clone()).into_iter().map(Arc::new).collect();
            }
            return;
        };
        tracing::debug!(path = %path.display(), "what may be an interpreter has not answered");
    }

    /// Who may yet turn out to be this one.
    fn open(&self, runtime: &Runtime) -> Vec<PathBuf> {
        that_may_be(self.left.iter().flatten(), runtime)
    }

    /// What can be said of it. One that answers later is not waited for where there is one already, though it may be the
    /// better one; before all were asked it is.
    fn of(&self, runtime: &Runtime) -> Looked {
        let open = self.open(runtime);
        let found = self.chosen.iter().find(|interpreter| interpreter.runtime == *runtime);
        match found {
            Some(found) if open.is_empty() || self.all_asked => Looked::Found(Arc::clone(found)),
            None if open.is_empty() && self.left.is_some() => {
                Looked::Absent(that_may_be(self.silent.iter(), runtime))
            }
            _ => Looked::NotKnown(open),
        }
    }
}

fn that_may_be<'a>(paths: impl Iterator<Item = &'a PathBuf>, runtime: &Runtime) -> Vec<PathBuf> {
    paths.filter(|path| ask::may_be(path, runtime)).cloned().collect()
}

impl Interpreters {
    /// Nothing is looked for yet. `python_client` is the module that every Python found compiles once.
    pub fn new(python_client: Option<PathBuf>) -> Self {
        Self::with(python_client, ask::folders(), ROUNDS.to_vec(), WAIT)
    }

    /// Those of `PATH` alone that lie outside `/usr`, which every sandbox sees anyhow: no other is asked.
    pub fn elsewhere() -> Self {
        Self::with(None, ask::folders_elsewhere(), ROUNDS.to_vec(), WAIT)
    }

    fn with(
        client: Option<PathBuf>,
        folders: Vec<PathBuf>,
        rounds: Vec<(Duration, Duration)>,
        wait: Duration,
    ) -> Self {
        let (known, _) = watch::channel(Known::default());
        Self(Arc::new(Shared { client, folders, rounds, wait, known }))
    }

    /// Begins to look, if nobody has. Inside an async runtime.
    pub fn begin(&self) {
        let begins = self.0.known.send_if_modified(|known| {
            let begins = !known.looking && !known.is_over();
            known.looking |= begins;
            begins
        });
        if begins {
            tokio::spawn(look(Looking(Arc::clone(&self.0))));
        }
    }

    /// All of them, at most one a runtime, in the order of their names; once each candidate was asked.
    pub async fn list(&self) -> Vec<Arc<Interpreter>> {
        self.until(|known| known.all_asked.then(|| known.chosen.clone())).await
    }

    /// The one for a runtime. Waits for candidates that might be it, for a while.
    pub async fn find(&self, runtime: &Runtime) -> Looked {
        let now = self.0.known.borrow().of(runtime);
        let Looked::NotKnown(_) = now else { return now };
        let known = self.until(|known| match known.of(runtime) {
            Looked::NotKnown(_) => None,
            known => Some(known),
        });
        let known = tokio::time::timeout(self.0.wait, known).await;
        known.unwrap_or_else(|_| self.0.known.borrow().of(runtime))
    }

    /// What the host can run, for messages: `python3.11, nodejs20.x, provided.al2023`.
    pub async fn summary(&self) -> String {
        let mut names: Vec<String> = self.list().await.iter().map(|i| i.runtime.to_string()).collect();
        names.push("provided.al2023".to_owned());
        names.join(", ")
    }

    /// Waits until something is known. Whoever looks may be broken off with its runtime: then another begins anew.
    async fn until<T>(&self, known: impl Fn(&Known) -> Option<T>) -> T {
        let mut changes = self.0.known.subscribe();
        loop {
            self.begin();
            if let Some(known) = known(&changes.borrow_and_update()) {
                return known;
            }
            // The sender is ours.
            let _ = changes.changed().await;
        }
    }
}

/// Somebody looks for as long as this is there.
struct Looking(Arc<Shared>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.known.send_modify(|known| known.looking = false);
    }
}

/// Asks everybody, and those that do not answer again.
async fn look(looking: Looking) {
    let Shared { client, folders, rounds, known, .. } = &*looking.0;
    known.send_modify(|known| {
        known.left.get_or_insert_with(|| ask::candidates(folders));
    });
    for (pause, patience) in rounds {
        tokio::time::sleep(*pause).await;
        let left = known.borrow().left.clone().unwrap_or_default();
        stream::iter(left)
            .map(|path| async move { (ask::ask(&path, client.as_deref(), *patience).await, path) })
            .buffer_unordered(AT_ONCE)
            .for_each(async |(answer, path)| known.send_modify(|known| known.hear(&path, answer)))
            .await;
        known.send_modify(|known| known.all_asked = true);
        if known.borrow().is_over() {
            return;
        }
    }
    known.send_modify(|known| known.silent = known.left.replace(Vec::new()).unwrap_or_default());
    for path in &known.borrow().silent {
        tracing::warn!(path = %path.display(), "this has never answered, and is taken for no interpreter");
    }
}

/// One a runtime: the system's own before any other, then the newest.
fn choose(mut found: Vec<Interpreter>) -> Vec<Interpreter> {
    let rank = |i: &Interpreter| {
        let numbers: Vec<u32> = i.version.split('.').filter_map(|part| part.parse().ok()).collect();
        (kind_of(&i.runtime), !i.is_in_usr(), std::cmp::Reverse(numbers))
    };
    found.sort_by_cached_key(rank);
    found.dedup_by(|later, earlier| later.runtime == earlier.runtime);
    found
}

/// Language by language, low versions first.
fn kind_of(runtime: &Runtime) -> (u8, u8, u8) {
    match runtime {
        Runtime::Python { minor } => (0, 3, *minor),
        Runtime::Node { major } => (1, *major, 0),
        Runtime::Php { major, minor } => (2, *major, *minor),
        Runtime::Ruby { major, minor } => (3, *major, *minor),
        Runtime::Java { major } => (4, *major, 0),
        Runtime::Provided { .. } | Runtime::Wasm | Runtime::Static | Runtime::Image => (5, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn interpreter(runtime: &str, version: &str, prefix: &str) -> Interpreter {
        Interpreter {
            runtime: Runtime::parse(runtime).unwrap(),
            version: version.to_owned(),
            executable: Path::new(prefix).join("bin/x"),
            prefix: prefix.into(),
            library_dir: None,
        }
    }

    #[test]
    fn one_a_runtime_and_the_systems_first() {
        let chosen = choose(vec![
            interpreter("nodejs20.x", "20.9.0", "/opt/a"),
            interpreter("python3.11", "3.11.9", "/opt/py"),
            interpreter("nodejs20.x", "20.10.0", "/opt/b"),
            interpreter("python3.11", "3.11.2", "/usr"),
            interpreter("python3.9", "3.9.1", "/opt/py9"),
        ]);
        let names: Vec<_> = chosen.iter().map(|i| format!("{} {}", i.runtime, i.prefix.display())).collect();
        assert_eq!(names, ["python3.9 /opt/py9", "python3.11 /usr", "nodejs20.x /opt/b"]);
    }

    /// A folder with one candidate, and what looks there.
    fn looking(script: &str, rounds: &[(u64, u64)]) -> (tempfile::TempDir, Interpreters) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("python3.99");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let ms = |&(pause, patience)| (Duration::from_millis(pause), Duration::from_millis(patience));
        let folders = vec![folder.path().to_owned()];
        let rounds = rounds.iter().map(ms).collect();
        let interpreters = Interpreters::with(None, folders, rounds, Duration::from_millis(400));
        (folder, interpreters)
    }

    const WANTED: Runtime = Runtime::Python { minor: 99 };

    #[tokio::test]
    async fn who_has_not_answered_is_not_known_and_is_asked_again() {
        let waits = "#!/bin/sh\ncd \"${0%/*}\"\nwhile [ ! -e go ]; do sleep 0.05; done\nprintf '3.99.1\\n/x/v/bin/p\\n/x/v\\n'\n";
        let (folder, interpreters) = looking(waits, &[(0, 100), (0, 30_000)]);
        let path = folder.path().join("python3.99");
        assert_eq!(interpreters.find(&WANTED).await, Looked::NotKnown(vec![path]));
        let other = interpreters.find(&Runtime::Python { minor: 98 }).await;
        assert_eq!(other, Looked::Absent(Vec::new()), "it cannot be that");
        assert!(interpreters.list().await.is_empty(), "nobody waits for ever");
        std::fs::write(folder.path().join("go"), "").unwrap();
        let found = interpreters.until(|known| match known.of(&WANTED) {
            Looked::Found(found) => Some(found),
            _ => None,
        });
        assert_eq!(found.await.version, "3.99.1");
        assert!(matches!(interpreters.find(&WANTED).await, Looked::Found(_)));
    }

    #[tokio::test]
    async fn who_never_answers_is_none_at_last() {
        let (folder, interpreters) = looking("#!/bin/sh\nexec sleep 60\n", &[(0, 50), (0, 50)]);
        let path = folder.path().join("python3.99");
        assert_eq!(interpreters.find(&WANTED).await, Looked::Absent(vec![path]));
    }

    #[test]
    fn another_goes_on_where_a_look_was_broken_off() {
        let (_folder, interpreters) =
            looking("#!/bin/sh\nprintf '3.99.1\\n/x/v/bin/p\\n/x/v\\n'\n", &[(0, 30_000)]);
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Spawned and never run.
        runtime().block_on(async { interpreters.begin() });
        let found = runtime().block_on(interpreters.find(&WANTED));
        assert!(matches!(found, Looked::Found(_)), "{found:?}");
    }

    #[tokio::test]
    async fn the_hosts_own() {
        let interpreters = Interpreters::new(None);
        for interpreter in interpreters.list().await {
            assert!(interpreter.executable.starts_with(&interpreter.prefix), "{interpreter:?}");
            assert!(interpreter.executable.is_file(), "{interpreter:?}");
        }
        assert!(interpreters.summary().await.ends_with("provided.al2023"));
    }
}
