//! What callers and logs are told, call by call.

use std::sync::atomic::Ordering;
use std::time::Duration;

use functions::{Bounds, Error};
use futures_util::FutureExt;
use serde_json::json;

use crate::world::{World, bounds, error_payload, tail, until};

#[tokio::test]
async fn the_log_tells_the_call() {
    let world = World::new().await;
    world.create("hello", "echo").await;
    let outcome = world.invoke("hello", "1").await.unwrap();
    let tail = tail(&outcome);
    let lines: Vec<&str> = tail.lines().collect();
    let [start, saw, end, report] = lines[..] else { panic!("{tail}") };
    assert!(start.starts_with("START RequestId: ") && start.ends_with(" Version: $LATEST"), "{start}");
    assert_eq!(saw, "saw 1");
    assert!(end.starts_with("END RequestId: "));
    for part in [
        "\tDuration: ",
        " ms\tBilled Duration: ",
        "\tMemory Size: 128 MB\tMax Memory Used: 30 MB\tInit Duration: ",
    ] {
        assert!(report.contains(part), "{report}");
    }
    let second = crate::world::tail(&world.invoke("hello", "2").await.unwrap());
    assert!(!second.contains("Init Duration") && !second.contains("saw 1"), "{second}");

    let spec = world.stage.started.borrow()[0].clone();
    let env = |key: &str| spec.env.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(env("AWS_LAMBDA_LOG_GROUP_NAME"), Some("/aws/lambda/hello"));
    let stream = env("AWS_LAMBDA_LOG_STREAM_NAME").unwrap();
    assert!(stream.ends_with(&format!("/[$LATEST]{}", spec.instance)), "{stream}");
    assert_eq!(env("AWS_LAMBDA_INITIALIZATION_TYPE"), Some("on-demand"));
    assert!(env("AWS_SESSION_TOKEN").is_some() && env("_HANDLER") == Some("echo"));
    let query = observe::Query { limit: 100, ..observe::Query::default() };
    let page = world.logs.filter(&world.caller.account, "/aws/lambda/hello", &query).unwrap();
    assert!(page.events[0].message.starts_with("INIT_START Runtime Version: python3.11"));
    assert_eq!(page.events.len(), 9);
    assert!(page.events.iter().all(|event| event.stream == stream));
}

#[tokio::test]
async fn every_bad_end_has_lambdas_words_and_the_next_call_is_clean() {
    let world = World::new().await;
    for (index, (handler, kind, message, fresh)) in [
        ("exit-1", "Runtime.ExitError", "Error: Runtime exited with error: exit status 1", true),
        ("exit-0", "Runtime.ExitError", "Error: Runtime exited without providing a reason", true),
        (
            "segfault",
            "Runtime.ExitError",
            "Error: Runtime exited with error: signal: segmentation fault",
            true,
        ),
        ("oom", "Runtime.OutOfMemory", "Error: Runtime exited with error: signal: killed", true),
        ("reset", "Runtime.BadAnswer", "Error: connection reset", true),
        ("trap", "Runtime.Trap", "Error: unreachable executed", false),
        (
            "large",
            "Function.ResponseSizeTooLarge",
            "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
            false,
        ),
        ("error", "ValueError", "no", false),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("f{index}");
        world.create(&name, "echo").await;
        let before = world.started();
        let outcome = world.invoke(&name, &format!("\"do {handler}\"")).await.unwrap();
        assert_eq!(error_payload(&outcome), json!({"errorType": kind, "errorMessage": message}), "{handler}");
        if handler != "error" {
            let tail = tail(&outcome);
            assert!(tail.contains(&format!("{message} {kind}\n")), "{tail}");
            assert!(tail.contains(&format!("Status: error\tError Type: {kind}")), "{tail}");
        }
        assert_eq!(world.invoke(&name, "1").await.unwrap().result.unwrap(), "1", "{handler}");
        assert_eq!(world.started() - before, 1 + usize::from(fresh), "{handler}");
    }
}

