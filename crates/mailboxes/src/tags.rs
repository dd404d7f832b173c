//! Tags (SQS API: TagQueue, UntagQueue, ListQueueTags).

use std::collections::BTreeMap;

use iam::Caller;

use crate::error::no_queue;
use crate::model::{Address, Mailbox};
use crate::service::{Mailboxes, copy};
use crate::{Error, Fault, limits};

type Tags = BTreeMap<String, String>;

impl Mailboxes {
    /// Adds tags, or gives them other values.
    pub async fn tag(&self, caller: &Caller, address: &Address, tags: Tags) -> Result<(), Error> {
        self.find_own(caller, address, "sqs:TagQueue")?;
        self.change_tags(address, move |all| {
            all.extend(tags);
            check(all)
        })
        .await
    }

    /// Takes tags away.
    pub async fn untag(&self, caller: &Caller, address: &Address, keys: &[String]) -> Result<(), Error> {
        self.find_own(caller, address, "sqs:UntagQueue")?;
        self.change_tags(address, |all| {
            all.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await
    }

    /// All of them.
    pub fn tags(&self, caller: &Caller, address: &Address) -> Result<Tags, Error> {
        Ok(self.find_own(caller, address, "sqs:ListQueueTags")?.tags.clone())
    }

    async fn change_tags(
        &self,
        address: &Address,
        change: impl FnOnce(&mut Tags) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _turn = self.inner.changes.lock().await;
        let there = self.get(address).ok_or_else(no_queue)?;
        let mut tags = there.tags.clone();
        change(&mut tags)?;
        self.put(Mailbox { tags, ..copy(&there) }).await
    }
}

/// Whether a mailbox may have these.
pub(crate) fn check(tags: &Tags) -> Result<(), Error> {
    let refuse = |why: String| Err(Fault::InvalidParameterValue.because(why));
    if tags.len() > limits::TAGS {
        return refuse(format!("Too many tags: a queue has at most {}.", limits::TAGS));
    }
    for (key, value) in tags {
        let shown = &key[..key.floor_char_boundary(100)];
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return refuse(format!(
                "The tag '{shown}' must have a key of 1 to 128 letters and a value of at most 256."
            ));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return refuse(format!("The tag '{shown}' begins with aws:, which is reserved."));
        }
    }
    Ok(())
}
