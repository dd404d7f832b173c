//! The images that instances begin as, and which have none.
//!
//! Two kinds, one mechanism: of an interpreter with the runtime client, which holds nothing of any function and
//! serves all; and of a revision, after its initialisation. They are made in the background, one at a time. All
//! together are bounded: the one that was used longest ago goes first. An image is never used for another
//! revision than the one whose name it has.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::jail::Image;
use crate::Resident;

/// Bytes of all images together.
const TOTAL_BYTES: u64 = 1 << 30;
/// Revisions of which something is remembered; beyond, what has no image is forgotten, and tried again.
const REMEMBERED: usize = 10_000;

/// What an image is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// An interpreter, by its runtime.
    Runtime(String),
    /// A revision.
    Revision(String),
}

/// Where the making of an image stands.
enum Entry {
    Making,
    /// With a name for operators, and when it was last used.
    Ready(Arc<Image>, String, u64),
    /// There is none, and there will be none.
    Refused,
}

/// All of them.
pub(crate) struct Templates {
    entries: Mutex<Entries>,
    /// One is made at a time: it takes a processor from those who wait for an answer.
    pub(crate) turn: Semaphore,
}

#[derive(Default)]
struct Entries {
    all: HashMap<Key, Entry>,
    /// Counts uses.
    clock: u64,
}

impl Templates {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::default(), turn: Semaphore::new(1) }
    }

    /// The image, if there is one.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Image>> {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let now = entries.clock;
        match entries.all.get_mut(key) {
            Some(Entry::Ready(image, _, used)) => {
                *used = now;
                Some(Arc::clone(image))
            }
            _ => None,
        }
    }

    /// Whether the caller is to make one: nobody has tried before.
    pub(crate) fn begin(&self, key: &Key) -> bool {
        let mut entries = self.entries.lock();
        if entries.all.contains_key(key) {
            return false;
        }
        if entries.all.len() >= REMEMBERED {
            entries.all.retain(|_, entry| !matches!(entry, Entry::Refused));
        }
        entries.all.insert(key.clone(), Entry::Making);
        true
    }

    /// Ends a making that [`begin`](Self::begin) allowed. False: the image is not kept, since the revision was
    /// retired meanwhile or it is larger than all may be.
    pub(crate) fn made(&self, key: &Key, name: String, image: Image) -> bool {
        let mut entries = self.entries.lock();
        let wanted = matches!(entries.all.get(key), Some(Entry::Making));
        if !wanted || image.bytes() > TOTAL_BYTES {
            entries.refuse(key);
            return false;
        }
        entries.clock += 1;
        let now = entries.clock;
        entries.all.insert(key.clone(), Entry::Ready(Arc::new(image), name, now));
        while entries.bytes() > TOTAL_BYTES && entries.evict_oldest() > 0 {}
        true
    }

    /// There is no image of this, and none is to be tried again.
    pub(crate) fn refuse(&self, key: &Key) {
        self.entries.lock().refuse(key);
    }

    /// Forgets a making that did not come to an end; the next start tries again.
    pub(crate) fn give_up(&self, key: &Key) {
        let mut entries = self.entries.lock();
        if matches!(entries.all.get(key), Some(Entry::Making)) {
            entries.all.remove(key);
        }
    }

    /// The revision is no more.
    pub(crate) fn retire(&self, revision: &str) {
        self.entries.lock().all.remove(&Key::Revision(revision.to_owned()));
    }

    /// What is held, an entry an image.
    pub(crate) fn residents(&self) -> Vec<Resident> {
        let entries = self.entries.lock();
        let ready = entries.all.values().filter_map(|entry| match entry {
            Entry::Ready(image, name, _) => Some((image, name)),
            Entry::Making | Entry::Refused => None,
        });
        ready.map(|(image, name)| Resident { name: name.clone(), count: 1, bytes: image.bytes() }).collect()
    }

    /// Gives up images of revisions, then of runtimes, until so many bytes are free.
    pub(crate) fn shrink(&self, bytes: u64) -> u64 {
        let mut entries = self.entries.lock();
        let mut freed = 0;
        while freed < bytes {
            match entries.evict_oldest() {
                0 => break,
                more => freed += more,
            }
        }
        freed
    }
}

impl Entries {
    fn refuse(&mut self, key: &Key) {
        // Not those that were retired meanwhile.
        if let Some(entry) = self.all.get_mut(key) {
            *entry = Entry::Refused;
        }
    }

    fn bytes(&self) -> u64 {
        self.all.values().map(Entry::bytes).sum()
    }

    /// Lets the image go that was used longest ago, of runtimes last; its bytes, 0 where there is none. Instances
    /// that began as it keep their memory.
    fn evict_oldest(&mut self) -> u64 {
        let ready = self.all.iter().filter_map(|(key, entry)| match entry {
            Entry::Ready(_, _, used) => Some((matches!(key, Key::Runtime(_)), *used, key)),
            Entry::Making | Entry::Refused => None,
        });
        let Some(oldest) = ready.min_by_key(|(runtime, used, _)| (*runtime, *used)).map(|(_, _, key)| key.clone())
        else {
            return 0;
        };
        self.all.remove(&oldest).map_or(0, |entry| entry.bytes())
    }
}

impl Entry {
    fn bytes(&self) -> u64 {
        match self {
            Self::Ready(image, ..) => image.bytes(),
            Self::Making | Self::Refused => 0,
        }
    }
}
