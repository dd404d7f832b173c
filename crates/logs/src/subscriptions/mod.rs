//! Subscription filters: events of a group that a function is called with.
//!
//! A subscription has a place in its group, kept in the database. A task reads on from there, hands what its pattern takes
//! to the function in batches, and moves the place: after a crash some events may come twice, none is left out that the
//! group still holds. Writers of events know nothing of it.

mod loops;
mod payload;
mod pump;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use base::AccountId;
use parking_lot::Mutex;

use crate::names::violation;
use crate::pattern::{MAX_LENGTH, Pattern};
use crate::service::{GroupName, Logs};
use crate::{Error, limits, names, tables};

pub(crate) use pump::pump;

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Whose events.
    pub group: GroupName,
    /// Its name in the group.
    pub name: String,
    /// Which of them.
    pub pattern: String,
    /// The function's ARN.
    pub destination: String,
    /// `ByLogStream` or `Random`; a function gets the events of one stream at a time either way.
    pub distribution: String,
    /// Milliseconds.
    pub created: i64,
    /// Up to where events were handed over.
    pub(crate) place: String,
}

/// What PutSubscriptionFilter says.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// Its name in the group; one that is there is replaced.
    pub name: String,
    /// Which events.
    pub pattern: String,
    /// The function's ARN.
    pub destination: String,
    /// `ByLogStream` or `Random`.
    pub distribution: String,
}

/// How events get to functions. What functions are is not this crate's to know.
pub trait Deliver: Send + Sync + 'static {
    /// The log group of the account's function with this ARN; `None` if there is no such function.
    fn log_group(&self, account: &AccountId, function: &str) -> Option<String>;

    /// Hands an event (JSON) over to a function that is not waited for.
    fn deliver(&self, account: AccountId, function: String, event: Vec<u8>) -> Delivery;
}

/// How handing over ends.
pub type Delivery = Pin<Box<dyn Future<Output = Result<(), Undelivered>> + Send>>;

/// Why an event was not handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// It may be later.
    Later(String),
    /// It never will be.
    Never(String),
}

/// What the service knows of subscriptions in memory.
#[derive(Default)]
pub(crate) struct Subscriptions {
    deliver: OnceLock<Arc<dyn Deliver>>,
    /// Held while events are handed over: nothing is given twice because two look at once.
    round: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
    /// How far each was read without finding anything to hand over, beyond the place that the database has.
    passed: Mutex<HashMap<(GroupName, String), String>>,
}

/// What the database says.
#[derive(Default)]
struct Known {
    /// `None` where that must be read again.
    all: Option<Arc<Vec<Subscription>>>,
    /// How often it has changed: what was read before a change is not kept after it.
    changes: u64,
}

impl Logs {
    /// Begins to hand events over. Needs an async runtime: a task does so until the service is dropped.
    pub fn deliver_with(&self, deliver: Arc<dyn Deliver>) {
        if self.inner.subscriptions.deliver.set(deliver).is_ok() {
            self.keep(tokio::spawn(pump(Arc::downgrade(&self.inner), limits::DELIVER_EVERY)));
        }
    }

