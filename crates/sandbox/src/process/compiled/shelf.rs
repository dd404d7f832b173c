//! The folders of compiled code, and which versions have none.
//!
//! One folder a revision and version of Node, `REVISION.VERSION`: it is never used for another revision, whose owner may
//! be somebody else. It appears by a rename, so it is whole or absent, and outlives the server. All together are
//! bounded: the one that was used longest ago goes first. What is taken away goes from the disk once no start is about
//! to show it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::InstanceId;
use parking_lot::Mutex;

/// How often making one may break off before it is not tried again.
const FAILURES: u8 = 3;
/// Of how many it is remembered that they have none; beyond, that is forgotten, and tried again.
const REMEMBERED: usize = 10_000;
/// How a folder begins that is not whole.
const UNFINISHED: &str = ".";

/// All of them.
pub(super) struct Shelf {
    dir: PathBuf,
    total_bytes: u64,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    all: HashMap<String, Entry>,
    /// Counts uses.
    clock: u64,
}

struct Entry {
    state: State,
    failures: u8,
}

enum State {
    Making,
    Ready { kept: Arc<Kept>, used: u64 },
    None,
}

/// A folder of compiled code. While this is held it is not removed.
pub(crate) struct Kept {
    folder: PathBuf,
    bytes: u64,
    gone: AtomicBool,
}

impl Kept {
    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !*self.gone.get_mut() {
            return;
        }
        let folder = std::mem::take(&mut self.folder);
        let remove = move || match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), %error, "compiled code could not be removed");
            }
            _ => {}
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Shelf {
    /// With what an earlier server has made. `dir` is only for this.
    pub(super) fn open(dir: PathBuf, total_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path())?;
                continue;
            }
            found.push((entry.metadata()?.modified()?, name, bytes_in(&entry.path())?));
        }
        found.sort();
        let shelf = Self { dir, total_bytes, entries: Mutex::default() };
        {
            let mut entries = shelf.entries.lock();
            for (_, name, bytes) in found {
                entries.clock += 1;
                let kept =
                    Arc::new(Kept { folder: shelf.dir.join(&name), bytes, gone: AtomicBool::new(false) });
                let state = State::Ready { kept, used: entries.clock };
                entries.all.insert(name, Entry { state, failures: 0 });
            }
            entries.bound(total_bytes);
        }
        Ok(shelf)
    }

    /// A place for a folder of that name to be.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.dir.join(format!("{UNFINISHED}{}", InstanceId::random()))
    }

    /// The one of that name, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Kept>> {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let now = entries.clock;
        let Entry { state: State::Ready { kept, used }, .. } = entries.all.get_mut(name)? else {
            return None;
        };
        *used = now;
        Some(Arc::clone(kept))
    }

    /// Whether the caller is to make one, and says what came of it.
    pub(super) fn begin(&self, name: &str) -> bool {
        let mut entries = self.entries.lock();
        if entries.all.len() >= REMEMBERED {
            entries.all.retain(|_, entry| !matches!(entry.state, State::None));
        }
        let entry = entries.all.entry(name.to_owned()).or_insert(Entry { state: State::None, failures: 0 });
        let wanted = matches!(entry.state, State::None) && entry.failures < FAILURES;
        if wanted {
            entry.state = State::Making;
        }
        wanted
    }

    /// One was made. False: it is not kept, since its revision was retired meanwhile.
    pub(super) fn made(&self, name: &str, unfinished: &Path, bytes: u64) -> io::Result<bool> {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let used = entries.clock;
        let Some(entry) = entries.all.get_mut(name) else { return Ok(false) };
        let folder = self.dir.join(name);
        fs::rename(unfinished, &folder)?;
        let kept = Arc::new(Kept { folder, bytes, gone: AtomicBool::new(false) });
        entry.state = State::Ready { kept, used };
        // Of another version of Node, which the host no longer has.
        let (revision, _) = split(name);
        entries.remove(|other| split(other).0 == revision && other != name);
        entries.bound(self.total_bytes);
        Ok(true)
    }

    /// There is none. Whether it will be tried again.
    pub(super) fn failed(&self, name: &str, for_good: bool) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.all.get_mut(name) else { return false };
        entry.failures = if for_good { FAILURES } else { entry.failures + 1 };
        entry.state = State::None;
        entry.failures < FAILURES
    }

    /// Those of this revision go.
    pub(super) fn retire(&self, revision: &str) {
        self.entries.lock().remove(|name| split(name).0 == revision);
    }

    /// Those of other revisions go.
    pub(super) fn keep_only(&self, revisions: &HashSet<String>) {
        self.entries.lock().remove(|name| !revisions.contains(split(name).0));
    }
}

