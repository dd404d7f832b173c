//! The pages of a process that are its own, and no file's: found by `pagemap`, copied into the image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::procfs::{Kind, Mapping};
use super::restorer::PAGE;

/// Pages that are copied along to have one run instead of two: a mapping each costs more than the copy.
const GAP: u64 = 15;
/// Bits of a `pagemap` entry (pagemap.rst).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_A_FILE: u64 = 1 << 61;
const MAPPED_ONCE: u64 = 1 << 56;
/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// Neighbouring pages that the image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// In the process.
    pub(super) start: u64,
    /// Bytes.
    pub(super) length: u64,
    /// In the image.
    pub(super) offset: u64,
}

/// An address and how many bytes from there.
pub(super) type Range = (u64, u64);

/// A process's memory, to be read.
pub(super) struct Memory {
    pub(super) memory: File,
    pub(super) pagemap: File,
}

impl Memory {
    /// The runs of a private mapping, without their places in the image.
    pub(super) fn runs(&self, mapping: &Mapping) -> io::Result<Vec<Run>> {
        let of_a_file = mapping.kind() == Kind::File;
        let pages = mapping.bytes() / PAGE;
        let mut entries = vec![0_u8; usize::try_from(pages.min(1 << 16)).unwrap_or(0) * 8];
        let mut owned: Vec<u64> = Vec::new();
        let mut first = 0;
        while first < pages {
            let count = (pages - first).min(1 << 16);
            let bytes = &mut entries[..count as usize * 8];
            self.pagemap.read_exact_at(bytes, (mapping.start / PAGE + first) * 8)?;
            for (index, entry) in bytes.chunks_exact(8).enumerate() {
                let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
                let page = first + index as u64;
                let there = entry & (PRESENT | SWAPPED) != 0 && (entry & OF_A_FILE == 0 || !of_a_file);
                // What was only read, or cleared, is as good as new.
                if there && (of_a_file || !self.is_zero(mapping.start + page * PAGE)?) {
                    owned.push(page);
                }
            }
            first += count;
        }
        Ok(joined(&owned).map(|(page, count)| run(mapping, page, count)).collect())
    }

    /// The pages of a private mapping that a copied process has for itself: it wrote to them since it was copied. Empty
    /// ones are left out: memory comes in larger pieces than are written to.
    pub(super) fn written(&self, mapping: &Mapping) -> io::Result<Vec<Range>> {
        let mut entries = vec![0_u8; usize::try_from(mapping.bytes() / PAGE).unwrap_or(0) * 8];
        self.pagemap.read_exact_at(&mut entries, mapping.start / PAGE * 8)?;
        let entries =
            entries.chunks_exact(8).map(|entry| u64::from_ne_bytes(entry.try_into().unwrap_or_default()));
        let own = |entry: u64| entry & PRESENT != 0 && entry & OF_A_FILE == 0 && entry & MAPPED_ONCE != 0;
        let mut pages: Vec<u64> =
            (0..).zip(entries).filter(|(_, entry)| own(*entry)).map(|(page, _)| page).collect();
        pages.retain(|page| !self.is_zero(mapping.start + page * PAGE).unwrap_or(true));
        let ranges = ranges(&pages, 0);
        Ok(ranges.map(|(page, count)| (mapping.start + page * PAGE, count * PAGE)).collect())
    }

    fn is_zero(&self, address: u64) -> io::Result<bool> {
        let mut page = [0_u8; PAGE as usize];
        self.memory.read_exact_at(&mut page, address)?;
        Ok(page.iter().all(|byte| *byte == 0))
    }

    /// Copies a run to its place in the image; how many bytes it takes there. Empty pages, of which interpreters have
    /// many between full ones, are left out: a hole of the file reads as one. Gives up soon after `room` bytes, so that
    /// what is too large does not take the host's memory first.
    pub(super) fn copy(&self, run: &Run, image: &File, room: u64) -> io::Result<u64> {
        let mut buffer = vec![0_u8; CHUNK.min(usize::try_from(run.length).unwrap_or(CHUNK))];
        let (mut done, mut written) = (0, 0);
        while done < run.length && written <= room {
            let length = buffer.len().min(usize::try_from(run.length - done).unwrap_or(CHUNK));
            self.memory.read_exact_at(&mut buffer[..length], run.start + done)?;
            for (page, bytes) in buffer[..length].chunks(PAGE as usize).enumerate() {
                if bytes.iter().any(|byte| *byte != 0) {
                    image.write_all_at(bytes, run.offset + done + page as u64 * PAGE)?;
                    written += bytes.len() as u64;
                }
            }
            done += length as u64;
        }
        Ok(written)
    }
}

fn run(mapping: &Mapping, page: u64, count: u64) -> Run {
    Run { start: mapping.start + page * PAGE, length: count * PAGE, offset: 0 }
}

/// Ascending page numbers as runs of first page and count, joined over small gaps.
fn joined(pages: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    ranges(pages, GAP)
}

fn ranges(pages: &[u64], gap: u64) -> impl Iterator<Item = (u64, u64)> {
    let chunks = pages.chunk_by(move |one, next| next - one <= gap + 1);
    chunks.filter_map(|chunk| Some((*chunk.first()?, chunk.last()? - chunk.first()? + 1)))
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn pages_are_joined_over_small_gaps() {
        let runs = |pages: &[u64]| joined(pages).collect::<Vec<_>>();
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[0, 1, 2]), [(0, 3)]);
        assert_eq!(runs(&[0, 16, 40]), [(0, 17), (40, 1)]);
        assert_eq!(runs(&[5, 22]), [(5, 1), (22, 1)]);
    }
}
