//! Answers that come piece by piece.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use functions::{Error, Outcome, Streaming};

use crate::fake::Script;
use crate::world::{World, error_payload, tail, until};

async fn begin(world: &World, event: &str) -> Result<Streaming, Error> {
    world.functions.invoke_streaming(&world.caller, world.call("f", event)).await
}

async fn rest(mut streaming: Streaming) -> (String, Outcome) {
    let mut all = Vec::new();
    while let Some(piece) = streaming.next().await {
        all.extend_from_slice(&piece);
    }
    (String::from_utf8(all).unwrap(), streaming.end().await.unwrap())
}

async fn world() -> (World, Script) {
    let world = World::new().await;
    world.create("f", "stream").await;
    let script = world.stage.script();
    (world, script)
}

#[tokio::test]
async fn pieces_come_before_the_end_and_the_report_after_it() {
    let (world, script) = world().await;
    let mut streaming = begin(&world, "1").await.unwrap();
    assert_eq!(
        (streaming.executed_version.as_str(), streaming.content_type.as_deref()),
        ("$LATEST", Some("a/b"))
    );
    assert!(streaming.whole().is_none());
    for piece in ["one", "two"] {
        script.say(piece).await;
        assert_eq!(streaming.next().await.as_deref(), Some(piece.as_bytes()));
    }
    assert_eq!(world.metric("running"), Some(1.0), "it holds its place");
    script.end(Ok(None));
    let (left, outcome) = rest(streaming).await;
    assert_eq!((left.as_str(), outcome.result.as_ref()), ("", Ok(&Bytes::new())));
    let log = tail(&outcome);
    assert!(log.contains("saw 1\n") && log.contains("REPORT RequestId: "), "{log}");
    until("the place is free", || (world.metric("running") == Some(0.0)).then_some(())).await;
}

#[tokio::test]
async fn errors_midway_end_the_answer() {
    let (world, script) = world().await;
    let streaming = begin(&world, "1").await.unwrap();
    script.say("a").await;
    let error = sandbox::FunctionError { json: r#"{"errorType":"E"}"#.into(), error_type: None };
    script.end(Ok(Some(error)));
    let (all, outcome) = rest(streaming).await;
    assert_eq!((all.as_str(), &error_payload(&outcome)["errorType"]), ("a", &"E".into()));

    let script = world.stage.script();
    let streaming = begin(&world, "2").await.unwrap();
    script.end(Err(sandbox::Fault::Truncated));
    let (_, outcome) = rest(streaming).await;
    assert_eq!(error_payload(&outcome)["errorType"], "Runtime.TruncatedResponse");
    world.live(0).await;
}

#[tokio::test]
async fn the_time_out_ends_an_answer_that_nobody_reads() {
    let world = World::new().await;
    let mut args = World::args("f", "stream");
    args.timeout_s = 1;
    world.create_with(args, &[]).await;
    let script = world.stage.script();
    let streaming = begin(&world, "1").await.unwrap();
    // It is held up until nobody takes more.
    while script.try_say("x").await {}
    let (_, outcome) = rest(streaming).await;
    assert_eq!(error_payload(&outcome)["errorType"], "Sandbox.Timedout");
    assert!(tail(&outcome).contains("Task timed out after 1.00 seconds"));
    world.live(0).await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_end_the_call() {
    let (world, script) = world().await;
    let mut streaming = begin(&world, "1").await.unwrap();
    script.say("a").await;
    streaming.next().await.unwrap();
    drop(streaming);
    for _ in 0..100 {
        script.say("more than is kept").await;
    }
    script.end(Ok(None));
    let report = until("the report is written", || {
        let query = observe::Query { limit: 100, ..observe::Query::default() };
        let page = world.logs.filter(&world.caller.account, "/aws/lambda/f", &query).unwrap();
        page.events
            .iter()
            .find(|event| event.message.starts_with("REPORT"))
            .map(|event| event.message.clone())
    })
    .await;
    assert!(!report.contains("Status: timeout"), "{report}");
    assert_eq!(world.metric("running"), Some(0.0));
}

#[tokio::test]
async fn a_caller_who_takes_it_whole_gets_it_whole() {
    let (world, script) = world().await;
    let call = world.spawn("f", "1");
    script.say("on").await;
    script.say("e").await;
    script.end(Ok(None));
    let outcome = call.await.unwrap().unwrap();
    assert_eq!(
        (outcome.result.unwrap().as_ref(), outcome.content_type.as_deref()),
        (&b"one"[..], Some("a/b"))
    );

    let script = world.stage.script();
    let call = world.spawn("f", "2");
    let large = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..7 {
        script.say(large.clone()).await;
    }
    script.end(Ok(None));
    let outcome = call.await.unwrap().unwrap();
    assert_eq!(error_payload(&outcome)["errorType"], "Function.ResponseSizeTooLarge");
    world.live(1).await;
}

#[tokio::test]
async fn two_hundred_megabytes_are_the_most() {
    for (extra, fits) in [(0, true), (1, false)] {
        let (world, script) = world().await;
        let streaming = begin(&world, "1").await.unwrap();
        let writing = async {
            let piece = Bytes::from(vec![0; 1 << 20]);
            for _ in 0..200 {
                script.say(piece.clone()).await;
            }
            script.say(vec![0; extra]).await;
            script.end(Ok(None));
        };
        let (_, (_, outcome)) = tokio::join!(writing, rest(streaming));
        let failed = outcome.result.err().map(|error| error.error_type.unwrap());
        assert_eq!(failed.as_deref(), (!fits).then_some("Function.ResponseSizeTooLarge"));
    }
}

#[tokio::test]
async fn answers_that_come_whole_stay_whole() {
    let world = World::new().await;
    world.create("f", "echo").await;
    let streaming = begin(&world, "[1]").await.unwrap();
    assert!(streaming.whole().is_some());
    assert_eq!(rest(streaming).await.0, "[1]");
    for (event, kind) in [("\"do error\"", "ValueError"), ("\"do exit-1\"", "Runtime.ExitError")] {
        let (all, outcome) = rest(begin(&world, event).await.unwrap()).await;
        assert_eq!((all.as_str(), &error_payload(&outcome)["errorType"]), ("", &kind.into()));
    }
    let refused = begin(&world, "{").await;
    assert!(matches!(refused, Err(Error::InvalidJson(_))));
    world.stage.not_delivered.store(1, Ordering::SeqCst);
    assert_eq!(rest(begin(&world, "[2]").await.unwrap()).await.0, "[2]", "another instance gets it");
}

#[tokio::test]
async fn a_web_server_streams_too() {
    let world = World::new().await;
    world.create_with(World::args("f", "serve"), &[("virga:contract", "http")]).await;
    let (all, outcome) = rest(begin(&world, "\"hello\"").await.unwrap()).await;
    assert_eq!((all.as_str(), outcome.result.is_ok()), ("\"hello\"", true));
    let (all, outcome) = rest(begin(&world, "\"fail\"").await.unwrap()).await;
    assert_eq!((all.as_str(), &error_payload(&outcome)["errorType"]), ("", &"Http.Status".into()));
}