#[tokio::test]
async fn an_instance_that_ended_before_it_took_the_event_is_not_the_calls_end() {
    for contract in ["lambda", "http"] {
        let world = World::new().await;
        world.create_with(World::args("hello", "echo"), &[("virga:contract", contract)]).await;
        world.invoke("hello", "1").await.unwrap();
        world.stage.not_delivered.store(4, Ordering::SeqCst);
        let call = world.call("hello", "2");
        let id = call.id;
        let outcome = world.functions.invoke(&world.caller, call).await.unwrap();
        assert_eq!(outcome.result.as_ref().unwrap(), "2");
        assert_eq!(world.begun(2).await, ["1", "2"], "no code saw the event twice");
        assert_eq!(world.started(), 5);
        assert_eq!(tail(&outcome).matches("START RequestId").count(), 1, "the tail is the last instance's");
        let query = observe::Query { limit: 100, ..observe::Query::default() };
        let page = world.logs.filter(&world.caller.account, "/aws/lambda/hello", &query).unwrap();
        let said = format!(
            "RequestId: {id} Error: Runtime exited with error: signal: killed, before it took the event; another \
             instance gets it"
        );
        assert_eq!(page.events.iter().filter(|event| event.message.trim_end() == said).count(), 4);
        world.live(1).await;
        assert_eq!(world.metric("invocations"), Some(2.0));
        assert_eq!(world.metric("errors").unwrap_or_default(), 0.0);
    }
}

#[tokio::test]
async fn a_program_that_ends_before_every_event_is_given_up() {
    let world = World::new().await;
    world.create("hello", "echo").await;
    world.stage.not_delivered.store(100, Ordering::SeqCst);
    let outcome = world.invoke("hello", "1").await.unwrap();
    assert_eq!(
        error_payload(&outcome),
        json!({"errorType": "Runtime.ExitError", "errorMessage": "Error: Runtime exited with error: signal: killed"})
    );
    assert_eq!((world.started(), world.stage.begun.borrow().len()), (5, 0));
    assert!(tail(&outcome).contains("Status: error\tError Type: Runtime.ExitError"));
    world.live(0).await;
}

#[tokio::test]
async fn the_answer_to_a_time_out_does_not_wait_for_a_slow_death() {
    let world = World::with(Bounds { max_instances: 1, ..bounds() }).await;
    let mut args = World::args("slow", "dies-slowly");
    args.timeout_s = 1;
    world.create_with(args, &[]).await;
    let outcome = world.invoke("slow", "\"do hang\"").await.unwrap();
    let tail = tail(&outcome);
    assert!(tail.contains("last words\n"), "{tail}");
    assert!(tail.trim_end().ends_with("Status: timeout"), "{tail}");
    assert_eq!(*world.stage.live.borrow(), 1, "it still dies");
    // Its room is taken until it is gone, and nobody else gets it.
    let mut next = std::pin::pin!(world.invoke("slow", "1"));
    assert!(next.as_mut().now_or_never().is_none());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(next.as_mut().now_or_never().is_none());
    assert_eq!((world.started(), *world.stage.live.borrow()), (1, 1));
    world.stage.end_gate.add_permits(1);
    assert_eq!(next.await.unwrap().result.unwrap(), "1");
    assert_eq!(world.started(), 2);
    world.stage.end_gate.add_permits(1);
}

#[tokio::test]
async fn a_time_out_stops_the_instance() {
    let world = World::new().await;
    let mut args = World::args("slow", "echo");
    args.timeout_s = 1;
    world.create_with(args, &[]).await;
    let outcome = world.invoke("slow", "\"do hang\"").await.unwrap();
    assert_eq!(
        error_payload(&outcome),
        json!({"errorType": "Sandbox.Timedout", "errorMessage": "Error: Task timed out after 1.00 seconds"})
    );
    let tail = tail(&outcome);
    assert!(tail.contains(" Task timed out after 1.00 seconds\nEND RequestId: "), "{tail}");
    assert!(tail.trim_end().ends_with("Status: timeout"), "{tail}");
    assert_eq!(*world.stage.live.borrow(), 0, "stopped before the answer");
    assert!(!tail.contains("last words"), "it was gone: {tail}");
    assert_eq!(world.invoke("slow", "1").await.unwrap().result.unwrap(), "1");
    assert_eq!(world.started(), 2);
}

