//! Function URLs, by host and by path, for both kinds of functions.

use functions::model::Cors;
use http::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::world::{Answer, World, read_until};

#[tokio::test]
async fn an_event_function_gets_the_request_as_an_event() {
    let world = World::new().await;
    let id = world.function("hello", "lambda", None).await;
    let answer = world
        .call(
            Method::POST,
            "/_fn/hello/a/b?x=1&x=2",
            &[("cookie", "c=1"), ("content-type", "text/plain"), ("connection", "x-hop"), ("x-hop", "1")],
            "hi",
        )
        .await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let event = answer.json();
    assert_eq!(event["rawPath"], "/a/b");
    assert_eq!(event["queryStringParameters"], json!({ "x": "1,2" }));
    assert_eq!(event["cookies"], json!(["c=1"]));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("hi"), &json!(false)));
    assert_eq!(event["headers"]["x-forwarded-for"], "127.0.0.1");
    assert_eq!((&event["headers"]["connection"], &event["headers"]["x-hop"]), (&json!(null), &json!(null)));
    assert_eq!(event["requestContext"]["http"]["sourceIp"], "127.0.0.1");
    assert_eq!(event["requestContext"]["apiId"], id.as_str());
    assert_eq!(event["requestContext"]["requestId"], answer.header("x-amzn-requestid"));

    let host = world.host(&id);
    let answer = world.call(Method::GET, "/by/host", &[], "").await;
    assert_eq!(answer.status, 403, "without the host this is an API request");
    let by_host = http::Request::get("/by/host").header("host", &host).body(bytes::Bytes::new()).unwrap();
    let event = world.send(by_host).await.json();
    assert_eq!(event["rawPath"], "/by/host");
    assert_eq!(event["requestContext"]["domainName"], host.split(':').next().unwrap());
    assert_eq!(event["requestContext"]["domainPrefix"], id.as_str());
}

