//! Queues that are received from by name: waiting, receipts, order within groups, sending once.

use std::time::Duration;

use queues::{Ask, Counts, Delivery, Finished, Message, Once, QueueName, Queues, Receipt, in_group};

use crate::world::{BY_NAME, IN_ORDER, LEASE, World, body, message, of_kind};

const NOW: Ask = Ask { most: 10, visibility: LEASE, wait: Duration::ZERO, sent_from_ms: 0 };

fn plain() -> QueueName {
    of_kind(BY_NAME, 1, "plain")
}

fn ordered() -> QueueName {
    of_kind(IN_ORDER, 1, "ordered")
}

async fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    let mut all = Vec::new();
    for delivery in deliveries {
        all.push(body(delivery).await);
    }
    all
}

/// What is received at once, in hand by receipt.
async fn take(queues: &Queues, queue: &QueueName, most: usize) -> Vec<(String, Receipt)> {
    let received = queues.receive(queue, Ask { most, ..NOW }).await.unwrap();
    let texts = bodies(&received).await;
    texts.into_iter().zip(received.into_iter().map(Delivery::hold)).collect()
}

async fn texts(queues: &Queues, queue: &QueueName, most: usize) -> Vec<String> {
    take(queues, queue, most).await.into_iter().map(|(text, _)| text).collect()
}

async fn send_in(world: &World, group: &str, text: &str) {
    let message = Message { head: in_group(group, b""), ..message(text) };
    world.queues.send(&ordered(), message).await.unwrap();
}

#[tokio::test]
async fn what_is_held_is_hidden_and_counted_and_finished_by_its_receipt() {
    let world = World::new().await;
    let queue = plain();
    for text in ["a", "b"] {
        world.send(&queue, text).await;
    }
    let later = Message { delay: LEASE * 2, ..message("c") };
    world.queues.send_all(&queue, vec![later]).await.unwrap();
    let held = take(&world.queues, &queue, 1).await;
    assert_eq!(world.queues.counts(&queue), Counts { ready: 1, leased: 1, delayed: 1 });
    assert_eq!(texts(&world.queues, &queue, 10).await, ["b"]);
    assert!(texts(&world.queues, &queue, 10).await.is_empty());
    assert_eq!(world.queues.finish(&queue, held[0].1, true).await.unwrap(), Finished::Done);
    for strict in [true, false] {
        assert_eq!(world.queues.finish(&queue, held[0].1, strict).await.unwrap(), Finished::Gone);
    }
    world.pass(LEASE * 2);
    assert_eq!(world.queues.counts(&queue), Counts { ready: 2, leased: 0, delayed: 0 });
    let mut left = texts(&world.queues, &queue, 10).await;
    left.sort();
    assert_eq!(left, ["b", "c"]);
}

#[tokio::test]
async fn a_receipt_that_is_over_removes_only_what_nobody_holds() {
    let world = World::new().await;
    let queue = plain();
    world.send(&queue, "a").await;
    let first = take(&world.queues, &queue, 1).await[0].1;
    world.pass(LEASE);
    assert!(!world.queues.hold_for(&queue, first, LEASE));
    let second = take(&world.queues, &queue, 1).await[0].1;
    assert_eq!(world.queues.finish(&queue, first, false).await.unwrap(), Finished::Over);
    world.pass(LEASE);
    assert_eq!(world.queues.finish(&queue, second, true).await.unwrap(), Finished::Over);
    assert_eq!(world.queues.finish(&queue, second, false).await.unwrap(), Finished::Done);
    assert!(texts(&world.crash().await.queues, &queue, 10).await.is_empty());
}

#[tokio::test]
async fn a_receipt_of_before_a_crash_removes_its_message_and_no_other() {
    let world = World::new().await;
    let queue = plain();
    world.send(&queue, "a").await;
    let first = take(&world.queues, &queue, 1).await[0].1;
    let world = world.crash().await;
    world.pass(Duration::from_millis(1));
    assert!(!world.queues.hold_for(&queue, first, LEASE));
    assert_eq!(world.queues.finish(&queue, first, false).await.unwrap(), Finished::Done);
    let world = world.crash().await;
    // It has the number of the one that is gone.
    world.send(&queue, "b").await;
    assert_eq!(world.queues.finish(&queue, first, false).await.unwrap(), Finished::Gone);
    assert_eq!(texts(&world.queues, &queue, 1).await, ["b"]);
}

#[tokio::test]
async fn attempts_are_counted_and_a_crash_forgets_one_at_most() {
    let world = World::new().await;
    let queue = plain();
    world.send(&queue, "a").await;
    for attempt in 1..=3 {
        let received = world.queues.receive(&queue, NOW).await.unwrap();
        assert_eq!(received[0].attempts(), attempt);
        let receipt = received.into_iter().next().unwrap().hold();
        assert!(world.queues.hold_for(&queue, receipt, Duration::ZERO));
    }
    let world = world.crash().await;
    assert_eq!(world.queues.receive(&queue, NOW).await.unwrap()[0].attempts(), 4);
}

#[tokio::test]
async fn who_waits_is_woken_by_a_message_and_by_a_lease_that_ends() {
    let world = World::new().await;
    let queue = plain();
    let long = Ask { wait: Duration::from_secs(20), most: 1, visibility: Duration::from_millis(1), ..NOW };
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let (queues, queue) = (world.queues.clone(), queue.clone());
            tokio::spawn(async move { queues.receive(&queue, long).await.unwrap().len() })
        })
        .collect();
    for number in 0..50 {
        world.send(&queue, &number.to_string()).await;
    }
    for waiter in waiters {
        assert_eq!(tokio::time::timeout(LEASE, waiter).await.unwrap().unwrap(), 1);
    }
}

