//! Asynchronous invokes: accepted, delivered, retried, given up, recorded.

use std::time::Duration;

use functions::model::FunctionRef;
use functions::{Backlog, Bounds, Error, EventConfigChange, FailedEvent, Pace};
use serde_json::{Value, json};

use crate::world::{World, bounds, until};

/// Retries at once: what is tested is that they happen, the delays are `decide`'s.
pub(crate) fn quick() -> Bounds {
    let pace = Pace { retry_after: Duration::ZERO, pause: Duration::from_millis(1), ..Pace::default() };
    Bounds { pace, ..bounds() }
}

impl World {
    pub(crate) async fn later(&self, name: &str, event: &str) -> Result<String, Error> {
        let call = self.call(name, event);
        let id = call.id.to_string();
        self.functions.invoke_later(&self.caller, call).await.map(|()| id)
    }

    pub(crate) fn backlog(&self, name: &str) -> Backlog {
        self.functions.backlogs().into_iter().find(|each| each.function == name).unwrap_or_default()
    }

    /// Waits until nothing is queued for a function.
    pub(crate) async fn done(&self, name: &str) -> Backlog {
        until("all events are done", || Some(self.backlog(name)).filter(|each| each.queued == 0)).await
    }

    pub(crate) async fn failed(&self, name: &str) -> Vec<FailedEvent> {
        self.functions.failed_events(&self.caller, &self.named(name), None, 100).await.unwrap().items
    }

    pub(crate) async fn configure(&self, name: &str, change: EventConfigChange) -> Result<(), Error> {
        self.functions.configure_events(&self.caller, &self.named(name), change, false).await.map(drop)
    }

    pub(crate) fn arn(&self, name: &str) -> String {
        format!("arn:aws:lambda:us-east-1:{}:function:{name}", self.caller.account)
    }
}

