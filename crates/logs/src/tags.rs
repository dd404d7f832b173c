//! Tags of groups: ListTagsForResource, TagResource, UntagResource, and their older forms.

use std::collections::BTreeMap;

use crate::names::violation;
use crate::service::{GroupName, Logs};
use crate::tables;
use crate::{Error, limits};

/// The longest key and value, in characters (CloudWatch Logs API: TagKey, TagValue).
const KEY: usize = 128;
const VALUE: usize = 256;

const PATTERN: &str = r"([\p{L}\p{Z}\p{N}_.:/=+\-@]+)";

/// What a request's tags have to be.
pub(crate) fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    let text =
        |text: &str| text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c));
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > KEY {
            return Err(violation("tags", key, &format!("Map keys must have length between 1 and {KEY}")));
        }
        if value.chars().count() > VALUE {
            return Err(violation(
                "tags",
                value,
                &format!("Map values must have length between 0 and {VALUE}"),
            ));
        }
        if !text(key) || !text(value) {
            let rule = format!("Map entries must satisfy regular expression pattern: {PATTERN}");
            return Err(violation("tags", key, &rule));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Error::Invalid("Tag keys that begin with aws: are reserved.".to_owned()));
        }
    }
    if tags.len() > limits::TAGS {
        return Err(too_many());
    }
    Ok(())
}

fn too_many() -> Error {
    Error::TooManyTags(format!("A log group can have {} tags.", limits::TAGS))
}

/// As it stands in the database.
pub(crate) fn write(tags: &BTreeMap<String, String>) -> Result<String, Error> {
    serde_json::to_string(tags).map_err(|error| Error::Internal(error.to_string()))
}

fn read(text: &str) -> Result<BTreeMap<String, String>, Error> {
    serde_json::from_str(text).map_err(|error| Error::Internal(format!("a log group's tags: {error}")))
}

impl Logs {
    /// A group's tags.
    pub async fn tags(&self, group: &GroupName) -> Result<BTreeMap<String, String>, Error> {
        self.expect_group(group).await?;
        read(&self.look(group, tables::group).await?.unwrap_or_default().tags)
    }

    /// Adds tags, or changes their values.
    pub async fn tag(&self, group: &GroupName, tags: BTreeMap<String, String>) -> Result<(), Error> {
        check(&tags)?;
        self.change_tags(group, |all| all.extend(tags)).await
    }

    /// Removes tags; those that are not there are none's loss.
    pub async fn untag(&self, group: &GroupName, keys: &[String]) -> Result<(), Error> {
        self.change_tags(group, |all| all.retain(|key, _| !keys.contains(key))).await
    }

    async fn change_tags(
        &self,
        group: &GroupName,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), Error> {
        let _turn = self.inner.changes.lock().await;
        self.expect_group(group).await?;
        let mut row = self.look(group, tables::group).await?.unwrap_or_default();
        let mut tags = read(&row.tags)?;
        change(&mut tags);
        if tags.len() > limits::TAGS {
            return Err(too_many());
        }
        row.tags = write(&tags)?;
        self.record(group, move |tx, group| tables::set_group(tx, group, &row)).await
    }
}
