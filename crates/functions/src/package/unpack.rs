//! Carrying a plan out: the archive's bytes become files.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use zip::ZipArchive;

use super::plan::{EntryKind, Node, Plan, kind, parse_path};
use super::{hostile, too_large, unreadable};
use crate::{Error, limits};

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// Bytes of a central directory entry without its name (APPNOTE.TXT, 4.3.12).
const DIRECTORY_ENTRY_BYTES: usize = 46;

/// Unpacks a package into an empty folder. Blocking. On failure the folder holds part of it.
///
/// Files become 0644, or 0755 with any execute bit; folders 0755: instances run as another user.
pub(crate) fn unpack(zip: &[u8], into: &Path) -> Result<(), Error> {
    if zip.is_empty() {
        return Err(Error::InvalidPackage("Uploaded file must be a non-empty zip".into()));
    }
    check_entry_count(zip)?;
    let mut archive = ZipArchive::new(Cursor::new(zip)).map_err(|_| unreadable())?;
    if archive.is_empty() {
        return Err(Error::InvalidPackage("Uploaded file must be a non-empty zip".into()));
    }
    // Duplicates are folded by the reader, so the plan would not see them; entries that share bytes are how
    // archives of a few kilobytes come to hold terabytes.
    if archive.has_duplicate_names() {
        return Err(hostile("the archive", "a path occurs more than once"));
    }
    if archive.has_overlapping_entries().map_err(|_| unreadable())? {
        return Err(hostile("the archive", "entries share the same bytes"));
    }
    let plan = read_plan(&mut archive)?;
    carry_out(&plan, &mut archive, into)
}

/// Bounds what the reader will hold in memory before it builds its list of entries.
fn check_entry_count(zip: &[u8]) -> Result<(), Error> {
    if zip.len() / DIRECTORY_ENTRY_BYTES <= limits::PACKAGE_ENTRIES {
        return Ok(());
    }
    let mut entries = 0;
    let mut rest = zip;
    while let Some(at) = rest.iter().position(|byte| *byte == b'P') {
        rest = &rest[at..];
        entries += usize::from(rest.starts_with(b"PK\x01\x02"));
        rest = &rest[1..];
    }
    if entries > limits::PACKAGE_ENTRIES {
        return Err(hostile("the archive", "it has too many entries"));
    }
    Ok(())
}

fn read_plan(archive: &mut Archive<'_>) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let mut declared = 0_u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(|_| unreadable())?;
        let name = entry.name().map_err(|_| unreadable())?.into_owned();
        declared = declared.saturating_add(entry.size());
        if declared > limits::UNZIPPED_BYTES {
            return Err(too_large());
        }
        if entry.encrypted() {
            return Err(hostile(&name, "it is encrypted"));
        }
        let (mode, size) = (entry.unix_mode(), entry.size());
        let node = match kind(&name, mode)? {
            EntryKind::Folder => Node::Folder,
            EntryKind::File => Node::File { index, executable: mode.is_some_and(|mode| mode & 0o111 != 0) },
            EntryKind::Link => Node::Link { target: read_target(archive, index, &name, size)? },
        };
        plan.add(&name, parse_path(&name)?, node)?;
    }
    plan.check_links()?;
    Ok(plan)
}

fn read_target(archive: &mut Archive<'_>, index: usize, name: &str, size: u64) -> Result<String, Error> {
    let mut target = String::new();
    let entry = archive.by_index(index).map_err(|_| unreadable())?;
    let most = limits::PATH_BYTES as u64 + 1;
    entry.take(most).read_to_string(&mut target).map_err(|_| unreadable())?;
    if target.len() as u64 != size {
        return Err(hostile(name, "its target is too long, or not of the size that its header says"));
    }
    Ok(target)
}

fn carry_out(plan: &Plan, archive: &mut Archive<'_>, into: &Path) -> Result<(), Error> {
    let mut left = limits::UNZIPPED_BYTES;
    let mut links = Vec::new();
    for (path, node) in plan.nodes() {
        let at = into.join(path);
        match node {
            Node::Folder => {
                fs::create_dir(&at).map_err(Error::internal)?;
                fs::set_permissions(&at, Permissions::from_mode(0o755)).map_err(Error::internal)?;
            }
            Node::File { index, executable } => {
                write_file(archive, *index, path, &at, *executable, &mut left)?;
            }
            Node::Link { target } => links.push((at, target)),
        }
    }
    // Last, so that nothing is ever written through one.
    for (at, target) in links {
        symlink(target, at).map_err(Error::internal)?;
    }
    Ok(())
}

fn write_file(
    archive: &mut Archive<'_>,
    index: usize,
    name: &str,
    at: &Path,
    executable: bool,
    left: &mut u64,
) -> Result<(), Error> {
    let mut entry = archive.by_index(index).map_err(|_| unreadable())?;
    let declared = entry.size();
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(at).map_err(Error::internal)?;
    let mut written = 0_u64;
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = entry.read(&mut chunk).map_err(|_| unreadable())?;
        if count == 0 {
            break;
        }
        written += count as u64;
        *left = left.checked_sub(count as u64).ok_or_else(too_large)?;
        if written > declared {
            return Err(hostile(name, "it is longer than its header says"));
        }
        file.write_all(&chunk[..count]).map_err(Error::internal)?;
    }
    if written != declared {
        return Err(hostile(name, "it is not of the size that its header says"));
    }
    finish_file(&file, executable)
}

fn finish_file(file: &File, executable: bool) -> Result<(), Error> {
    let mode = if executable { 0o755 } else { 0o644 };
    file.set_permissions(Permissions::from_mode(mode)).map_err(Error::internal)
}
