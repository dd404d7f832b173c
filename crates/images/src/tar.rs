//! Reading archives (POSIX.1-2024 pax; GNU's long names) that may be hostile.
//!
//! A reader of our own, because what an archive can make it hold is bounded: extended headers and names of a few
//! kilobytes, nothing else. Numbers that overflow, checksums that are wrong and archives that end early are errors.
//! Sparse files are refused in every form: layers have none, and what one expands to has no relation to its bytes.
//!
//! Nothing here touches a file system; paths come out as they are in the archive.

use std::io::{self, Read};

use crate::{Error, limits};

const BLOCK: usize = 512;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits, those for set-user-id and the like among them.
    pub(crate) mode: u32,
    /// Bytes of content.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// To a path of the archive.
    HardLink(Vec<u8>),
    SymbolicLink(Vec<u8>),
    Folder,
    /// A device or a named pipe.
    Special,
}

/// What an extended header says of the next entry.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<i64>,
}

/// An archive being read. As a reader it gives the content of the entry that came last.
pub(crate) struct Archive<R> {
    reader: R,
    /// Content of the current entry that has not been read.
    left: u64,
    /// What fills its last block.
    padding: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, left: 0, padding: 0 }
    }

    /// The stream, wherever it is.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    /// The stream: at the content of the entry that came last, as far as that was read.
    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    /// Passes over the content of the entry that came last without reading it.
    pub(crate) fn seek_over(&mut self, seek: impl FnOnce(&mut R, u64)) {
        seek(&mut self.reader, self.left);
        self.left = 0;
    }

    /// The next entry; what was not read of the last one is passed over. `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header[124..136])?;
            match header[156] {
                b'x' => self.pax(size, &mut extended)?,
                // What holds for all entries is not about names or sizes in any layer.
                b'g' => self.begin(size),
                b'L' => extended.path = Some(self.long_name(size)?),
                b'K' => extended.link = Some(self.long_name(size)?),
                kind => return self.entry(&header, kind, size, extended).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        kind: u8,
        size: u64,
        extended: Extended,
    ) -> Result<Entry, Error> {
        let path = extended.path.unwrap_or_else(|| name(header));
        let link = extended.link.unwrap_or_else(|| text(&header[157..257]));
        let size = extended.size.unwrap_or(size);
        let kind = match kind {
            // Before POSIX, folders were files whose name ends so.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Folder,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink(link),
            b'2' => Kind::SymbolicLink(link),
            b'3' | b'4' | b'6' => Kind::Special,
            b'5' => Kind::Folder,
            b'S' => return Err(invalid("it holds a sparse file, which layers do not have")),
            other => return Err(invalid(&format!("it holds an entry of an unknown kind ({other})"))),
        };
        let has_content = kind == Kind::File;
        // Other kinds may state a size and have no content (pax: size, typeflag).
        let size = if has_content { size } else { 0 };
        self.begin(size);
        Ok(Entry {
            path,
            kind,
            mode: u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or(0),
            size,
            modified: match extended.modified {
                Some(modified) => modified,
                None => i64::try_from(number(&header[136..148])?).unwrap_or(0),
            },
        })
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn pass_over(&mut self) -> Result<(), Error> {
        let rest =
            self.left.checked_add(self.padding).ok_or_else(|| invalid("a size is out of all bounds"))?;
        let skipped = io::copy(&mut (&mut self.reader).take(rest), &mut io::sink());
        (self.left, self.padding) = (0, 0);
        if skipped.map_err(Error::unreadable("the archive"))? != rest {
            return Err(ends_early());
        }
        Ok(())
    }

    /// The next header; `None` at the end, which is a block of zeros, or where the stream ends between entries.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ends_early()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::unreadable("the archive")(error)),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let stated = number(&block[148..156])?;
        let sum = |byte: fn(u8) -> i64| -> i64 {
            let field = 148..156;
            block.iter().enumerate().map(|(at, b)| if field.contains(&at) { 32 } else { byte(*b) }).sum()
        };
        // Old writers summed signed bytes.
        let sums = [sum(i64::from), sum(|byte| i64::from(byte.cast_signed()))];
        if !sums.iter().any(|sum| u64::try_from(*sum) == Ok(stated)) {
            return Err(invalid("a header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > limits::EXTENSION_BYTES {
            return Err(invalid("an extended header is too large"));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(Error::unreadable("the archive"))?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.extension(size)?;
        Ok(text(&bytes))
    }

    /// Records of `LENGTH KEY=VALUE\n`.
    fn pax(&mut self, size: u64, into: &mut Extended) -> Result<(), Error> {
        let bytes = self.extension(size)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (key, value, after) =
                record(rest).ok_or_else(|| invalid("an extended header makes no sense"))?;
            rest = after;
            match key {
                b"path" => into.path = Some(value.to_vec()),
                b"linkpath" => into.link = Some(value.to_vec()),
                b"size" => into.size = Some(decimal(value)?),
                b"mtime" => {
                    // Fractions are cut off.
                    let whole = value.split(|b| *b == b'.').next().unwrap_or_default();
                    into.modified = std::str::from_utf8(whole).ok().and_then(|whole| whole.parse().ok());
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(invalid("it holds a sparse file, which layers do not have"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(ends_early().into_io());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// A name is its prefix and the rest (POSIX), but for GNU's, which has other things in that place.
fn name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&header[..100]);
    let posix = &header[257..263] == b"ustar\0";
    let prefix = if posix { text(&header[345..500]) } else { Vec::new() };
    if prefix.is_empty() { name } else { [&prefix[..], b"/", &name].concat() }
}

/// Up to the first zero byte.
fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// An octal number, or GNU's base-256. Negative ones are not a size, and times before 1970 do not matter.
fn number(field: &[u8]) -> Result<u64, Error> {
    let wrong = || invalid("a number in a header is none");
    if field[0] & 0x80 != 0 {
        if field[0] == 0xff {
            return Ok(0);
        }
        let first = u64::from(field[0] & 0x7f);
        return field[1..].iter().try_fold(first, |value, byte| {
            value.checked_mul(256).map(|value| value | u64::from(*byte)).ok_or_else(wrong)
        });
    }
    let digits = field.iter().skip_while(|b| **b == b' ').take_while(|b| !matches!(**b, b' ' | 0));
    digits.copied().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value | u64::from(byte - b'0')).ok_or_else(wrong),
        _ => Err(wrong()),
    })
}

fn decimal(value: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| invalid("a size in an extended header is none"))
}

fn invalid(problem: &str) -> Error {
    Error::Invalid(format!("a layer's archive cannot be unpacked: {problem}"))
}

fn ends_early() -> Error {
    invalid("it ends in the middle")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[124..124 + size.len()].copy_from_slice(size);
        block[136..147].copy_from_slice(b"00000000012");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
            .sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    pub(crate) fn file(name: &str, content: &[u8]) -> Vec<u8> {
        let mut out = header(name, b'0', format!("{:011o}", content.len()).as_bytes());
        out.extend(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn pax(records: &[u8]) -> Vec<u8> {
        let mut out = header("x", b'x', format!("{:011o}", records.len()).as_bytes());
        out.extend(records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, u64)>, String> {
        let mut archive = Archive::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = archive.next().map_err(|error| error.to_string())? {
            all.push((String::from_utf8(entry.path).unwrap(), entry.size));
        }
        Ok(all)
    }

    #[test]
    fn entries_and_their_content() {
        let bytes = [file("a", b"hello"), pax(b"13 path=long\n"), file("b", b""), vec![0; 1024]].concat();
        assert_eq!(read(&bytes).unwrap(), [("a".to_owned(), 5), ("long".to_owned(), 0)]);
        let mut archive = Archive::new(&bytes[..]);
        let entry = archive.next().unwrap().unwrap();
        assert_eq!((entry.mode, entry.modified), (0o644, 10));
        let mut content = String::new();
        archive.read_to_string(&mut content).unwrap();
        assert_eq!(content, "hello");
    }

    #[test]
    fn sizes_that_lie_are_seen() {
        let mut short = file("a", b"hello");
        short.truncate(BLOCK + 3);
        assert!(read(&short).unwrap_err().contains("ends in the middle"));
        assert!(read(&header("a", b'0', b"77777777777")).unwrap_err().contains("ends in the middle"));
        let mut huge = [0xff_u8; 12];
        huge[0] = 0x80;
        assert!(read(&header("a", b'0', &huge)).is_err());
        assert!(read(&header("a", b'0', b"-1")).unwrap_err().contains("number"));
        let huge = pax(b"29 size=18446744073709551615\n");
        assert!(read(&[huge, file("a", b"")].concat()).is_err());
    }

    #[test]
    fn hostile_headers_are_refused() {
        let mut wrong = file("a", b"");
        wrong[0] = b'b';
        assert!(read(&wrong).unwrap_err().contains("checksum"));
        assert!(read(&header("a", b'S', b"0")).unwrap_err().contains("sparse"));
        assert!(
            read(&[pax(b"22 GNU.sparse.major=1\n"), file("a", b"")].concat()).unwrap_err().contains("sparse")
        );
        assert!(read(&header("a", b'x', b"00077777777")).unwrap_err().contains("too large"));
        assert!(read(&header("a", b'L', b"00077777777")).unwrap_err().contains("too large"));
        assert!(read(&header("a", b'Z', b"0")).unwrap_err().contains("unknown kind"));
        for records in [&b"99 path=x\n"[..], b"x", b"3 \n", b"0 a=b\n", b"1 a=b\n"] {
            assert!(read(&[pax(records), file("a", b"")].concat()).is_err(), "{records:?}");
        }
    }
}
