//! What the back end says before anything is started, and what it gives an instance besides its calls.

use sandbox::{Backend, Contract, Isolation, Prepared, Runtime, Speaks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Engines, PATIENCE, artifact};
use crate::case;
use crate::world::{Case, World};

pub(crate) const CASES: &[Case] = &[
    case!(preparing),
    case!(runtimes_that_the_host_lacks),
    case!(connections_to_the_endpoint_reach_the_server),
    case!(connections_to_the_endpoint_are_few),
];

async fn preparing(world: World) {
    let engines = Engines::new(&world);
    assert_eq!(engines.backend.isolation(), Isolation::Process);
    let dir = world.code(&[("server.js", 0o644, "")]);
    let runtime = engines.runtime("nodejs").await;
    let lambda = artifact(dir.clone(), runtime.clone(), "no.handler");
    let prepared = engines.backend.prepare(&lambda).await.unwrap();
    assert_eq!(prepared, Prepared { speaks: Speaks::Events, one_at_a_time: true });
    let http = |handler: &str| {
        let mut http = artifact(dir.clone(), runtime.clone(), handler);
        http.contract = Contract::Http;
        http
    };
    let prepared = engines.backend.prepare(&http("server.js")).await.unwrap();
    assert_eq!(prepared, Prepared { speaks: Speaks::Http, one_at_a_time: false });
    let missing = engines.backend.prepare(&http("app.js")).await.unwrap_err();
    assert_eq!(missing.to_string(), "the package has no file app.js to start");
}

async fn runtimes_that_the_host_lacks(world: World) {
    let engines = Engines::new(&world);
    let dir = world.code(&[]);
    let lacking = artifact(dir, Runtime::parse("python3.99").unwrap(), "app.handler");
    let error = engines.backend.prepare(&lacking).await.unwrap_err().to_string();
    let there = engines.backend.interpreters().summary().await;
    assert_eq!(error, format!("python3.99 is not on this host; it has {there}"));
    let node = engines.runtime("nodejs").await.to_string();
    assert!(there.contains(&node) && there.ends_with(", provided.al2023"), "{there}");
}

async fn connections_to_the_endpoint_reach_the_server(world: World) {
    let mut engines = Engines::new(&world);
    let source = r#"
import os, urllib.request
def handler(event, context):
    return urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/ask").read().decode()
"#;
    let running = engines.start(engines.python(source).await).await;
    let endpoint = async {
        let mut stream =
            tokio::time::timeout(PATIENCE, engines.endpoint.recv()).await.unwrap().unwrap().stream;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.unwrap() > 0);
        }
        assert!(head.starts_with(b"GET /ask HTTP/1.1\r\n"));
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nserver")
            .await
            .unwrap();
    };
    let (result, ()) = tokio::join!(running.result("1"), endpoint);
    assert_eq!(result, "server");
}

async fn connections_to_the_endpoint_are_few(world: World) {
    let mut engines = Engines::new(&world);
    let source = r#"
import socket
held = []
def handler(event, context):
    for _ in range(event):
        held.append(socket.create_connection(("127.0.0.1", 9080)))
    return len(held)
"#;
    let running = engines.start(engines.python(source).await).await;
    assert_eq!(running.result("200").await, 200);
    let mut held = Vec::new();
    while held.len() < 64 {
        held.push(tokio::time::timeout(PATIENCE, engines.endpoint.recv()).await.unwrap().unwrap());
    }
    assert_eq!(running.result("0").await, 200);
    assert!(engines.endpoint.try_recv().is_err(), "the rest waits");
    held.clear();
    tokio::time::timeout(PATIENCE, engines.endpoint.recv())
        .await
        .expect("the next gets a free place")
        .unwrap();
}