#[tokio::test]
async fn a_start_that_fails_is_its_callers_answer() {
    let world = World::new().await;
    for (handler, kind, message) in [
        ("init-error", "Runtime.ImportModuleError", "no module"),
        ("init-exit", "Runtime.ExitError", "Error: Runtime exited with error: exit status 3"),
        ("init-timeout", "Sandbox.Timedout", "Error: Initialization timed out after 20.00 seconds"),
        ("no-entry", "Runtime.InvalidEntrypoint", "Error: bootstrap is not executable"),
        ("start-invalid", "Runtime.InvalidEntrypoint", "Error: the module has gone bad"),
    ] {
        world.create(handler, handler).await;
        let before = *world.stage.attempts.borrow();
        let outcome = world.invoke(handler, "1").await.unwrap();
        assert_eq!(error_payload(&outcome), json!({"errorType": kind, "errorMessage": message}));
        let tail = tail(&outcome);
        assert!(tail.contains("INIT_START") && tail.contains("\nEND RequestId"), "{tail}");
        assert_eq!(tail.contains("Traceback"), handler == "init-error", "{tail}");
        let status = match handler {
            "init-timeout" => "timeout\n".to_owned(),
            _ => format!("error\tError Type: {kind}\n"),
        };
        assert!(tail.contains(&format!("Phase: init\tStatus: {status}")), "{tail}");
        assert_eq!(*world.stage.attempts.borrow() - before, 1, "one call, one start");
    }
    world.create("host", "host-fails").await;
    assert!(matches!(world.invoke("host", "1").await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn events_are_checked_before_anything_starts() {
    let world = World::new().await;
    world.create("hello", "echo").await;
    assert!(matches!(world.invoke("hello", "{nope").await, Err(Error::InvalidJson(_))));
    let large = format!("\"{}\"", "x".repeat(6_291_556));
    assert!(matches!(world.invoke("hello", &large).await, Err(Error::PayloadTooLarge(_))));
    assert_eq!(world.started(), 0);
    assert_eq!(world.invoke("hello", "").await.unwrap().result.unwrap(), "{}");
    assert!(world.functions.check_invoke(&world.caller, &world.named("hello")).is_ok());
    assert!(world.functions.check_invoke(&world.caller, &world.version("hello", "9")).is_err());
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_stop_what_runs() {
    let world = World::new().await;
    world.create("hello", "gate").await;
    let call = world.spawn("hello", "1");
    world.begun(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    world.stage.gate.add_permits(2);
    assert_eq!(world.invoke("hello", "2").await.unwrap().result.unwrap(), "2");
    let query = observe::Query { limit: 100, ..observe::Query::default() };
    until("both reports", || {
        let page = world.logs.filter(&world.caller.account, "/aws/lambda/hello", &query).unwrap();
        let reports = page.events.iter().filter(|event| event.message.starts_with("REPORT")).count();
        (reports == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn shutting_down_refuses_waits_and_stops() {
    let world = World::new().await;
    world.create("hello", "gate").await;
    let call = world.spawn("hello", "1");
    world.begun(1).await;
    let functions = world.functions.clone();
    let ending = tokio::spawn(async move { functions.shutdown(Duration::from_secs(20)).await });
    until("refusal", || {
        let refused = futures_util::FutureExt::now_or_never(world.invoke("hello", "2"));
        matches!(refused, Some(Err(Error::Unavailable(_)))).then_some(())
    })
    .await;
    world.stage.gate.add_permits(100);
    assert!(call.await.unwrap().unwrap().result.is_ok(), "what was under way ends");
    ending.await.unwrap();
    assert_eq!(*world.stage.live.borrow(), 0);
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_ever() {
    let world = World::with(Bounds { ..bounds() }).await;
    world.create("hello", "hang").await;
    world.create("starting", "start-gate").await;
    let call = world.spawn("hello", "1");
    let starting = world.spawn("starting", "1");
    world.begun(1).await;
    world.attempts(2).await;
    world.functions.shutdown(Duration::ZERO).await;
    assert!(matches!(call.await.unwrap(), Err(Error::Unavailable(_))));
    assert!(matches!(starting.await.unwrap(), Err(Error::Unavailable(_))));
    assert_eq!(*world.stage.live.borrow(), 0);
}
