//! Who gets which instance when.

use std::time::Duration;

use functions::{Bounds, Error};

use crate::world::{World, bounds, until};

#[tokio::test]
async fn one_call_an_instance_and_warm_ones_are_used_again() {
    let world = World::new().await;
    world.create("f", "gate").await;
    let calls: Vec<_> = (0..3).map(|n| world.spawn("f", &n.to_string())).collect();
    world.begun(3).await;
    assert_eq!(world.started(), 3);
    world.stage.gate.add_permits(3);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    world.stage.gate.add_permits(5);
    for _ in 0..5 {
        world.invoke("f", "9").await.unwrap();
    }
    assert_eq!(world.started(), 3);
}

#[tokio::test]
async fn whoever_waits_longest_gets_what_is_free_first() {
    let world = World::with(Bounds { max_instances: 1, ..bounds() }).await;
    world.create("f", "gate").await;
    let mut calls = vec![world.spawn("f", "0")];
    world.begun(1).await;
    for n in 1..6 {
        calls.push(world.spawn("f", &n.to_string()));
        until("in line", || (world.metric("queued") == Some(f64::from(n))).then_some(())).await;
    }
    world.stage.gate.add_permits(6);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(world.begun(6).await, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(world.started(), 1);
}

#[tokio::test]
async fn a_freed_instance_serves_the_one_who_caused_a_start() {
    let world = World::new().await;
    world.create("f", "start-gate").await;
    world.stage.start_gate.add_permits(1);
    let first = world.spawn("f", "\"do gate\"");
    world.begun(1).await;
    let second = world.spawn("f", "2");
    world.attempts(2).await;
    // The second start never ends; the first instance becomes free.
    world.stage.gate.add_permits(1);
    first.await.unwrap().unwrap();
    assert_eq!(second.await.unwrap().unwrap().result.unwrap(), "2");
    assert_eq!(world.started(), 1);
}

#[tokio::test]
async fn the_line_is_bounded_and_so_is_the_wait() {
    let tight =
        Bounds { max_instances: 1, max_queue: 2, queue_timeout: Duration::from_millis(300), ..bounds() };
    let world = World::with(tight).await;
    let mut args = World::args("f", "gate");
    args.timeout_s = 30;
    world.create_with(args, &[]).await;
    let running = world.spawn("f", "0");
    world.begun(1).await;
    let waiting = [world.spawn("f", "1"), world.spawn("f", "2")];
    until("in line", || (world.metric("queued") == Some(2.0)).then_some(())).await;
    let refused = world.invoke("f", "3").await.unwrap_err();
    assert!(
        matches!(refused, Error::Throttled { code: "ConcurrentInvocationLimitExceeded", .. }),
        "{refused}"
    );
    for call in waiting {
        assert!(matches!(call.await.unwrap(), Err(Error::Throttled { .. })), "waited too long");
    }
    assert_eq!(world.metric("queued"), Some(0.0));
    world.stage.gate.add_permits(2);
    running.await.unwrap().unwrap();
    assert_eq!(world.invoke("f", "4").await.unwrap().result.unwrap(), "4");
}

#[tokio::test]
async fn a_call_whose_start_is_under_way_waits_for_it() {
    let world = World::with(Bounds { queue_timeout: Duration::from_millis(50), ..bounds() }).await;
    world.create("f", "start-gate").await;
    let call = world.spawn("f", "1");
    world.attempts(1).await;
    tokio::time::timeout(Duration::from_millis(200), std::future::pending::<()>()).await.unwrap_err();
    world.stage.start_gate.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap().result.unwrap(), "1");
}

#[tokio::test]
async fn who_hangs_up_leaves_the_line() {
    let world = World::with(Bounds { max_instances: 1, max_queue: 1, ..bounds() }).await;
    world.create("f", "gate").await;
    let running = world.spawn("f", "0");
    world.begun(1).await;
    let gone = world.spawn("f", "1");
    until("in line", || (world.metric("queued") == Some(1.0)).then_some(())).await;
    gone.abort();
    until("out of line", || (world.metric("queued") == Some(0.0)).then_some(())).await;
    let next = world.spawn("f", "2");
    until("in line", || (world.metric("queued") == Some(1.0)).then_some(())).await;
    world.stage.gate.add_permits(2);
    running.await.unwrap().unwrap();
    next.await.unwrap().unwrap();
    assert_eq!(world.begun(2).await, ["0", "2"]);
}

#[tokio::test]
async fn at_the_cap_the_longest_idle_of_others_makes_room() {
    let world = World::with(Bounds { max_instances: 2, ..bounds() }).await;
    for name in ["a", "b", "c"] {
        world.create(name, "echo").await;
    }
    world.invoke("a", "1").await.unwrap();
    world.invoke("b", "1").await.unwrap();
    world.invoke("c", "1").await.unwrap();
    assert_eq!(*world.stage.live.borrow(), 2);
    world.invoke("b", "2").await.unwrap();
    assert_eq!(world.started(), 3, "b was used after a, so a had to go");
    world.invoke("a", "2").await.unwrap();
    assert_eq!(world.started(), 4);
}

#[tokio::test]
async fn at_the_cap_what_is_called_often_outlives_what_was_called_last() {
    let world = World::with(Bounds { max_instances: 2, ..bounds() }).await;
    for name in ["a", "b", "c"] {
        world.create(name, "echo").await;
    }
    for _ in 0..10 {
        world.invoke("a", "1").await.unwrap();
    }
    // Calls are counted once a second.
    tokio::time::timeout(Duration::from_millis(2100), std::future::pending::<()>()).await.unwrap_err();
    world.invoke("b", "1").await.unwrap();
    world.invoke("c", "1").await.unwrap();
    world.invoke("a", "2").await.unwrap();
    assert_eq!(world.started(), 3, "b had to go, though a was idle for longer");
}

