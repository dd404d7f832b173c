//! Writing a group's segments.
//!
//! One `write(2)` for each batch of lines, under the group's lock, to a file opened for appending: lines of
//! different streams never mix, and none waits in a buffer of this process. A write that fails or falls short
//! closes the file; opening it again ends the torn line first.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use base::Timestamp;
use parking_lot::Mutex;

use super::names::make_folder;

/// A segment is closed when it has this many bytes.
const SEGMENT_BYTES: u64 = 8 << 20;

/// Segments kept; the oldest of more is removed.
const SEGMENTS: usize = 8;

/// Groups whose file is open at one time; beyond, one that was not written to lately is closed.
const OPEN_FILES: usize = 128;

/// Holds the time at which the group was made.
pub(super) const CREATED: &str = "created";

/// The file of a segment.
pub(super) fn segment_path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:010}.log"))
}

/// The numbers of the segments that a group has, in order.
pub(super) fn segments(folder: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn make_group(folder: &Path, now: Timestamp) -> std::io::Result<()> {
    make_folder(folder)?;
    fs::write(folder.join(CREATED), now.as_millis().to_string())
}

fn parent(folder: &Path) -> Option<PathBuf> {
    folder.parent().map(Path::to_owned)
}

/// One group that streams write to.
pub(super) struct Group {
    folder: PathBuf,
    writer: Mutex<Writer>,
    open_files: Arc<OpenFiles>,
}

#[derive(Default)]
struct Writer {
    open: Option<Segment>,
    /// Written to since the last time somebody looked for a file to close.
    used: bool,
    /// The last write failed, and that has been reported.
    failing: bool,
}

struct Segment {
    file: File,
    number: u64,
    length: u64,
}

impl Group {
    pub(super) fn new(folder: PathBuf, open_files: Arc<OpenFiles>) -> Self {
        Self { folder, writer: Mutex::default(), open_files }
    }

    /// Appends whole records; makes the group if it is not there. What cannot be written is lost, and the server's log
    /// says so once.
    pub(super) fn append(self: &Arc<Self>, now: Timestamp, records: &[u8]) {
        let failed = self.write(records, |writer| writer.append(&self.folder, now, records));
        if let Err((error, true)) = failed {
            tracing::error!(%error, folder = %self.folder.display(), "function logs are being lost");
        }
    }

    /// Appends whole records to a group that is there ([`ErrorKind::NotFound`] otherwise).
    pub(super) fn append_existing(self: &Arc<Self>, now: Timestamp, records: &[u8]) -> std::io::Result<()> {
        let existing = |writer: &mut Writer| {
            // Others may have removed the folder under an open file.
            fs::metadata(self.folder.join(CREATED))?;
            writer.append(&self.folder, now, records)
        };
        self.write(records, existing).map_err(|(error, _)| error)
    }

    /// Writes under the lock; with an error comes whether it is the first in a row.
    fn write(
        self: &Arc<Self>,
        records: &[u8],
        write: impl FnOnce(&mut Writer) -> std::io::Result<()>,
    ) -> Result<(), (std::io::Error, bool)> {
        if records.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        writer.used = true;
        let opened = writer.open.is_none();
        let outcome = write(&mut writer);
        let first = match &outcome {
            Ok(()) => std::mem::take(&mut writer.failing),
            Err(_) => {
                writer.open = None;
                !std::mem::replace(&mut writer.failing, true)
            }
        };
        let opened = opened && writer.open.is_some();
        drop(writer);
        if opened {
            self.open_files.add(Arc::downgrade(self));
        }
        outcome.map_err(|error| (error, first))
    }

    /// Makes the group, durably; whether it was not there.
    pub(super) fn create(&self, now: Timestamp) -> std::io::Result<bool> {
        let _writer = self.writer.lock();
        if fs::exists(self.folder.join(CREATED))? {
            return Ok(false);
        }
        make_group(&self.folder, now)?;
        for path in [Some(self.folder.join(CREATED)), Some(self.folder.clone()), parent(&self.folder)] {
            path.map_or(Ok(()), |path| File::open(path)?.sync_all())?;
        }
        Ok(true)
    }

    /// Moves the group's folder to `to`: what is written from here on begins a new one.
    pub(super) fn move_away(&self, to: &Path) -> std::io::Result<()> {
        let mut writer = self.writer.lock();
        writer.open = None;
        fs::rename(&self.folder, to)?;
        parent(&self.folder).map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// Runs `work` while nothing is written; the newest segment's file is opened anew afterwards.
    pub(super) fn hold<T>(&self, work: impl FnOnce(&Path) -> T) -> T {
        let mut writer = self.writer.lock();
        writer.open = None;
        work(&self.folder)
    }

    /// Closes the file unless it is in use; whether it is closed.
    fn close_if_idle(&self) -> bool {
        let Some(mut writer) = self.writer.try_lock() else { return false };
        let idle = !std::mem::take(&mut writer.used);
        if idle {
            writer.open = None;
        }
        idle
    }
}

impl Writer {
    fn append(&mut self, folder: &Path, now: Timestamp, records: &[u8]) -> std::io::Result<()> {
        let segment = match self.open.take() {
            Some(segment) => segment,
            None => Segment::open_last(folder, now)?,
        };
        let full = segment.length > 0 && segment.length + records.len() as u64 > SEGMENT_BYTES;
        let segment = if full { segment.next(folder)? } else { segment };
        self.open.insert(segment).write(records)
    }
}

impl Segment {
    /// Opens the newest segment, or makes the group.
    fn open_last(folder: &Path, now: Timestamp) -> std::io::Result<Self> {
        let number = match segments(folder) {
            Ok(numbers) => numbers.last().copied(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_group(folder, now)?;
                None
            }
            Err(error) => return Err(error),
        };
        Self::open(folder, number.unwrap_or(1))
    }

    fn open(folder: &Path, number: u64) -> std::io::Result<Self> {
        let path = segment_path(folder, number);
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let mut segment = Self { file, number, length };
        segment.end_torn_line()?;
        Ok(segment)
    }

    /// A crash or a full disk may have cut the last line off: what comes next must begin its own.
    fn end_torn_line(&mut self) -> std::io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        if last != *b"\n" { self.write(b"\n") } else { Ok(()) }
    }

    fn next(self, folder: &Path) -> std::io::Result<Self> {
        let next = Self::open(folder, self.number + 1)?;
        let numbers = segments(folder)?;
        for old in &numbers[..numbers.len().saturating_sub(SEGMENTS)] {
            fs::remove_file(segment_path(folder, *old))?;
        }
        Ok(next)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let written = loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.length += written as u64;
        if written < bytes.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// The groups whose file is open, in the order in which they were opened.
#[derive(Default)]
pub(super) struct OpenFiles(Mutex<VecDeque<Weak<Group>>>);

impl OpenFiles {
    /// Adds a group that has opened its file; closes others' that were not used since the last look.
    fn add(&self, group: Weak<Group>) {
        let mut open = self.0.lock();
        open.push_back(group);
        // Each is looked at twice at most: a group that was used once gets a second chance.
        let mut looks = 2 * open.len();
        while open.len() > OPEN_FILES && looks > 0 {
            looks -= 1;
            let Some(oldest) = open.pop_front() else { break };
            if oldest.upgrade().is_some_and(|group| !group.close_if_idle()) {
                open.push_back(oldest);
            }
        }
    }
}
