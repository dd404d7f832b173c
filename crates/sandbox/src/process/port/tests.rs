//! The proxy in front of servers that say, byte for byte, what a test wants.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{Error, WebServer};
use crate::Body;
use crate::process::route::Route;
use crate::process::testing::PATIENCE;

/// A server whose connections a test takes and speaks itself.
struct Raw {
    listener: TcpListener,
    web: Arc<WebServer>,
}

async fn raw() -> Raw {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    Raw { listener, web: Arc::new(WebServer::new(Route::Host(port))) }
}

impl Raw {
    async fn accept(&self) -> Peer {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept());
        Peer { stream: accepted.await.expect("a connection in time").unwrap().0, read: Vec::new() }
    }

    fn send(&self, request: Request<Body>) -> Sent {
        let web = self.web.clone();
        tokio::spawn(async move { web.send(Box::new(request)).await })
    }
}

type Sent = tokio::task::JoinHandle<Result<http::Response<Body>, Error>>;

struct Peer {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    /// Reads up to and with `end`; what was read.
    async fn until(&mut self, end: &str) -> String {
        let read = async {
            loop {
                if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                    let taken = self.read.drain(..at + end.len()).collect();
                    return String::from_utf8(taken).unwrap();
                }
                let length = self.stream.read_buf(&mut self.read).await.unwrap();
                assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("bytes in time")
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 16];
        let read = self.stream.read(&mut buffer);
        !matches!(tokio::time::timeout(PATIENCE, read).await.expect("a close in time"), Ok(1..))
    }
}

fn get(path: &str) -> Request<Body> {
    Request::builder().uri(path).header("host", "a.example").body(Body::empty()).unwrap()
}

async fn text(body: Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn answered(sent: Sent) -> http::Response<Body> {
    tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time").unwrap().unwrap()
}

/// A body that a test writes piece by piece.
fn piecemeal() -> (mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>, Body) {
    let (sender, mut receiver) = mpsc::channel(4);
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, Body::boxed(StreamBody::new(frames)))
}

async fn frame(body: &mut Body) -> Option<Result<Bytes, String>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    let frame = tokio::time::timeout(PATIENCE, frame).await.expect("a frame in time");
    frame.map(|frame| frame.map(|f| f.into_data().unwrap()).map_err(|error| error.to_string()))
}