#[tokio::test]
async fn an_event_is_accepted_and_runs_once_with_its_id() {
    let world = World::with(quick()).await;
    world.create("hello", "echo").await;
    let id = world.later("hello", r#"{"n":1}"#).await.unwrap();
    assert_eq!(world.begun(1).await, [r#"{"n":1}"#]);
    let backlog = world.done("hello").await;
    assert_eq!((backlog.accepted, backlog.retries, backlog.failed), (1, 0, 0));
    let query = observe::Query { limit: 100, ..observe::Query::default() };
    let page = world.logs.filter(&world.caller.account, "/aws/lambda/hello", &query).unwrap();
    assert!(page.events.iter().any(|event| event.message.starts_with(&format!("REPORT RequestId: {id}"))));
    let world = world.crash().await;
    assert_eq!(world.done("hello").await.queued, 0);
    assert!(world.stage.begun.borrow().is_empty(), "what ran is not run again");
}

#[tokio::test]
async fn what_is_no_event_is_refused_at_the_door() {
    let world = World::with(quick()).await;
    world.create("hello", "echo").await;
    let sized = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    world.later("hello", &sized(1 << 20)).await.unwrap();
    let refused = world.later("hello", &sized((1 << 20) + 1)).await.unwrap_err();
    assert!(
        matches!(&refused, Error::PayloadTooLarge(text) if text.contains("1048577 byte payload")),
        "{refused}"
    );
    assert!(matches!(world.later("hello", "{nope").await, Err(Error::InvalidJson(_))));
    assert!(matches!(world.later("nobody", "{}").await, Err(Error::FunctionNotFound(_))));
    let version = FunctionRef { qualifier: Some("7".into()), ..world.named("hello") };
    let call = functions::Invoke { function: version, ..world.call("hello", "1") };
    assert!(matches!(
        world.functions.invoke_later(&world.caller, call).await,
        Err(Error::FunctionNotFound(_))
    ));
}

#[tokio::test]
async fn a_crash_before_or_while_it_runs_is_a_redelivery() {
    let world = World::with(quick()).await;
    world.create("hello", "gate").await;
    let id = world.later("hello", "1").await.unwrap();
    world.begun(1).await;
    let world = world.crash().await;
    world.begun(1).await;
    world.stage.gate.add_permits(10);
    world.done("hello").await;
    let query = observe::Query { limit: 100, ..observe::Query::default() };
    let page = world.logs.filter(&world.caller.account, "/aws/lambda/hello", &query).unwrap();
    let starts =
        page.events.iter().filter(|event| event.message.starts_with(&format!("START RequestId: {id}")));
    assert_eq!(starts.count(), 2, "the same id at each delivery");
}

#[tokio::test]
async fn errors_are_retried_as_often_as_is_said_and_then_kept() {
    let world = World::with(quick()).await;
    for (name, change, tags, tries) in [
        ("default", None, &[][..], 3),
        ("never", Some(0), &[], 1),
        ("once", Some(1), &[], 2),
        ("often", Some(1), &[("virga:async-retries", "7")], 8),
    ] {
        world.create_with(World::args(name, "error"), tags).await;
        if change.is_some() {
            world.configure(name, EventConfigChange { retries: change, ..Default::default() }).await.unwrap();
        }
        let before = world.stage.begun.borrow().len();
        let id = world.later(name, "1").await.unwrap();
        let failed = world.done(name).await;
        assert_eq!(world.stage.begun.borrow().len() - before, tries, "{name}");
        assert_eq!((failed.retries, failed.failed, failed.failed_kept), (tries as u64 - 1, 1, 1));
        let kept = world.failed(name).await.remove(0);
        assert_eq!((kept.condition.as_str(), kept.invokes), ("RetriesExhausted", tries as u32));
        assert_eq!(
            (kept.request_id, kept.response.unwrap()),
            (id, r#"{"errorType":"ValueError","errorMessage":"no"}"#.into())
        );
    }
}

#[tokio::test]
async fn failed_events_can_be_looked_at_tried_again_and_dropped() {
    let world = World::with(quick()).await;
    world.create("f", "error").await;
    world.configure("f", EventConfigChange { retries: Some(0), ..Default::default() }).await.unwrap();
    for event in ["1", "2", "3"] {
        world.later("f", event).await.unwrap();
    }
    world.done("f").await;
    let (caller, named) = (&world.caller, world.named("f"));
    let page = world.functions.failed_events(caller, &named, None, 2).await.unwrap();
    let rest = world.functions.failed_events(caller, &named, page.next_marker.as_deref(), 2).await.unwrap();
    assert_eq!((page.items.len(), rest.items.len(), rest.next_marker), (2, 1, None));
    let id = page.items[0].id.clone();
    let (event, payload) = world.functions.failed_event(caller, &named, &id).await.unwrap();
    assert_eq!((&event, payload.len()), (&page.items[0], 1));
    for bad in ["", "1", "x-y", "999-00000000-0000-4000-8000-000000000000", &format!("{id}0")] {
        assert!(
            matches!(world.functions.failed_event(caller, &named, bad).await, Err(Error::NotFound(_))),
            "{bad}"
        );
    }
    assert_eq!(world.functions.drop_failed(caller, &named, Some(&id)).await.unwrap(), 1);
    assert!(matches!(world.functions.drop_failed(caller, &named, Some(&id)).await, Err(Error::NotFound(_))));
    let before = world.stage.begun.borrow().len();
    assert_eq!(world.functions.redrive_failed(caller, &named, None).await.unwrap(), 2);
    until("they failed again", || (world.backlog("f").failed_kept == 2).then_some(())).await;
    assert_eq!(world.stage.begun.borrow().len() - before, 2);
    assert_eq!(world.functions.drop_failed(caller, &named, None).await.unwrap(), 2);
    assert!(world.failed("f").await.is_empty());
    assert_eq!(world.backlog("f").dropped, 3);
}

#[tokio::test]
async fn destinations_get_lambdas_record_with_the_end_of_the_event() {
    let world = World::with(quick()).await;
    world.create("sink", "echo").await;
    for (name, handler) in [("good", "echo"), ("bad", "error")] {
        world.create(name, handler).await;
        let to = Some(world.arn("sink"));
        let change = EventConfigChange {
            retries: Some(1),
            on_success: to.clone(),
            on_failure: to,
            ..Default::default()
        };
        world.configure(name, change).await.unwrap();
    }
    let id = world.later("good", r#"{"a": 1}"#).await.unwrap();
    let begun = world.begun(2).await;
    let record: Value = serde_json::from_str(&begun[1]).unwrap();
    assert_eq!(
        (&record["version"], &record["requestContext"]),
        (
            &json!("1.0"),
            &json!({
                "requestId": id, "functionArn": format!("{}:$LATEST", world.arn("good")),
                "condition": "Success", "approximateInvokeCount": 1
            })
        )
    );
    assert_eq!((&record["requestPayload"], &record["responsePayload"]), (&json!({"a": 1}), &json!({"a": 1})));
    assert_eq!(record["responseContext"], json!({"statusCode": 200, "executedVersion": "$LATEST"}));
    world.later("bad", "2").await.unwrap();
    let begun = world.begun(5).await;
    let record: Value = serde_json::from_str(&begun[4]).unwrap();
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 2);
    assert_eq!(record["responseContext"]["functionError"], "Unhandled");
    assert_eq!(record["responsePayload"]["errorMessage"], "no");
    world.done("bad").await;
    assert!(world.failed("bad").await.is_empty(), "its destination has it");
}

#[tokio::test]
async fn an_event_whose_destination_is_gone_is_kept() {
    let world = World::with(quick()).await;
    for name in ["f", "sink"] {
        world.create(name, "echo").await;
    }
    let change = EventConfigChange { on_success: Some(world.arn("sink")), ..Default::default() };
    world.configure("f", change).await.unwrap();
    world.functions.delete(&world.caller, &world.named("sink")).await.unwrap();
    world.later("f", "1").await.unwrap();
    world.done("f").await;
    let kept = world.failed("f").await.remove(0);
    assert_eq!((kept.condition.as_str(), kept.invokes), ("DestinationFailed", 1));
    assert!(kept.reason.unwrap().contains("does not exist"));
}

#[tokio::test]
async fn no_capacity_is_no_attempt() {
    let world = World::with(quick()).await;
    world.create("f", "echo").await;
    world.functions.reserve(&world.caller, &world.named("f"), 0).await.unwrap();
    world.later("f", "1").await.unwrap();
    until("it was refused a few times", || (world.backlog("f").throttles >= 3).then_some(())).await;
    assert_eq!(world.backlog("f").queued, 1);
    world.functions.unreserve(&world.caller, &world.named("f")).await.unwrap();
    let done = world.done("f").await;
    assert_eq!((done.retries, done.failed, world.stage.begun.borrow().len()), (0, 0, 1));
}

#[tokio::test]
async fn an_event_that_has_waited_too_long_is_given_up_and_not_run() {
    let bounds = quick();
    let pace = Pace { retry_after: Duration::from_secs(25), ..bounds.pace };
    let world = World::with(Bounds { pace, ..bounds }).await;
    for (name, handler) in [("refused", "echo"), ("fails", "error"), ("other", "echo")] {
        world.create(name, handler).await;
        world.configure(name, EventConfigChange { max_age_s: Some(60), ..Default::default() }).await.unwrap();
    }
    // One that finds no capacity until it is too old.
    world.functions.reserve(&world.caller, &world.named("refused"), 0).await.unwrap();
    world.later("refused", "1").await.unwrap();
    until("it was refused", || (world.backlog("refused").throttles >= 1).then_some(())).await;
    world.pass(Duration::from_secs(58));
    let before = world.backlog("refused").throttles;
    until("it is tried once more", || (world.backlog("refused").throttles > before).then_some(())).await;
    assert_eq!(world.backlog("refused").queued, 1, "it is not too old yet");
    world.pass(Duration::from_secs(3));
    world.functions.unreserve(&world.caller, &world.named("refused")).await.unwrap();
    world.done("refused").await;
    let kept = world.failed("refused").await.remove(0);
    assert_eq!((kept.condition.as_str(), kept.invokes, kept.response), ("EventAgeExceeded", 0, None));
    assert!(world.stage.begun.borrow().is_empty());
    // One whose next retry would come too late.
    world.later("fails", "2").await.unwrap();
    until("it failed once", || (world.backlog("fails").retries == 1).then_some(())).await;
    world.pass(Duration::from_secs(25));
    // Another's event has the clock looked at.
    world.later("other", "3").await.unwrap();
    world.done("fails").await;
    let kept = world.failed("fails").await.remove(0);
    assert_eq!((kept.condition.as_str(), kept.invokes), ("EventAgeExceeded", 2));
}

#[tokio::test]
async fn a_slow_function_holds_up_nobody() {
    let mut bounds = quick();
    bounds.pace.per_function = 3;
    bounds.pace.at_once = 5;
    let world = World::with(bounds).await;
    world.create("slow", "gate").await;
    world.create("fast", "echo").await;
    for _ in 0..20 {
        world.later("slow", "\"slow\"").await.unwrap();
    }
    world.begun(3).await;
    for _ in 0..20 {
        world.later("fast", "\"fast\"").await.unwrap();
    }
    world.done("fast").await;
    let slow = world.stage.begun.borrow().iter().filter(|event| event.contains("slow")).count();
    assert_eq!(slow, 3);
    world.stage.gate.add_permits(100);
    world.done("slow").await;
}

#[tokio::test]
async fn events_of_a_deleted_function_are_recorded_and_not_its_successors() {
    let world = World::with(quick()).await;
    world.create("f", "echo").await;
    world.functions.reserve(&world.caller, &world.named("f"), 0).await.unwrap();
    let id = world.later("f", "1").await.unwrap();
    until("it was refused", || (world.backlog("f").throttles >= 1).then_some(())).await;
    world.functions.delete(&world.caller, &world.named("f")).await.unwrap();
    world.create("f", "echo").await;
    let kept =
        until("it is given up", || Some(world.backlog("f")).filter(|each| each.failed_kept == 1)).await;
    assert_eq!(kept.queued, 0);
    let kept = world.failed("f").await.remove(0);
    assert_eq!((kept.condition.as_str(), kept.request_id), ("FunctionDeleted", id));
    assert!(world.stage.begun.borrow().is_empty());
}

#[tokio::test]
async fn a_circle_of_functions_is_cut_at_sixteen_passes() {
    let world = World::with(quick()).await;
    world.create("f", "echo").await;
    let mut trace = None;
    for pass in 0..17 {
        let call = functions::Invoke { trace_id: trace.clone(), ..world.call("f", &pass.to_string()) };
        let ran = world.functions.invoke(&world.caller, call).await;
        if pass == 16 {
            assert!(matches!(ran, Err(Error::Recursive(_))), "{ran:?}");
            break;
        }
        ran.unwrap();
        trace = world.stage.traces.lock().unwrap().last().cloned();
    }
    // The last one that ran passes its trace on.
    let call = functions::Invoke { trace_id: trace.clone(), ..world.call("f", "\"later\"") };
    world.functions.invoke_later(&world.caller, call).await.unwrap();
    world.done("f").await;
    assert_eq!(world.failed("f").await.remove(0).condition, "RecursiveLoop");
    world.functions.allow_recursion(&world.caller, &world.named("f"), true).await.unwrap();
    let call = functions::Invoke { trace_id: trace, ..world.call("f", "\"allowed\"") };
    world.functions.invoke_later(&world.caller, call).await.unwrap();
    world.begun(17).await;
    let world = world.crash().await;
    assert!(world.functions.recursion(&world.caller, &world.named("f")).unwrap(), "it is remembered");
}

#[tokio::test]
async fn configurations_are_by_qualifier_and_remembered() {
    let world = World::with(quick()).await;
    world.create("f", "echo").await;
    world.create("sink", "echo").await;
    let (caller, functions) = (world.caller.clone(), world.functions.clone());
    let named = world.named("f");
    assert!(matches!(functions.event_config(&caller, &named), Err(Error::NotFound(_))));
    let retries = |count| EventConfigChange { retries: Some(count), ..Default::default() };
    assert!(matches!(
        functions.configure_events(&caller, &named, retries(1), true).await,
        Err(Error::NotFound(_))
    ));
    let put = functions.configure_events(&caller, &named, retries(1), false).await.unwrap();
    assert_eq!((put.0.qualifier.as_deref(), put.1.retries), (Some("$LATEST"), Some(1)));
    let age = EventConfigChange { max_age_s: Some(90), ..Default::default() };
    let updated = functions.configure_events(&caller, &named, age.clone(), true).await.unwrap().1;
    assert_eq!((updated.retries, updated.max_age_s), (Some(1), Some(90)));
    let replaced = functions.configure_events(&caller, &named, age, false).await.unwrap().1;
    assert_eq!((replaced.retries, replaced.max_age_s), (None, Some(90)));
    functions.publish(&caller, &named, Default::default()).await.unwrap();
    world.settled(&named).await;
    functions.configure_events(&caller, &world.version("f", "1"), retries(0), false).await.unwrap();
    let missing = functions.configure_events(&caller, &world.version("f", "9"), retries(0), false).await;
    assert!(matches!(missing, Err(Error::FunctionNotFound(_))));
    let nowhere = EventConfigChange { on_failure: Some(world.arn("nowhere")), ..Default::default() };
    assert!(matches!(world.configure("f", nowhere).await, Err(Error::Invalid(_))));
    let world = world.crash().await;
    let listed = |marker: Option<&str>, most| {
        let page = world.functions.event_configs(&caller, &named, marker, most).unwrap();
        let names: Vec<_> = page.items.iter().map(|(arn, _)| arn.qualifier.clone().unwrap()).collect();
        (names, page.next_marker)
    };
    assert_eq!(listed(None, 1), (vec!["$LATEST".to_owned()], Some("$LATEST".to_owned())));
    assert_eq!(listed(Some("$LATEST"), 1), (vec!["1".to_owned()], None));
    world.functions.delete(&caller, &world.version("f", "1")).await.unwrap();
    assert_eq!(listed(None, 9).0, ["$LATEST"]);
    world.functions.forget_event_config(&caller, &named).await.unwrap();
    assert!(matches!(world.functions.forget_event_config(&caller, &named).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn stopping_lets_events_in_hand_end_and_leaves_the_others() {
    let mut bounds = quick();
    bounds.pace.per_function = 1;
    let world = World::with(bounds).await;
    world.create("f", "gate").await;
    for event in ["1", "2", "3"] {
        world.later("f", event).await.unwrap();
    }
    world.begun(1).await;
    let functions = world.functions.clone();
    functions.stop_events();
    let ending = tokio::spawn(async move { functions.shutdown(Duration::from_secs(20)).await });
    world.stage.gate.add_permits(10);
    ending.await.unwrap();
    assert_eq!(*world.stage.begun.borrow(), ["1"]);
    let world = world.crash().await;
    world.stage.gate.add_permits(10);
    assert_eq!(world.begun(2).await, ["2", "3"]);
    world.done("f").await;
}

#[tokio::test]
async fn an_event_has_a_time_of_its_own() {
    let world = World::with(quick()).await;
    let mut args = World::args("slow", "hang");
    args.timeout_s = 900;
    world.create_with(args, &[("virga:async-timeout", "1")]).await;
    world.configure("slow", EventConfigChange { retries: Some(0), ..Default::default() }).await.unwrap();
    world.later("slow", "{}").await.unwrap();
    world.done("slow").await;
    let failed = world.failed("slow").await;
    let response = failed[0].response.as_deref().unwrap_or_default();
    assert!(response.contains("Task timed out after 1.00 seconds"), "{failed:?}");
    let query = observe::Query { limit: 100, ..observe::Query::default() };
    let page = world.logs.filter(&world.caller.account, "/aws/lambda/slow", &query).unwrap();
    assert!(page.events.iter().any(|event| event.message.contains("Task timed out after 1.00 seconds")));
}
