//! Subscriptions: what functions are called with, loops, what a crash leaves.

use std::io::Read;
use std::sync::Arc;

use base::AccountId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use logs::{Deliver, Delivery, NewSubscription, Undelivered};
use parking_lot::Mutex;
use serde_json::Value;

use crate::support::{NOW, World, account, group, refused};

/// Functions `f` and `h`, which write to the groups `of-f` and `of-h`; notes what they are called with.
#[derive(Default)]
struct Functions {
    calls: Mutex<Vec<Value>>,
    busy: Mutex<Option<Undelivered>>,
}

impl Deliver for Functions {
    fn log_group(&self, _account: &AccountId, function: &str) -> Option<String> {
        matches!(function, "f" | "h").then(|| format!("of-{function}"))
    }

    fn deliver(&self, _account: AccountId, _function: String, event: Vec<u8>) -> Delivery {
        let busy = self.busy.lock().clone();
        if busy.is_none() {
            self.calls.lock().push(unpacked(&event));
        }
        Box::pin(async move { busy.map_or(Ok(()), Err) })
    }
}

fn unpacked(event: &[u8]) -> Value {
    let event: Value = serde_json::from_slice(event).unwrap();
    let data = STANDARD.decode(event["awslogs"]["data"].as_str().unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(data.as_slice()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

impl Functions {
    fn messages(&self) -> Vec<String> {
        let calls = self.calls.lock();
        let events = calls.iter().flat_map(|call| call["logEvents"].as_array().unwrap().clone());
        events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }
}

fn new(name: &str, pattern: &str, destination: &str) -> NewSubscription {
    NewSubscription {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        destination: destination.to_owned(),
        distribution: "ByLogStream".to_owned(),
    }
}

async fn world() -> (World, Arc<Functions>) {
    let world = World::new().with_stream().await;
    let functions = Arc::<Functions>::default();
    world.logs.deliver_with(functions.clone());
    (world, functions)
}

#[tokio::test]
async fn a_function_gets_what_the_pattern_takes_from_then_on() {
    let (world, functions) = world().await;
    world.put("s", &[(NOW, "ERROR before")]).await.unwrap();
    world.logs.subscribe(&group("g"), new("errors", "ERROR", "f")).await.unwrap();
    world.put("s", &[(NOW, "ERROR one"), (NOW, "fine"), (NOW + 1, "ERROR two")]).await.unwrap();
    world.files.stream(&account(), "g", "t").line("ERROR elsewhere");
    world.logs.deliver_new().await.unwrap();
    assert_eq!(functions.messages(), ["ERROR one", "ERROR two", "ERROR elsewhere"]);
    let call = functions.calls.lock()[0].clone();
    assert_eq!(call["messageType"], "DATA_MESSAGE");
    assert_eq!(call["owner"], "123456789012");
    assert_eq!((&call["logGroup"], &call["logStream"]), (&"g".into(), &"s".into()));
    assert_eq!(call["subscriptionFilters"], serde_json::json!(["errors"]));
    let event = &call["logEvents"][1];
    assert_eq!(event["timestamp"], NOW + 1);
    assert_eq!(event["id"].as_str().unwrap().len(), 56);
    // Nothing comes twice.
    world.logs.deliver_new().await.unwrap();
    assert_eq!(functions.messages().len(), 3);
    world.logs.unsubscribe(&group("g"), "errors").await.unwrap();
    world.put("s", &[(NOW, "ERROR late")]).await.unwrap();
    world.logs.deliver_new().await.unwrap();
    assert_eq!(functions.messages().len(), 3);
    let gone = world.logs.unsubscribe(&group("g"), "errors").await;
    assert_eq!(refused(gone), "The specified subscription filter does not exist.");
}

#[tokio::test]
async fn a_new_pattern_is_for_what_comes_from_then_on() {
    let (world, functions) = world().await;
    world.logs.subscribe(&group("g"), new("s", "ERROR", "f")).await.unwrap();
    world.put("s", &[(NOW, "WARN before"), (NOW, "ERROR before")]).await.unwrap();
    world.logs.deliver_new().await.unwrap();
    world.put("s", &[(NOW, "WARN passed over")]).await.unwrap();
    world.logs.deliver_new().await.unwrap();
    world.logs.subscribe(&group("g"), new("s", "WARN", "f")).await.unwrap();
    world.put("s", &[(NOW, "ERROR after"), (NOW, "WARN after")]).await.unwrap();
    world.logs.deliver_new().await.unwrap();
    assert_eq!(functions.messages(), ["ERROR before", "WARN after"]);
}

#[tokio::test]
async fn events_wait_for_a_function_that_cannot_take_them_and_survive() {
    let (world, functions) = world().await;
    world.logs.subscribe(&group("g"), new("all", "", "f")).await.unwrap();
    *functions.busy.lock() = Some(Undelivered::Later("busy".to_owned()));
    world.put("s", &[(NOW, "kept")]).await.unwrap();
    world.logs.deliver_new().await.unwrap();
    assert!(functions.messages().is_empty());

    let world = world.reopened();
    let functions = Arc::<Functions>::default();
    world.logs.deliver_with(functions.clone());
    world.logs.deliver_new().await.unwrap();
    assert_eq!(functions.messages(), ["kept"]);
    *functions.busy.lock() = Some(Undelivered::Never("gone".to_owned()));
    world.put("s", &[(NOW, "dropped")]).await.unwrap();
    world.logs.deliver_new().await.unwrap();
    *functions.busy.lock() = None;
    world.put("s", &[(NOW, "after")]).await.unwrap();
    world.logs.deliver_new().await.unwrap();
    assert_eq!(functions.messages(), ["kept", "after"]);
}

#[tokio::test]
async fn subscriptions_have_rules() {
    let (world, _functions) = world().await;
    let subscribe = async |name: &str, pattern: &str, to: &str| {
        world.logs.subscribe(&group("g"), new(name, pattern, to)).await
    };
    assert!(refused(subscribe("a", "", "absent").await).contains("Could not execute the lambda function"));
    assert!(refused(subscribe("a", "{", "f").await).contains("Invalid filter pattern"));
    assert!(refused(subscribe("a", &"a".repeat(1025), "f").await).contains("1024"));
    assert!(refused(subscribe("a:b", "", "f").await).contains("pattern"));
    let mut odd = new("a", "", "f");
    odd.distribution = "Fair".to_owned();
    assert!(refused(world.logs.subscribe(&group("g"), odd).await).contains("enum value set"));
    subscribe("a", "", "f").await.unwrap();
    subscribe("b", &"a".repeat(1024), "f").await.unwrap();
    assert_eq!(refused(subscribe("c", "", "f").await), "Resource limit exceeded.");
    subscribe("b", "changed", "h").await.unwrap();
    let shown = world.logs.subscriptions_of(&group("g"), "").await.unwrap();
    let shown: Vec<_> = shown.iter().map(|s| (&*s.name, &*s.pattern, &*s.destination)).collect();
    assert_eq!(shown, [("a", "", "f"), ("b", "changed", "h")]);
    assert_eq!(world.logs.subscriptions_of(&group("g"), "b").await.unwrap().len(), 1);
    world.logs.delete_group(&group("g")).await.unwrap();
    world.logs.create_group(&group("g"), Default::default()).await.unwrap();
    assert!(world.logs.subscriptions_of(&group("g"), "").await.unwrap().is_empty());
}

#[tokio::test]
async fn no_function_is_called_for_its_own_lines() {
    let (world, functions) = world().await;
    for name in ["of-f", "of-h"] {
        world.logs.create_group(&group(name), Default::default()).await.unwrap();
    }
    let own = world.logs.subscribe(&group("of-f"), new("own", "", "f")).await;
    assert!(refused(own).contains("no end of calls"));
    world.logs.subscribe(&group("of-f"), new("there", "", "h")).await.unwrap();
    let back = world.logs.subscribe(&group("of-h"), new("back", "", "f")).await;
    assert!(refused(back).contains("no end of calls"));
    world.files.stream(&account(), "of-f", "s").line("x");
    world.logs.deliver_new().await.unwrap();
    assert_eq!(functions.messages(), ["x"]);
}
