//! Limits, fairness, keeping ready, freezing, draining and replacing: what a pool does beyond handing out places.

use std::sync::atomic::Ordering;
use std::time::Duration;

use functions::model::*;
use functions::{Bounds, Error, ProvisionedStatus, Scaling};

use crate::world::{World, bounds, until};
use crate::zips;

fn reason(error: &Error) -> &'static str {
    match error {
        Error::Throttled { code, .. } => code,
        other => panic!("not throttled: {other}"),
    }
}

async fn publish(world: &World, name: &str) {
    world.functions.publish(&world.caller, &world.named(name), PublishVersion::default()).await.unwrap();
}

#[tokio::test]
async fn reserved_concurrency_is_a_cap_and_nothing_is_none() {
    let world = World::new().await;
    world.create("f", "gate").await;
    world.functions.reserve(&world.caller, &world.named("f"), 2).await.unwrap();
    let calls = [world.spawn("f", "1"), world.spawn("f", "2")];
    world.begun(2).await;
    let refused = world.invoke("f", "3").await.unwrap_err();
    assert_eq!(reason(&refused), "ReservedFunctionConcurrentInvocationLimitExceeded");
    world.stage.gate.add_permits(3);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    world.invoke("f", "4").await.unwrap();
    world.functions.reserve(&world.caller, &world.named("f"), 0).await.unwrap();
    let refused = world.invoke("f", "5").await.unwrap_err();
    assert_eq!(reason(&refused), "ReservedFunctionConcurrentInvocationLimitExceeded");
    let counted = r#"reason="ReservedFunctionConcurrentInvocationLimitExceeded""#;
    assert_eq!(world.metric(counted), Some(2.0));
    // After a restart too.
    let world = world.crash().await;
    assert!(world.invoke("f", "6").await.is_err());
    world.functions.unreserve(&world.caller, &world.named("f")).await.unwrap();
    world.stage.gate.add_permits(1);
    world.invoke("f", "7").await.unwrap();
}

