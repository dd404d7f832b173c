//! What events hold, in the database and in files: sealed, whatever becomes of them.

use std::path::Path;

use functions::{EventConfigChange, Invoke};

use crate::asynchronous::quick;
use crate::secrets::holds;
use crate::world::World;

const CANARY: &str = "canary-77b0c1e2-in-an-event";

/// Whether the word is anywhere on the disk.
fn anywhere(dir: &Path, word: &str) -> bool {
    fn files(dir: &Path, word: &[u8]) -> bool {
        std::fs::read_dir(dir).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            let in_file = || std::fs::read(&path).unwrap().windows(word.len()).any(|window| window == word);
            if path.is_dir() { files(&path, word) } else { in_file() }
        })
    }
    holds(dir, word) || files(&dir.join("messages"), word.as_bytes())
}

async fn no_retries(world: &World, name: &str) {
    world.configure(name, EventConfigChange { retries: Some(0), ..Default::default() }).await.unwrap();
}

async fn write(world: &World, sql: &'static str) {
    let write = move |tx: &mut dyn store::Tx| tx.execute(sql, &[]).map(drop);
    world.store.write::<_, store::Error, _>(write).await.unwrap();
}

#[tokio::test]
async fn payloads_contexts_and_answers_are_not_on_disk_in_plain() {
    let world = World::with(quick()).await;
    world.create("gate", "gate").await;
    world.create("fails", "error").await;
    no_retries(&world, "fails").await;
    let small = format!("\"{CANARY}\"");
    let large = format!("\"{CANARY}{}\"", "x".repeat(100_000));
    for event in [&small, &large] {
        for name in ["gate", "fails"] {
            let context = Some(format!("{{\"custom\":\"{CANARY}\"}}"));
            let call = Invoke { client_context: context, ..world.call(name, event) };
            world.functions.invoke_later(&world.caller, call).await.unwrap();
        }
    }
    world.done("fails").await;
    assert!(anywhere(world.dir.path(), "lambda-events"), "the files are looked at");
    assert!(!anywhere(world.dir.path(), CANARY));
    assert!(!anywhere(world.dir.path(), "ValueError"), "nor what a function answered");
    // It is there all the same, after a crash too.
    let world = world.crash().await;
    let mut begun = world.begun(2).await;
    begun.sort();
    assert_eq!(begun, [small.clone(), large.clone()]);
    let failed = world.failed("fails").await;
    assert!(failed.iter().all(|event| event.response.as_ref().unwrap().contains("ValueError")));
    let named = world.named("fails");
    let mut payloads = Vec::new();
    for event in &failed {
        let (_, payload) = world.functions.failed_event(&world.caller, &named, &event.id).await.unwrap();
        payloads.push(payload);
    }
    payloads.sort();
    assert_eq!(payloads, [small, large]);
    world.stage.gate.add_permits(10);
    world.done("gate").await;
}

#[tokio::test]
async fn an_event_opens_for_itself_only() {
    let world = World::with(quick()).await;
    world.create("fails", "error").await;
    world.create("gate", "gate").await;
    no_retries(&world, "fails").await;
    for event in ["1", "2"] {
        world.later("fails", event).await.unwrap();
        world.done("fails").await;
    }
    world.later("gate", "3").await.unwrap();
    world.begun(3).await;
    // The payload of one in the place of all others'.
    write(&world, "UPDATE queue_messages SET body = (SELECT body FROM queue_messages ORDER BY id LIMIT 1)")
        .await;
    let world = world.crash().await;
    let before = world.stage.begun.borrow().len();
    world.done("gate").await;
    assert_eq!(world.stage.begun.borrow().len(), before, "it is not called with it");
    assert_eq!(world.failed("gate").await.remove(0).condition, "Damaged");
    let (named, failed) = (world.named("fails"), world.failed("fails").await);
    let open = async |index: usize| {
        let id = &failed[index].id;
        world.functions.failed_event(&world.caller, &named, id).await.map(|(_, payload)| payload)
    };
    assert_eq!(open(0).await.unwrap(), "1");
    assert!(open(1).await.is_err(), "nor is another of the same function's");
}

#[tokio::test]
async fn what_an_earlier_server_kept_in_plain_still_runs() {
    let world = World::with(quick()).await;
    world.create("hello", "gate").await;
    world.later("hello", "1").await.unwrap();
    world.begun(1).await;
    write(&world, "UPDATE queue_messages SET body = CAST('{\"plain\":true}' AS BLOB)").await;
    let world = world.crash().await;
    assert_eq!(world.begun(1).await, [r#"{"plain":true}"#]);
    world.stage.gate.add_permits(10);
    assert_eq!(world.done("hello").await.failed, 0);
}
