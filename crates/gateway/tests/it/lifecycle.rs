//! Bounds on connections, and the end.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::world::{WAIT, World, read_to_end, read_until};

#[tokio::test]
async fn the_end_waits_for_what_runs_and_refuses_what_is_new() {
    let mut world = World::new().await;
    world.function("web", "http", None).await;
    let mut running = world.connect().await;
    running
        .write_all(
            b"POST /_fn/web/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n",
        )
        .await
        .unwrap();
    read_until(&mut running, |text| text.contains("one")).await;
    let mut idle = world.connect().await;
    idle.write_all(b"GET /_fn/web/hop HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, |text| text.ends_with("hop")).await;

    let inside = world.connect_inside().await;

    let server = world.stop();
    drains(&world).await;
    for mut client in [idle, inside, world.connect().await, world.connect_inside().await] {
        client.write_all(HOP).await.unwrap();
        let answer = read_to_end(&mut client).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    let mut unasked = world.connect().await;
    running.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    let rest = read_to_end(&mut running).await;
    assert!(rest.contains("two") && rest.ends_with("0\r\n\r\n"), "{rest}");
    drop(running);
    server.await.unwrap();
    assert_eq!(read_to_end(&mut unasked).await, "", "who asks for nothing is not waited for");
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err(), "nobody listens");
}

const HOP: &[u8] = b"GET /_fn/web/hop HTTP/1.1\r\nhost: a\r\n\r\n";

/// Waits until new requests are refused.
async fn drains(world: &World) {
    let refused = async {
        loop {
            let mut client = world.connect().await;
            client
                .write_all(b"GET /_fn/web/hop HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            if read_to_end(&mut client).await.starts_with("HTTP/1.1 503 ") {
                return;
            }
        }
    };
    tokio::time::timeout(WAIT, refused).await.expect("new requests are refused in time");
}

#[tokio::test]
async fn an_answer_that_is_still_being_sent_is_not_cut_by_the_end() {
    let mut world = World::new().await;
    world.function("web", "http", None).await;
    world.function("event", "lambda", None).await;
    let small = TcpSocket::new_v4().unwrap();
    small.set_recv_buffer_size(4096).unwrap();
    let mut slow = small.connect(world.address).await.unwrap();
    // More than the kernel takes: the function is done with it, and most of it is in the connection's buffer.
    let body = format!("{{\"statusCode\": 200, \"body\": \"{}end\"}}", "x".repeat(5 << 20));
    let head = "POST /_fn/event/answer HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\n";
    slow.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    slow.peek(&mut [0]).await.unwrap();
    let server = world.stop();
    drains(&world).await;
    let seen = read_to_end(&mut slow).await;
    assert!(seen.ends_with("end"), "{} bytes: {}", seen.len(), seen.get(..300).unwrap_or(&seen));
    drop(slow);
    server.await.unwrap();
}

#[tokio::test]
async fn the_grace_ends() {
    let mut world = World::with(|settings| settings.grace = Duration::from_millis(50)).await;
    world.function("web", "http", None).await;
    let mut hanging = world.connect().await;
    hanging.write_all(b"GET /_fn/web/hang HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut tunnel = world.connect().await;
    let head = b"GET /_fn/web/upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\n";
    tunnel.write_all(head).await.unwrap();
    read_until(&mut tunnel, |text| text.ends_with("\r\n\r\n")).await;
    world.stop().await.unwrap();
    assert_eq!(read_to_end(&mut tunnel).await, "");
    assert_eq!(read_to_end(&mut hanging).await, "");
}

#[tokio::test]
async fn functions_keep_nobody_out() {
    let world = World::with(|settings| settings.max_connections = 4).await;
    world.function("web", "http", None).await;
    // Taken and idle: the one place for connections from inside, and more that wait for it.
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(world.connect_inside().await);
    }
    let mut outside = world.connect().await;
    outside.write_all(b"GET /_fn/web/hop HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut outside, |text| text.ends_with("hop")).await;
    // The next gets the place when it is free.
    idle.remove(0);
    idle[0].write_all(b"GET /_fn/web/hop HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle[0], |text| text.ends_with("hop")).await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let world = World::with(|settings| settings.max_connections = 1).await;
    world.function("web", "http", None).await;
    let mut first = world.connect().await;
    first.write_all(b"GET /_fn/web/hop HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut first, |text| text.ends_with("hop")).await;
    let mut second = world.connect().await;
    second.write_all(b"GET /_fn/web/hop HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(50), second.peek(&mut byte)).await;
    assert!(early.is_err(), "the second waits");
    drop(first);
    read_until(&mut second, |text| text.ends_with("hop")).await;
}
