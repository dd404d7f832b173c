//! Folders that instances share (Lambda API: FileSystemConfig): the platform's stand-in for EFS.
//!
//! The operator gives folders of the host the names of access points, each of one account; a function of that account
//! names one and finds it at a path below `/mnt`, writable. How much fits is the folder's own file system's to say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::AccountId;
use sandbox::{FileSystem, Isolation};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::model::Configuration;

/// Where a function has an access point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemConfig {
    /// The access point's ARN.
    pub arn: String,
    /// `/mnt/NAME`
    pub path: String,
}

impl FileSystemConfig {
    /// The name below `/mnt`, if the path is such a one.
    fn name(&self) -> Option<&str> {
        self.path.strip_prefix("/mnt/").filter(|name| is_mount_name(name))
    }
}

/// Whether this may stand behind `/mnt/`: one name of letters, digits and `-_.`.
pub fn is_mount_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=155).contains(&name.len()) && name.bytes().all(plain) && !matches!(name, "." | "..")
}

/// Folders by the ARNs of their access points.
#[derive(Debug, Clone, Default)]
pub struct FileSystems(BTreeMap<String, PathBuf>);

impl FileSystems {
    /// Those of an operator. Absolute paths.
    pub fn new(folders: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        Self(folders.into_iter().collect())
    }

    /// Whether a function of an account may have what its configuration names.
    pub(crate) fn check(&self, account: &AccountId, configuration: &Configuration) -> Result<(), Error> {
        let Some(first) = configuration.file_systems.first() else { return Ok(()) };
        if configuration.file_systems.len() > 1 {
            return Err(Error::Invalid("A function can have one file system.".into()));
        }
        if configuration.settings.isolation != Isolation::Process || configuration.image.is_some() {
            return Err(Error::Invalid(
                "FileSystemConfigs are for functions that run as processes from a package.".into(),
            ));
        }
        if first.name().is_none() {
            return Err(Error::Invalid(format!("{} is not of the form /mnt/NAME.", first.path)));
        }
        // Another account's is as if it were not there.
        let own = first.arn.split(':').nth(4) == Some(account.as_str());
        if own && self.0.contains_key(&first.arn) {
            return Ok(());
        }
        Err(Error::Invalid(format!("The EFS access point {} does not exist.", first.arn)))
    }

    /// What an instance gets; an error where the operator has taken a folder back.
    pub(crate) fn of(&self, configuration: &Configuration) -> Result<Vec<FileSystem>, String> {
        let found = |wanted: &FileSystemConfig| {
            let folder: Option<&Path> = self.0.get(&wanted.arn).map(PathBuf::as_path);
            match (folder, wanted.name()) {
                (Some(folder), Some(name)) => {
                    Ok(FileSystem { folder: folder.to_owned(), name: name.to_owned() })
                }
                _ => Err(format!(
                    "The function couldn't mount its file system: this server has no access point {} any more.",
                    wanted.arn
                )),
            }
        };
        configuration.file_systems.iter().map(found).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_one_name_below_mnt() {
        for good in ["data", "a-b_c.d", &"n".repeat(155)] {
            assert!(is_mount_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "\u{e9}", &"n".repeat(156)] {
            assert!(!is_mount_name(bad), "{bad}");
        }
    }
}
