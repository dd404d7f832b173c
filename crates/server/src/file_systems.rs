//! The folders that functions share: made where they are missing, and their owner's at the top.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base::{AccountId, Region};
use functions::FileSystems;
use sandbox::process::SHARED_OWNER;

/// Opens what the operator names. A name is an access point of the first account, an ARN one of any.
pub(crate) fn open(
    named: &[(String, PathBuf)],
    region: &Region,
    account: &AccountId,
    data_dir: &Path,
) -> Result<FileSystems> {
    let mut folders = Vec::new();
    for (name, folder) in named {
        let told = || format!("--file-system {name}={}", folder.display());
        fs::create_dir_all(folder).with_context(told)?;
        let folder = fs::canonicalize(folder).with_context(told)?;
        if folder.starts_with(data_dir) || data_dir.starts_with(&folder) {
            bail!("{}: the folder and the server's data directory must be apart", told());
        }
        // Instances are one user on the disk. Without root they are the server's own.
        if rustix::process::geteuid().is_root() {
            chown(&folder, Some(SHARED_OWNER), Some(SHARED_OWNER)).with_context(told)?;
            fs::set_permissions(&folder, Permissions::from_mode(0o770)).with_context(told)?;
        }
        folders.push((arn(name, region, account).with_context(told)?, folder));
    }
    Ok(FileSystems::new(folders))
}

fn arn(name: &str, region: &Region, account: &AccountId) -> Result<String> {
    if name.starts_with("arn:aws:elasticfilesystem:") && name.contains(":access-point/") {
        return Ok(name.to_owned());
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        bail!("an access point's name is made of letters, digits and hyphens");
    }
    Ok(format!("arn:aws:elasticfilesystem:{region}:{account}:access-point/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_first_accounts() {
        let (region, account) = (Region::default(), AccountId::parse("123456789012").unwrap());
        let named = arn("fsap-1", &region, &account).unwrap();
        assert_eq!(named, "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-1");
        assert_eq!(arn(&named, &region, &AccountId::parse("210987654321").unwrap()).unwrap(), named);
        assert!(arn("a/b", &region, &account).is_err() && arn("", &region, &account).is_err());
    }

    #[test]
    fn the_data_directory_is_not_shared() {
        let around = tempfile::tempdir().unwrap();
        let around = fs::canonicalize(around.path()).unwrap();
        let data_dir = around.join("data");
        let account = AccountId::parse("123456789012").unwrap();
        let share = |folder: PathBuf| open(&[("x".into(), folder)], &Region::default(), &account, &data_dir);
        for folder in [data_dir.clone(), data_dir.join("inside"), around.clone()] {
            let opened = share(folder.clone()).expect_err("it is refused");
            assert!(opened.to_string().contains("must be apart"), "{}: {opened}", folder.display());
        }
        assert!(share(around.join("beside")).is_ok());
    }
}
