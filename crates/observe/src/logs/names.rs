//! Folder names for group names, and back.
//!
//! Letters, digits, `-` and `_` stand for themselves, `/` becomes `+`, every other byte `%XX`: dots too, so that no
//! part of a name is `.` or `..`. What is longer than a file name may be goes on in a folder below: every part
//! but the last ends with `~`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::LogsError;
use super::types::io_error;

/// Below the 255 bytes that file systems allow.
const PART: usize = 240;

/// The folder of a group, below its account's.
pub(super) fn folder(group: &str) -> PathBuf {
    let encoded = encode(group);
    let parts = encoded.as_bytes().chunks(PART).map(String::from_utf8_lossy);
    let last = encoded.len().div_ceil(PART).max(1) - 1;
    let marked =
        parts.enumerate().map(|(index, part)| if index < last { format!("{part}~") } else { part.into() });
    let path: PathBuf = marked.collect();
    // The empty name must not be the account's own folder.
    if encoded.is_empty() { "%".into() } else { path }
}

/// The groups of an account with their folders.
pub(super) fn groups(account: &Path) -> Result<Vec<(String, PathBuf)>, LogsError> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), account.to_owned())];
    while let Some((start, folder)) = open.pop() {
        let failed = || format!("cannot list the log groups in {}", folder.display());
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error(failed)(error)),
        };
        for entry in entries {
            let name = entry.map_err(io_error(failed))?.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = folder.join(name);
            match name.strip_suffix('~') {
                Some(part) => open.push((format!("{start}{part}"), path)),
                None => found.extend(decode(&format!("{start}{name}")).map(|group| (group, path))),
            }
        }
    }
    Ok(found)
}

/// Makes a folder that only its owner can look into.
pub(super) fn make_folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn encode(group: &str) -> String {
    let mut encoded = String::with_capacity(group.len());
    for byte in group.bytes() {
        match byte {
            b'/' => encoded.push('+'),
            b'-' | b'_' => encoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// `None` for what [`encode`] never makes.
fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b'/'),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back_and_nowhere_else() {
        let long = "/x#".repeat(170);
        let dots = format!("{}..", "a".repeat(PART));
        for group in ["/aws/lambda/hello", "..", ".", "a+b/c", "ünï", "a%b~", "a\0b", &long, &dots] {
            let folder = folder(group);
            let mut whole = String::new();
            for part in &folder {
                let part = part.to_str().unwrap();
                assert!(part.len() <= 255 && !part.starts_with('.') && !part.contains('\0'), "{part}");
                whole.push_str(part.strip_suffix('~').unwrap_or(part));
            }
            assert_eq!(decode(&whole).as_deref(), Some(group));
        }
        assert_eq!(folder("/aws/lambda/hello"), Path::new("+aws+lambda+hello"));
    }

    #[test]
    fn lists_long_names_beside_short_ones() {
        let dir = tempfile::tempdir().unwrap();
        let long = "/x#".repeat(170);
        let start_of_long: String = long.chars().take(144).collect();
        for group in [long.as_str(), start_of_long.as_str(), "short"] {
            make_folder(&dir.path().join(folder(group))).unwrap();
        }
        let mut names: Vec<_> = groups(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, [start_of_long.as_str(), long.as_str(), "short"]);
    }
}
