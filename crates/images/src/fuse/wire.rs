//! Requests and answers as the kernel writes and reads them (`linux/fuse.h`, in the machine's own byte order).

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;

/// The node that the mount shows.
pub(crate) const ROOT: u64 = 1;

/// What is said of the protocol.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;
const HEAD_BYTES: usize = 40;

// Flags of FUSE_INIT.
const ASYNC_READ: u32 = 1;
const NO_OPEN: u32 = 1 << 17;
const PARALLEL_FOLDERS: u32 = 1 << 18;
const MAX_PAGES: u32 = 1 << 22;
const CACHE_LINKS: u32 = 1 << 23;
const NO_OPEN_FOLDER: u32 = 1 << 24;

/// Pages of one answer: 1 MiB.
const PAGES: u16 = 256;
/// Reads that the kernel makes ahead at the same time, and where it holds back.
const AHEAD: (u16, u16) = (64, 48);
/// Nothing changes: longer than any instance lives.
const FOR_GOOD: u64 = Duration::from_secs(10 * 365 * 24 * 3600).as_secs();

/// A request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) operation: Operation<'a>,
}

/// What is wanted.
#[derive(Debug)]
pub(super) enum Operation<'a> {
    Init {
        major: u32,
        readahead: u32,
        flags: u32,
    },
    LookUp(&'a [u8]),
    Attributes,
    ReadLink,
    List {
        at: u64,
        size: u32,
    },
    Read {
        at: u64,
        size: u32,
    },
    Statistics,
    /// Nobody wants the answer to this request any more.
    Interrupt(u64),
    /// Something would be changed.
    Change,
    /// To which there is no answer.
    OneWay,
    Other,
}

impl<'a> Request<'a> {
    /// Reads one; `None` where there is not even a head. One whose body is too short is an unknown one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let operation = u32_at(bytes, 4)?;
        let (unique, node) = (u64_at(bytes, 8)?, u64_at(bytes, 16)?);
        let body = bytes.get(HEAD_BYTES..)?;
        let operation = Operation::parse(operation, body).unwrap_or(Operation::Other);
        Some(Self { unique, node, operation })
    }
}

impl<'a> Operation<'a> {
    fn parse(number: u32, body: &'a [u8]) -> Option<Self> {
        Some(match number {
            1 => Self::LookUp(body.split(|byte| *byte == 0).next()?),
            // FORGET, BATCH_FORGET
            2 | 42 => Self::OneWay,
            3 => Self::Attributes,
            5 => Self::ReadLink,
            // SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, SETXATTR, REMOVEXATTR, CREATE, FALLOCATE,
            // RENAME2, COPY_FILE_RANGE
            4 | 6 | 8..=13 | 16 | 21 | 24 | 35 | 43 | 45 | 47 => Self::Change,
            15 => Self::Read { at: u64_at(body, 8)?, size: u32_at(body, 16)? },
            17 => Self::Statistics,
            26 => {
                Self::Init { major: u32_at(body, 0)?, readahead: u32_at(body, 8)?, flags: u32_at(body, 12)? }
            }
            28 => Self::List { at: u64_at(body, 8)?, size: u32_at(body, 16)? },
            36 => Self::Interrupt(u64_at(body, 0)?),
            _ => return None,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    /// Kind and rights.
    pub(crate) mode: u32,
    pub(crate) links: u32,
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) node: u64,
    pub(crate) attributes: Attributes,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) name: OsString,
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
}

/// An answer's head.
pub(super) fn head(unique: u64, error: i32, bytes: usize) -> [u8; 16] {
    let mut head = [0; 16];
    head[..4].copy_from_slice(&u32::try_from(16 + bytes).unwrap_or(u32::MAX).to_ne_bytes());
    head[4..8].copy_from_slice(&(-error).to_ne_bytes());
    head[8..].copy_from_slice(&unique.to_ne_bytes());
    head
}

/// An answer on its way.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    fn attributes(self, found: &Attributes) -> Self {
        let modified = u64::from_ne_bytes(found.modified.to_ne_bytes());
        self.u64(found.inode)
            .u64(found.size)
            .u64(found.size.div_ceil(512))
            .u64(modified)
            .u64(modified)
            .u64(modified)
            .zeros(12)
            .u32(found.mode)
            .u32(found.links)
            // User, group and device: everything belongs to the server.
            .zeros(12)
            .u32(4096)
            .zeros(4)
    }
}