impl Entries {
    fn remove(&mut self, which: impl Fn(&str) -> bool) {
        self.all.retain(|name, entry| {
            let goes = which(name);
            if let State::Ready { kept, .. } = &entry.state
                && goes
            {
                kept.gone.store(true, Ordering::Relaxed);
            }
            !goes
        });
    }

    /// Takes away what is too much.
    fn bound(&mut self, total_bytes: u64) {
        let ready = |(name, entry): (&String, &Entry)| match &entry.state {
            State::Ready { kept, used } => Some((*used, name.clone(), kept.bytes)),
            State::Making | State::None => None,
        };
        let mut all: Vec<_> = self.all.iter().filter_map(ready).collect();
        all.sort();
        let mut bytes: u64 = all.iter().map(|(.., bytes)| bytes).sum();
        for (_, oldest, its) in all {
            if bytes <= total_bytes {
                return;
            }
            self.remove(|name| name == oldest);
            bytes -= its;
        }
    }
}

/// The name of a revision's folder; `None` where the revision's cannot be a folder's.
pub(super) fn name(revision: &str, version: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let digits = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let fine = (1..=64).contains(&revision.len()) && revision.bytes().all(plain);
    (fine && version.len() <= 32 && version.bytes().all(digits)).then(|| format!("{revision}.{version}"))
}

/// Revision and version.
fn split(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        bytes += if found.is_dir() { bytes_in(&entry.path())? } else { found.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(shelf: &Shelf, name: &str, bytes: usize) {
        assert!(shelf.begin(name));
        assert!(!shelf.begin(name), "one at a time");
        let folder = shelf.unfinished();
        fs::create_dir_all(folder.join("v22")).unwrap();
        fs::write(folder.join("v22/a"), vec![0; bytes]).unwrap();
        assert!(shelf.made(name, &folder, bytes as u64).unwrap());
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().display().to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn outlives_the_server_and_goes_with_its_revision() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path().into(), 1000).unwrap();
        for revision in ["a", "b", "c"] {
            put(&shelf, &format!("{revision}.22.1.0"), 10);
        }
        shelf.retire("a");
        assert_eq!(names(dir.path()), ["b.22.1.0", "c.22.1.0"]);
        fs::create_dir(shelf.unfinished()).unwrap();
        drop(shelf);
        let shelf = Shelf::open(dir.path().into(), 1000).unwrap();
        assert!(shelf.get("b.22.1.0").is_some() && !shelf.begin("b.22.1.0"));
        shelf.keep_only(&HashSet::from(["c".to_owned()]));
        assert_eq!(names(dir.path()), ["c.22.1.0"]);
        put(&shelf, "c.22.2.0", 10);
        assert_eq!(names(dir.path()), ["c.22.2.0"], "that of an older Node");
    }

    #[test]
    fn what_a_start_is_about_to_show_stays_for_as_long() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path().into(), 1000).unwrap();
        put(&shelf, "a.22", 10);
        let kept = shelf.get("a.22").unwrap();
        shelf.retire("a");
        assert!(shelf.get("a.22").is_none());
        assert!(kept.folder().join("v22/a").is_file());
        drop(kept);
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn all_together_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path().into(), 100).unwrap();
        put(&shelf, "a.22", 50);
        put(&shelf, "b.22", 50);
        assert!(shelf.get("a.22").is_some());
        put(&shelf, "c.22", 30);
        assert_eq!(names(dir.path()), ["a.22", "c.22"], "the one that was used longest ago went");
        drop(Shelf::open(dir.path().into(), 40).unwrap());
        assert_eq!(names(dir.path()).len(), 1);
    }

    #[test]
    fn what_is_retired_meanwhile_is_not_kept_and_what_fails_is_tried_a_few_times() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path().into(), 100).unwrap();
        assert!(shelf.begin("a.22"));
        shelf.retire("a");
        assert!(!shelf.made("a.22", &shelf.unfinished(), 1).unwrap());
        for attempt in 1..=FAILURES {
            assert!(shelf.begin("b.22"));
            assert_eq!(shelf.failed("b.22", false), attempt < FAILURES);
        }
        assert!(!shelf.begin("b.22"));
        assert!(shelf.begin("c.22"));
        assert!(!shelf.failed("c.22", true) && !shelf.begin("c.22"));
    }

    #[test]
    fn names_are_folders() {
        assert_eq!(name("0a-b", "22.23.3").as_deref(), Some("0a-b.22.23.3"));
        for (revision, version) in
            [("", "22"), ("../x", "22"), ("a.b", "22"), ("a", "22/.."), ("a", "22-pre")]
        {
            assert_eq!(name(revision, version), None, "{revision} {version}");
        }
    }
}