#[tokio::test]
async fn passes_a_request_on_and_keeps_the_connection() {
    let raw = raw().await;
    let mut peer = None;
    for path in ["/a?b=c", "/second", "/third"] {
        let mut request = get(path);
        request.headers_mut().insert("connection", "close".parse().unwrap());
        let sent = raw.send(request);
        let peer = match &mut peer {
            Some(peer) => peer,
            None => peer.insert(raw.accept().await),
        };
        let head = peer.until("\r\n\r\n").await;
        assert_eq!(head, format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n"));
        peer.write("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n").await;
        peer.write("X-A: 1\r\nContent-Length: 2\r\n\r\nhi").await;
        let response = answered(sent).await;
        let mut headers: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
        headers.sort_unstable();
        assert_eq!(headers, ["content-length", "x-a"]);
        assert_eq!(text(response.into_body()).await, "hi");
    }
}

#[tokio::test]
async fn streams_both_ways_as_it_comes() {
    let raw = raw().await;
    let (up, body) = piecemeal();
    let request = Request::post("/").body(body).unwrap();
    let sent = raw.send(request);
    let mut peer = raw.accept().await;
    assert!(peer.until("\r\n\r\n").await.contains("transfer-encoding: chunked\r\n"));
    up.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    peer.until("3\r\none\r\n").await;
    // The answer begins before the request has ended.
    peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let response = answered(sent).await;
    assert!(!response.headers().contains_key("transfer-encoding"));
    let mut body = response.into_body();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        peer.write(&format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(frame(&mut body).await, Some(Ok(Bytes::from(event))));
    }
    up.send(Ok(Frame::data(Bytes::from_static(b"two")))).await.unwrap();
    drop(up);
    peer.write("0\r\n\r\n").await;
    let (end, _) = tokio::join!(frame(&mut body), peer.until("3\r\ntwo\r\n"));
    assert_eq!(end, None);
}

#[tokio::test]
async fn a_long_body_arrives_whole_and_frees_its_connection() {
    let raw = raw().await;
    let long = "x".repeat(3_000_000);
    let sent = raw.send(get("/"));
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", long.len());
    let reading = async { text(answered(sent).await.into_body()).await };
    let (read, ()) = tokio::join!(reading, async { peer.write(&(head + &long)).await });
    assert_eq!(read.len(), long.len());
    raw.send(get("/next"));
    assert!(peer.until("\r\n\r\n").await.starts_with("GET /next "));
}

#[tokio::test]
async fn answers_without_a_body() {
    for (method, head, length) in [
        (Method::HEAD, "200 OK\r\nContent-Length: 1000", Some("1000")),
        (Method::GET, "204 No Content", None),
        (Method::GET, "304 Not Modified\r\nContent-Length: 5", Some("5")),
    ] {
        let raw = raw().await;
        let mut request = get("/");
        *request.method_mut() = method;
        let sent = raw.send(request);
        let mut peer = raw.accept().await;
        peer.until("\r\n\r\n").await;
        peer.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
        peer.write(&format!("HTTP/1.1 {head}\r\n\r\n")).await;
        let response = answered(sent).await;
        let announced = response.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(announced, length, "{head}");
        assert_eq!(text(response.into_body()).await, "");
        raw.send(get("/next"));
        assert!(peer.until("\r\n\r\n").await.starts_with("GET /next "), "the connection is used again");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error() {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let raw = raw().await;
        let sent = raw.send(get("/"));
        let mut peer = raw.accept().await;
        peer.until("\r\n\r\n").await;
        peer.write(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\nabcd\r\n")).await;
        let mut body = answered(sent).await.into_body();
        drop(peer);
        let last = loop {
            match frame(&mut body).await {
                Some(Ok(_)) => {}
                other => break other,
            }
        };
        assert!(matches!(last, Some(Err(_))), "{head}: {last:?}");
    }
}

#[tokio::test]
async fn a_body_until_the_end_of_the_connection() {
    let raw = raw().await;
    let sent = raw.send(get("/"));
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    peer.write("HTTP/1.0 200 OK\r\n\r\nold ").await;
    let body = answered(sent).await.into_body();
    peer.write("style").await;
    drop(peer);
    assert_eq!(text(body).await, "old style");
    raw.send(get("/"));
    raw.accept().await.until("\r\n\r\n").await;
}

#[tokio::test]
async fn an_upgrade_hands_the_stream_over() {
    let raw = raw().await;
    let mut request = get("/socket");
    request.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let sent = raw.send(request);
    let mut peer = raw.accept().await;
    let head = peer.until("\r\n\r\n").await;
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
    peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
        .await;
    let mut response = answered(sent).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers().get("upgrade").unwrap(), "websocket");
    let upgrade = response.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().unwrap();
    let mut stream = TokioIo::new(tokio::time::timeout(PATIENCE, upgrade).await.unwrap().unwrap());
    let mut read = [0; 5];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"first");
    stream.write_all(b"ping\n").await.unwrap();
    peer.until("ping\n").await;
    peer.write("pong\n").await;
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"pong\n");
    drop(stream);
    assert!(peer.is_closed().await);
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_refused() {
    let raw = raw().await;
    let sent = raw.send(get("/"));
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").await;
    assert!(matches!(sent.await.unwrap(), Err(Error::Unasked)));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let raw = raw().await;
    let sent = raw.send(get("/"));
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    answered(sent).await;
    drop(peer);
    // When a connection that was made later has arrived, so has the close.
    let later = TcpStream::connect(raw.listener.local_addr().unwrap()).await.unwrap();
    drop((raw.accept().await, later));
    let (up, body) = piecemeal();
    up.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
    drop(up);
    let sent = raw.send(Request::post("/again").body(body).unwrap());
    let mut peer = raw.accept().await;
    peer.until("1\r\nx\r\n0\r\n\r\n").await;
    peer.write("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(answered(sent).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn what_was_sent_is_never_sent_twice() {
    let raw = raw().await;
    let sent = raw.send(get("/"));
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    drop(peer);
    assert!(matches!(sent.await.unwrap(), Err(Error::Closed(_))));
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    let raw = raw().await;
    let sent = raw.send(get("/"));
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    peer.write("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    let error = sent.await.unwrap().err().unwrap();
    assert!(matches!(error, Error::NotHttp(_)), "{error}");
}

#[tokio::test]
async fn giving_up_closes_the_connection() {
    let raw = raw().await;
    let sent = raw.send(get("/"));
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    sent.abort();
    assert!(peer.is_closed().await, "before the head");
    let sent = raw.send(get("/"));
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
    drop(answered(sent).await);
    assert!(peer.is_closed().await, "in the middle of the body");
}

#[tokio::test]
async fn ready_when_the_port_answers_and_not_before() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let web = WebServer::new(Route::Host(port));
    let attempts = AtomicUsize::new(0);
    let mut ready = Box::pin(web.ready());
    let listener = tokio::select! {
        () = &mut ready => panic!("nobody listens"),
        () = async { while attempts.fetch_add(1, Ordering::Relaxed) < 100 { tokio::task::yield_now().await } } => {
            TcpListener::bind(("127.0.0.1", port)).await.unwrap()
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it is found");
    drop(listener);
}

#[tokio::test]
async fn an_answer_before_the_request_has_ended() {
    let raw = raw().await;
    let (up, body) = piecemeal();
    let sent = raw.send(Request::post("/").body(body).unwrap());
    let mut peer = raw.accept().await;
    up.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    peer.until("3\r\none\r\n").await;
    peer.write("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
    let response = answered(sent).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response.into_body()).await, "no");
    assert!(peer.is_closed().await, "the rest of the request would be taken for the next one");
    drop(up);
}

#[tokio::test]
async fn a_request_whose_body_breaks() {
    let raw = raw().await;
    let (up, body) = piecemeal();
    let sent = raw.send(Request::post("/").body(body).unwrap());
    let mut peer = raw.accept().await;
    peer.until("\r\n\r\n").await;
    up.send(Err(std::io::Error::other("the client left"))).await.unwrap();
    let error = sent.await.unwrap().err().unwrap();
    assert!(matches!(&error, Error::Request(why) if why.to_string() == "the client left"), "{error}");
    assert!(peer.is_closed().await, "not ended as if it were whole");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let raw = raw().await;
    let (up, body) = piecemeal();
    let sent = raw.send(Request::post("/").body(body).unwrap());
    let mut peer = raw.accept().await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    up.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
    peer.until("\r\n\r\n0\r\nx-sum: 1\r\n\r\n").await;
    peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    let collected = answered(sent).await.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
    assert_eq!(collected.to_bytes(), "a");
}

#[tokio::test]
async fn a_body_of_known_length_goes_with_its_head() {
    let raw = raw().await;
    let sent = raw.send(Request::post("/").body(Body::from("seven!!")).unwrap());
    let mut peer = raw.accept().await;
    let head = peer.until("\r\n\r\nseven!!").await;
    assert!(head.contains("content-length: 7\r\n"), "{head}");
    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    answered(sent).await;
    let connect = Request::builder().method(Method::CONNECT).uri("/").body(Body::empty()).unwrap();
    assert!(matches!(raw.web.send(Box::new(connect)).await, Err(Error::Tunnel)));
}

#[tokio::test]
async fn a_request_without_a_connection_comes_back_whole() {
    let Raw { listener, web } = raw().await;
    drop(listener);
    let mut request = Request::post("/a?b").header("x-a", "1").body(Body::from("body")).unwrap();
    request.headers_mut().insert("connection", "x-hop".parse().unwrap());
    let error = web.send(Box::new(request)).await.map(drop).unwrap_err();
    let Error::Connect(request, _) = error else { panic!("{error}") };
    assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "/a?b"));
    assert_eq!(request.headers()["x-a"], "1");
    assert_eq!(text(request.into_body()).await, "body");
}
