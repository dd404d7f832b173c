//! CreateLogGroup, DeleteLogGroup, DescribeLogGroups.

use std::collections::BTreeMap;

use base::AccountId;
use observe::GroupInfo;

use crate::service::{GroupName, Logs};
use crate::tables::{self, GroupRow};
use crate::{Error, limits, names, tags};

/// A group as it is shown.
#[derive(Debug, Clone)]
pub struct Group {
    /// Name, time of creation, bytes.
    pub info: GroupInfo,
    /// Days that events are kept; `None`: as long as there is room.
    pub retention_days: Option<i64>,
}

/// Some groups in the order of their names.
#[derive(Debug)]
pub struct GroupsPage {
    /// The groups.
    pub groups: Vec<Group>,
    /// The name after which the next page begins.
    pub next: Option<String>,
}

impl Logs {
    /// Makes a group. It is on the disk when this returns.
    pub async fn create_group(&self, group: &GroupName, tags: BTreeMap<String, String>) -> Result<(), Error> {
        names::check_group(&group.name)?;
        tags::check(&tags)?;
        let _turn = self.inner.changes.lock().await;
        let name = group.clone();
        let count =
            self.on_files(move |files| files.group_names(&name.account, "").map(|all| all.len())).await?;
        if count >= limits::GROUPS {
            return Err(Error::LimitExceeded("Resource limit exceeded.".to_owned()));
        }
        let name = group.clone();
        if self.on_files(move |files| Ok(files.has_group(&name.account, &name.name))).await? {
            return Err(Error::AlreadyExists("The specified log group already exists"));
        }
        let row = GroupRow { tags: tags::write(&tags)?, ..GroupRow::default() };
        // Before the group is there: whatever comes between, it never has what was said of an earlier one whose folder
        // was lost.
        let recorded = self.record(group, move |tx, group| {
            tables::delete_group(tx, group)?;
            tables::set_group(tx, group, &row)
        });
        recorded.await?;
        self.forget_subscriptions();
        let name = group.clone();
        self.on_files(move |files| files.create_group(&name.account, &name.name)).await
    }

    /// Removes a group, its events, and all that was said of it.
    pub async fn delete_group(&self, group: &GroupName) -> Result<(), Error> {
        let _turn = self.inner.changes.lock().await;
        self.expect_group(group).await?;
        let forgotten = self.record(group, tables::delete_group).await;
        self.forget_subscriptions();
        forgotten?;
        let name = group.clone();
        self.on_files(move |files| files.delete_group(&name.account, &name.name)).await
    }

    /// Groups whose names start with `prefix` and hold `part`, at most `most`, behind the name `after`.
    pub async fn groups(
        &self,
        account: &AccountId,
        prefix: &str,
        part: &str,
        after: Option<String>,
        most: usize,
    ) -> Result<GroupsPage, Error> {
        let (owner, prefix, part) = (account.clone(), prefix.to_owned(), part.to_owned());
        let (infos, next) = self
            .on_files(move |files| {
                let mut names = files.group_names(&owner, &prefix)?;
                names.retain(|name| name.contains(&part) && after.as_ref().is_none_or(|after| name > after));
                let more = names.len() > most;
                names.truncate(most);
                let next = names.last().filter(|_| more).cloned();
                // One that is deleted meanwhile is not shown.
                let infos = names.iter().filter_map(|name| files.group_info(&owner, name).ok());
                Ok((infos.collect::<Vec<_>>(), next))
            })
            .await?;
        let mut groups = Vec::with_capacity(infos.len());
        for info in infos {
            let name = GroupName { account: account.clone(), name: info.name.clone() };
            let row = self.look(&name, tables::group).await?.unwrap_or_default();
            groups.push(Group { info, retention_days: row.retention_days });
        }
        Ok(GroupsPage { groups, next })
    }
}