#[tokio::test]
async fn an_event_functions_answer_is_a_response() {
    let world = World::new().await;
    world.function("hello", "lambda", None).await;
    let answer = |body: &str| world.call(Method::POST, "/_fn/hello/answer", &[], body.to_owned());
    let made = answer(r#"{"statusCode":418,"headers":{"x-a":"1"},"cookies":["s=1"],"body":"tea"}"#).await;
    assert_eq!(
        (made.status, made.header("x-a"), made.header("set-cookie"), &*made.text()),
        (418, "1", "s=1", "tea")
    );
    assert_eq!(answer(r#"{"statusCode":"x"}"#).await.status, 502);
    assert_eq!(answer("not json").await.status, 502);
    for path in ["/_fn/hello/fail", "/_fn/hello/exit"] {
        let failed = world.call(Method::GET, path, &[], "").await;
        assert_eq!(
            (failed.status, failed.text().as_str()),
            (502, r#"{"message":"Internal Server Error"}"#),
            "{path}"
        );
    }
}

/// What a function was told of the trace, from what it answers.
fn trace(answer: &Answer) -> String {
    answer.json()["headers"]["x-amzn-trace-id"].as_str().expect("a trace").to_owned()
}

#[tokio::test]
async fn a_trace_goes_with_each_request_and_cuts_a_circle() {
    let world = World::new().await;
    world.function("hello", "lambda", None).await;
    world.function("web", "http", None).await;
    for path in ["/_fn/hello/", "/_fn/web/"] {
        let call = async |given: &str| {
            let given = [("x-amzn-trace-id", given)];
            world.call(Method::GET, path, if given[0].1.is_empty() { &[] } else { &given }, "").await
        };
        let first = trace(&call("").await);
        assert!(first.starts_with("Root=1-") && first.ends_with(":1"), "{path}: {first}");
        assert_ne!(first, trace(&call("").await), "{path}");
        let mut carried = "Root=1-2-3;Sampled=1".to_owned();
        for pass in 1..=16 {
            let told = trace(&call(&carried).await);
            assert!(told.starts_with("Root=1-2-3;Sampled=1;Lineage="), "{path}: {told}");
            assert!(told.ends_with(&format!(":{pass}")), "{path}: {told}");
            carried = told;
        }
        let cut = call(&carried).await;
        assert_eq!(
            (cut.status, cut.header("x-amzn-errortype")),
            (429, "RecursiveInvocationException"),
            "{path}"
        );
        assert!(!cut.header("x-amzn-requestid").is_empty() && !cut.text().contains("arn:"));
    }
    // Through each other they are passed as often together.
    let mut carried = String::from("Root=1-2-3");
    for _ in 0..16 {
        for path in ["/_fn/hello/", "/_fn/web/"] {
            carried = trace(&world.call(Method::GET, path, &[("x-amzn-trace-id", &carried)], "").await);
        }
    }
    let hello = world.named("hello");
    let again =
        async || world.call(Method::GET, "/_fn/hello/", &[("x-amzn-trace-id", &carried)], "").await.status;
    assert_eq!(again().await, 429);
    world.functions.allow_recursion(&world.caller, &hello, true).await.unwrap();
    assert_eq!(again().await, 200);
}

#[tokio::test]
async fn urls_of_nobody_are_not_found() {
    let world = World::new().await;
    world.function("hello", "lambda", None).await;
    assert_eq!(world.call(Method::GET, "/_fn/other/", &[], "").await.status, 404);
    for host in [world.host(&"0".repeat(32)), "x.lambda-url.us-east-1.localhost".to_owned()] {
        let request = http::Request::get("/").header("host", host).body(bytes::Bytes::new()).unwrap();
        assert_eq!(world.send(request).await.status, 404);
    }
    world.functions.delete_url(&world.caller, &world.named("hello")).await.unwrap();
    assert_eq!(world.call(Method::GET, "/_fn/hello/", &[], "").await.status, 404);
}

#[tokio::test]
async fn a_web_function_gets_the_request_as_it_is() {
    let world = World::new().await;
    let id = world.function("web", "http", None).await;
    let answer = world
        .call(
            Method::PUT,
            "/_fn/web/a%20b?q=1",
            &[("connection", "x-hop"), ("x-hop", "1"), ("x-forwarded-proto", "https"), ("x-own", "2")],
            "body",
        )
        .await;
    assert_eq!(answer.status, 200);
    let seen = answer.json();
    assert_eq!((&seen["method"], &seen["target"]), (&json!("PUT"), &json!("/a%20b?q=1")));
    let headers = &seen["headers"];
    assert_eq!((&headers["x-own"], &headers["x-hop"]), (&json!("2"), &json!(null)));
    assert_eq!(
        (&headers["x-forwarded-for"], &headers["x-forwarded-proto"]),
        (&json!("127.0.0.1"), &json!("http"))
    );
    assert_eq!(headers["content-length"], "4");
    // Each header costs a server time: the port is in its Host, and the request's id means the caller.
    for left_out in ["x-forwarded-port", "x-amzn-requestid"] {
        assert_eq!(headers[left_out], json!(null), "{left_out}");
    }
    assert!(!answer.header("x-amzn-requestid").is_empty());

    let by_host = http::Request::get("/x").header("host", world.host(&id)).body(bytes::Bytes::new()).unwrap();
    assert_eq!(world.send(by_host).await.json()["target"], "/x");

    let hop = world.call(Method::GET, "/_fn/web/hop", &[], "").await;
    assert_eq!((hop.status, hop.text().as_str()), (200, "hop"));
    for name in ["x-internal", "keep-alive", "connection"] {
        assert!(!hop.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let world = World::new().await;
    world.function("web", "http", None).await;
    let mut socket = world.connect().await;
    let head = "POST /_fn/web/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    // The first piece comes back while the request is still under way.
    let first = read_until(&mut socket, |text| text.contains("one")).await;
    assert!(
        first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("transfer-encoding: chunked"),
        "{first}"
    );
    socket.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut socket, |text| text.contains("two") && text.ends_with("0\r\n\r\n")).await;
    // And the connection takes another request.
    socket.write_all(b"GET /_fn/web/hop HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    read_until(&mut socket, |text| text.ends_with("hop")).await;
}

#[tokio::test]
async fn upgrades_become_tunnels() {
    let world = World::new().await;
    world.function("web", "http", None).await;
    let mut socket = world.connect().await;
    let head = "GET /_fn/web/upgrade HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: shout\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut socket, |text| text.ends_with("\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.contains("upgrade: shout") && answer.contains("connection: upgrade"), "{answer}");
    for word in ["hello", "again"] {
        socket.write_all(word.as_bytes()).await.unwrap();
        read_until(&mut socket, |text| text == word.to_uppercase()).await;
    }
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_refused() {
    let world = World::new().await;
    world.function("web", "http", None).await;
    assert_eq!(world.call(Method::GET, "/_fn/web/upgrade", &[], "").await.status, 502);
}

#[tokio::test]
async fn cors_is_the_gateways_where_it_is_configured() {
    let world = World::new().await;
    let cors = Cors { allow_origins: vec!["https://a.example".into()], ..Cors::default() };
    world.function("web", "http", Some(cors)).await;
    let asking = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let preflight = world.call(Method::OPTIONS, "/_fn/web/hang", &asking, "").await;
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-origin")),
        (200, "https://a.example")
    );
    let allowed = world.call(Method::GET, "/_fn/web/hop", &asking[..1], "").await;
    assert_eq!(allowed.header("access-control-allow-origin"), "https://a.example");
    let other = world.call(Method::GET, "/_fn/web/hop", &[("origin", "https://b.example")], "").await;
    assert_eq!(other.header("access-control-allow-origin"), "", "the function's own is replaced");
}

#[tokio::test]
async fn connections_from_inside_are_served_too() {
    let world = World::new().await;
    world.function("hello", "lambda", None).await;
    let mut near = world.connect_inside().await;
    near.write_all(b"GET /_fn/hello/x HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    read_until(&mut near, |text| text.contains("\"rawPath\":\"/x\"")).await;
}