pub(super) fn init(major: u32, readahead: u32, flags: u32) -> Result<Vec<u8>, Errno> {
    if major != MAJOR {
        return Err(Errno::PROTO);
    }
    let wanted = ASYNC_READ | NO_OPEN | PARALLEL_FOLDERS | MAX_PAGES | CACHE_LINKS | NO_OPEN_FOLDER;
    Ok(Out::default()
        .u32(MAJOR)
        .u32(MINOR)
        .u32(readahead)
        .u32(flags & wanted)
        .u16(AHEAD.0)
        .u16(AHEAD.1)
        // Nothing is written; it must not be less.
        .u32(4096)
        // Nanoseconds that times are exact to.
        .u32(1_000_000_000)
        .u16(PAGES)
        .zeros(64 - 30)
        .0)
}

/// What a name means, for good. That it means nothing is kept too.
pub(super) fn entry(found: Option<&Entry>) -> Vec<u8> {
    let node = found.map_or(0, |found| found.node);
    let out = Out::default().u64(node).u64(0).u64(FOR_GOOD).u64(FOR_GOOD).zeros(8);
    match found {
        Some(found) => out.attributes(&found.attributes).0,
        None => out.zeros(88).0,
    }
}

pub(super) fn attributes(found: &Attributes) -> Vec<u8> {
    Out::default().u64(FOR_GOOD).zeros(8).attributes(found).0
}

/// Names of a folder from a place on, as many as fit.
pub(super) fn list(names: &[Name], at: u64, size: u32) -> Vec<u8> {
    let mut out = Out::default();
    let first = usize::try_from(at).unwrap_or(usize::MAX);
    for (index, name) in names.iter().enumerate().skip(first) {
        let bytes = name.name.as_bytes();
        let length = (24 + bytes.len()).next_multiple_of(8);
        if out.0.len() + length > size as usize {
            break;
        }
        let kind = name.kind.as_raw_mode() >> 12;
        out = out.u64(name.inode).u64(index as u64 + 1);
        out = out.u32(u32::try_from(bytes.len()).unwrap_or(0)).u32(kind);
        out.0.extend(bytes);
        out = out.zeros(length - 24 - bytes.len());
    }
    out.0
}

/// No room, and no place for names.
pub(super) fn statistics() -> Vec<u8> {
    Out::default().zeros(40).u32(4096).u32(255).u32(4096).zeros(28).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_kernels_sizes() {
        let attributes_of = Attributes { inode: 5, size: 6, modified: -1, mode: 0o100_644, links: 1 };
        assert_eq!(attributes(&attributes_of).len(), 104);
        assert_eq!(entry(Some(&Entry { node: 2, attributes: attributes_of })).len(), 128);
        assert_eq!(statistics().len(), 80);
        assert_eq!(init(7, 1, 1).unwrap().len(), 64);
        assert_eq!(head(1, 2, 3), [19, 0, 0, 0, 254, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn folders_are_listed_in_pieces() {
        let name = |text: &str| Name { name: text.into(), inode: 9, kind: FileType::RegularFile };
        let names = [name("a"), name("eight-by"), name("c")];
        assert_eq!(list(&names, 0, 4096).len(), 32 * 3);
        let first = list(&names, 0, 70);
        assert_eq!(first.len(), 64, "two fit");
        assert_eq!(u64_at(&first, 32 + 8), Some(2), "where to go on");
        assert_eq!(u32_at(&first, 20), Some(8), "a file");
        assert_eq!(list(&names, 2, 70).len(), 32);
        assert!(list(&names, 3, 70).is_empty() && list(&names, u64::MAX, 70).is_empty());
    }
}
