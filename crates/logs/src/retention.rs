//! How long events are kept: PutRetentionPolicy, DeleteRetentionPolicy, and the task that removes what is too old.
//!
//! What is too old is not shown from that moment on; its bytes go when nothing in their segment can be younger.

use std::sync::Weak;
use std::time::Duration;

use base::{AccountId, Timestamp};

use crate::service::{GroupName, Inner, Logs};
use crate::{Error, tables};

/// The days that there can be (CloudWatch Logs API: PutRetentionPolicy).
pub const ALLOWED_DAYS: &[i64] = &[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
];

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The time before which events are too old.
pub(crate) fn cutoff(now: Timestamp, days: Option<i64>) -> Option<Timestamp> {
    days.map(|days| Timestamp(now.as_millis() - days * DAY_MS))
}

impl Logs {
    /// Keeps a group's events for so many days; `None`: as long as there is room.
    pub async fn set_retention(&self, group: &GroupName, days: Option<i64>) -> Result<(), Error> {
        if days.is_some_and(|days| !ALLOWED_DAYS.contains(&days)) {
            let allowed: Vec<String> = ALLOWED_DAYS.iter().map(ToString::to_string).collect();
            return Err(Error::Invalid(format!("retentionInDays must be one of [{}].", allowed.join(", "))));
        }
        let _turn = self.inner.changes.lock().await;
        self.expect_group(group).await?;
        let mut row = self.look(group, tables::group).await?.unwrap_or_default();
        row.retention_days = days;
        self.record(group, move |tx, group| tables::set_group(tx, group, &row)).await
    }

    /// Removes the bytes of what is too old in all groups. The keeper does so every few minutes.
    pub async fn keep_retention(&self) -> Result<(), Error> {
        let all = self.inner.store.read(tables::retentions).await?;
        let now = self.inner.clock.now();
        for (account, name, days) in all {
            let Some(account) = AccountId::parse(&account) else { continue };
            if let Some(before) = cutoff(now, Some(days)) {
                self.expire(&GroupName { account, name }, before).await?;
            }
        }
        Ok(())
    }

    async fn expire(&self, group: &GroupName, before: Timestamp) -> Result<(), Error> {
        let name = group.clone();
        let removed = self.on_files(move |files| files.expire(&name.account, &name.name, before)).await;
        match removed {
            // It was deleted meanwhile.
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        }
    }
}

/// Keeps retention until the service is gone.
pub(crate) async fn keeper(service: Weak<Inner>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = service.upgrade() else { return };
        if let Err(error) = (Logs { inner }).keep_retention().await {
            tracing::error!(%error, detail = ?error, "old log events could not be removed; trying again later");
        }
    }
}
