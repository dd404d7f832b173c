//! Sending: durable once acknowledged, with a caller's own transaction or without.

use std::time::Duration;

use queues::{BODY_BYTES, Error, HEAD_BYTES, Message};

use crate::world::{World, body, message, queue};

#[tokio::test]
async fn what_was_sent_is_received_with_all_of_it() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "hello").await;
    let delivery = world.one().await;
    assert_eq!((delivery.head(), body(&delivery).await), ("head".into(), "hello".into()));
    assert_eq!((delivery.attempts(), delivery.sent_ms()), (0, 1_000_000));
    assert_eq!(*delivery.queue(), queue(1, "a"));
    assert!(delivery.finish(Vec::new()).await.unwrap());
    world.nothing().await;
    assert_eq!(world.depth(&queue(1, "a")), 0);
    world.crash().await.nothing().await;
}

#[tokio::test]
async fn who_waits_is_woken_by_a_message() {
    let world = World::new().await;
    let (received, ()) = tokio::join!(world.receive(1), async {
        tokio::task::yield_now().await;
        world.send(&queue(1, "a"), "x").await;
    });
    assert_eq!(received.len(), 1);
}

/// On one thread, as where there is one core: the writer is woken by the first of them and would run next.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_that_come_together_share_a_commit() {
    const BURSTS: u64 = 20;
    let commits = tokio::spawn(async {
        let world = World::new().await;
        world.send(&queue(1, "a"), "x").await;
        let before = world.store.commits();
        for _ in 0..BURSTS {
            let send = |_| {
                let queues = world.queues.clone();
                tokio::spawn(async move { queues.send(&queue(1, "a"), message("x")).await.unwrap() })
            };
            let burst: Vec<_> = (0..8).map(send).collect();
            for sent in burst {
                sent.await.unwrap();
            }
        }
        world.store.commits() - before
    });
    // The runtime may look at the writer in the middle of a burst; it does at one in some.
    let commits = commits.await.unwrap();
    assert!(commits < BURSTS * 3 / 2, "{commits} commits of {BURSTS} bursts");
}

#[tokio::test]
async fn a_message_is_there_exactly_if_its_change_is() {
    let world = World::new().await;
    for (id, fails) in [(1, false), (2, true)] {
        let draft = world.queues.draft(&queue(1, "a"), message(&id.to_string())).await.unwrap();
        let row = draft.to_row();
        let written: Result<(), store::Error> = world
            .store
            .write(move |tx| {
                tx.execute("INSERT INTO noun (id) VALUES ($1)", &[i64::from(id).into()])?;
                row.insert(tx)?;
                if fails { tx.execute("INSERT INTO noun (id) VALUES (1)", &[]).map(drop) } else { Ok(()) }
            })
            .await;
        assert_eq!(written.is_err(), fails);
        if written.is_ok() {
            draft.sent();
        }
    }
    assert_eq!(world.drain(1).await, ["1"]);
    world.nothing().await;
}

#[tokio::test]
async fn a_sender_that_goes_away_between_commit_and_word_loses_nothing() {
    let world = World::new().await;
    let draft = world.queues.draft(&queue(1, "a"), message("x")).await.unwrap();
    let row = draft.to_row();
    world.store.write(move |tx| row.insert(tx)).await.unwrap();
    drop(draft);
    assert_eq!(world.drain(1).await, ["x"]);
    let never = world.queues.draft(&queue(1, "a"), message("y")).await.unwrap();
    drop(never);
    world.nothing().await;
}

#[tokio::test]
async fn large_bodies_are_files_and_go_with_their_messages() {
    let world = World::new().await;
    let large = "x".repeat(100_000);
    // The same bytes twice are two files: each goes with its message.
    world.send(&queue(1, "a"), &large).await;
    world.send(&queue(1, "a"), &large).await;
    assert_eq!(world.files.list().await.unwrap().len(), 2);
    let first = world.one().await;
    assert_eq!(body(&first).await.len(), large.len());
    assert!(first.finish(Vec::new()).await.unwrap());
    let world = world.crash().await;
    assert_eq!(world.files.list().await.unwrap().len(), 1);
    assert_eq!(world.drain(1).await, [large]);
    let stray = world.files.put("nobody's".into()).await.unwrap();
    let world = world.crash().await;
    assert!(!world.files.list().await.unwrap().contains(&stray));
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let world = World::new().await;
    let check = |head: usize, body: usize| {
        let message =
            Message { head: vec![0; head].into(), body: vec![0; body].into(), delay: Duration::ZERO };
        let queue = queue(1, "a");
        let queues = world.queues.clone();
        async move { queues.send(&queue, message).await }
    };
    assert!(check(HEAD_BYTES, 1).await.is_ok());
    assert!(check(1, BODY_BYTES).await.is_ok());
    assert!(matches!(check(HEAD_BYTES + 1, 1).await, Err(Error::TooLarge { what: "head", .. })));
    assert!(matches!(check(1, BODY_BYTES + 1).await, Err(Error::TooLarge { what: "body", .. })));
}

#[tokio::test]
async fn many_senders_share_a_commit() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "first").await;
    let before = world.store.commits();
    let sends = (0..500).map(|index| {
        let (queues, body) = (world.queues.clone(), index.to_string());
        tokio::spawn(async move { queues.send(&queue(1, "a"), message(&body)).await })
    });
    for send in sends.collect::<Vec<_>>() {
        send.await.unwrap().unwrap();
    }
    assert!(world.store.commits() - before < 100, "{} commits", world.store.commits() - before);
    assert_eq!(world.drain(501).await.len(), 501);
}