    /// Subscribes a function to a group, from its next event on.
    pub async fn subscribe(&self, group: &GroupName, new: NewSubscription) -> Result<(), Error> {
        names::check_filter(&new.name)?;
        check_pattern(&new.pattern)?;
        if !matches!(new.distribution.as_str(), "ByLogStream" | "Random") {
            let rule = "Member must satisfy enum value set: [Random, ByLogStream]";
            return Err(violation("distribution", &new.distribution, rule));
        }
        let _turn = self.inner.changes.lock().await;
        self.expect_group(group).await?;
        let all = self.subscriptions().await?;
        self.check_destination(group, &new.destination, &all)?;
        let old = all.iter().find(|each| each.group == *group && each.name == new.name).cloned();
        let others = all.iter().filter(|each| each.group == *group && each.name != new.name).count();
        if others >= limits::SUBSCRIPTIONS {
            return Err(Error::LimitExceeded("Resource limit exceeded.".to_owned()));
        }
        let name = group.clone();
        let (place, created) = match old {
            // What the old pattern has passed over is not looked at again with the new one.
            Some(old) => {
                let key = (group.clone(), old.name);
                let passed = self.inner.subscriptions.passed.lock().get(&key).cloned();
                (passed.unwrap_or(old.place), old.created)
            }
            None => {
                let end = self.on_files(move |files| files.end(&name.account, &name.name)).await?;
                (end, self.inner.clock.now().as_millis())
            }
        };
        let NewSubscription { name, pattern, destination, distribution } = new;
        let row =
            Subscription { group: group.clone(), name, pattern, destination, distribution, created, place };
        let written = self.record(group, move |tx, _| tables::set_subscription(tx, &row)).await;
        self.forget_subscriptions();
        written
    }

    /// A group's subscriptions whose names start so.
    pub async fn subscriptions_of(
        &self,
        group: &GroupName,
        prefix: &str,
    ) -> Result<Vec<Subscription>, Error> {
        self.expect_group(group).await?;
        let all = self.subscriptions().await?;
        Ok(all.iter().filter(|each| each.group == *group && each.name.starts_with(prefix)).cloned().collect())
    }

    /// Ends a subscription.
    pub async fn unsubscribe(&self, group: &GroupName, name: &str) -> Result<(), Error> {
        names::check_filter(name)?;
        let _turn = self.inner.changes.lock().await;
        self.expect_group(group).await?;
        let key = name.to_owned();
        let removed = self.record(group, move |tx, group| tables::delete_subscription(tx, group, &key)).await;
        self.forget_subscriptions();
        if removed? {
            Ok(())
        } else {
            Err(Error::NotFound("The specified subscription filter does not exist."))
        }
    }

    fn check_destination(
        &self,
        group: &GroupName,
        destination: &str,
        all: &[Subscription],
    ) -> Result<(), Error> {
        let log_group = |function: &str| self.log_group_of(&group.account, function);
        if log_group(destination).is_none() {
            return Err(Error::Invalid(
                "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute \
                 your function."
                    .to_owned(),
            ));
        }
        if loops::leads_back(group, destination, all, &log_group) {
            return Err(Error::Invalid(
                "The function writes to the log group that it would be called for, itself or through other \
                 subscriptions: there would be no end of calls."
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn log_group_of(&self, account: &AccountId, function: &str) -> Option<String> {
        self.inner.subscriptions.deliver.get().and_then(|deliver| deliver.log_group(account, function))
    }

    /// All subscriptions, of all groups.
    async fn subscriptions(&self) -> Result<Arc<Vec<Subscription>>, Error> {
        let known = &self.inner.subscriptions.known;
        let changes = {
            let known = known.lock();
            if let Some(all) = &known.all {
                return Ok(Arc::clone(all));
            }
            known.changes
        };
        let read = Arc::new(self.inner.store.read(tables::subscriptions).await?);
        let mut known = known.lock();
        if known.changes == changes {
            known.all = Some(Arc::clone(&read));
        }
        Ok(read)
    }

    /// Groups or subscriptions have come or gone.
    pub(crate) fn forget_subscriptions(&self) {
        self.read_subscriptions_again();
        self.inner.subscriptions.passed.lock().clear();
    }

    /// The database has changed.
    fn read_subscriptions_again(&self) {
        let mut known = self.inner.subscriptions.known.lock();
        known.all = None;
        known.changes += 1;
    }
}

fn check_pattern(pattern: &str) -> Result<(), Error> {
    if pattern.chars().count() > MAX_LENGTH {
        let rule = format!("Member must have length less than or equal to {MAX_LENGTH}");
        return Err(violation("filterPattern", pattern, &rule));
    }
    Pattern::parse(pattern).map(|_| ()).map_err(|error| Error::Invalid(error.to_string()))
}
