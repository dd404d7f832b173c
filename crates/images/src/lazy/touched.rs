//! What functions used of a layer, in the order of first use.
//!
//! Kept apart from the layer, and longer: it is of use exactly when the layer is gone and has to be fetched again. It is a hint
//! and nothing more: what is wrong or lost of it costs time.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Digest, limits};

/// One layer's.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    file: PathBuf,
    /// As it was found.
    before: Vec<usize>,
    order: Vec<usize>,
    known: HashSet<usize>,
    bytes: u64,
    changed: bool,
}

impl Touched {
    /// What is known of a layer; nothing, if there is nothing that can be read. Blocking.
    pub(crate) fn read(folder: &Path, layer: &Digest) -> Self {
        let file = folder.join(layer.hex());
        let text = fs::read_to_string(&file).unwrap_or_default();
        let before: Vec<usize> = text.split_whitespace().map_while(|part| part.parse().ok()).collect();
        Self { file, before, ..Self::default() }
    }

    /// What earlier instances used.
    pub(crate) fn before(&self) -> &[usize] {
        &self.before
    }

    /// A part of so many bytes was used.
    pub(crate) fn add(&mut self, part: usize, size: u64) {
        if self.known.contains(&part) || self.bytes + size > limits::TOUCHED_BYTES {
            return;
        }
        self.bytes += size;
        self.known.insert(part);
        self.order.push(part);
        self.changed = true;
    }

    /// Whether anything is new.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Writes it down, if anything is new. What was used before stays, behind. Blocking.
    pub(crate) fn keep(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let old = self.before.iter().filter(|part| !self.known.contains(part));
        let mut room = limits::TOUCHED_BYTES / limits::MADE_PART_BYTES;
        let mut text = String::new();
        for part in self.order.iter().chain(old) {
            // As many as there may be of the size that is usual.
            if room == 0 {
                break;
            }
            room -= 1;
            text.push_str(&format!("{part}\n"));
        }
        let temporary = self.file.with_extension("new");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &self.file));
        if let Err(error) = written {
            tracing::debug!(%error, "what an image uses could not be written down");
        }
    }
}

/// Removes the oldest where there are too many. Blocking.
pub(crate) fn tidy(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut all: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort();
    let surplus = all.len().saturating_sub(limits::TOUCHED_LAYERS);
    for (_, path) in all.into_iter().take(surplus) {
        // Gone is gone.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_remembered_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let layer = Digest::of(b"layer");
        let mut touched = Touched::read(folder.path(), &layer);
        assert!(touched.before().is_empty());
        [7, 3, 7, 9].into_iter().for_each(|part| touched.add(part, 1));
        touched.keep();
        let mut again = Touched::read(folder.path(), &layer);
        assert_eq!(again.before(), [7, 3, 9]);
        again.add(3, 1);
        again.add(1, limits::TOUCHED_BYTES);
        again.keep();
        assert_eq!(Touched::read(folder.path(), &layer).before(), [3, 7, 9]);
        fs::write(folder.path().join(layer.hex()), "1 x 2").unwrap();
        assert_eq!(Touched::read(folder.path(), &layer).before(), [1]);
    }
}
