//! A layer's table of contents (eStargz: `containerd/stargz-snapshotter`, docs/estargz.md), which says where in the
//! compressed blob each file's bytes are, and their digest.
//!
//! Its own digest is in the manifest, so that everything that it says is the image's author's, and is still a
//! stranger's: parts must cover each file once and without gaps, lie before the table itself and beside each other. A table
//! that is too large to be held, or whose parts are, is no reason to refuse an image: its layer is fetched whole. Names are looked at where files are made of them ([`crate::layer::outline`]).

use std::io::Read;
use std::ops::Range;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};

use crate::tar::{Archive, Entry, Kind};
use crate::{Digest, Error, limits};

/// The table's name in the archive.
pub(crate) const NAME: &str = "stargz.index.json";
/// Bytes of the empty gzip member at a blob's end, which says where the table begins.
pub(crate) const FOOTER_BYTES: u64 = 51;

/// A table that was checked.
#[derive(Debug)]
pub(crate) struct Toc {
    /// In the archive's order.
    pub(crate) entries: Vec<Listed>,
    /// Those of a file are neighbours, in the file's order.
    pub(crate) parts: Vec<Part>,
}

/// One entry, with its parts where it is a file that has content.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) entry: Entry,
    pub(crate) parts: Range<usize>,
}

/// Some bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where in the file.
    pub(crate) at: u64,
    /// How many.
    pub(crate) size: u64,
    /// Where the gzip member begins in the blob.
    pub(crate) offset: u64,
    /// Bytes of the member that go before.
    pub(crate) inner: u64,
    /// Bytes of the blob in which the member ends, as far as that matters.
    pub(crate) room: u64,
    /// Of the bytes, uncompressed.
    pub(crate) digest: Digest,
}

impl Part {
    /// Bytes of memory that it takes on its way.
    pub(crate) fn weight(&self) -> u64 {
        self.room + self.size
    }
}

/// What is wrong with a table.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It is, or its parts are, more than is held in memory. What it says may well be true.
    Large,
    /// It says what cannot be.
    Invalid(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Invalid(error)
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Large => invalid("it, or a part of a file, is too large"),
            Problem::Invalid(error) => error,
        }
    }
}

#[derive(Deserialize)]
struct Document {
    version: u32,
    entries: Raws,
}

/// Entries as they are written: one more than there may be, at most.
struct Raws(Vec<Raw>);

impl<'de> Deserialize<'de> for Raws {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Raws;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raws, A::Error> {
                let mut raws = Vec::new();
                while raws.len() <= limits::TOC_ENTRIES {
                    match list.next_element()? {
                        Some(raw) => raws.push(raw),
                        None => return Ok(Raws(raws)),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Raws(raws))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    name: String,
    r#type: String,
    size: u64,
    modtime: Option<String>,
    link_name: String,
    mode: i64,
    offset: u64,
    chunk_offset: u64,
    chunk_size: u64,
    inner_offset: u64,
    chunk_digest: String,
}

/// Where the table begins, by a blob's last bytes; `None` where they say nothing of one.
pub(crate) fn place(footer: &[u8], blob: u64) -> Option<u64> {
    // A gzip header with an extra field (RFC 1952, 2.3.1.1): SG, 22 bytes, sixteen digits, STARGZ.
    let field = footer.get(12..38).filter(|_| footer.len() as u64 == FOOTER_BYTES)?;
    if footer.get(..4)? != [0x1f, 0x8b, 8, 4] || &field[..4] != b"SG\x16\0" || &field[20..] != b"STARGZ" {
        return None;
    }
    let at = u64::from_str_radix(std::str::from_utf8(&field[4..20]).ok()?, 16).ok()?;
    (at < blob.checked_sub(FOOTER_BYTES)?).then_some(at)
}

/// The last member of a blob: says where the table begins.
pub(crate) fn footer(at: u64) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0];
    bytes.extend(b"SG\x16\0");
    bytes.extend(format!("{at:016x}STARGZ").as_bytes());
    // A last block that holds nothing, its checksum and its length.
    bytes.extend([1, 0, 0, 0xff, 0xff]);
    bytes.extend([0; 8]);
    bytes
}

/// The table's text, from the member that holds it: it has to have this digest.
pub(crate) fn text(member: &[u8], digest: &Digest) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::new(GzDecoder::new(member));
    let entry = archive.next()?.filter(|entry| entry.path == NAME.as_bytes() && entry.kind == Kind::File);
    let entry = entry.ok_or_else(|| invalid("it is not where the layer says"))?;
    if entry.size > limits::TOC_BYTES {
        return Err(invalid("it is too large"));
    }
    let mut text = Vec::new();
    archive.read_to_end(&mut text).map_err(Error::unreadable("a layer's index"))?;
    let found = Digest::of(&text);
    if found != *digest {
        return Err(invalid(&format!(
            "it is not what the manifest says: {digest} is listed, it has {found}"
        )));
    }
    Ok(text)
}

