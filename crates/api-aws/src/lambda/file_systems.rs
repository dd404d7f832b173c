//! Lambda API: FileSystemConfig.

use functions::{FileSystemConfig, is_mount_name};
use serde_json::{Value, json};

use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;

const PATH_PATTERN: &str = "/mnt/[a-zA-Z0-9-_.]+";
/// As the model has it, but that an access point may have any plain name here.
const ARN_PATTERN: &str =
    "arn:aws[a-zA-Z-]*:elasticfilesystem:[a-z]{2}(-[a-z]+)+-\\d{1}:\\d{12}:access-point/[a-zA-Z0-9-]+";
/// Lambda API: a function has one at most.
const MOST: usize = 1;

/// Reads them, noting what breaks the model's constraints.
pub(super) fn given(
    members: &Members<'_>,
    violations: &mut Violations,
) -> Result<Option<Vec<FileSystemConfig>>, Failure> {
    let Some(items) = members.objects("FileSystemConfigs")? else { return Ok(None) };
    violations.count("fileSystemConfigs", items.len(), MOST);
    let mut found = Vec::new();
    for item in items {
        let (arn, path) = (item.text("Arn")?, item.text("LocalMountPath")?);
        violations.required("fileSystemConfigs.arn", arn.is_some());
        violations.required("fileSystemConfigs.localMountPath", path.is_some());
        let (Some(arn), Some(path)) = (arn, path) else { continue };
        violations.length("fileSystemConfigs.arn", &arn, 0, 200);
        violations.pattern("fileSystemConfigs.arn", &arn, is_access_point(&arn), ARN_PATTERN);
        violations.length("fileSystemConfigs.localMountPath", &path, 0, 160);
        let legal = path.strip_prefix("/mnt/").is_some_and(is_mount_name);
        violations.pattern("fileSystemConfigs.localMountPath", &path, legal, PATH_PATTERN);
        found.push(FileSystemConfig { arn, path });
    }
    Ok(Some(found))
}

/// Lambda API: FileSystemConfigList.
pub(super) fn shape(all: &[FileSystemConfig]) -> Value {
    all.iter().map(|one| json!({ "Arn": one.arn, "LocalMountPath": one.path })).collect()
}

fn is_access_point(arn: &str) -> bool {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", "aws", "elasticfilesystem", region, account, rest] = parts[..] else { return false };
    let name = rest.strip_prefix("access-point/").unwrap_or_default();
    base::Region::parse(region).is_some()
        && base::AccountId::parse(account).is_some()
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(item: &str, expect: &str) {
        let body = format!(r#"{{"FileSystemConfigs":[{item}]}}"#);
        let members = Members::parse(body.as_bytes()).unwrap();
        let mut violations = Violations::default();
        let shown = match given(&members, &mut violations) {
            Ok(_) => violations.message().unwrap_or_default(),
            Err(failure) => failure.message,
        };
        assert!(shown.contains(expect) && shown.is_empty() == expect.is_empty(), "{body}: {shown}");
    }

    #[test]
    fn one_access_point_at_one_place_below_mnt() {
        const ARN: &str =
            "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0123456789abcdef0";
        let item = |arn: &str, path: &str| format!(r#"{{"Arn":"{arn}","LocalMountPath":"{path}"}}"#);
        check("", "");
        check(&item(ARN, "/mnt/data"), "");
        check(&item(ARN, &format!("/mnt/{}", "n".repeat(155))), "");
        check(&item(ARN, &format!("/mnt/{}", "n".repeat(156))), "less than or equal to 160");
        check(&[item(ARN, "/mnt/a"), item(ARN, "/mnt/b")].join(","), "'fileSystemConfigs' failed");
        for path in ["/mnt", "/mnt/", "/mnt/a/b", "/mnt/..", "/data", "mnt/a", "/mnt/a b"] {
            check(&item(ARN, path), "'fileSystemConfigs.localMountPath' failed to satisfy");
        }
        for arn in ["data", "arn:aws:elasticfilesystem:us-east-1:12:access-point/x", "arn:aws:s3:::x"] {
            check(&item(arn, "/mnt/a"), "'fileSystemConfigs.arn' failed to satisfy");
        }
        check("{}", "Value null at 'fileSystemConfigs.arn'");
        check("7", "can not be converted to a structure");
    }
}
