//! What is moved and what follows from a message, in one transaction each.

use queues::Mark;

use crate::world::{DEAD, World, body, message, of_kind, queue};

#[tokio::test]
async fn a_dead_letter_is_moved_with_its_body_and_can_come_back() {
    let world = World::new().await;
    let dead = of_kind(DEAD, 1, "a");
    let large = "x".repeat(50_000);
    world.send(&queue(1, "a"), &large).await;
    let commits = world.store.commits();
    assert!(world.one().await.transfer(&dead, "why".into(), Vec::new()).await.unwrap());
    // One names the queue, one moves.
    assert_eq!(world.store.commits() - commits, 2);
    world.nothing().await;
    let world = world.crash().await;
    assert_eq!((world.depth(&queue(1, "a")), world.depth(&dead)), (0, 1));
    let found = world.queues.browse(&dead, Mark::default(), 10).await.unwrap().pop().unwrap();
    assert_eq!(found.head, "why");
    assert_eq!(world.queues.body(&found).await.unwrap().len(), large.len());
    assert!(world.queues.redrive(&dead, &found, &queue(1, "b"), "again".into()).await.unwrap());
    assert!(!world.queues.redrive(&dead, &found, &queue(1, "b"), "again".into()).await.unwrap(), "once");
    let delivery = world.one().await;
    assert_eq!((delivery.head(), body(&delivery).await.len()), ("again".into(), large.len()));
    assert_eq!(*delivery.queue(), queue(1, "b"));
}

#[tokio::test]
async fn what_follows_is_sent_with_the_end_of_its_cause() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "cause").await;
    let delivery = world.one().await;
    let draft = world.queues.draft(&queue(1, "b"), message("effect")).await.unwrap();
    let commits = world.store.commits();
    assert!(delivery.finish(vec![draft]).await.unwrap());
    assert_eq!(world.store.commits() - commits, 1);
    assert_eq!(world.crash().await.drain(1).await, ["effect"]);
}

#[tokio::test]
async fn what_follows_is_not_sent_by_a_hand_that_lost_its_lease() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "cause").await;
    let late = world.one().await;
    let draft = world.queues.draft(&queue(1, "b"), message("effect")).await.unwrap();
    world.pass(crate::world::LEASE);
    assert_eq!(world.drain(1).await, ["cause"]);
    assert!(!late.finish(vec![draft]).await.unwrap());
    world.nothing().await;
    world.crash().await.nothing().await;
}

#[tokio::test]
async fn dead_letters_are_listed_removed_and_too_old_in_the_end() {
    let world = World::new().await;
    let dead = of_kind(DEAD, 1, "a");
    for index in 0..1_200 {
        world.send(&dead, &index.to_string()).await;
        if index == 1_099 {
            world.pass(std::time::Duration::from_secs(10));
        }
    }
    let page = world.queues.browse(&dead, Mark::default(), 3).await.unwrap();
    let next = world.queues.browse(&dead, page[2].mark, 3).await.unwrap();
    assert!(page[2].mark < next[0].mark);
    assert!(world.queues.remove(&dead, &page[0]).await.unwrap());
    assert!(!world.queues.remove(&dead, &page[0]).await.unwrap());
    assert!(world.queues.find(&dead, page[0].mark).await.unwrap().is_none());
    assert_eq!(world.queues.sweep(DEAD, 1_000_001).await.unwrap(), 1_099);
    assert_eq!(world.depth(&dead), 100);
    let left = world.queues.browse(&dead, Mark::default(), 1).await.unwrap();
    assert_eq!(world.queues.body(&left[0]).await.unwrap(), "1100");
}
