//! Writing archives (POSIX.1-2024 pax) that are the same for the same entries.
//!
//! What differs from one machine or day to the next is not written: every entry belongs to user and group 0 without a
//! name, is of 1970, and is readable, with or without being executable. A name or size that a header has no room for
//! goes into an extended header; bytes that are not UTF-8 stay as they are, and are announced as such (`hdrcharset`).

use std::io::{self, Read, Write};

use crate::{Error, limits};

const BLOCK: usize = 512;
/// Bytes that a header has for a name, and for a link's target.
const NAME: usize = 100;
/// The largest size that eleven octal digits hold.
const OCTAL: u64 = 0o77_777_777_777;

/// Writes a part of a file: to what, where in the file it begins, and its bytes.
pub(crate) type Each<'a, W> = &'a mut dyn FnMut(&mut W, u64, &[u8]) -> io::Result<()>;

/// An archive on its way.
pub(crate) struct Writer<W> {
    out: W,
}

/// What one entry is called in its header, and what goes before it.
#[derive(Default)]
struct Records(Vec<u8>);

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    /// A folder; its path without a slash at its end.
    pub(crate) fn folder(&mut self, path: &[u8]) -> io::Result<()> {
        let path = [path, b"/"].concat();
        self.header(&path, b'5', 0o755, 0, b"")
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.header(path, b'2', 0o777, 0, target)
    }

    /// A file of so many bytes; fewer or more are an error.
    pub(crate) fn file(
        &mut self,
        path: &[u8],
        executable: bool,
        size: u64,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let mode = if executable { 0o755 } else { 0o644 };
        self.header(path, b'0', mode, size, b"")?;
        let copied = io::copy(&mut content.take(size), &mut self.out)?;
        if copied != size || content.read(&mut [0])? != 0 {
            return Err(changed(path));
        }
        self.pad(size)
    }

    /// A file, whose bytes are handed on in parts with where they begin: `each` writes them.
    pub(crate) fn file_in_parts(
        &mut self,
        path: &[u8],
        executable: bool,
        size: u64,
        content: &mut dyn Read,
        each: Each<'_, W>,
    ) -> io::Result<()> {
        let mode = if executable { 0o755 } else { 0o644 };
        self.header(path, b'0', mode, size, b"")?;
        let mut part = Vec::new();
        let mut at = 0;
        while at < size {
            part.clear();
            content.take(limits::MADE_PART_BYTES.min(size - at)).read_to_end(&mut part)?;
            if part.is_empty() {
                break;
            }
            each(&mut self.out, at, &part)?;
            at += part.len() as u64;
        }
        if at != size || content.read(&mut [0])? != 0 {
            return Err(changed(path));
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        io::copy(&mut io::repeat(0).take(padding), &mut self.out).map(drop)
    }

    /// What it writes to, between two entries.
    pub(crate) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Two blocks of zeros.
    pub(crate) fn end(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn header(&mut self, path: &[u8], kind: u8, mode: u32, size: u64, link: &[u8]) -> io::Result<()> {
        let mut records = Records::default();
        records.add_long(b"path", path, NAME);
        records.add_long(b"linkpath", link, NAME);
        if size > OCTAL {
            records.add(b"size", size.to_string().as_bytes());
        }
        if !records.0.is_empty() {
            let bytes = records.0;
            self.out.write_all(&block(b"././@PaxHeader", b'x', 0o644, bytes.len() as u64, b""))?;
            self.out.write_all(&bytes)?;
            self.out.write_all(&vec![0; bytes.len().next_multiple_of(BLOCK) - bytes.len()])?;
        }
        self.out.write_all(&block(path, kind, mode, size.min(OCTAL), link))
    }
}

fn changed(path: &[u8]) -> io::Error {
    let shown = String::from_utf8_lossy(path);
    Error::Invalid(format!("{shown} changed while it was read: build again")).into_io()
}

impl Records {
    /// Adds what does not fit where it belongs.
    fn add_long(&mut self, key: &[u8], value: &[u8], room: usize) {
        if value.len() <= room {
            return;
        }
        if std::str::from_utf8(value).is_err() && self.0.is_empty() {
            self.add(b"hdrcharset", b"BINARY");
        }
        self.add(key, value);
    }

    /// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.0.extend([length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat());
    }
}

/// One header. A name that is too long is cut off: an extended header has all of it.
fn block(path: &[u8], kind: u8, mode: u32, size: u64, link: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(NAME)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(NAME)]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Archive, Kind};

    fn read(bytes: &[u8]) -> Vec<(Vec<u8>, Kind, u32, u64)> {
        let mut archive = Archive::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = archive.next().unwrap() {
            assert_eq!(entry.modified, 0);
            all.push((entry.path, entry.kind, entry.mode, entry.size));
        }
        all
    }

    #[test]
    fn what_is_written_is_read() {
        let long = [&b"folder/"[..], &[b'n'; 200]].concat();
        let odd = [&b"\xff\xfe"[..], &[b'o'; 120]].concat();
        let just = vec![b'j'; 100];
        let mut writer = Writer::new(Vec::new());
        writer.folder(b"app").unwrap();
        writer.file(b"app/a", true, 3, &mut &b"abc"[..]).unwrap();
        writer.link(b"app/l", &long).unwrap();
        writer.file(&long, false, 0, &mut &b""[..]).unwrap();
        writer.file(&odd, false, 512, &mut &[1; 512][..]).unwrap();
        writer.file(b"short\xff", false, 0, &mut &b""[..]).unwrap();
        writer.file(&just, false, 0, &mut &b""[..]).unwrap();
        let bytes = writer.end().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let expect = vec![
            (b"app/".to_vec(), Kind::Folder, 0o755, 0),
            (b"app/a".to_vec(), Kind::File, 0o755, 3),
            (b"app/l".to_vec(), Kind::SymbolicLink(long.clone()), 0o777, 0),
            (long, Kind::File, 0o644, 0),
            (odd, Kind::File, 0o644, 512),
            (b"short\xff".to_vec(), Kind::File, 0o644, 0),
            (just, Kind::File, 0o644, 0),
        ];
        assert_eq!(read(&bytes), expect);
    }

    #[test]
    fn records_count_their_own_length() {
        for length in [0, 1, 80, 88, 89, 90, 91, 980, 985, 990] {
            let mut records = Records::default();
            records.add(b"path", &vec![b'x'; length]);
            let text = String::from_utf8(records.0).unwrap();
            assert_eq!(text.split(' ').next().unwrap(), text.len().to_string(), "{length}");
        }
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_an_error() {
        for content in [&b"ab"[..], b"abcd"] {
            let mut writer = Writer::new(Vec::new());
            let error = writer.file(b"f", false, 3, &mut &*content).unwrap_err();
            assert!(error.to_string().contains("f changed while it was read"), "{error}");
        }
    }

    #[test]
    fn sizes_beyond_eight_gigabytes_have_a_record() {
        let mut writer = Writer::new(Vec::new());
        writer.header(b"big", b'0', 0o644, 9 << 30, b"").unwrap();
        let mut archive = Archive::new(&writer.out[..]);
        assert_eq!(archive.next().unwrap().unwrap().size, 9 << 30);
    }
}
