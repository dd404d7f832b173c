//! Functions that speak HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::RequestId;
use functions::model::UrlAuth;
use functions::{Alarm, Error, InFlight, Route};
use http_body_util::BodyExt;
use sandbox::Body;
use serde_json::json;

use crate::world::{World, error_payload, until};

async fn web(world: &World, name: &str, timeout_s: u32) -> Arc<Route> {
    let mut args = World::args(name, "serve");
    args.timeout_s = timeout_s;
    world.create_with(args, &[("virga:contract", "http")]).await;
    world
        .functions
        .create_url(&world.caller, &world.named(name), UrlAuth::None, None, Default::default())
        .await
        .unwrap();
    world.functions.route_by_name(name).unwrap()
}

async fn get(world: &World, route: &Route, path: &str, body: &str) -> Result<http::Response<Body>, Error> {
    let request = http::Request::get(path).body(Body::from(body.to_owned())).unwrap();
    world.functions.serve_http(route, RequestId::random(), &Alarm::default(), Box::new(request)).await
}

fn running(world: &World) -> f64 {
    world.metric("running").unwrap()
}

#[tokio::test]
async fn requests_pass_through_without_report_lines() {
    let world = World::new().await;
    let route = web(&world, "f", 3).await;
    assert_eq!(route.speaks, sandbox::Speaks::Http);
    for path in ["/", "/chunks"] {
        let response = get(&world, &route, path, "chunk").await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "chunk");
    }
    let query = observe::Query { limit: 100, ..observe::Query::default() };
    let page = world.logs.filter(&world.caller.account, "/aws/lambda/f", &query).unwrap();
    assert!(page.events.iter().all(|event| !event.message.starts_with("START")));
    assert_eq!(world.metric("invocations"), Some(2.0));
}

#[tokio::test]
async fn a_request_that_an_ended_instance_did_not_take_goes_to_another() {
    let world = World::new().await;
    let route = web(&world, "f", 3).await;
    // A POST: nothing of it was sent, so whether it may be repeated is no question.
    let post = || {
        let request = http::Request::post("/").body(Body::from("whole")).unwrap();
        let alarm = Alarm::default();
        let functions = world.functions.clone();
        let route = Arc::clone(&route);
        async move { functions.serve_http(&route, RequestId::random(), &alarm, Box::new(request)).await }
    };
    world.stage.not_delivered.store(4, Ordering::SeqCst);
    let response = post().await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "whole");
    assert_eq!(
        (world.started(), world.metric("invocations"), world.metric("faas_errors")),
        (5, Some(1.0), Some(0.0))
    );
    // A program that ends again and again is not started for ever.
    world.stage.not_delivered.store(100, Ordering::SeqCst);
    assert!(matches!(post().await, Err(Error::Failed { .. })));
    assert_eq!(world.stage.not_delivered.load(Ordering::SeqCst), 95);
    assert_eq!(running(&world), 0.0);
    world.live(0).await;
}

#[tokio::test]
async fn a_streaming_answer_holds_its_place_until_it_is_dropped() {
    let world = World::new().await;
    let route = web(&world, "f", 30).await;
    let response = get(&world, &route, "/stream", "").await.unwrap();
    assert_eq!(running(&world), 1.0);
    drop(response);
    assert_eq!(running(&world), 0.0);
    assert_eq!(world.started(), 1);
}

