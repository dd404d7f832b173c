//! The tasks: one that takes events off the queues while there are places, one that forgets old failed events.

use std::sync::{Arc, Weak};
use std::time::Duration;

use queues::Delivery;
use tokio::sync::OwnedSemaphorePermit;

use super::FAILED_EVENTS;
use crate::service::Inner;

/// Events taken at once.
const BATCH: usize = 64;

/// For how long an event is in hand before it is known how long it may run.
const VISIBILITY: Duration = Duration::from_secs(600);

/// How often old failed events are looked for.
const SWEEP: Duration = Duration::from_secs(600);

/// Hands events out until the service stops or is gone. What was taken runs to its end.
pub(crate) async fn dispatcher(service: Weak<Inner>) {
    let Some((consumer, places, mut stop)) = service.upgrade().map(|service| {
        let asynchronous = &service.asynchronous;
        (Arc::clone(&asynchronous.consumer), Arc::clone(&asynchronous.places), asynchronous.stop.subscribe())
    }) else {
        return;
    };
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let more = places.available_permits().min(BATCH - 1);
        let more =
            u32::try_from(more).ok().and_then(|more| Arc::clone(&places).try_acquire_many_owned(more).ok());
        let mut held = place;
        if let Some(more) = more {
            held.merge(more);
        }
        let received = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            received = consumer.receive(held.num_permits(), VISIBILITY) => received,
        };
        match received {
            Ok(deliveries) => {
                let Some(service) = service.upgrade() else { return };
                deliveries.into_iter().for_each(|delivery| start(&service, delivery, held.split(1)));
            }
            Err(error) => {
                tracing::error!(error = ?error, "events cannot be received");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn start(service: &Arc<Inner>, delivery: Delivery, place: Option<OwnedSemaphorePermit>) {
    let service = Arc::clone(service);
    tokio::spawn(async move {
        let queue = delivery.queue().clone();
        if let Err(error) = service.deliver(delivery).await {
            tracing::error!(error = ?error, "an event's outcome was not written down; it may be delivered again");
            service.hold_off(&queue);
        }
        drop(place);
    });
}

/// Forgets failed events that are older than they are kept.
pub(crate) async fn sweeper(service: Weak<Inner>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(service) = service.upgrade() else { return };
        let keep = i64::try_from(service.host.bounds.pace.keep_failed.as_millis()).unwrap_or(i64::MAX);
        let before = service.host.clock.now().as_millis().saturating_sub(keep);
        match service.asynchronous.queues.sweep(FAILED_EVENTS, before).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "failed events were removed for their age"),
            Err(error) => tracing::error!(error = ?error, "old failed events were not removed"),
        }
    }
}