/// Reads and checks a table of a blob in which it begins at `end`.
pub(crate) fn parse(text: &[u8], end: u64) -> Result<Toc, Problem> {
    let Document { version, entries: Raws(entries) } = crate::manifest::read(text, "layer's index")?;
    if version != 1 {
        return Err(invalid("it is of an unknown version").into());
    }
    if entries.len() > limits::TOC_ENTRIES {
        return Err(Problem::Large);
    }
    let mut toc = Toc { entries: Vec::new(), parts: Vec::new() };
    let mut raws = entries.into_iter().peekable();
    while let Some(raw) = raws.next() {
        let kind = kind(&raw)?;
        let size = if kind == Kind::File { raw.size } else { 0 };
        let first = toc.parts.len();
        let entry = Entry {
            path: raw.name.clone().into_bytes(),
            kind,
            mode: u32::try_from(raw.mode & 0o7777).unwrap_or(0),
            size,
            modified: raw.modtime.as_deref().and_then(seconds).unwrap_or(0),
        };
        if size > 0 {
            let mut chunks = vec![raw];
            while let Some(next) = raws.next_if(|next| next.r#type == "chunk") {
                chunks.push(next);
            }
            toc.parts.extend(parts(&chunks, size)?);
        }
        toc.entries.push(Listed { entry, parts: first..toc.parts.len() });
    }
    place_parts(&mut toc.parts, end)?;
    let is_held = |part: &Part| part.inner + part.size <= limits::PART_BYTES;
    if toc.parts.iter().all(is_held) { Ok(toc) } else { Err(Problem::Large) }
}

fn kind(raw: &Raw) -> Result<Kind, Error> {
    Ok(match raw.r#type.as_str() {
        "dir" => Kind::Folder,
        "reg" => Kind::File,
        "symlink" => Kind::SymbolicLink(raw.link_name.clone().into_bytes()),
        "hardlink" => Kind::HardLink(raw.link_name.clone().into_bytes()),
        "char" | "block" | "fifo" => Kind::Special,
        "chunk" => return Err(invalid("a part belongs to no file")),
        other => return Err(invalid(&format!("it lists something of the unknown kind {other:.20}"))),
    })
}

/// The parts of one file, which follow each other without gap or overlap.
fn parts(chunks: &[Raw], size: u64) -> Result<Vec<Part>, Error> {
    let mut at = 0;
    let mut parts = Vec::with_capacity(chunks.len());
    for (index, chunk) in chunks.iter().enumerate() {
        // What is left out is "up to the next, or the end".
        let next = chunks.get(index + 1).map_or(size, |next| next.chunk_offset);
        let stated = match chunk.chunk_size {
            0 => next.checked_sub(at).ok_or_else(|| invalid("parts of a file overlap"))?,
            stated => stated,
        };
        if chunk.chunk_offset != at || at.checked_add(stated) != Some(next) || stated == 0 {
            return Err(invalid("the parts of a file overlap, or leave something out"));
        }
        // What is sane stays so when it is added up.
        if stated > limits::IMAGE_BYTES || chunk.inner_offset > limits::IMAGE_BYTES {
            return Err(invalid("a part of a file is larger than any image"));
        }
        let digest = Digest::parse(&chunk.chunk_digest);
        parts.push(Part {
            at,
            size: stated,
            offset: chunk.offset,
            inner: chunk.inner_offset,
            room: 0,
            digest: digest.ok_or_else(|| invalid("a part of a file has no digest"))?,
        });
        at = next;
    }
    Ok(parts)
}

/// A member ends where the next one begins, or earlier. Parts of one member lie beside each other in it, so that what it takes
/// to unpack them all is no more than they are.
fn place_parts(parts: &mut [Part], end: u64) -> Result<(), Error> {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_unstable_by_key(|part| (parts[*part].offset, parts[*part].inner));
    // From the back: where the member behind the one at hand begins.
    let (mut behind, mut next) = (end, None::<(u64, u64)>);
    for number in order.into_iter().rev() {
        let part = &mut parts[number];
        if part.offset >= end {
            return Err(invalid("a part of a file lies outside"));
        }
        if let Some((offset, inner)) = next {
            if offset != part.offset {
                behind = offset;
            } else if part.inner + part.size > inner {
                return Err(invalid("parts of files lie over each other"));
            }
        }
        next = Some((part.offset, part.inner));
        let plain = part.inner + part.size;
        // Deflate makes nothing larger than this (stored blocks: 5 bytes each), beside the member's own header.
        part.room = (behind - part.offset).min(plain + plain / 1000 + limits::MEMBER_BYTES);
    }
    Ok(())
}

/// Seconds since 1970 (RFC 3339).
fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_second())
}