#[tokio::test]
async fn the_timeout_covers_head_and_body() {
    let world = World::new().await;
    let route = web(&world, "f", 1).await;
    let late = get(&world, &route, "/", "do hang").await.err().unwrap();
    assert!(
        matches!(&late, Error::TimedOut(text) if text.ends_with("Task timed out after 1.00 seconds")),
        "{late}"
    );
    world.live(0).await;
    let response = get(&world, &route, "/stream", "").await.unwrap();
    let error = response.into_body().collect().await.err().unwrap();
    assert!(error.to_string().contains("time-out was over"), "{error}");
    world.live(0).await;
    assert_eq!(world.started(), 2);
    assert_eq!(world.metric("timeouts"), Some(2.0));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_ended_too() {
    let world = World::new().await;
    let route = web(&world, "f", 1).await;
    let mut body = get(&world, &route, "/drip", "").await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    world.live(0).await;
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(running(&world), 0.0);
}

#[tokio::test]
async fn a_timed_out_instance_ends_after_its_other_calls() {
    let world = World::new().await;
    let route = web(&world, "f", 1).await;
    let other = get(&world, &route, "/stream", "").await.unwrap();
    let late = get(&world, &route, "/", "do hang").await.err().unwrap();
    assert!(matches!(late, Error::TimedOut(_)));
    assert_eq!(*world.stage.live.borrow(), 1, "the other call still runs");
    get(&world, &route, "/", "").await.unwrap();
    assert_eq!(world.started(), 2, "no new call gets there");
    drop(other);
    world.live(1).await;
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_its_guard_is_dropped_or_its_time_is_up() {
    let world = World::new().await;
    let route = web(&world, "f", 1).await;
    let mut response = get(&world, &route, "/upgrade", "").await.unwrap();
    let guard = response.extensions_mut().remove::<InFlight>().unwrap();
    assert_eq!(running(&world), 1.0);
    let clone = guard.clone();
    drop(guard);
    assert_eq!(running(&world), 1.0);
    drop(clone);
    assert_eq!(running(&world), 0.0);
    let mut response = get(&world, &route, "/upgrade", "").await.unwrap();
    let _guard = response.extensions_mut().remove::<InFlight>().unwrap();
    world.live(0).await;
    until("counted", || (world.metric("timeouts") == Some(1.0)).then_some(())).await;
}

#[tokio::test]
async fn faults_are_failures_and_the_next_request_is_clean() {
    let world = World::new().await;
    let route = web(&world, "f", 3).await;
    for (script, kind) in [
        ("do exit-1", "Runtime.ExitError"),
        ("do oom", "Runtime.OutOfMemory"),
        ("do reset", "Runtime.BadAnswer"),
    ] {
        let error = get(&world, &route, "/", script).await.err().unwrap();
        assert!(matches!(&error, Error::Failed { error_type, .. } if error_type == kind), "{error:?}");
        assert_eq!(get(&world, &route, "/", "").await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_request_never_reaches_a_function_that_has_come_to_speak_events() {
    let world = World::new().await;
    let route = web(&world, "f", 3).await;
    let function = world.named("f");
    world.functions.untag(&world.caller, &function, &["virga:contract".into()]).await.unwrap();
    world.settled(&function).await;
    assert!(matches!(get(&world, &route, "/", "").await, Err(Error::Unavailable(_))));
    assert!(world.stage.begun.borrow().is_empty());
    assert_eq!(world.functions.route_by_name("f").unwrap().speaks, sandbox::Speaks::Events);
}

#[tokio::test]
async fn an_invoke_posts_the_event() {
    let world = World::new().await;
    web(&world, "f", 3).await;
    assert_eq!(world.invoke("f", "{\"a\":1}").await.unwrap().result.unwrap(), "{\"a\":1}");
    let failed = world.invoke("f", "\"fail\"").await.unwrap();
    assert_eq!(
        error_payload(&failed),
        json!({
            "errorType": "Http.Status",
            "errorMessage": "Error: The web server answered with status 500",
            "statusCode": 500,
            "body": "broken",
        })
    );
}

#[tokio::test]
async fn a_request_that_comes_after_the_deletion_leaves_no_metrics() {
    let world = World::new().await;
    let route = web(&world, "f", 3).await;
    world.functions.delete(&world.caller, &world.named("f")).await.unwrap();
    world.nothing_kept().await;
    assert!(matches!(get(&world, &route, "/", "").await, Err(Error::FunctionNotFound(_))));
    until("the metrics are gone", || (!world.metrics.encode().contains("\"f\"")).then_some(())).await;
}

#[tokio::test]
async fn a_request_whose_caller_hangs_up_is_counted_and_gives_its_place_back() {
    let world = World::new().await;
    let route = web(&world, "f", 30).await;
    let functions = world.functions.clone();
    let request = http::Request::get("/").body(Body::from("do hang")).unwrap();
    let call = tokio::spawn(async move {
        functions.serve_http(&route, RequestId::random(), &Alarm::default(), Box::new(request)).await
    });
    world.begun(1).await;
    call.abort();
    assert!(call.await.err().unwrap().is_cancelled());
    assert_eq!((world.metric("invocations"), running(&world)), (Some(1.0), 0.0));
}
