//! Layers that can be fetched in parts (eStargz: `containerd/stargz-snapshotter`, docs/estargz.md).
//!
//! To everybody else such a layer is gzip like any other. But every megabyte of a file begins a gzip member, and at the end is a
//! table of contents, whose digest the manifest has. What the table says is the same for the same files, as the archive is.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::archive::Writer;
use super::document::CREATED;
use super::spool::Hashing;
use crate::Digest;
use crate::lazy::toc;
use crate::tar::{Entry, Kind};

/// Compresses in members.
pub(super) struct Members<W: Write> {
    /// Between two.
    between: Option<W>,
    current: Option<GzEncoder<W>>,
}

impl<W: Write> Members<W> {
    pub(super) fn new(out: W) -> Self {
        Self { between: Some(out), current: None }
    }

    /// Ends a member, if one is begun. What is behind it.
    pub(super) fn cut(&mut self) -> io::Result<&mut W> {
        if let Some(current) = self.current.take() {
            self.between = Some(current.finish()?);
        }
        self.between.as_mut().ok_or_else(lost)
    }

    fn finish(mut self) -> io::Result<W> {
        self.cut()?;
        self.between.take().ok_or_else(lost)
    }
}

/// After a failure, of which it was said.
fn lost() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl<W: Write> Write for Members<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(out) = self.between.take() {
            // No name, no time, and no word of which system it was made on.
            self.current = Some(GzBuilder::new().operating_system(255).write(out, Compression::new(6)));
        }
        self.current.as_mut().ok_or_else(lost)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An archive that is hashed, in members that are hashed.
pub(super) type Output<W> = Hashing<Members<Hashing<W>>>;

/// A table that is being made.
pub(super) struct Table {
    entries: Vec<Value>,
    /// Whether all names can be said in it.
    can_be_said: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), can_be_said: true }
    }

    pub(super) fn folder(&mut self, path: &[u8]) {
        let name = self.say(&[path, b"/"].concat());
        self.entries.push(json!({ "name": name, "type": "dir", "modtime": CREATED, "mode": 0o755 }));
    }

    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) {
        let (name, target) = (self.say(path), self.say(target));
        self.entries.push(
            json!({ "name": name, "type": "symlink", "modtime": CREATED, "linkName": target, "mode": 0o777 }),
        );
    }

    /// A file; [`Table::part`] follows for each of its parts, then [`Table::file_ends`].
    pub(super) fn file(&mut self, path: &[u8], executable: bool, size: u64) {
        let (name, mode) = (self.say(path), if executable { 0o755 } else { 0o644 });
        self.entries
            .push(json!({ "name": name, "type": "reg", "size": size, "modtime": CREATED, "mode": mode }));
    }

    /// An entry of somebody else's archive, with its header. Parts follow as for [`Table::file`].
    pub(super) fn entry(&mut self, entry: &Entry, header: &[u8]) {
        let number = |field: std::ops::Range<usize>| {
            let text = header.get(field).map(String::from_utf8_lossy).unwrap_or_default();
            u64::from_str_radix(text.trim_matches([' ', '\0']), 8).unwrap_or(0)
        };
        let kind = match (&entry.kind, header.get(156)) {
            (Kind::File, _) => "reg",
            (Kind::Folder, _) => "dir",
            (Kind::SymbolicLink(_), _) => "symlink",
            (Kind::HardLink(_), _) => "hardlink",
            (Kind::Special, Some(b'3')) => "char",
            (Kind::Special, Some(b'4')) => "block",
            (Kind::Special, _) => "fifo",
        };
        let name = self.say(&entry.path);
        let modified =
            jiff::Timestamp::from_second(entry.modified).map_or(CREATED.to_owned(), |at| at.to_string());
        let mut listed = json!({
            "name": name, "type": kind, "modtime": modified, "mode": entry.mode,
            "uid": number(108..116), "gid": number(116..124),
        });
        match &entry.kind {
            Kind::File => listed["size"] = entry.size.into(),
            Kind::SymbolicLink(target) | Kind::HardLink(target) => {
                listed["linkName"] = self.say(target).into()
            }
            Kind::Special => {
                listed["devMajor"] = number(329..337).into();
                listed["devMinor"] = number(337..345).into();
            }
            Kind::Folder => {}
        }
        self.entries.push(listed);
    }

    /// Some bytes of the file that was begun last, in a member that begins at `offset`.
    pub(super) fn part(&mut self, at: u64, bytes: &[u8], size: u64, offset: u64) {
        let name = self.entries.last().map(|last| last["name"].clone()).unwrap_or_default();
        if at > 0 {
            self.entries.push(json!({ "name": name, "type": "chunk", "chunkOffset": at }));
        }
        let Some(entry) = self.entries.last_mut() else { return };
        entry["offset"] = offset.into();
        // That of the last is left out, as other tools do.
        if at + (bytes.len() as u64) < size {
            entry["chunkSize"] = bytes.len().into();
        }
        entry["chunkDigest"] = Digest::of(bytes).to_string().into();
    }

    /// All of the file that was begun last was written.
    pub(super) fn file_ends(&mut self, digest: &Digest) {
        if let Some(file) = self.entries.iter_mut().rev().find(|entry| entry["type"] == "reg") {
            file["digest"] = digest.to_string().into();
        }
    }

    fn say(&mut self, name: &[u8]) -> String {
        let said = String::from_utf8_lossy(name).into_owned();
        self.can_be_said &= said.as_bytes() == name;
        said
    }

    /// Ends the archive with the table; its digest, where there is one.
    pub(super) fn end<W: Write>(self, mut archive: Writer<Output<W>>) -> io::Result<Ended<W>> {
        let mut toc = None;
        let mut place = 0;
        if self.can_be_said {
            let text = json!({ "version": 1, "entries": self.entries }).to_string();
            place = archive.out().inner_mut().cut()?.count;
            archive.file(toc::NAME.as_bytes(), false, text.len() as u64, &mut text.as_bytes())?;
            toc = Some(Digest::of(text.as_bytes()));
        }
        let (members, diff, _) = archive.end()?.finish();
        let mut out = members.finish()?;
        if toc.is_some() {
            out.write_all(&toc::footer(place))?;
        }
        let (out, digest, size) = out.finish();
        Ok(Ended { out, diff, digest, size, toc })
    }
}

/// What came of it.
pub(super) struct Ended<W> {
    pub(super) out: W,
    /// Of the archive.
    pub(super) diff: Digest,
    /// Of the bytes.
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Of the table.
    pub(super) toc: Option<Digest>,
}
