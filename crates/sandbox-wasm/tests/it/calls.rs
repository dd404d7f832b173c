//! HTTP handlers: heads, bodies both ways, limits, ends.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use sandbox::{Body, BoxError, Egress, Exit, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::case;
use crate::support::{Bench, Case, HELLO, PATIENCE, PROBE, Started, piece, read, request};

pub(crate) const CASES: &[Case] = &[
    case!(the_sample_greets_echoes_and_takes_events),
    case!(a_request_needs_no_host),
    case!(every_call_has_a_fresh_guest),
    case!(what_is_printed_is_logged_before_the_answer),
    case!(bodies_stream_both_ways_in_order),
    case!(a_large_body_arrives_whole),
    case!(the_head_does_not_wait_for_the_guest),
    case!(dropping_a_response_ends_its_guest),
    case!(a_guest_that_fails_before_its_head_is_a_fault),
    case!(a_guest_that_fails_after_its_head_breaks_the_body),
    case!(memory_is_limited_and_counted),
    case!(the_package_can_be_read_and_not_written),
    case!(requests_go_out_only_where_that_is_allowed),
    case!(an_answer_that_is_none_is_told_apart),
    case!(calls_over_the_pools_size_wait_and_succeed, threads),
    case!(a_busy_guest_blocks_nobody),
    case!(stopping_ends_calls_and_streams),
    case!(dropping_the_last_handle_ends_streams),
];

async fn probe() -> (Bench, Started) {
    let bench = Bench::with(PROBE).unwrap();
    let started = bench.start().await.unwrap();
    (bench, started)
}

/// A body that is fed by a test, and where to feed it.
fn fed() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|bytes| (Ok::<_, BoxError>(Frame::data(bytes)), receiver))
    });
    (sender, Body::boxed(StreamBody::new(pieces.boxed())))
}

