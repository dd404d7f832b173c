//! A layer of somebody else's, written anew so that it can be fetched in parts.
//!
//! The archive's headers are passed on byte for byte, whatever they say, and so is every file; only where members of gzip begin is
//! new, and the table at the end. So whoever fetches it whole gets what the layer had, and its digests are others.

use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::archive::Writer;
use super::parts::{Ended, Members, Output, Table};
use super::spool::{self, Hashing, Packed};
use crate::digest::Bounded;
use crate::tar::{Archive, Entry, Kind};
use crate::{Digest, Error, layer, limits};

/// Bytes of what goes before one entry: its header, and what extends that.
const BEFORE_BYTES: usize = 4 << 20;
const BLOCK: usize = 512;

/// Notes what is read through it.
struct Noting<R> {
    inner: R,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut seen = self.seen.lock();
        if seen.len() + count > BEFORE_BYTES {
            return Err(Error::Invalid("a header of a layer is too large".to_owned()).into_io());
        }
        seen.extend(&buffer[..count]);
        Ok(count)
    }
}

/// Writes a layer anew; with what was made, the digest of the archive that was read. Blocking.
pub(super) fn reindex(compressed: &mut dyn Read, scratch: &Path) -> Result<(Packed, Digest), Error> {
    let packing = || Error::host("packing a layer");
    let file = BufWriter::with_capacity(64 << 10, spool::nameless(scratch)?);
    let mut out: Output<_> = Hashing::new(Members::new(Hashing::new(file)));
    let mut table = Table::new();
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let plain = Bounded::new(layer::decompressed(compressed)?, limits::IMAGE_BYTES);
    let mut archive = Archive::new(Noting { inner: plain, seen: Arc::clone(&seen) });
    while let Some(entry) = archive.next()? {
        let before = std::mem::take(&mut *seen.lock());
        out.write_all(&before).map_err(packing())?;
        table.entry(&entry, before.get(before.len().saturating_sub(BLOCK)..).unwrap_or_default());
        copy(&entry, &mut archive, &seen, &mut out, &mut table)?;
    }
    // What fills the last file's block, without the block of zeros that is the end.
    let rest = std::mem::take(&mut *seen.lock());
    out.write_all(&rest[..rest.len() % BLOCK]).map_err(packing())?;
    let digest = archive.into_inner().inner.finish()?;
    let Ended { out, diff, digest: blob, size, toc } = table.end(Writer::new(out)).map_err(packing())?;
    let mut file = out.into_inner().map_err(|error| packing()(error.into_error()))?;
    file.rewind().map_err(packing())?;
    Ok((Packed { diff, digest: blob, size, toc, file: Arc::new(file) }, digest))
}

/// A file's content, in parts.
fn copy<R: Read, W: Write>(
    entry: &Entry,
    archive: &mut Archive<R>,
    seen: &Mutex<Vec<u8>>,
    out: &mut Output<W>,
    table: &mut Table,
) -> Result<(), Error> {
    if entry.kind != Kind::File {
        return Ok(());
    }
    let packing = || Error::host("packing a layer");
    let (mut at, mut part, mut whole) = (0, Vec::new(), Hashing::new(io::sink()));
    while at < entry.size {
        part.clear();
        let most = limits::MADE_PART_BYTES.min(entry.size - at);
        archive.by_ref().take(most).read_to_end(&mut part).map_err(Error::unreadable("a layer"))?;
        seen.lock().clear();
        let offset = out.inner_mut().cut().map_err(packing())?.count;
        table.part(at, &part, entry.size, offset);
        whole.write_all(&part).and_then(|()| out.write_all(&part)).map_err(packing())?;
        at += part.len() as u64;
    }
    table.file_ends(&whole.finish().1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lazy::toc;
    use crate::tar::tests::file;

    #[test]
    fn a_layer_says_the_same_and_has_a_table() {
        let scratch = tempfile::tempdir().unwrap();
        let big: Vec<u8> = (0..1_500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let entries = [file("etc/hello", b"hello"), file("big", &big), file("empty", b"")].concat();
        let archive = [&entries[..], &[0; 1024], &[0; 8192]].concat();
        let compressed = zstd::stream::encode_all(&archive[..], 3).unwrap();
        let (packed, read) = reindex(&mut &compressed[..], scratch.path()).unwrap();
        assert_eq!(read, Digest::of(&archive));
        let mut bytes = Vec::new();
        spool::FromStart::new(&packed.file).read_to_end(&mut bytes).unwrap();
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        assert_eq!((Digest::of(&bytes), Digest::of(&plain)), (packed.digest, packed.diff));
        assert!(plain.starts_with(&entries), "byte for byte");
        let mut written = Archive::new(&plain[..]);
        let mut paths = Vec::new();
        while let Some(entry) = written.next().unwrap() {
            paths.push(String::from_utf8(entry.path).unwrap());
        }
        assert_eq!(
            paths,
            ["etc/hello", "big", "empty", "stargz.index.json"],
            "nothing ends it before the table"
        );
        let place = toc::place(&bytes[bytes.len() - 51..], packed.size).unwrap();
        let member = &bytes[usize::try_from(place).unwrap()..bytes.len() - 51];
        let table = toc::parse(&toc::text(member, &packed.toc.unwrap()).unwrap(), place).unwrap();
        let sizes: Vec<_> =
            table.entries.iter().map(|listed| (listed.entry.size, listed.parts.len())).collect();
        assert_eq!(sizes, [(5, 1), (1_500_000, 2), (0, 0)]);
        assert_eq!(table.entries[0].entry.modified, 10, "times stay");
        for part in &table.parts {
            let mut content = Vec::new();
            let at = usize::try_from(part.offset).unwrap();
            let room = usize::try_from(part.room).unwrap();
            let member = flate2::read::GzDecoder::new(&bytes[at..at + room]);
            member.take(part.size).read_to_end(&mut content).unwrap();
            assert_eq!(Digest::of(&content), part.digest);
        }
    }

    #[test]
    fn an_archive_that_cannot_be_read_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let mut cut = file("a", &[7; 3000]);
        cut.truncate(2000);
        assert!(reindex(&mut &cut[..], scratch.path()).is_err());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
