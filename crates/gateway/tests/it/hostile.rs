//! Malformed, endless and half-sent requests, on raw sockets.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::world::{World, read_to_end, read_until};

fn status_of(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_are_refused() {
    let world = World::new().await;
    world.function("web", "http", None).await;
    for (request, expect) in [
        ("GET /_fn/web/x HTTP/1.1\r\n\r\n", "400"),
        ("GET /_fn/web/x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET /_fn/web/x HTTP/1.1\r\nhost: a\r\nbad header: 1\r\n\r\n", "400"),
        ("GET /_fn/web/x HTTP/1.1\r\nhost : a\r\n\r\n", "400"),
        ("GET /_fn/web/x HTTP/1.1\r\nhost: a\r\n folded: 1\r\n\r\n", "400"),
        ("GET /_fn/web/x HTTP/1.1\r\nhost: a\r\nx: \x00\r\n\r\n", "400"),
        ("GET /_fn/web/\x01 HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("G@T{} /_fn/web/x HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("GET /_fn/web/x HTTP/3.0\r\nhost: a\r\n\r\n", "400"),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "400"),
        ("POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", "400"),
        ("POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na", "400"),
        ("POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\na", "400"),
        ("POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n", "400"),
        ("POST /_fn/web/echo HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        (
            "POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n", "400"),
    ] {
        let answer = world.raw(request.as_bytes()).await;
        assert_eq!(status_of(&answer), expect, "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn both_framings_are_read_as_chunked_and_nothing_is_smuggled() {
    let world = World::new().await;
    world.function("web", "http", None).await;
    for framing in
        ["content-length: 6\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 6"]
    {
        let next = "GET /_fn/web/next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let request = format!("POST /_fn/web/see HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n0\r\n\r\n{next}");
        let answers = world.raw(request.as_bytes()).await;
        // The function sees one framing only, and the connection carries nothing after (RFC 9112 §6.1).
        assert!(
            answers.contains("\"target\":\"/see\"") && !answers.contains("\"content-length\":\"6\""),
            "{answers}"
        );
        assert!(answers.contains("connection: close") && !answers.contains("/next"), "{answers}");
    }
}

#[tokio::test]
async fn broken_chunks_end_the_connection() {
    let world = World::new().await;
    world.function("hello", "lambda", None).await;
    for chunks in ["zz\r\n", "ffffffffffffffffff\r\n", "3\r\nabcX\r\n", "-1\r\n"] {
        let request =
            format!("POST /_fn/hello/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        let answer = world.raw(request.as_bytes()).await;
        assert_eq!(status_of(&answer), "400", "{chunks:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let world = World::new().await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
    let endless = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(1 << 20));
    for request in [long, many, endless] {
        let answer = world.raw(request.as_bytes()).await;
        assert_eq!(status_of(&answer), "431", "{}: {answer}", &request[..40]);
    }
}

#[tokio::test]
async fn half_sent_requests_are_given_up() {
    let world = World::with(|settings| {
        settings.header_timeout = Duration::from_millis(100);
        settings.patience.idle = Duration::from_millis(100);
    })
    .await;
    world.function("hello", "lambda", None).await;
    for request in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let mut socket = world.connect().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut socket).await;
    }
    let mut socket = world.connect().await;
    socket
        .write_all(b"POST /_fn/hello/x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf")
        .await
        .unwrap();
    let answer = read_to_end(&mut socket).await;
    assert_eq!(status_of(&answer), "408", "{answer}");
}

#[tokio::test]
async fn large_bodies_are_refused_with_an_answer() {
    let world = World::new().await;
    world.function("hello", "lambda", None).await;
    // A client that sends everything before it reads must still see the answer.
    for (head, expect) in [
        ("POST /_fn/hello/x HTTP/1.1\r\nhost: a\r\ncontent-length: 20000000\r\n\r\n", "413"),
        ("POST /2015-03-31/functions HTTP/1.1\r\nhost: a\r\ncontent-length: 20000000\r\n\r\n", "403"),
    ] {
        let mut socket = world.connect().await;
        socket.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..20 {
            socket.write_all(&vec![b'x'; 1_000_000]).await.expect("the server keeps reading");
        }
        let answer = read_to_end(&mut socket).await;
        assert_eq!(status_of(&answer), expect, "{answer}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new().await;
    world.function("web", "http", None).await;
    let request = |n: u32| format!("GET /_fn/web/{n} HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut socket = world.connect().await;
    socket.write_all((1..=5).map(request).collect::<String>().as_bytes()).await.unwrap();
    let answers = read_until(&mut socket, |text| text.contains("\"target\":\"/5\"")).await;
    let places: Vec<usize> =
        (1..=5).map(|n| answers.find(&format!("\"target\":\"/{n}\"")).unwrap()).collect();
    assert!(places.is_sorted(), "{answers}");
}
