//! Receiving: leases, delays, windows, turns.

use std::collections::BTreeSet;
use std::time::Duration;

use queues::Message;

use crate::world::{LEASE, World, body, message, queue};

#[tokio::test]
async fn a_delay_is_waited_for_and_outlives_a_crash() {
    let world = World::new().await;
    let delay = Duration::from_secs(100);
    world.queues.send(&queue(1, "a"), Message { delay, ..message("later") }).await.unwrap();
    world.nothing().await;
    let world = world.crash().await;
    world.pass(Duration::from_secs(99));
    world.nothing().await;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.drain(1).await, ["later"]);
}

#[tokio::test]
async fn a_lease_that_ends_is_a_redelivery_and_the_old_hand_can_do_nothing() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "x").await;
    let first = world.one().await;
    assert!(first.extend(LEASE * 2));
    world.pass(LEASE);
    world.nothing().await;
    world.pass(LEASE);
    let second = world.one().await;
    assert_eq!(body(&second).await, "x");
    assert!(!first.extend(LEASE));
    assert!(!first.finish(Vec::new()).await.unwrap());
    assert!(second.finish(Vec::new()).await.unwrap());
    world.crash().await.nothing().await;
}

#[tokio::test]
async fn a_retry_waits_and_counts_and_outlives_a_crash() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "x").await;
    assert!(world.one().await.retry(Duration::from_secs(60)).await.unwrap());
    world.nothing().await;
    let world = world.crash().await;
    world.pass(Duration::from_secs(60));
    let delivery = world.one().await;
    assert_eq!((delivery.attempts(), body(&delivery).await), (1, "x".into()));
    assert!(delivery.retry(Duration::from_secs(60)).await.unwrap());
    world.pass(Duration::from_secs(60));
    assert_eq!(world.one().await.attempts(), 2);
}

#[tokio::test]
async fn what_is_dropped_or_given_back_is_the_next() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "1").await;
    world.send(&queue(1, "a"), "2").await;
    drop(world.one().await);
    let first = world.one().await;
    assert_eq!(body(&first).await, "1");
    first.release();
    assert_eq!(world.drain(2).await, ["1", "2"]);
}

#[tokio::test]
async fn receiving_writes_nothing() {
    let world = World::new().await;
    for index in 0..50 {
        world.send(&queue(1, "a"), &index.to_string()).await;
    }
    let before = world.store.commits();
    let received = world.receive(50).await;
    assert_eq!(received.len(), 50);
    drop(received);
    assert_eq!(world.receive(50).await.len(), 50);
    assert_eq!(world.store.commits(), before);
}

/// More than any window holds, some of them delayed, before and after a crash.
#[tokio::test]
async fn a_long_queue_is_read_to_its_end_once() {
    let world = World::new().await;
    let count = 3_000;
    let sends = (0..count).map(|index| {
        let delay = Duration::from_secs(if index % 3 == 0 { 1 + index % 7 } else { 0 });
        let queues = world.queues.clone();
        tokio::spawn(async move {
            queues.send(&queue(1, "a"), Message { delay, ..message(&index.to_string()) }).await.unwrap();
        })
    });
    for send in sends.collect::<Vec<_>>() {
        send.await.unwrap();
    }
    let mut seen: BTreeSet<String> = world.drain(1_000).await.into_iter().collect();
    let finished = seen.len();
    let world = world.crash().await;
    assert_eq!(world.depth(&queue(1, "a")), count - finished as u64);
    world.pass(Duration::from_secs(10));
    let rest = world.drain(usize::try_from(count).unwrap() - finished).await;
    let before = seen.len() + rest.len();
    seen.extend(rest);
    assert_eq!((before, seen.len()), (3_000, 3_000), "each once");
    world.nothing().await;
}

#[tokio::test]
async fn a_tenant_with_many_messages_does_not_starve_another() {
    let world = World::new().await;
    for index in 0..200 {
        world.send(&queue(1, &format!("q{}", index % 4)), "large").await;
    }
    world.send(&queue(2, "only"), "small").await;
    world.send(&queue(2, "only"), "small").await;
    let mut bodies = Vec::new();
    for delivery in world.receive(4).await {
        bodies.push(body(&delivery).await);
    }
    assert_eq!(bodies.iter().filter(|body| *body == "small").count(), 2, "{bodies:?}");
}

#[tokio::test]
async fn a_slow_queue_holds_up_nobody() {
    let world = World::new().await;
    for _ in 0..10 {
        world.send(&queue(1, "slow"), "slow").await;
    }
    world.send(&queue(1, "fast"), "fast").await;
    world.consumer.limit(&queue(1, "slow"), 2);
    let received = world.receive(100).await;
    assert_eq!(received.len(), 3);
    world.nothing().await;
    drop(received);
    assert_eq!(world.receive(100).await.len(), 3);
}

#[tokio::test]
async fn a_paused_queue_waits_and_others_do_not() {
    let world = World::new().await;
    world.send(&queue(1, "paused"), "paused").await;
    world.consumer.pause(&queue(1, "paused"), 1_000_000 + 5_000);
    world.send(&queue(1, "paused"), "paused").await;
    world.send(&queue(1, "other"), "other").await;
    assert_eq!(world.drain(1).await, ["other"]);
    world.nothing().await;
    world.pass(Duration::from_secs(5));
    assert_eq!(world.drain(2).await, ["paused", "paused"]);
}