async fn the_sample_greets_echoes_and_takes_events() {
    let bench = Bench::with(HELLO).unwrap();
    let sample = bench.start().await.unwrap();
    let answer = sample.text("GET", "/there?x=1", "").await.unwrap();
    assert_eq!(answer, (200, "Hello, Ada! You asked for /there?x=1\n".into()));
    assert_eq!(sample.text("POST", "/", "abc").await.unwrap(), (200, "abc".into()));
    assert_eq!(
        sample.text("POST", "/events", r#"{"n":1}"#).await.unwrap(),
        (200, r#"{"event":{"n":1}}"#.into())
    );
    assert_eq!(bench.log.text(), "");
    sample.text("GET", "/log", "").await.unwrap();
    assert_eq!(bench.log.text(), "hello-wasm: GET /log\n");
}

async fn a_request_needs_no_host() {
    let sample = Bench::with(HELLO).unwrap().start().await.unwrap();
    let request = http::Request::post("/events").body(Body::from("{}")).unwrap();
    let response = sample.send(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(read(response.into_body()).await.unwrap(), r#"{"event":{}}"#);
}

async fn every_call_has_a_fresh_guest() {
    let (_bench, instance) = probe().await;
    for _ in 0..5 {
        assert_eq!(instance.text("GET", "/count", "").await.unwrap().1, "1");
    }
}

async fn what_is_printed_is_logged_before_the_answer() {
    let (bench, instance) = probe().await;
    let response = instance.get("/print").await.unwrap();
    let log = bench.log.text();
    for line in ["a line on stdout\n", "a line on stderr\n"] {
        assert!(log.contains(line), "{line:?} is not in {log:?}");
    }
    assert_eq!(read(response.into_body()).await.unwrap(), "printed");
    // A guest may answer and go on: a line without an end has one when the guest has.
    let ended = async {
        while !bench.log.text().contains("and no end of line") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

async fn bodies_stream_both_ways_in_order() {
    let (_bench, instance) = probe().await;
    let (feed, body) = fed();
    // The head comes before anything of the request's body was sent, each piece before the next.
    let response =
        tokio::time::timeout(PATIENCE, instance.send(request("POST", "/echo", body))).await.unwrap();
    let mut body = response.unwrap().into_body();
    for word in ["one", "two", "three"] {
        feed.send(word.into()).await.unwrap();
        assert_eq!(piece(&mut body).await.unwrap(), word);
    }
    drop(feed);
    assert_eq!(read(body).await.unwrap(), "");
}

async fn a_large_body_arrives_whole() {
    let (_bench, instance) = probe().await;
    let (_, text) = instance.text("GET", "/big", "").await.unwrap();
    assert_eq!(text.len(), 1024 * 4096);
    assert!(
        (0..1024).all(|n| text.as_bytes()[n * 4096..][..4096].iter().all(|b| *b == b'a' + (n % 26) as u8))
    );
}

async fn the_head_does_not_wait_for_the_guest() {
    let (_bench, instance) = probe().await;
    let response = tokio::time::timeout(PATIENCE, instance.get("/spin-late")).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
}

async fn dropping_a_response_ends_its_guest() {
    let bench = Bench::empty(|settings| settings.max_instances = 1).unwrap();
    bench.put("guest.wasm", PROBE).unwrap();
    let instance = bench.start().await.unwrap();
    for path in ["/drip", "/spin-late"] {
        let mut response = instance.get(path).await.unwrap();
        if path == "/drip" {
            assert_eq!(piece(response.body_mut()).await.unwrap(), "chunk 0\n");
        }
        // The only place is taken while the response lives …
        let mut next = std::pin::pin!(instance.text("GET", "/count", ""));
        assert!((&mut next).now_or_never().is_none());
        drop(response);
        // … and free at once when it does not.
        assert_eq!(tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap().1, "1");
    }
}

async fn a_guest_that_fails_before_its_head_is_a_fault() {
    let (_bench, instance) = probe().await;
    assert!(matches!(instance.get("/trap").await, Err(Fault::Trap(text)) if text.contains("unreachable")));
    assert_eq!(instance.get("/exit").await.err(), Some(Fault::Exited(Exit::Code(3))));
    assert!(
        matches!(instance.get("/silent").await, Err(Fault::BadAnswer(text)) if text.contains("response"))
    );
    assert_eq!(instance.text("GET", "/count", "").await.unwrap().1, "1");
}

async fn a_guest_that_fails_after_its_head_breaks_the_body() {
    let (_bench, instance) = probe().await;
    let mut body = instance.get("/trap-late").await.unwrap().into_body();
    assert_eq!(piece(&mut body).await.unwrap(), "so far so good");
    let error = body.frame().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("trapped"), "{error}");
}

async fn memory_is_limited_and_counted() {
    let (bench, instance) = probe().await;
    assert!(matches!(instance.get("/eat").await, Err(Fault::Trap(text)) if text.contains("memory")));
    let peak = instance.0.peak_memory();
    assert!(peak > bench.limits.memory_bytes / 2 && peak <= bench.limits.memory_bytes, "{peak}");
}

async fn the_package_can_be_read_and_not_written() {
    let bench = Bench::with(PROBE).unwrap();
    bench.put("note.txt", b"noted").unwrap();
    let instance = bench.start().await.unwrap();
    assert_eq!(instance.text("GET", "/file", "").await.unwrap().1, "noted, not writable");
    assert!(!bench.package().join("made.txt").exists());
}

// Codes of wasi:http/types#error-code, by their place in it.
const HTTP_REQUEST_DENIED: &str = "error 15";
const DESTINATION_IP_PROHIBITED: &str = "error 4";
const HTTP_RESPONSE_INCOMPLETE: &str = "error 25";
const HTTP_RESPONSE_HEADER_SECTION_SIZE: &str = "error 26";
const HTTP_PROTOCOL_ERROR: &str = "error 35";

async fn requests_go_out_only_where_that_is_allowed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (bench, closed) = probe().await;
    assert_eq!(closed.text("GET", &format!("/fetch/{address}"), "").await.unwrap().1, HTTP_REQUEST_DENIED);
    assert!(bench.log.text().contains("outbound network is off"), "{}", bench.log.text());
    assert!(listener.accept().now_or_never().is_none(), "nobody connected");

    let path = format!("/fetch/{address}");
    let public = bench.start_with(|spec| spec.egress = Egress::Public).await.unwrap();
    assert_eq!(public.text("GET", &path, "").await.unwrap().1, DESTINATION_IP_PROHIBITED);
    let localhost = format!("/fetch/localhost:{}", address.port());
    assert_eq!(public.text("GET", &localhost, "").await.unwrap().1, DESTINATION_IP_PROHIBITED);
    let text = bench.log.text();
    assert!(
        text.contains(&format!(
            "connection to {address} refused: a loopback address (virga:egress = public)"
        )),
        "{text}"
    );
    assert!(listener.accept().now_or_never().is_none(), "nobody connected");

    let listed = format!("127.0.0.1:{}", address.port()).parse().unwrap();
    for egress in [Egress::Open, listed] {
        let open = bench.start_with(|spec| spec.egress = egress).await.unwrap();
        fetch_through(&listener, &open).await;
    }
}

async fn fetch_through(listener: &tokio::net::TcpListener, open: &Started) {
    let address = listener.local_addr().unwrap();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        assert!(head[..length].starts_with(b"GET / HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    };
    let path = format!("/fetch/{address}");
    let (_, answer) = tokio::join!(serving, open.text("GET", &path, ""));
    assert_eq!(answer.unwrap().1, "status 204");
}

async fn an_answer_that_is_none_is_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let path = format!("/fetch/{}", listener.local_addr().unwrap());
    let bench = Bench::with(PROBE).unwrap();
    let open = bench.start_with(|spec| spec.egress = Egress::Open).await.unwrap();
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    for (answer, told) in [
        (b"".to_vec(), HTTP_RESPONSE_INCOMPLETE),
        (b"HTTP/1.1 200".to_vec(), HTTP_RESPONSE_INCOMPLETE),
        (b"not at all\r\n\r\n".to_vec(), HTTP_PROTOCOL_ERROR),
        (endless, HTTP_RESPONSE_HEADER_SECTION_SIZE),
    ] {
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            // The other side may have had enough.
            let _ = stream.write_all(&answer).await;
        };
        let (_, seen) = tokio::join!(serving, open.text("GET", &path, ""));
        assert_eq!(seen.unwrap().1, told, "{:?}", &answer[..answer.len().min(20)]);
    }
}

async fn calls_over_the_pools_size_wait_and_succeed() {
    let bench = Bench::empty(|settings| settings.max_instances = 4).unwrap();
    bench.put("guest.wasm", PROBE).unwrap();
    let instance = bench.start().await.unwrap();
    let responses = join_all((0..4).map(|_| instance.get("/drip"))).await;
    assert!(responses.iter().all(Result::is_ok));
    let mut waiting: Vec<_> = (0..60).map(|_| Box::pin(instance.text("GET", "/count", ""))).collect();
    for call in &mut waiting {
        assert!(call.now_or_never().is_none());
    }
    drop(responses);
    let answers = tokio::time::timeout(PATIENCE, join_all(waiting)).await.unwrap();
    assert!(answers.into_iter().all(|answer| answer.unwrap().1 == "1"));
}

async fn a_busy_guest_blocks_nobody() {
    let (_bench, instance) = probe().await;
    tokio::select! {
        biased;
        _ = instance.get("/spin") => panic!("an endless guest ended"),
        answer = instance.text("GET", "/count", "") => assert_eq!(answer.unwrap().1, "1"),
    }
}

async fn stopping_ends_calls_and_streams() {
    let (_bench, instance) = probe().await;
    let mut streaming = instance.get("/drip").await.unwrap().into_body();
    let spinning = tokio::spawn({
        let instance = instance.clone();
        async move { instance.get("/spin").await.err() }
    });
    tokio::task::yield_now().await;
    let mut exited = instance.0.exited();
    assert!((&mut exited).now_or_never().is_none());
    tokio::time::timeout(PATIENCE, instance.0.stop()).await.unwrap();
    assert_eq!(exited.await, Exit::Stopped);
    assert_eq!(spinning.await.unwrap(), Some(Fault::Exited(Exit::Stopped)));
    let mut last = streaming.frame().await;
    while let Some(Ok(_)) = last {
        last = streaming.frame().await;
    }
    assert!(last.unwrap().unwrap_err().to_string().contains("stopped"));
    assert_eq!(instance.get("/count").await.err(), Some(Fault::Exited(Exit::Stopped)));
}

async fn dropping_the_last_handle_ends_streams() {
    let (_bench, instance) = probe().await;
    let mut body = instance.get("/drip").await.unwrap().into_body();
    assert_eq!(Arc::strong_count(&instance.0), 1);
    drop(instance);
    let mut last = body.frame().await;
    while let Some(Ok(_)) = last {
        last = body.frame().await;
    }
    assert!(last.unwrap().is_err());
}