fn invalid(problem: &str) -> Error {
    Error::Invalid(format!("a layer's index cannot be used: {problem}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file(name: &str, size: u64, offset: u64) -> Value {
        json!({ "name": name, "type": "reg", "size": size, "offset": offset, "mode": 420,
                "modtime": "2001-09-09T01:46:40Z", "chunkDigest": Digest::of(b"x").to_string() })
    }

    fn with(mut value: Value, members: &[(&str, Value)]) -> Value {
        members.iter().for_each(|(key, member)| value[*key] = member.clone());
        value
    }

    fn read(entries: &[Value]) -> Result<Toc, String> {
        let text = json!({ "version": 1, "entries": entries }).to_string();
        parse(text.as_bytes(), 1000).map_err(|problem| Error::from(problem).to_string())
    }

    #[test]
    fn parts_of_one_member_are_neighbours() {
        let small = |name: &str, inner: u64| with(file(name, 10, 1), &[("innerOffset", json!(inner))]);
        let toc = read(&[small("b", 10), small("a", 0), file("c", 10, 500)]).unwrap();
        assert_eq!(toc.parts.iter().map(|part| part.room).collect::<Vec<_>>(), [499, 499, 500]);
    }

    #[test]
    fn a_table_without_end_is_not_held() {
        let text = format!(
            r#"{{"version":1,"entries":[{}{{}}]}}"#,
            r#"{"type":"dir"},"#.repeat(limits::TOC_ENTRIES)
        );
        assert!(matches!(parse(text.as_bytes(), 1000), Err(Problem::Large)));
    }

    #[test]
    fn files_and_their_parts() {
        let digest = Digest::of(b"x").to_string();
        let toc = read(&[
            json!({ "name": "d/", "type": "dir", "mode": 493 }),
            with(file("d/a", 10, 100), &[("chunkSize", json!(6))]),
            json!({ "name": "d/a", "type": "chunk", "chunkOffset": 6, "offset": 300, "chunkDigest": digest }),
            file("empty", 0, 0),
            file("b", 7, 400),
            json!({ "name": "l", "type": "symlink", "linkName": "d/a" }),
        ])
        .unwrap();
        let kinds: Vec<_> = toc.entries.iter().map(|listed| listed.parts.clone()).collect();
        assert_eq!(kinds, [0..0, 0..2, 2..2, 2..3, 3..3]);
        assert_eq!(toc.entries[1].entry.modified, 1_000_000_000);
        let places: Vec<_> =
            toc.parts.iter().map(|part| (part.at, part.size, part.offset, part.room)).collect();
        assert_eq!(places, [(0, 6, 100, 200), (6, 4, 300, 100), (0, 7, 400, 600)]);
    }

    #[test]
    fn tables_that_lie_are_refused() {
        let huge = limits::PART_BYTES + 1;
        let second = |at: u64| json!({ "name": "a", "type": "chunk", "chunkOffset": at, "offset": 2, "chunkDigest": Digest::of(b"x").to_string() });
        let first = with(file("a", 10, 1), &[("chunkSize", json!(6))]);
        for (problem, entries) in [
            ("overlap", vec![first.clone(), second(5)]),
            ("overlap", vec![first.clone(), second(7)]),
            ("overlap", vec![first.clone()]),
            ("overlap", vec![with(file("a", 10, 1), &[("chunkSize", json!(u64::MAX))])]),
            ("over each other", vec![file("a", 10, 1), file("b", 10, 1)]),
            ("over each other", vec![file("a", 10, 1), with(file("b", 10, 1), &[("innerOffset", json!(9))])]),
            ("overlap", vec![with(file("a", 10, 1), &[("chunkOffset", json!(3))])]),
            ("belongs to no file", vec![second(0)]),
            ("too large", vec![file("a", huge, 1)]),
            ("too large", vec![with(file("a", 1, 1), &[("innerOffset", json!(huge))])]),
            ("larger than any", vec![with(file("a", 1, 1), &[("innerOffset", json!(u64::MAX))])]),
            ("outside", vec![file("a", 10, 1000)]),
            ("no digest", vec![with(file("a", 10, 1), &[("chunkDigest", json!("md5:1"))])]),
            ("unknown kind", vec![json!({ "name": "x", "type": "door" })]),
        ] {
            let error = read(&entries).unwrap_err();
            assert!(error.contains(problem), "{error}, not {problem}: {entries:?}");
        }
        assert!(parse(br#"{"version":2,"entries":[]}"#, 9).is_err() && parse(b"[]", 9).is_err());
    }

    #[test]
    fn a_footer_says_where() {
        let made = footer(0x1234);
        assert_eq!(made.len() as u64, FOOTER_BYTES);
        assert_eq!(place(&made, 0x2000), Some(0x1234));
        assert_eq!(place(&made, 0x1234), None, "behind the end");
        assert_eq!(place(&made[..50], 0x2000), None);
        assert_eq!(place(&[0; 51], 0x2000), None);
        let mut none = Vec::new();
        GzDecoder::new(&made[..]).read_to_end(&mut none).unwrap();
        assert!(none.is_empty());
    }
}
