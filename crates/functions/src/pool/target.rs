//! What calls of a version get, and why some get nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::FunctionArn;
use observe::FunctionLabels;
use sandbox::{Artifact, Prepared};

use super::lease::Lease;
use super::past::Past;
use super::start::FailedStart;
use super::{Host, Pool};
use crate::Error;
use crate::concurrency::{Provisioned, ProvisionedStatus};
use crate::model::Configuration;

/// What instances of a version are made from.
pub(crate) struct Plan {
    /// Qualified.
    pub(crate) arn: FunctionArn,
    /// What is in force for calls.
    pub(crate) configuration: Arc<Configuration>,
    /// The code.
    pub(crate) artifact: Artifact,
    /// What preparing it came to.
    pub(crate) prepared: Prepared,
    /// One instance serves every call of the version (WebAssembly, static sites).
    pub(crate) shared: bool,
}

impl Plan {
    /// Whether an instance takes one call at a time: what speaks events does, unless it was asked to multiplex.
    pub(crate) fn one_at_a_time(&self) -> bool {
        self.prepared.one_at_a_time && self.configuration.settings.hard_concurrency == 1
    }

    /// What its metrics are labelled with.
    pub(crate) fn labels(&self) -> FunctionLabels {
        FunctionLabels {
            account: self.arn.account.to_string(),
            function: self.arn.name.clone(),
            version: self.configuration.version.clone(),
        }
    }
}

/// What calls of a version get.
pub(crate) struct Target {
    plan: Arc<Plan>,
    past: Arc<Past>,
    /// `None` once retired before the first call.
    pool: OnceLock<Option<Arc<Pool>>>,
}

impl Target {
    pub(crate) fn from_plan(plan: Plan) -> Self {
        Self { plan: Arc::new(plan), past: Arc::default(), pool: OnceLock::new() }
    }

    /// The same with the habits of the callers of what it takes the place of.
    pub(crate) fn after(mut self, before: Option<&Target>) -> Self {
        if let Some(before) = before {
            self.past = Arc::clone(&before.past);
        }
        self
    }

    /// When it is called.
    pub(crate) fn past(&self) -> &Past {
        &self.past
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    fn pool(&self, host: &Arc<Host>) -> Option<&Arc<Pool>> {
        let make = || Some(Pool::new(Arc::clone(host), Arc::clone(&self.plan), Arc::clone(&self.past)));
        self.pool.get_or_init(make).as_ref()
    }

    /// A place on an instance of the pool, which the first call makes. `bytes` is what the call holds in memory while
    /// it waits.
    pub(crate) async fn acquire(&self, host: &Arc<Host>, bytes: usize) -> Result<Lease, Refusal> {
        self.pool(host).ok_or(Refusal::Retired)?.acquire(bytes).await
    }

    /// Whether it has instances now.
    pub(crate) fn is_in_use(&self) -> bool {
        self.pool.get().and_then(Option::as_ref).is_some_and(|pool| pool.is_in_use())
    }

    /// Starts an instance ahead of the first call and waits until it is up or has failed, at most so long.
    pub(crate) async fn warm(&self, host: &Arc<Host>, at_most: Duration) {
        if let Some(pool) = self.pool(host) {
            let _ = tokio::time::timeout(at_most, pool.warm()).await;
        }
    }

    /// Keeps so many instances ready from now on.
    pub(crate) fn provision(&self, host: &Arc<Host>, requested: u32) {
        if requested > 0 {
            if let Some(pool) = self.pool(host) {
                pool.provision(requested);
            }
        } else if let Some(Some(pool)) = self.pool.get() {
            pool.provision(0);
        }
    }

    /// What has become of the instances that are to be kept ready.
    pub(crate) fn provisioned(&self) -> Provisioned {
        let pool = self.pool.get().and_then(Option::as_ref);
        pool.map(|pool| pool.provisioned()).unwrap_or(Provisioned {
            requested: 0,
            allocated: 0,
            available: 0,
            status: ProvisionedStatus::Ready,
            reason: None,
        })
    }

    /// No call gets in any more; returns when its last instance is gone.
    pub(crate) async fn retire(&self) {
        // Whoever comes first, a call or this, decides whether there is a pool: none escapes being closed.
        if let Some(pool) = self.pool.get_or_init(|| None) {
            pool.close();
            pool.emptied().await;
        }
    }
}

/// Why a call gets no instance.
pub(crate) enum Refusal {
    /// The version's target was replaced: look it up again.
    Retired,
    /// The instance that was started for it did not come up.
    Failed(FailedStart),
    /// Anything else.
    Error(Error),
}

/// An answer that is being streamed. Its own timer ends it on time while somebody reads; the reaper ends it where
/// nobody does.
pub(crate) trait Stream: Send + Sync {
    /// Ends it if its time is up; whether it is still under way.
    fn is_under_way(&self, now: std::time::Instant) -> bool;
}
