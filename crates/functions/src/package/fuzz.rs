//! Archives that nobody would make, by the thousand: whatever one holds, unpacking it ends well, and nothing of it lies or
//! leads outside of its folder.
//!
//! A fixed beginning makes the runs of the unit tests the same every time. `VIRGA_FUZZ_RUNS` has further ones, each from a
//! number of its own, which a failure tells; CONTRIBUTING.md says how.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::unpack;

/// Runs of an ordinary test.
const RUNS: u64 = 400;

/// Numbers that look random (xorshift64*; Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn new(run: u64) -> Self {
        Self(run.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The remainder fits.
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const PLAIN: &[&str] = &["a", "b", "c", "d", "\u{e4}", "lib.so", "x y"];
const ODD: &[&str] = &["..", ".", "", "\\", ":", "\0"];

fn path(dice: &mut Dice) -> String {
    let parts =
        (0..=dice.below(4)).map(|_| if dice.below(12) == 0 { dice.one(ODD) } else { dice.one(PLAIN) });
    let parts: Vec<_> = parts.collect();
    let start = if dice.below(40) == 0 { "/" } else { "" };
    format!("{start}{}", parts.join("/"))
}

/// An archive of a few entries.
fn archive(dice: &mut Dice) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for _ in 0..=dice.below(6) {
        let mode = [0o644, 0o755, 0o000, 0o4755, 0o777][dice.below(5)];
        let deflated = dice.below(2) == 0;
        let method = if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
        let options = SimpleFileOptions::default().unix_permissions(mode).compression_method(method);
        let name = path(dice);
        // A writer refuses some of them.
        let _ = match dice.below(4) {
            0 => zip.add_directory(name, options),
            1 => zip.add_symlink(name, path(dice), options),
            _ => zip.start_file(name, options).and_then(|()| {
                let size = dice.below(100);
                zip.write_all(&vec![b'x'; size]).map_err(Into::into)
            }),
        };
    }
    zip.finish().map(Cursor::into_inner).unwrap_or_default()
}

/// Bytes changed, cut out, doubled or cut off.
fn spoil(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        match dice.below(5) {
            0 => bytes[at] = [0, 0xff, b'/', b'.', 0x7f][dice.below(5)],
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => drop(bytes.drain(at..(at + dice.below(8)).min(bytes.len()))),
            3 => {
                let copy = bytes[at..(at + dice.below(64)).min(bytes.len())].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.truncate(at),
        }
    }
}

/// Everything below a folder is a folder, a file, or a link that leads to something below it, or nowhere.
fn check_inside(folder: &Path, root: &Path, run: u64) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "run {run}: {path:?}");
        if kind.is_symlink() {
            if let Ok(leads) = fs::canonicalize(&path) {
                assert!(leads.starts_with(root), "run {run}: {path:?} leads to {leads:?}");
            }
        } else if kind.is_dir() {
            check_inside(&path, root, run);
        }
    }
}

#[test]
fn nothing_of_any_archive_gets_out() {
    let further: u64 =
        std::env::var("VIRGA_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or_default();
    let place = tempfile::tempdir().unwrap();
    let place = fs::canonicalize(place.path()).unwrap();
    fs::create_dir_all(place.join("outside")).unwrap();
    let mut unpacked = 0;
    for run in 0..RUNS + further {
        let mut dice = Dice::new(run);
        let mut bytes = archive(&mut dice);
        if dice.below(2) == 0 {
            spoil(&mut dice, &mut bytes);
        }
        let folder = place.join("package");
        fs::create_dir(&folder).unwrap();
        unpacked += u64::from(unpack(&bytes, &folder).is_ok());
        check_inside(&folder, &folder, run);
        assert_eq!(fs::read_dir(place.join("outside")).unwrap().count(), 0, "run {run}");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 2, "run {run}");
        fs::remove_dir_all(&folder).unwrap();
    }
    assert!(unpacked > RUNS / 20, "{unpacked}: nearly all were refused, so that nothing was tried");
}
