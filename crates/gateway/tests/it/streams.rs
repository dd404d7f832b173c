//! Function URLs of functions that answer in pieces, and the API's InvokeWithResponseStream.

use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::world::{Answer, World, read_to_end, read_until};

const HEAD_FIRST: &str = "application/vnd.awslambda.http-integration-response";

fn head(json: &str) -> String {
    format!("{json}\0\0\0\0\0\0\0\0")
}

async fn call(world: &World, told: Value) -> Answer {
    world.call(Method::POST, "/_fn/f/stream", &[("content-type", "application/json")], told.to_string()).await
}

/// Sends a request and leaves its connection open.
async fn open(world: &World, told: Value) -> TcpStream {
    let mut socket = world.connect().await;
    let (body, kind) = (told.to_string(), "content-type: application/json");
    let head =
        format!("POST /_fn/f/stream HTTP/1.1\r\nhost: x\r\n{kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn a_url_passes_pieces_on_as_they_come() {
    let world = World::new().await;
    world.function("f", "lambda", None).await;
    world.streams("f").await;
    let prelude = head(r#"{"statusCode":201,"headers":{"x-a":"1"},"cookies":["c=1"]}"#);
    let (begin, end) = prelude.split_at(10);
    let told = json!({ "type": HEAD_FIRST, "pieces": [begin, end, "one"], "then": "go on" });
    let mut socket = open(&world, told).await;
    let seen = read_until(&mut socket, |text| text.ends_with("3\r\none\r\n")).await;
    for part in [
        "HTTP/1.1 201 Created\r\n",
        "x-a: 1\r\n",
        "set-cookie: c=1\r\n",
        "x-amzn-requestid: ",
        "transfer-encoding: chunked",
    ] {
        assert!(seen.contains(part), "{seen}");
    }
}

#[tokio::test]
async fn what_fails_midway_is_cut_off() {
    let world = World::new().await;
    world.function("f", "lambda", None).await;
    world.streams("f").await;
    let mut socket = open(&world, json!({ "type": "text/plain", "pieces": ["one"], "then": "fail" })).await;
    let seen = read_to_end(&mut socket).await;
    assert!(seen.contains("content-type: text/plain\r\n") && seen.ends_with("3\r\none\r\n"), "{seen}");
    assert!(!seen.contains("secret"));
}

#[tokio::test]
async fn answers_that_end_well_or_early() {
    let world = World::new().await;
    world.function("f", "lambda", None).await;
    world.streams("f").await;
    for (told, status, kind, text) in [
        (json!({ "pieces": ["a", "b"] }), 200, "application/octet-stream", "ab"),
        (json!({ "type": "text/html", "pieces": [] }), 200, "text/html", ""),
        (json!({ "type": HEAD_FIRST, "pieces": [head("{}") + "x"] }), 200, "application/octet-stream", "x"),
        (
            json!({ "pieces": [], "then": "fail" }),
            502,
            "application/json",
            r#"{"message":"Internal Server Error"}"#,
        ),
        (
            json!({ "type": HEAD_FIRST, "pieces": ["{}"] }),
            502,
            "application/json",
            r#"{"message":"Internal Server Error"}"#,
        ),
        (
            json!({ "type": HEAD_FIRST, "pieces": [head(r#"{"statusCode":9}"#)] }),
            502,
            "application/json",
            r#"{"message":"Internal Server Error"}"#,
        ),
        (
            json!({ "type": HEAD_FIRST, "pieces": vec!["x".repeat(10_000); 4], "then": "go on" }),
            502,
            "application/json",
            r#"{"message":"Internal Server Error"}"#,
        ),
    ] {
        let answer = call(&world, told.clone()).await;
        assert_eq!(
            (answer.status, answer.header("content-type"), &*answer.text()),
            (status, kind, text),
            "{told}"
        );
    }
    let whole = world.call(Method::POST, "/_fn/f/answer", &[], r#"{"statusCode":418,"body":"tea"}"#).await;
    assert_eq!(
        (whole.status, &*whole.text()),
        (418, "tea"),
        "an answer that comes whole is a response as ever"
    );
}

#[tokio::test]
async fn a_buffered_url_collects_them() {
    let world = World::new().await;
    world.function("f", "lambda", None).await;
    for (told, status, kind, text) in [
        (json!({ "type": "text/html", "pieces": ["a", "b"] }), 200, "text/html", "ab"),
        (
            json!({ "type": HEAD_FIRST, "pieces": [head(r#"{"statusCode":201}"#), "x"] }),
            201,
            "application/octet-stream",
            "x",
        ),
        (
            json!({ "type": "application/json", "pieces": [r#"{"statusCode":201,"#, r#""body":"y"}"#] }),
            201,
            "application/json",
            "y",
        ),
    ] {
        let answer = call(&world, told.clone()).await;
        assert_eq!(
            (answer.status, answer.header("content-type"), &*answer.text()),
            (status, kind, text),
            "{told}"
        );
    }
    let failed = call(&world, json!({ "pieces": ["a"], "then": "fail" })).await;
    assert_eq!(failed.status, 502);
}

#[tokio::test]
async fn the_api_streams_events() {
    let world = World::new().await;
    world.function("f", "lambda", None).await;
    let target = "/2021-11-15/functions/f/response-streaming-invocations";
    let event = |told: Value| json!({ "rawPath": "/stream", "body": told.to_string() }).to_string();
    let told = event(json!({ "pieces": ["one", "two"] }));
    let answer = world.signed("lambda", Method::POST, target, &[("x-amz-log-type", "Tail")], &told).await;
    assert_eq!(
        (answer.status, answer.header("content-type"), answer.header("x-amz-executed-version")),
        (200, "application/vnd.amazon.eventstream", "$LATEST")
    );
    let seen = String::from_utf8_lossy(&answer.body).into_owned();
    let order = ["PayloadChunk", "one", "PayloadChunk", "two", "InvokeComplete", "{\"LogResult\":\""];
    let found = order.iter().scan(0, |from, part| {
        let at = seen[*from..].find(part)?;
        *from += at + part.len();
        Some(*part)
    });
    assert_eq!(found.collect::<Vec<_>>(), order, "{seen}");
    let failed = world
        .signed("lambda", Method::POST, target, &[], &event(json!({ "pieces": ["a"], "then": "fail" })))
        .await;
    let seen = String::from_utf8_lossy(&failed.body).into_owned();
    assert!(
        seen.contains(r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorType\":\"ValueError\""#),
        "{seen}"
    );
    let whole = world.signed("lambda", Method::POST, target, &[], "\"fail\"").await;
    assert_eq!(whole.status, 200);
    assert!(!String::from_utf8_lossy(&whole.body).contains("PayloadChunk"));
    let dry =
        world.signed("lambda", Method::POST, target, &[("x-amz-invocation-type", "DryRun")], "{}").await;
    assert_eq!(dry.status, 204);
    for (headers, body, status, code) in [
        (&[("x-amz-invocation-type", "Event")][..], "{}", 400, "ValidationException"),
        (&[], "{", 400, "InvalidRequestContentException"),
    ] {
        let refused = world.signed("lambda", Method::POST, target, headers, body).await;
        assert_eq!((refused.status, refused.header("x-amzn-errortype")), (status, code));
    }
    let absent = target.replace("/f/", "/absent/");
    assert_eq!(world.signed("lambda", Method::POST, &absent, &[], "{}").await.status, 404);
}
