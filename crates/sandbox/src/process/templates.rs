//! The images that instances begin as, and what has none.
//!
//! Two kinds, one mechanism: of an interpreter with the runtime client, which holds nothing of any function and
//! serves all; and of a revision, after its initialisation. All together are bounded: the one that was used longest
//! ago goes first. An image is never used for another revision than the one whose name it has. This file remembers;
//! [`super::imaging`] makes and uses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::jail::Image;
use crate::Resident;

/// How often one image after another may turn out not to be restorable, or may not come to be, before no other is made
/// of the same. One that lasted for [`AGE`] (a file that it maps was replaced, say) begins the count anew.
const FAILURES: u8 = 3;
/// Of how many something is remembered; beyond, what has no image is forgotten, and tried again.
const REMEMBERED: usize = 10_000;

/// After this time the image of a revision is made anew: what its initialisation read (credentials above all, which
/// last for twelve hours, of which an instance may live ten) must not grow old in every instance to come.
const AGE: Duration = Duration::from_secs(3600);

/// What an image is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// An interpreter, by its runtime.
    Runtime(String),
    /// A revision.
    Revision(String),
}

/// All of them.
pub(crate) struct Templates {
    entries: Mutex<Entries>,
    /// Bytes of all images together.
    total_bytes: u64,
    /// After which one of a revision is made anew.
    age: Duration,
}

#[derive(Default)]
struct Entries {
    all: HashMap<Key, Entry>,
    /// Counts uses.
    clock: u64,
}

struct Entry {
    state: State,
    failures: u8,
}

enum State {
    Making,
    Ready {
        image: Arc<Image>,
        /// For operators.
        name: String,
        /// When it was last used.
        used: u64,
        made: Instant,
    },
    /// There is none, and there will be none.
    Refused,
    /// There was one that could not be restored, or could not be made then.
    Failed,
}

impl Templates {
    /// None yet.
    pub(crate) fn new(total_bytes: u64) -> Self {
        Self { entries: Mutex::default(), total_bytes, age: AGE }
    }

    /// Bytes that one may hold: as many as all together.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The image, if there is one.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Image>> {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let now = entries.clock;
        let entry = entries.all.get_mut(key)?;
        let State::Ready { image, used, made, .. } = &mut entry.state else { return None };
        if matches!(key, Key::Revision(_)) && made.elapsed() > self.age {
            entries.all.remove(key);
            return None;
        }
        *used = now;
        Some(Arc::clone(image))
    }

    /// Whether the caller is to make one, and says what came of it.
    pub(crate) fn begin(&self, key: &Key) -> bool {
        if self.total_bytes == 0 {
            return false;
        }
        let mut entries = self.entries.lock();
        if entries.all.len() >= REMEMBERED {
            entries.all.retain(|_, entry| matches!(entry.state, State::Making | State::Ready { .. }));
        }
        let entry = entries.all.entry(key.clone()).or_insert(Entry { state: State::Failed, failures: 0 });
        let wanted = matches!(entry.state, State::Failed) && entry.failures < FAILURES;
        if wanted {
            entry.state = State::Making;
        }
        wanted
    }

    /// One was made. False: it is not kept, since the revision was retired meanwhile, or it is too large.
    pub(crate) fn made(&self, key: &Key, name: String, image: Image) -> bool {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let used = entries.clock;
        let Some(entry) = entries.all.get_mut(key) else { return false };
        if image.bytes() > self.total_bytes {
            entry.state = State::Refused;
            return false;
        }
        entry.state = State::Ready { image: Arc::new(image), name, used, made: Instant::now() };
        while entries.bytes() > self.total_bytes && entries.evict() > 0 {}
        true
    }

    /// None can be made.
    pub(crate) fn refuse(&self, key: &Key) {
        // Not of what was retired meanwhile.
        if let Some(entry) = self.entries.lock().all.get_mut(key) {
            entry.state = State::Refused;
        }
    }

    /// Its making did not come to an end. Whether it will be tried again.
    pub(crate) fn broke_off(&self, key: &Key) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.all.get_mut(key) else { return false };
        entry.state = State::Failed;
        entry.failures = entry.failures.saturating_add(1);
        entry.failures < FAILURES
    }

    /// This image cannot be restored. Many may find that at once, and some when there is another already.
    pub(crate) fn fail(&self, key: &Key, failed: &Arc<Image>) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.all.get_mut(key) else { return };
        let State::Ready { image, made, .. } = &entry.state else { return };
        if Arc::ptr_eq(image, failed) {
            let before = if made.elapsed() > self.age { 0 } else { entry.failures };
            (entry.state, entry.failures) = (State::Failed, before.saturating_add(1));
        }
    }

    /// The revision is no more.
    pub(crate) fn retire(&self, revision: &str) {
        self.entries.lock().all.remove(&Key::Revision(revision.to_owned()));
    }

    /// What is held, an entry an image.
    pub(crate) fn residents(&self) -> Vec<Resident> {
        let entries = self.entries.lock();
        let ready = entries.all.values().filter_map(|entry| match &entry.state {
            State::Ready { image, name, .. } => Some((image.bytes(), name)),
            State::Making | State::Refused | State::Failed => None,
        });
        ready.map(|(bytes, name)| Resident { name: name.clone(), count: 1, bytes }).collect()
    }

    /// Lets images go until so many bytes are free. Returns how many are.
    pub(crate) fn shrink(&self, bytes: u64) -> u64 {
        let mut entries = self.entries.lock();
        let mut freed = 0;
        while freed < bytes {
            match entries.evict() {
                0 => break,
                more => freed += more,
            }
        }
        freed
    }
}