#[tokio::test]
async fn without_room_a_call_waits_for_another_functions_instance() {
    let memory = Bounds { max_memory_bytes: 128 << 20, ..bounds() };
    let world = World::with(memory).await;
    world.create("a", "gate").await;
    world.create("b", "echo").await;
    let running = world.spawn("a", "1");
    world.begun(1).await;
    let waiting = world.spawn("b", "2");
    until("in line", || world.metrics.encode().contains("\"b\"").then_some(())).await;
    assert_eq!(world.started(), 1);
    world.stage.gate.add_permits(1);
    running.await.unwrap().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().result.unwrap(), "2");
    world.live(1).await;
    let mut args = World::args("big", "echo");
    args.memory_mb = 256;
    world.create_with(args, &[]).await;
    assert!(matches!(world.invoke("big", "1").await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn idle_instances_are_stopped_and_the_next_call_starts_one() {
    let world = World::new().await;
    world.create_with(World::args("f", "echo"), &[("virga:idle-timeout", "1")]).await;
    world.create("g", "echo").await;
    world.invoke("g", "1").await.unwrap();
    world.invoke("f", "1").await.unwrap();
    world.live(1).await;
    world.invoke("f", "2").await.unwrap();
    assert_eq!(world.started(), 3);
}

#[tokio::test]
async fn failing_starts_answer_one_call_each_and_do_not_spin() {
    let world = World::new().await;
    world.create("f", "init-exit").await;
    let calls: Vec<_> = (0..10).map(|_| world.spawn("f", "1")).collect();
    for call in calls {
        assert!(call.await.unwrap().unwrap().result.is_err());
    }
    let attempts = *world.stage.attempts.borrow();
    assert!((1..=10).contains(&attempts), "{attempts} starts for 10 calls");
    // Room is given back: no instance counts any more.
    assert_eq!(*world.stage.live.borrow(), 0);
}

/// Many callers, little room, some hang up, some instances die: nobody is forgotten and nothing is left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_leaves_nothing_behind() {
    let world = World::with(Bounds { max_instances: 3, max_queue: 1000, ..bounds() }).await;
    for name in ["a", "b", "c", "d", "e"] {
        world.create(name, "echo").await;
    }
    let mut calls = Vec::new();
    for n in 0..600_usize {
        let event = if n % 17 == 0 { "\"do exit-1\"" } else { "1" };
        let call = world.spawn(["a", "b", "c", "d", "e"][n % 5], event);
        if n % 7 == 0 {
            tokio::task::yield_now().await;
            call.abort();
        }
        calls.push(call);
    }
    for call in calls {
        match tokio::time::timeout(crate::world::WAIT, call).await.expect("nobody waits for ever") {
            Ok(outcome) => drop(outcome.expect("nobody is refused")),
            Err(hung_up) => assert!(hung_up.is_cancelled(), "{hung_up}"),
        }
    }
    until("all quiet", || (running(&world) == 0.0 && *world.stage.live.borrow() <= 3).then_some(())).await;
    for name in ["a", "b", "c", "d", "e", "a", "b", "c", "d", "e"] {
        assert_eq!(world.invoke(name, "1").await.unwrap().result.unwrap(), "1");
    }
    world.functions.shutdown(Duration::from_secs(20)).await;
    assert_eq!(*world.stage.live.borrow(), 0);
}

/// Calls running, all functions together.
fn running(world: &World) -> f64 {
    let text = world.metrics.encode();
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains("running"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn web_servers_take_several_calls_up_to_the_hard_limit() {
    let world = World::with(Bounds { max_instances: 2, ..bounds() }).await;
    let tags = [("virga:contract", "http"), ("virga:soft-concurrency", "2"), ("virga:hard-concurrency", "3")];
    world.create_with(World::args("f", "gate"), &tags).await;
    let mut calls: Vec<_> = (0..2).map(|n| world.spawn("f", &n.to_string())).collect();
    world.begun(2).await;
    assert_eq!(world.started(), 1, "two calls are what scaling aims at");
    calls.extend((2..6).map(|n| world.spawn("f", &n.to_string())));
    world.begun(6).await;
    assert_eq!(world.started(), 2);
    calls.push(world.spawn("f", "6"));
    until("in line", || (world.metric("queued") == Some(1.0)).then_some(())).await;
    assert_eq!(world.stage.begun.borrow().len(), 6, "never above the hard limit");
    world.stage.gate.add_permits(7);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn wasm_has_one_instance_a_version() {
    let world = World::new().await;
    let mut args = World::args("f", "gate");
    args.runtime = "wasm".into();
    world.create_with(args, &[]).await;
    let calls: Vec<_> = (0..50).map(|n| world.spawn("f", &n.to_string())).collect();
    world.begun(50).await;
    world.stage.gate.add_permits(50);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(world.started(), 1);
}

#[tokio::test]
async fn a_retired_wasm_instance_does_not_keep_the_next_one_away() {
    let world = World::with(Bounds { queue_timeout: Duration::from_secs(2), ..bounds() }).await;
    let mut args = World::args("f", "command");
    args.runtime = "wasm".into();
    args.timeout_s = 60;
    world.create_with(args, &[]).await;
    let running = world.spawn("f", "\"do gate\"");
    world.begun(1).await;
    assert!(world.invoke("f", "\"do reset\"").await.unwrap().result.is_err());
    assert_eq!(world.invoke("f", "1").await.unwrap().result.unwrap(), "1");
    assert_eq!(world.started(), 2);
    world.stage.gate.add_permits(1);
    assert!(running.await.unwrap().unwrap().result.is_ok());
    world.live(1).await;
}
