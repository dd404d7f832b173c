//! Hands events over: for each subscription what its group holds behind its place.

use std::sync::{Arc, Weak};
use std::time::Duration;

use observe::{Event, EventPage, Matcher, Query};

use super::{Deliver, Subscription, Undelivered, loops, payload};
use crate::pattern::Pattern;
use crate::service::{Inner, Logs};
use crate::{Error, limits, retention, tables};

/// Hands over until the service is gone.
pub(crate) async fn pump(service: Weak<Inner>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = service.upgrade() else { return };
        if let Err(error) = (Logs { inner }).deliver_new().await {
            tracing::error!(%error, detail = ?error, "subscriptions could not be read; trying again");
        }
    }
}

impl Logs {
    /// Hands over what is new, a bounded amount for each subscription. The task does so every second.
    pub async fn deliver_new(&self) -> Result<(), Error> {
        let Some(deliver) = self.inner.subscriptions.deliver.get().cloned() else { return Ok(()) };
        let _round = self.inner.subscriptions.round.lock().await;
        let all = self.subscriptions().await?;
        for subscription in all.iter() {
            match self.advance(&deliver, subscription, &all).await {
                // It was deleted meanwhile, by request or by hand.
                Ok(()) | Err(Error::NotFound(_)) => {}
                Err(error) => {
                    let (group, name) = (&subscription.group.name, &subscription.name);
                    tracing::error!(%error, group, name, "a subscription's events could not be handed over");
                }
            }
        }
        Ok(())
    }

    async fn advance(
        &self,
        deliver: &Arc<dyn Deliver>,
        subscription: &Subscription,
        all: &[Subscription],
    ) -> Result<(), Error> {
        let key = (subscription.group.clone(), subscription.name.clone());
        let passed = self.inner.subscriptions.passed.lock().get(&key).cloned();
        let from = passed.as_ref().unwrap_or(&subscription.place);
        let page = match self.new_events(subscription, from.clone()).await {
            // A crash of the host took what lay before the place.
            Err(Error::Invalid(_)) => return self.start_at_end(subscription).await,
            page => page?,
        };
        if page.resume == *from {
            return Ok(());
        }
        if !page.events.is_empty() {
            let log_group = |function: &str| self.log_group_of(&subscription.group.account, function);
            if loops::leads_back(&subscription.group, &subscription.destination, all, &log_group) {
                // What functions log to may have changed since it was made.
                tracing::warn!(
                    group = subscription.group.name,
                    name = subscription.name,
                    "a subscription's function writes to its own group: its events are dropped"
                );
            } else if !hand_over(deliver, subscription, &page.events).await? {
                return Ok(());
            }
        } else if same_segment(&page.resume, &subscription.place) {
            // Not worth a write: reading it again after a crash finds nothing either.
            self.inner.subscriptions.passed.lock().insert(key, page.resume);
            return Ok(());
        }
        self.move_place(subscription, page.resume).await
    }

    async fn new_events(&self, subscription: &Subscription, from: String) -> Result<EventPage, Error> {
        let pattern =
            Pattern::parse(&subscription.pattern).map_err(|error| Error::Internal(error.to_string()))?;
        let (row, hidden) = self
            .look(&subscription.group, |tx, group| {
                Ok((tables::group(tx, group)?, tables::hidden(tx, group)?))
            })
            .await?;
        let query = Query {
            next_token: Some(from),
            limit: limits::DELIVER_EVENTS,
            start: retention::cutoff(self.inner.clock.now(), row.unwrap_or_default().retention_days),
            matcher: Some(Matcher(Arc::new(move |message: &str| pattern.matches(message)))),
            hidden: Arc::new(hidden),
            ..Query::default()
        };
        let group = subscription.group.clone();
        self.on_files(move |files| files.filter(&group.account, &group.name, &query)).await
    }

    async fn start_at_end(&self, subscription: &Subscription) -> Result<(), Error> {
        let group = subscription.group.clone();
        let end = self.on_files(move |files| files.end(&group.account, &group.name)).await?;
        self.move_place(subscription, end).await
    }

    async fn move_place(&self, subscription: &Subscription, place: String) -> Result<(), Error> {
        let name = subscription.name.clone();
        let key = (subscription.group.clone(), name.clone());
        let moved = self.record(&subscription.group, move |tx, group| {
            tables::move_subscription(tx, group, &name, &place)
        });
        moved.await?;
        self.inner.subscriptions.passed.lock().remove(&key);
        self.read_subscriptions_again();
        Ok(())
    }
}

/// Whether all of it was.
async fn hand_over(
    deliver: &Arc<dyn Deliver>,
    subscription: &Subscription,
    events: &[Event],
) -> Result<bool, Error> {
    for batch in payload::batches(events) {
        let event =
            payload::event(subscription, &batch).map_err(|error| Error::Internal(error.to_string()))?;
        let (account, function) = (subscription.group.account.clone(), subscription.destination.clone());
        match deliver.deliver(account, function, event).await {
            Ok(()) => {}
            Err(Undelivered::Later(reason)) => {
                tracing::debug!(
                    function = subscription.destination,
                    reason,
                    "events wait for their function"
                );
                return Ok(false);
            }
            Err(Undelivered::Never(reason)) => {
                tracing::warn!(
                    group = subscription.group.name,
                    function = subscription.destination,
                    events = batch.len(),
                    reason,
                    "events of a subscription are dropped"
                );
            }
        }
    }
    Ok(true)
}

/// Tokens begin with a segment's number.
fn same_segment(one: &str, other: &str) -> bool {
    one.get(..11) == other.get(..11)
}