impl Entries {
    fn bytes(&self) -> u64 {
        self.all.values().map(Entry::bytes).sum()
    }

    /// Lets the image go that was used longest ago, those of runtimes last; its bytes, 0 where there is none. The
    /// instances that began as it keep what they need of it.
    fn evict(&mut self) -> u64 {
        let ready = self.all.iter().filter_map(|(key, entry)| match &entry.state {
            State::Ready { used, .. } => Some((matches!(key, Key::Runtime(_)), *used, key)),
            State::Making | State::Refused | State::Failed => None,
        });
        let Some((_, _, oldest)) = ready.min_by_key(|(runtime, used, _)| (*runtime, *used)) else { return 0 };
        let oldest = oldest.clone();
        self.all.remove(&oldest).map_or(0, |entry| entry.bytes())
    }
}

impl Entry {
    fn bytes(&self) -> u64 {
        match &self.state {
            State::Ready { image, .. } => image.bytes(),
            State::Making | State::Refused | State::Failed => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: u64 = 1 << 20;

    fn key(name: &str) -> Key {
        Key::Revision(name.to_owned())
    }

    fn with(names: &[Key], bytes: u64) -> Templates {
        let templates = Templates::new(TOTAL);
        for key in names {
            assert!(templates.begin(key));
            assert!(!templates.begin(key), "one at a time");
            assert!(templates.made(key, format!("{key:?}"), Image::of_bytes(bytes)));
        }
        templates
    }

    #[test]
    fn the_one_used_longest_ago_goes_first_and_runtimes_last() {
        let runtime = Key::Runtime("python3.11".to_owned());
        let templates = with(&[runtime.clone(), key("a"), key("b")], 100);
        assert!(templates.get(&key("a")).is_some());
        assert_eq!(templates.shrink(1), 100);
        assert!(templates.get(&key("b")).is_none() && templates.get(&key("a")).is_some());
        assert_eq!(templates.shrink(150), 200);
        assert_eq!(templates.shrink(1), 0);
        assert!(templates.begin(&runtime), "it may be made again");
    }

    #[test]
    fn all_together_are_bounded() {
        let templates = with(&[key("a"), key("b"), key("c")], TOTAL / 2);
        assert_eq!(templates.residents().len(), 2);
        assert!(templates.get(&key("a")).is_none());
        assert!(templates.begin(&key("d")));
        assert!(!templates.made(&key("d"), String::new(), Image::of_bytes(TOTAL + 1)));
        assert_eq!(templates.residents().len(), 2, "too large a one drives none out");
    }

    #[test]
    fn what_is_refused_is_not_tried_again_and_what_fails_only_sometimes() {
        let templates = Templates::new(TOTAL);
        assert!(templates.begin(&key("a")));
        templates.refuse(&key("a"));
        assert!(!templates.begin(&key("a")));
        for attempt in 1..=FAILURES {
            assert!(templates.begin(&key("b")));
            assert_eq!(templates.broke_off(&key("b")), attempt < FAILURES);
        }
        assert!(!templates.begin(&key("b")));
    }

    #[test]
    fn an_image_fails_once_however_many_find_it() {
        let mut templates = with(&[key("a")], 1);
        let old = templates.get(&key("a")).unwrap();
        for _ in 0..300 {
            templates.fail(&key("a"), &old);
        }
        assert!(templates.get(&key("a")).is_none());
        assert!(templates.begin(&key("a")), "one image failed");
        templates.fail(&key("a"), &old);
        assert!(!templates.begin(&key("a")), "it is being made");
        assert!(templates.made(&key("a"), String::new(), Image::of_bytes(1)));
        templates.fail(&key("a"), &old);
        let new = templates.get(&key("a")).expect("the new one has nothing to do with it");
        templates.fail(&key("a"), &new);
        templates.begin(&key("a"));
        assert!(templates.made(&key("a"), String::new(), Image::of_bytes(1)));
        let last = templates.get(&key("a")).unwrap();
        templates.age = Duration::ZERO;
        templates.fail(&key("a"), &last);
        assert!(templates.begin(&key("a")), "those before it are forgotten");
    }

    #[test]
    fn images_of_revisions_grow_old() {
        let runtime = Key::Runtime("python3.11".to_owned());
        let mut templates = with(&[runtime.clone(), key("a")], 1);
        assert!(templates.get(&key("a")).is_some());
        templates.age = Duration::ZERO;
        assert!(templates.get(&key("a")).is_none() && templates.begin(&key("a")), "it is made anew");
        assert!(templates.get(&runtime).is_some(), "a runtime holds nothing that grows old");
    }

    #[test]
    fn what_is_retired_meanwhile_is_not_kept() {
        let templates = Templates::new(TOTAL);
        assert!(templates.begin(&key("a")));
        templates.retire("a");
        assert!(!templates.made(&key("a"), String::new(), Image::of_bytes(1)));
        assert!(templates.residents().is_empty());
    }
}
