//! Web servers.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use sandbox::{Body, Exit, Fault, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Engines, PATIENCE};
use crate::case;
use crate::world::{Case, World};

pub(crate) const CASES: &[Case] = &[
    case!(a_node_server),
    case!(a_python_server),
    case!(events_of_a_server_flow_as_they_are_sent),
    case!(a_websocket_passes),
    case!(many_requests_at_once),
    case!(a_server_that_never_listens),
    case!(a_crash_in_the_middle_of_a_response),
    case!(what_is_not_http),
];

const NODE: &str = r#"
const http = require('http');
const server = http.createServer((request, response) => {
  console.log(request.method, request.url);
  if (request.url === '/crash') {
    response.writeHead(200, { 'Content-Length': 100 });
    response.write('part', () => process.exit(7));
  } else if (request.url === '/events') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write('data: 1\n\n');
    request.on('data', (chunk) => response.write(`data: ${chunk}\n\n`));
    request.on('end', () => response.end());
  } else {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      response.setHeader('X-Host', request.headers.host);
      response.setHeader('X-Port', process.env.PORT);
      response.end(`${request.method} ${request.url} ${Buffer.concat(chunks).length}`);
    });
  }
});
server.on('upgrade', (request, socket, head) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
  socket.write(head);
  socket.pipe(socket);
});
setTimeout(() => server.listen(process.env.PORT, '127.0.0.1'), 50);
"#;

fn get(path: &str) -> Request<Body> {
    Request::builder().uri(path).header("host", "f.example").body(Body::empty()).unwrap()
}

async fn text(body: Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn frame(body: &mut Body) -> Option<Result<Bytes, String>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    let frame = tokio::time::timeout(PATIENCE, frame).await.expect("a frame in time");
    frame.map(|frame| frame.map(|f| f.into_data().unwrap()).map_err(|error| error.to_string()))
}

async fn a_node_server(world: World) {
    let engines = Engines::new(&world);
    let running = engines.start(engines.node_server(NODE).await).await;
    let response = running.request(get("/a?b=c")).await.unwrap();
    assert_eq!(response.headers().get("x-host").unwrap(), "f.example");
    assert_eq!(response.headers().get("x-port").unwrap(), "8080");
    assert_eq!(text(response.into_body()).await, "GET /a?b=c 0");
    assert_eq!(running.log.text(), "GET /a?b=c\n", "the log is there before the answer");
    let mut post = get("/post").map(|_| Body::from(vec![0; 3_000_000]));
    *post.method_mut() = http::Method::POST;
    assert_eq!(text(running.request(post).await.unwrap().into_body()).await, "POST /post 3000000");
}

async fn a_python_server(world: World) {
    let engines = Engines::new(&world);
    let source = r#"
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        print("seen", self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"old style")
    def log_message(self, *args):
        pass
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;
    let runtime = engines.runtime("python").await;
    let running =
        engines.start(engines.function(runtime, "web.py", &[("web.py", 0o644, source)]).http()).await;
    for _ in 0..2 {
        let response = running.request(get("/x")).await.unwrap();
        assert_eq!(text(response.into_body()).await, "old style");
    }
    assert_eq!(running.log.text(), "seen /x\nseen /x\n");
}

async fn events_of_a_server_flow_as_they_are_sent(world: World) {
    let engines = Engines::new(&world);
    let running = engines.start(engines.node_server(NODE).await).await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Result<_, std::io::Error>>(1);
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let body = Body::boxed(http_body_util::StreamBody::new(frames));
    let request = Request::post("/events").header("host", "f").body(body).unwrap();
    let mut answer = running.request(request).await.unwrap().into_body();
    assert_eq!(frame(&mut answer).await, Some(Ok(Bytes::from_static(b"data: 1\n\n"))));
    for (piece, event) in [("x", "data: x\n\n"), ("y", "data: y\n\n")] {
        sender.send(Ok(http_body::Frame::data(Bytes::from(piece)))).await.unwrap();
        assert_eq!(frame(&mut answer).await, Some(Ok(Bytes::from(event))));
    }
    drop(sender);
    assert_eq!(frame(&mut answer).await, None);
}

async fn a_websocket_passes(world: World) {
    let engines = Engines::new(&world);
    let running = engines.start(engines.node_server(NODE).await).await;
    let mut request = get("/socket");
    request.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "echo".parse().unwrap());
    let mut response = running.request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgrade = response.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().unwrap();
    let mut stream = TokioIo::new(upgrade.await.unwrap());
    for word in [b"ping", b"pong"] {
        stream.write_all(word).await.unwrap();
        let mut read = [0; 4];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, word);
    }
    assert_eq!(text(running.request(get("/after")).await.unwrap().into_body()).await, "GET /after 0");
}

async fn many_requests_at_once(world: World) {
    let engines = Engines::new(&world);
    let running = engines.start(engines.node_server(NODE).await).await;
    let requests = (0..50).map(|n| {
        let running = &running;
        async move {
            for round in 0..5 {
                let path = format!("/{n}/{round}");
                let response = running.request(get(&path)).await.unwrap();
                assert_eq!(text(response.into_body()).await, format!("GET {path} 0"));
            }
        }
    });
    futures_util::future::join_all(requests).await;
}

async fn a_server_that_never_listens(world: World) {
    let engines = Engines::new(&world);
    let function = engines.node_server("setInterval(() => {}, 1000)").await;
    let function = function.init_timeout(Duration::from_millis(700));
    let Err((error, _)) = engines.try_start(function).await else { panic!("it started") };
    assert!(matches!(error, StartError::TimedOut), "{error:?}");
    let function = engines.node_server("process.exit(5)").await;
    let Err((error, _)) = engines.try_start(function).await else { panic!("it started") };
    assert!(matches!(error, StartError::Exited(Exit::Code(5))), "{error:?}");
}

async fn a_crash_in_the_middle_of_a_response(world: World) {
    let engines = Engines::new(&world);
    let running = engines.start(engines.node_server(NODE).await).await;
    let mut body = running.request(get("/crash")).await.unwrap().into_body();
    let last = loop {
        match frame(&mut body).await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(last, Some(Err(_))), "{last:?}");
    let after = running.request(get("/")).await.err();
    // Its listener may be closed a little after the connection.
    assert!(
        matches!(after, Some(Fault::NotDelivered(Exit::Code(7)) | Fault::Exited(Exit::Code(7)))),
        "{after:?}"
    );
    let later = running.request(get("/")).await.err();
    assert_eq!(later, Some(Fault::NotDelivered(Exit::Code(7))), "nothing was sent");
    assert_eq!(running.instance.exited().await, Exit::Code(7));
}

async fn what_is_not_http(world: World) {
    let engines = Engines::new(&world);
    // The connection that found out whether the port answers is closed with the greeting unread: an error there.
    let source = "require('net').createServer((s) => s.on('error', () => {}).end('220 mail\\r\\n\\r\\n'))\
        .listen(process.env.PORT)";
    let running = engines.start(engines.node_server(source).await).await;
    let fault = running.request(get("/")).await.err();
    assert!(matches!(fault, Some(Fault::BadAnswer(_))), "{fault:?}");
}