#[tokio::test]
async fn an_accounts_calls_are_bounded_and_what_is_reserved_is_kept_for_its_function() {
    let scaling = Scaling { account_concurrency: 3, ..Scaling::default() };
    let world = World::with(Bounds { scaling, ..bounds() }).await;
    world.create("a", "gate").await;
    world.create("b", "gate").await;
    let calls: Vec<_> = ["a", "a", "b"].into_iter().map(|name| world.spawn(name, "1")).collect();
    world.begun(3).await;
    for name in ["a", "b"] {
        let refused = world.invoke(name, "2").await.unwrap_err();
        assert_eq!(reason(&refused), "ConcurrentInvocationLimitExceeded");
    }
    world.functions.reserve(&world.caller, &world.named("b"), 2).await.unwrap();
    let own = world.spawn("b", "3");
    world.begun(4).await;
    world.stage.gate.add_permits(4);
    for call in calls.into_iter().chain([own]) {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn others_leave_the_instances_that_are_reserved() {
    let world = World::with(Bounds { max_instances: 4, ..bounds() }).await;
    world.create("own", "echo").await;
    world.create("others", "gate").await;
    world.functions.reserve(&world.caller, &world.named("own"), 2).await.unwrap();
    let calls: Vec<_> = (0..5).map(|n| world.spawn("others", &n.to_string())).collect();
    world.begun(2).await;
    until("in line", || (queued(&world, "others") == Some(3.0)).then_some(())).await;
    assert_eq!(world.started(), 2, "the other two places are not for them");
    assert_eq!(world.invoke("own", "9").await.unwrap().result.unwrap(), "9");
    assert_eq!(world.stage.begun.borrow().len(), 3, "none of the others had to give way for it");
    world.stage.gate.add_permits(5);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn provisioned_instances_are_kept_ready_replaced_and_let_go() {
    let world = World::new().await;
    world.create_with(World::args("f", "echo"), &[("virga:idle-timeout", "1")]).await;
    publish(&world, "f").await;
    let version = world.version("f", "1");
    world.functions.provision(&world.caller, &version, 2).await.unwrap();
    world.live(2).await;
    let told = || world.functions.provisioned(&world.caller, &version).unwrap().provisioned;
    until("ready", || (told().status == ProvisionedStatus::Ready).then_some(())).await;
    assert_eq!((told().requested, told().allocated, told().available), (2, 2, 2));
    assert_eq!(of(&world, "faas_provisioned", "f"), Some(2.0));
    // One dies of a call and is replaced; the idle time-out of a second does not apply to them.
    let mut call = world.call("f", "\"do exit-1\"");
    call.function = version.clone();
    assert!(world.functions.invoke(&world.caller, call).await.unwrap().result.is_err());
    until("replaced", || (world.started() == 3 && told().available == 2).then_some(())).await;
    tokio::time::timeout(Duration::from_millis(2500), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!((*world.stage.live.borrow(), world.started()), (2, 3));
    // After a restart they come up by themselves.
    let world = world.crash().await;
    world.live(2).await;
    world.functions.unprovision(&world.caller, &version).await.unwrap();
    world.live(0).await;
}

#[tokio::test]
async fn provisioned_instances_that_do_not_come_up_say_why() {
    let world = World::new().await;
    world.create("f", "init-exit").await;
    publish(&world, "f").await;
    let version = world.version("f", "1");
    world.functions.provision(&world.caller, &version, 1).await.unwrap();
    let told = || world.functions.provisioned(&world.caller, &version).unwrap().provisioned;
    until("failed", || (told().status == ProvisionedStatus::Failed).then_some(())).await;
    assert_eq!(told().reason.unwrap(), "the process ended during initialisation");
    assert_eq!(*world.stage.attempts.borrow(), 1, "and are not started again at once");
}

#[tokio::test]
async fn provisioned_instances_are_not_evicted() {
    let world = World::with(Bounds { max_instances: 2, ..bounds() }).await;
    world.create("kept", "echo").await;
    publish(&world, "kept").await;
    world.functions.provision(&world.caller, &world.version("kept", "1"), 1).await.unwrap();
    world.live(1).await;
    for name in ["a", "b"] {
        world.create(name, "echo").await;
        world.invoke(name, "1").await.unwrap();
    }
    world.live(2).await;
    assert_eq!(of(&world, "faas_provisioned", "kept"), Some(1.0));
    assert_eq!(of(&world, "faas_evictions_total", "a"), Some(1.0));
    let names: Vec<String> =
        world.stage.started.borrow().iter().map(|spec| spec.function.name.clone()).collect();
    assert_eq!(names, ["kept", "a", "b"]);
}

#[tokio::test]
async fn provisioned_instances_get_the_room_of_idle_ones() {
    let world = World::with(Bounds { max_instances: 2, ..bounds() }).await;
    for name in ["a", "b", "kept"] {
        world.create(name, "echo").await;
    }
    world.invoke("a", "1").await.unwrap();
    world.invoke("b", "1").await.unwrap();
    publish(&world, "kept").await;
    let version = world.version("kept", "1");
    world.functions.provision(&world.caller, &version, 1).await.unwrap();
    let told = || world.functions.provisioned(&world.caller, &version).unwrap().provisioned;
    until("ready", || (told().status == ProvisionedStatus::Ready).then_some(())).await;
    assert_eq!(of(&world, "faas_evictions_total", "a"), Some(1.0));
}

#[tokio::test]
async fn a_full_house_gives_way_to_a_newcomer_but_only_so_far() {
    let world = World::with(Bounds { max_instances: 4, ..bounds() }).await;
    world.create("burst", "gate").await;
    world.create("trickle", "echo").await;
    let calls: Vec<_> = (0..12).map(|n| world.spawn("burst", &n.to_string())).collect();
    world.begun(4).await;
    let waiting = world.spawn("trickle", "1");
    until("in line", || (queued(&world, "trickle") == Some(1.0)).then_some(())).await;
    // One call of the burst ends. The place goes to the trickle, though eight of the burst wait.
    world.stage.gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().unwrap().result.unwrap(), "1");
    let begun = world.stage.begun.borrow().len();
    assert_eq!(begun, 5, "four of the burst, and the trickle's before any other of the burst");
    world.stage.gate.add_permits(20);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_needs_more_room_than_is_free_is_not_overtaken_by_who_holds_more() {
    let world = World::with(Bounds { max_memory_bytes: 512 << 20, ..bounds() }).await;
    world.create("small", "gate").await;
    let mut args = World::args("big", "echo");
    args.memory_mb = 256;
    world.create_with(args, &[]).await;
    let mut calls: Vec<_> = (0..3).map(|n| world.spawn("small", &n.to_string())).collect();
    world.begun(3).await;
    let big = world.spawn("big", "9");
    until("in line", || (queued(&world, "big") == Some(1.0)).then_some(())).await;
    // There would be room for one more that is small.
    calls.push(world.spawn("small", "3"));
    until("in line", || (queued(&world, "small") == Some(1.0)).then_some(())).await;
    world.stage.gate.add_permits(1);
    assert_eq!(big.await.unwrap().unwrap().result.unwrap(), "9");
    let names: Vec<String> =
        world.stage.started.borrow().iter().map(|spec| spec.function.name.clone()).collect();
    assert_eq!(names, ["small", "small", "small", "big"]);
    world.stage.gate.add_permits(10);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn with_one_place_functions_take_turns() {
    let world = World::with(Bounds { max_instances: 1, ..bounds() }).await;
    world.create("a", "gate").await;
    world.create("b", "echo").await;
    // One that always has a call waiting, for longer than a turn.
    let calls: Vec<_> = (0..99).map(|_| world.spawn("a", "1")).collect();
    until("in line", || (queued(&world, "a") == Some(98.0)).then_some(())).await;
    let stage = world.stage.clone();
    let served = tokio::spawn(async move {
        for _ in 0..99 {
            stage.gate.add_permits(1);
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
    assert_eq!(world.invoke("b", "2").await.unwrap().result.unwrap(), "2");
    assert!(queued(&world, "a") > Some(0.0), "a did not have to be done first");
    served.await.unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_regular_callers_instance_is_let_go_and_started_again_ahead_of_the_call() {
    let scaling = Scaling { keep_at_least: Duration::from_millis(500), ..Scaling::default() };
    let world = World::with(Bounds { scaling, ..bounds() }).await;
    world.create("f", "echo").await;
    for _ in 0..4 {
        world.invoke("f", "1").await.unwrap();
        tokio::time::timeout(Duration::from_secs(4), std::future::pending::<()>()).await.unwrap_err();
    }
    let started = world.started();
    // The call is late. Its instance came up at about the usual time, and goes when it is not called.
    until("started ahead", || (of(&world, "faas_prewarms_total", "f") == Some(1.0)).then_some(())).await;
    world.live(1).await;
    world.live(0).await;
    assert!(world.started() <= started + 1);
    assert_eq!(of(&world, "faas_prewarms_total", "f"), Some(1.0), "once an idle time");
}

/// A metric of all of a function's versions together.
fn of(world: &World, metric: &str, name: &str) -> Option<f64> {
    let text = world.metrics.encode();
    let named = format!(r#"faas_name="{name}""#);
    let lines = text.lines().filter(|line| line.starts_with(metric) && line.contains(&named));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).reduce(|a, b| a + b)
}

/// Calls of a function that wait.
fn queued(world: &World, name: &str) -> Option<f64> {
    of(world, "faas_queued", name)
}

#[tokio::test]
async fn what_would_wait_in_vain_is_refused_at_once_and_told_when_to_come() {
    let tight = Bounds { max_instances: 1, queue_timeout: Duration::from_secs(1), ..bounds() };
    let world = World::with(tight).await;
    world.create("f", "gate").await;
    // A call takes some 300 ms, and the pool has seen that.
    for n in 0..2 {
        let call = world.spawn("f", &n.to_string());
        world.begun(n + 1).await;
        tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>()).await.unwrap_err();
        world.stage.gate.add_permits(1);
        call.await.unwrap().unwrap();
    }
    tokio::time::timeout(Duration::from_millis(1600), std::future::pending::<()>()).await.unwrap_err();
    let running = world.spawn("f", "2");
    world.begun(3).await;
    let mut calls = Vec::new();
    let refused = loop {
        let before = std::time::Instant::now();
        let call = world.spawn("f", "3");
        let waits = calls.len() as f64 + 1.0;
        let outcome = until("in line or refused", || {
            let in_line = queued(&world, "f") == Some(waits);
            (in_line || call.is_finished()).then_some(())
        });
        outcome.await;
        if call.is_finished() {
            assert!(before.elapsed() < Duration::from_millis(500), "refused at once");
            break call.await.unwrap().unwrap_err();
        }
        calls.push(call);
        assert!(calls.len() < 20, "nobody is refused");
    };
    assert!(calls.len() < 6, "{} wait", calls.len());
    let Error::Throttled { retry_after_ms, code, .. } = refused else { panic!("{refused}") };
    assert_eq!(code, "ConcurrentInvocationLimitExceeded");
    assert!((500..5000).contains(&retry_after_ms), "{retry_after_ms}");
    world.stage.gate.add_permits(20);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_instances_are_frozen_unless_the_function_opts_out() {
    let world = World::new().await;
    world.create("f", "echo").await;
    world.create_with(World::args("g", "echo"), &[("virga:freeze", "off")]).await;
    world.invoke("g", "1").await.unwrap();
    world.invoke("f", "1").await.unwrap();
    until("frozen", || (world.stage.frozen.load(Ordering::SeqCst) == 1).then_some(())).await;
    assert_eq!(frozen(&world), 1.0);
    // The next call finds it, and it is not frozen while that runs.
    let running = world.spawn("f", "\"do gate\"");
    world.begun(3).await;
    assert_eq!(frozen(&world), 0.0);
    tokio::time::timeout(Duration::from_millis(1600), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(world.stage.frozen.load(Ordering::SeqCst), 1, "neither f, which runs, nor g, ever");
    world.stage.gate.add_permits(1);
    running.await.unwrap().unwrap();
    assert_eq!(world.started(), 2);
}

fn frozen(world: &World) -> f64 {
    let text = world.metrics.encode();
    let lines = text.lines().filter(|line| line.starts_with("faas_frozen"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn a_stopping_server_serves_who_waits_and_refuses_who_comes() {
    let world = World::with(Bounds { max_instances: 1, ..bounds() }).await;
    world.create("f", "gate").await;
    let calls: Vec<_> = (0..3).map(|n| world.spawn("f", &n.to_string())).collect();
    until("in line", || (queued(&world, "f") == Some(2.0)).then_some(())).await;
    let functions = world.functions.clone();
    let stopping = tokio::spawn(async move { functions.shutdown(Duration::from_secs(20)).await });
    until("refused", || {
        let late = futures_util::FutureExt::now_or_never(world.invoke("f", "9"));
        matches!(late, Some(Err(Error::Unavailable(_)))).then_some(())
    })
    .await;
    world.stage.gate.add_permits(3);
    for call in calls {
        assert!(call.await.unwrap().unwrap().result.is_ok());
    }
    stopping.await.unwrap();
    assert_eq!(*world.stage.live.borrow(), 0);
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_call_that_was_sent_away() {
    let soon = Duration::from_millis(50);
    let world = World::with(Bounds { queue_timeout: soon, init_timeout: soon, ..bounds() }).await;
    world.create("f", "start-gate").await;
    let call = world.spawn("f", "1");
    world.attempts(1).await;
    let ending = world.functions.shutdown(Duration::from_secs(3600));
    tokio::time::timeout(crate::world::WAIT, ending).await.expect("nothing runs or waits any more");
    assert!(matches!(call.await.unwrap(), Err(Error::Throttled { .. })));
}

#[tokio::test]
async fn new_code_is_warm_before_calls_go_to_it_and_the_old_is_let_go() {
    let world = World::new().await;
    let mut args = World::args("f", "start-gate");
    args.timeout_s = 30;
    let created = world.create_with(args, &[]).await.configuration;
    world.stage.start_gate.add_permits(1);
    world.invoke("f", "1").await.unwrap();
    let update =
        UpdateCode { code: zips::package("new").into(), dry_run: false, publish: false, revision_id: None };
    world.functions.update_code(&world.caller, &world.named("f"), update).await.unwrap();
    world.attempts(2).await;
    // The new instance is on its way: calls still go to the old one, and at once.
    assert_eq!(world.invoke("f", "2").await.unwrap().result.unwrap(), "2");
    assert_eq!(world.started(), 1);
    world.stage.start_gate.add_permits(1);
    world.settled(&world.named("f")).await;
    assert_eq!(world.invoke("f", "3").await.unwrap().result.unwrap(), "3");
    assert_eq!(world.started(), 2, "it was up already");
    world.live(1).await;
    until("retired", || world.stage.retired.lock().unwrap().first().cloned()).await;
    let first = world.stage.started.borrow()[0].revision.clone();
    assert_eq!(*world.stage.retired.lock().unwrap(), [first]);
    assert_ne!(created.revision_id, world.stage.started.borrow()[1].revision);
}

#[tokio::test]
async fn what_is_kept_for_fast_starts_gives_way_to_instances() {
    let world = World::with(Bounds { max_memory_bytes: 256 << 20, ..bounds() }).await;
    world.stage.residents.store(200 << 20, Ordering::SeqCst);
    world.create("f", "echo").await;
    until("asked what is kept", || (world.stage.asked.load(Ordering::SeqCst) > 1).then_some(())).await;
    world.invoke("f", "1").await.unwrap();
    assert_eq!(world.stage.residents.load(Ordering::SeqCst), 128 << 20, "as much as is needed, no more");
}

#[tokio::test]
async fn events_share_an_instance_up_to_the_hard_limit_and_one_that_is_late_does_not_end_the_others() {
    let world = World::with(Bounds { max_instances: 1, ..bounds() }).await;
    let mut args = World::args("f", "gate");
    args.timeout_s = 1;
    let tags = [("virga:soft-concurrency", "2"), ("virga:hard-concurrency", "3")];
    world.create_with(args, &tags).await;
    let late = world.spawn("f", "\"do hang\"");
    world.begun(1).await;
    tokio::time::timeout(Duration::from_millis(600), std::future::pending::<()>()).await.unwrap_err();
    let others = [world.spawn("f", "1"), world.spawn("f", "2")];
    world.begun(3).await;
    assert_eq!(world.started(), 1);
    assert!(late.await.unwrap().unwrap().result.is_err(), "it timed out");
    world.stage.gate.add_permits(2);
    for call in others {
        assert!(call.await.unwrap().unwrap().result.is_ok(), "the others ended as if nothing had been");
    }
    world.live(0).await;
    assert!(world.invoke("f", "\"do echo\"").await.unwrap().result.is_ok());
    assert_eq!(world.started(), 2, "the instance took no new call");
}
