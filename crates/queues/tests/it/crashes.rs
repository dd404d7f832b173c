//! The server crashes while it sends, finishes, retries and moves: nothing acknowledged is lost, nothing finished
//! comes back. A crash is the store opened again without a word to what was there before; processes that are killed are the
//! end-to-end tests'.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::world::{DEAD, LEASE, World, body, message, of_kind, queue};

/// What may be done between two crashes.
#[derive(Debug, Clone)]
enum Step {
    Send,
    Finish,
    Retry,
    Move,
    Drop,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => Just(Step::Send),
        2 => Just(Step::Finish),
        2 => Just(Step::Retry),
        1 => Just(Step::Move),
        1 => Just(Step::Drop),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..40)
}

/// What there is to be, by what was acknowledged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    next: u32,
    waiting: BTreeSet<String>,
    dead: BTreeSet<String>,
}

async fn run(steps: Vec<Step>) {
    let (mut world, mut model) = (World::new().await, Model::default());
    let dead = of_kind(DEAD, 1, "dead");
    for step in steps {
        let has_some = !model.waiting.is_empty();
        match step {
            Step::Send => {
                let body = model.next.to_string();
                model.next += 1;
                world.send(&queue(1 + (model.next % 3) as u8, "q"), &body).await;
                model.waiting.insert(body);
            }
            Step::Crash => world = world.crash().await,
            _ if !has_some => {}
            Step::Finish | Step::Retry | Step::Move | Step::Drop => {
                world.pass(LEASE);
                let delivery = world.one().await;
                let body = body(&delivery).await;
                assert!(model.waiting.contains(&body), "{body} came back");
                match step {
                    Step::Finish => {
                        assert!(delivery.finish(Vec::new()).await.unwrap());
                        model.waiting.remove(&body);
                    }
                    Step::Retry => assert!(delivery.retry(Duration::from_secs(1)).await.unwrap()),
                    Step::Move => {
                        assert!(delivery.transfer(&dead, "why".into(), Vec::new()).await.unwrap());
                        model.waiting.remove(&body);
                        model.dead.insert(body);
                    }
                    _ => drop(delivery),
                }
            }
        }
    }
    let world = world.crash().await;
    world.pass(LEASE);
    let left: BTreeSet<String> = world.drain(model.waiting.len()).await.into_iter().collect();
    assert_eq!(left, model.waiting);
    world.nothing().await;
    assert_eq!(world.depth(&dead), model.dead.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_and_whenever_it_crashes_the_acknowledged_is_there(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

/// Sends whose callers are gone before the answer: each is there whole or not at all, and numbers never collide.
#[tokio::test]
async fn a_crash_amid_sends_leaves_each_whole_or_absent() {
    let mut world = World::new().await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..20 {
        let sends: Vec<_> = (0..50)
            .map(|index| {
                let (queues, body) = (world.queues.clone(), format!("{round}-{index}"));
                tokio::spawn(async move { queues.send(&queue(1, "q"), message(&body)).await.map(|()| body) })
            })
            .collect();
        for (index, send) in sends.into_iter().enumerate() {
            if index < round * 2 {
                acknowledged.insert(send.await.unwrap().unwrap());
            } else {
                send.abort();
            }
        }
        world = world.crash().await;
    }
    let there = usize::try_from(world.depth(&queue(1, "q"))).unwrap();
    let seen: BTreeSet<String> = world.drain(there).await.into_iter().collect();
    assert_eq!(seen.len(), there);
    assert!(acknowledged.is_subset(&seen));
}
