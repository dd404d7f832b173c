//! Who asks may go away at any moment, and others must not notice.

use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;

use queues::Error;

use crate::world::{World, message, queue};

/// Lets a future run until it waits for the first time.
fn begin<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[tokio::test]
async fn a_queue_whose_first_sender_went_away_is_there_for_the_next() {
    let world = World::new().await;
    {
        let queue = queue(1, "a");
        let mut send = pin!(world.queues.send(&queue, message("never")));
        // The queue's name is on its way to the disk.
        begin(send.as_mut());
    }
    world.send(&queue(1, "a"), "x").await;
    assert_eq!(world.drain(1).await, ["x"]);
    world.nothing().await;
}

#[tokio::test]
async fn a_message_whose_end_could_not_even_be_ordered_is_received_again() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "x").await;
    let delivery = world.one().await;
    let to = queue(2, "b");
    world.send(&to, "first").await;
    world.drain(1).await;
    // More than the writer has room for, and it has not run yet: tests have one thread.
    let crowd = async {
        let mut sends: Vec<_> =
            (0..5_000).map(|index| Box::pin(world.queues.send(&to, message(&index.to_string())))).collect();
        sends.iter_mut().for_each(|send| begin(send.as_mut()));
        let mut finish = Box::pin(delivery.finish(Vec::new()));
        begin(finish.as_mut());
        drop(finish);
    };
    // Without a budget, which would have futures wait though there is room.
    tokio::task::unconstrained(crowd).await;
    let mut seen = Vec::new();
    while !seen.contains(&"x".to_owned()) {
        seen.extend(world.drain(1).await);
    }
}

#[tokio::test]
async fn senders_are_told_while_something_waits_for_room_on_the_disk() {
    let world = World::new().await;
    world.send(&queue(1, "a"), "x").await;
    let delivery = world.one().await;
    let draft = world.queues.draft(&queue(1, "b"), message("follows")).await.unwrap();
    // It cannot be written a second time; the end of its cause is tried again and again.
    let row = draft.to_row();
    world.store.write(move |tx| row.insert(tx)).await.unwrap();
    let stuck = tokio::spawn(delivery.finish(vec![draft]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let to = queue(1, "a");
    let sent = world.queues.send(&to, message("y"));
    let sent = tokio::time::timeout(Duration::from_secs(10), sent).await.expect("an answer in time");
    assert!(matches!(sent, Err(Error::NotWritten(_))), "{sent:?}");
    assert!(!stuck.is_finished());
    stuck.abort();
}