#[tokio::test]
async fn who_leaves_hands_on_what_it_was_woken_for() {
    let world = World::new().await;
    let queue = plain();
    let wait = |wait| {
        let (queues, queue) = (world.queues.clone(), queue.clone());
        tokio::spawn(async move { queues.receive(&queue, Ask { wait, ..NOW }).await.unwrap().len() })
    };
    let first = wait(Duration::from_millis(500));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = wait(Duration::from_secs(20));
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The first is told when the message is due, and leaves before.
    let delay = Duration::from_millis(600);
    world.queues.send(&queue, Message { delay, ..message("x") }).await.unwrap();
    assert_eq!(first.await.unwrap(), 0);
    world.pass(delay);
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), second).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn groups_are_in_order_and_closed_while_in_hand() {
    let world = World::new().await;
    let queue = ordered();
    for (group, text) in [("g", "1"), ("g", "2"), ("h", "3"), ("g", "4")] {
        send_in(&world, group, text).await;
    }
    let held = take(&world.queues, &queue, 2).await;
    assert_eq!([&*held[0].0, &*held[1].0], ["1", "2"]);
    assert_eq!(texts(&world.queues, &queue, 10).await, ["3"]);
    assert_eq!(world.queues.finish(&queue, held[0].1, true).await.unwrap(), Finished::Done);
    assert!(texts(&world.queues, &queue, 10).await.is_empty());
    assert!(world.queues.hold_for(&queue, held[1].1, Duration::ZERO));
    assert_eq!(texts(&world.queues, &queue, 10).await, ["2", "4"]);
    let world = world.crash().await;
    assert_eq!(texts(&world.queues, &queue, 10).await, ["2", "4", "3"], "the order outlives a crash");
}

#[tokio::test]
async fn a_message_is_sent_once_in_a_while_even_where_the_first_is_done_with() {
    let world = World::new().await;
    let queue = ordered();
    let once =
        |answer: &str| Some(Once { key: b"key".to_vec(), lasts: LEASE, answer: answer.as_bytes().to_vec() });
    let post = |world: &World, answer: &str| {
        let (queues, once) = (world.queues.clone(), once(answer));
        async move { queues.post(&ordered(), message("x"), once).await.unwrap().written().await.unwrap() }
    };
    assert_eq!(post(&world, "first").await, None);
    assert_eq!(post(&world, "second").await.as_deref(), Some(&b"first"[..]));
    let held = take(&world.queues, &queue, 10).await;
    assert_eq!(held.len(), 1);
    world.queues.finish(&queue, held[0].1, true).await.unwrap();
    let world = world.crash().await;
    assert_eq!(post(&world, "third").await.as_deref(), Some(&b"first"[..]));
    world.pass(LEASE);
    assert_eq!(post(&world, "fourth").await, None);
    assert_eq!(post(&world, "fifth").await.as_deref(), Some(&b"fourth"[..]));
    world.pass(LEASE);
    world.queues.forget_claims().await.unwrap();
    assert_eq!(post(&world, "sixth").await, None);
}

#[tokio::test]
async fn what_is_purged_is_gone_and_what_comes_after_is_not() {
    let world = World::new().await;
    let queue = plain();
    for number in 0..5_000 {
        let queues = world.queues.clone();
        drop(queues.post(&queue, message(&number.to_string()), None).await.unwrap());
    }
    let held = take(&world.queues, &queue, 1).await;
    world.queues.purge(&queue).await.unwrap();
    assert_eq!(world.queues.counts(&queue), Counts::default());
    world.send(&queue, "after").await;
    assert_eq!(world.queues.finish(&queue, held[0].1, false).await.unwrap(), Finished::Gone);
    assert_eq!(texts(&world.queues, &queue, 10).await, ["after"]);
    let world = world.crash().await;
    assert_eq!(texts(&world.queues, &queue, 10).await, ["after"]);
    world.queues.forget(&queue).await.unwrap();
    assert!(world.queues.names(BY_NAME).is_empty());
    let world = world.crash().await;
    assert!(texts(&world.queues, &queue, 10).await.is_empty());
}

#[tokio::test]
async fn what_is_too_old_is_not_received_and_goes() {
    let world = World::new().await;
    let queue = plain();
    world.send(&queue, "old").await;
    world.pass(LEASE);
    world.send(&queue, "new").await;
    let from = 1_000_000 + 1;
    let received = world.queues.receive(&queue, Ask { sent_from_ms: from, ..NOW }).await.unwrap();
    assert_eq!(bodies(&received).await, ["new"]);
    assert_eq!(world.queues.expire(&queue, from).await.unwrap(), 1);
    assert_eq!(world.queues.counts(&queue), Counts { leased: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_backlog_larger_than_memory_is_received_whole() {
    let world = World::new().await;
    let queue = plain();
    let posts: Vec<Message> = (0..100).map(|number| message(&number.to_string())).collect();
    for _ in 0..60 {
        world.queues.send_all(&queue, posts.clone()).await.unwrap();
    }
    let world = world.crash().await;
    let mut count = 0;
    loop {
        let held = take(&world.queues, &queue, 500).await;
        if held.is_empty() {
            break;
        }
        count += held.len();
        let finish = |(_, receipt)| {
            let (queues, queue) = (world.queues.clone(), queue.clone());
            tokio::spawn(async move { queues.finish(&queue, receipt, true).await.unwrap() })
        };
        for finished in held.into_iter().map(finish).collect::<Vec<_>>() {
            assert_eq!(finished.await.unwrap(), Finished::Done);
        }
    }
    assert_eq!(count, 6_000);
}
