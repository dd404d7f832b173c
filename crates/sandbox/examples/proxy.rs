//! Measures the port engine alone: a minimal hyper server in front of it, and a load generator.
//!
//! `proxy serve LISTEN UPSTREAM_PORT` puts the engine in front of a server on this host; `proxy load ADDRESS
//! CONNECTIONS SECONDS` sends keep-alive GETs and prints their rate and latencies. Run both under `taskset`
//! to give each a core of its own, and the same load at nginx for comparison. The engine's sources are taken
//! in as they are, without a jail: what is measured is the proxy, not the sandbox.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sandbox::{Body, BoxError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[allow(dead_code, missing_docs, reason = "the engine's own sources, of which the measurement uses a part")]
#[path = "../src/process/port/mod.rs"]
mod port;

/// Stands in for the sandbox's routes.
mod route {
    /// A port of this host.
    pub(crate) struct Route(pub(crate) u16);

    impl Route {
        /// A new connection to it.
        pub(crate) async fn connect(&self) -> std::io::Result<tokio::net::TcpStream> {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.0)).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
    }
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    match words[..] {
        ["serve", listen, upstream] => runtime.block_on(serve(listen, upstream.parse()?)),
        ["load", address, connections, seconds] => {
            runtime.block_on(load(address, connections.parse()?, seconds.parse()?))
        }
        _ => Err("usage: proxy serve LISTEN UPSTREAM_PORT | proxy load ADDRESS CONNECTIONS SECONDS".into()),
    }
}

async fn serve(listen: &str, upstream: u16) -> Result<(), BoxError> {
    let listener = TcpListener::bind(listen).await?;
    let server = Arc::new(port::WebServer::new(route::Route(upstream)));
    server.ready().await;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(answer(&server, request.map(Body::Incoming)).await) }
            });
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await.ok();
        });
    }
}

async fn answer(server: &port::WebServer, request: http::Request<Body>) -> http::Response<Body> {
    server.send(Box::new(request)).await.unwrap_or_else(|error| {
        let mut response = http::Response::new(Body::from(error.to_string()));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response
    })
}

async fn load(address: &str, connections: usize, seconds: u64) -> Result<(), BoxError> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(connection(address.to_owned(), end))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 1000).copied().unwrap_or_default();
    let rate = latencies.len() as u64 / seconds;
    println!("{rate} requests/s, p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    Ok(())
}

async fn connection(address: String, end: Instant) -> Result<Vec<Duration>, BoxError> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let request =
        format!("GET /hello?name=x HTTP/1.1\r\nHost: {address}\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n");
    let (mut latencies, mut buffer) = (Vec::new(), Vec::with_capacity(16 * 1024));
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(latencies);
        }
        stream.write_all(request.as_bytes()).await?;
        buffer.clear();
        while !whole(&buffer)? {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        latencies.push(begun.elapsed());
    }
}

/// Whether a response with a `Content-Length` is complete.
fn whole(read: &[u8]) -> Result<bool, BoxError> {
    let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(&read[..head])?.to_ascii_lowercase();
    if !text.starts_with("http/1.1 200 ") {
        return Err(text.into());
    }
    let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    Ok(read.len() - head - 4 >= length.ok_or("no Content-Length")?.parse::<usize>()?)
}
