//! The API over real connections, spoken by hand.

mod streaming;

use std::sync::Arc;

use base::RequestId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{LongPoll, Started};
use crate::process::instance::Tasks;
use crate::process::output::Output;
use crate::process::output::tests::{Kept, pipe};
use crate::process::testing::{PATIENCE, event_of};
use crate::{Exit, Fault, FunctionError, Output as CallOutput, StartError};

struct Served {
    api: Arc<LongPoll>,
    address: String,
    started: Option<Started>,
    log: Arc<Kept>,
    writer: std::os::fd::OwnedFd,
    _tasks: Tasks,
}

async fn serve(answer_bytes: usize) -> Served {
    serve_several(answer_bytes, 1).await
}

async fn serve_several(answer_bytes: usize, concurrency: u32) -> Served {
    let (reader, writer) = pipe();
    let log = Arc::new(Kept::default());
    let output = Arc::new(Output::new(reader, log.clone()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (api, started) = LongPoll::new(output, answer_bytes, concurrency);
    let mut tasks = Tasks::default();
    tasks.spawn(api.clone().serve(listener));
    Served { api, address, started: Some(started), log, writer, _tasks: tasks }
}

type Outcome = tokio::task::JoinHandle<Result<CallOutput, Fault>>;

impl Served {
    async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(&self.address).await.unwrap(), read: Vec::new() }
    }

    fn invoke(&self, id: RequestId, event: &str) -> Outcome {
        let (api, event) = (self.api.clone(), event_of(event));
        tokio::spawn(async move { api.invoke(id, 99, event).await })
    }

    /// A client that has asked for its first event, which is started; and the id of an invocation.
    async fn running(&mut self) -> (Client, RequestId, Outcome) {
        let mut client = self.client().await;
        client.send("GET", "invocation/next", "").await;
        self.started.take().unwrap().await.unwrap().unwrap();
        let id = RequestId::random();
        let outcome = self.invoke(id, "{\"n\":1}");
        assert_eq!(client.answer().await, (200, "{\"n\":1}".to_owned()));
        (client, id, outcome)
    }
}

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        );
        self.write(&format!("{head}Lambda-Runtime-Function-Error-Type: My.Kind\r\n\r\n{body}")).await;
    }

    /// The next answer's status and body.
    async fn answer(&mut self) -> (u16, String) {
        let read = async {
            loop {
                let text = String::from_utf8_lossy(&self.read).into_owned();
                if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .to_lowercase()
                        .split_once("content-length: ")
                        .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse().unwrap());
                    if rest.len() >= length {
                        self.read.drain(..head.len() + 4 + length);
                        return (head[9..12].parse().unwrap(), rest[..length].to_owned());
                    }
                }
                assert!(self.stream.read_buf(&mut self.read).await.unwrap() > 0, "closed after {text:?}");
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")
    }

    async fn call(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.send(method, path, body).await;
        self.answer().await
    }
}

fn event(outcome: Result<CallOutput, Fault>) -> String {
    match outcome {
        Ok(CallOutput::Event(json)) => String::from_utf8(json.to_vec()).unwrap(),
        Ok(CallOutput::FunctionError(error)) => panic!("{error:?}"),
        Ok(CallOutput::Stream(_) | CallOutput::Http(_) | CallOutput::NotTaken(..)) => panic!("HTTP"),
        Err(fault) => panic!("{fault:?}"),
    }
}

fn function_error(outcome: Result<CallOutput, Fault>) -> FunctionError {
    match outcome {
        Ok(CallOutput::FunctionError(error)) => error,
        _ => panic!("no function error"),
    }
}

#[tokio::test]
async fn a_round_with_the_log_before_the_answer() {
    let mut served = serve(1000).await;
    rustix::io::write(&served.writer, b"init\n").unwrap();
    let (mut client, id, outcome) = served.running().await;
    assert_eq!(served.log.text(), "init\n");
    rustix::io::write(&served.writer, b"line\n").unwrap();
    let answer = client.call("POST", &format!("invocation/{id}/response"), "[2]").await;
    assert_eq!(answer, (202, "{\"status\":\"OK\"}\n".to_owned()));
    assert_eq!(event(outcome.await.unwrap()), "[2]");
    assert_eq!(served.log.text(), "init\nline\n");
}

#[tokio::test]
async fn an_event_that_comes_before_next_waits() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    client.call("POST", &format!("invocation/{id}/response"), "1").await;
    outcome.await.unwrap().unwrap();
    let second = RequestId::random();
    let mut call = Box::pin(served.api.invoke(second, 99, event_of("2")));
    let pending =
        std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    assert_eq!(client.call("GET", "invocation/next", "").await, (200, "2".to_owned()));
    let path = format!("invocation/{second}/response");
    let (answer, outcome) = tokio::join!(client.call("POST", &path, "3"), call);
    assert_eq!((answer.0, event(outcome)), (202, "3".to_owned()));
}

#[tokio::test]
async fn an_error_with_its_type() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    let path = format!("invocation/{id}/error");
    assert_eq!(client.call("POST", &path, "{\"errorMessage\":\"m\"}").await.0, 202);
    let error = function_error(outcome.await.unwrap());
    assert_eq!(error.error_type.as_deref(), Some("My.Kind"));
    assert_eq!(error.json, "{\"errorMessage\":\"m\"}");
    let (status, body) = client.call("POST", &path, "{}").await;
    assert_eq!(status, 403);
    assert!(body.contains("\"errorType\":\"InvalidStateTransition\""), "{body}");
}

#[tokio::test]
async fn calls_that_do_not_fit_change_nothing() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    for (method, path, status, kind) in [
        ("GET", "invocation/next".to_owned(), 403, "InvalidStateTransition"),
        ("POST", "init/error".to_owned(), 403, "InvalidStateTransition"),
        ("POST", format!("invocation/{}/response", RequestId::random()), 400, "InvalidRequestID"),
        ("POST", "invocation/nonsense/error".to_owned(), 400, "InvalidRequestID"),
        ("POST", "invocation/next".to_owned(), 405, "MethodNotAllowed"),
        ("GET", "nothing".to_owned(), 404, "NotFound"),
    ] {
        let (answered, body) = client.call(method, &path, "").await;
        assert_eq!(answered, status, "{path}");
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(error["errorType"], kind);
        assert!(error["errorMessage"].is_string());
    }
    assert_eq!(client.call("POST", &format!("invocation/{id}/response"), "1").await.0, 202);
    assert_eq!(event(outcome.await.unwrap()), "1");
}

#[tokio::test]
async fn too_large_an_answer_is_refused_and_the_instance_lives() {
    let mut served = serve(10).await;
    let (mut client, id, outcome) = served.running().await;
    let path = format!("invocation/{id}/response");
    let (status, body) = client.call("POST", &path, "12345678901").await;
    assert_eq!(status, 413);
    let expected = "{\"errorMessage\":\"Exceeded maximum allowed payload size (10 bytes).\",\"errorType\":\"RequestEntityTooLarge\"}";
    assert_eq!(body, expected);
    assert_eq!(outcome.await.unwrap().err(), Some(Fault::AnswerTooLarge { size: 11, limit: 10 }));
    let second = served.invoke(RequestId::random(), "2");
    assert_eq!(client.call("GET", "invocation/next", "").await, (200, "2".to_owned()));
    drop(second);
}

#[tokio::test]
async fn chunked_bodies_and_an_error_in_their_trailers() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    let head = format!(
        "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Lambda-Runtime-Function-Error-Type\r\n\r\n"
    );
    client.write(&head).await;
    client.write("3\r\n[1,\r\n").await;
    client.write("2\r\n2]\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.0, 202);
    assert_eq!(event(outcome.await.unwrap()), "[1,2]");

    client.send("GET", "invocation/next", "").await;
    let second = RequestId::random();
    let outcome = served.invoke(second, "2");
    client.answer().await;
    client.write(&head.replace(&id.to_string(), &second.to_string())).await;
    client
        .write("1\r\n[\r\n0\r\nLambda-Runtime-Function-Error-Type: E\r\nLambda-Runtime-Function-Error-Body: e30=\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.0, 202);
    let error = function_error(outcome.await.unwrap());
    assert_eq!((error.json.as_ref(), error.error_type.as_deref()), (&b"{}"[..], Some("E")));
}

#[tokio::test]
async fn a_client_that_hangs_up_loses_no_event() {
    let mut served = serve(1000).await;
    let mut first = served.client().await;
    first.send("GET", "invocation/next", "").await;
    served.started.take().unwrap().await.unwrap().unwrap();
    drop(first);
    // It may be found out before the event is offered or after it was handed to the dead connection.
    let id = RequestId::random();
    let outcome = served.invoke(id, "7");
    let mut second = served.client().await;
    assert_eq!(second.call("GET", "invocation/next", "").await, (200, "7".to_owned()));
    drop(second);
    let mut third = served.client().await;
    assert_eq!(third.call("GET", "invocation/next", "").await, (200, "7".to_owned()), "handed out again");
    assert_eq!(third.call("POST", &format!("invocation/{id}/response"), "8").await.0, 202);
    assert_eq!(event(outcome.await.unwrap()), "8");
}

#[tokio::test]
async fn an_answer_that_breaks_off_can_be_sent_again() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    let path = format!("invocation/{id}/response");
    client
        .write(&format!("POST /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12"))
        .await;
    drop(client);
    let again = async {
        loop {
            let mut client = served.client().await;
            match client.call("POST", &path, "12345").await.0 {
                202 => return,
                // The end of the first connection has not been seen yet.
                status => assert_eq!(status, 403),
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(event(outcome.await.unwrap()), "12345");
}

#[tokio::test]
async fn initialisation_that_fails() {
    let mut served = serve(1000).await;
    let mut client = served.client().await;
    rustix::io::write(&served.writer, b"why\n").unwrap();
    assert_eq!(client.call("POST", "init/error", "{\"errorType\":\"E\"}").await.0, 202);
    let Err(StartError::Init { json, error_type }) = served.started.take().unwrap().await.unwrap() else {
        panic!()
    };
    assert_eq!((json.as_ref(), error_type.as_deref()), (&b"{\"errorType\":\"E\"}"[..], Some("My.Kind")));
    assert_eq!(served.log.text(), "why\n");
}

#[tokio::test]
async fn the_end_of_the_process_ends_every_wait() {
    let mut served = serve(1000).await;
    served.api.gone(Exit::Code(1));
    let started = served.started.take().unwrap().await.unwrap();
    assert!(matches!(started, Err(StartError::Exited(Exit::Code(1)))));

    let mut served = serve(1000).await;
    let (_client, _, outcome) = served.running().await;
    served.api.gone(Exit::OutOfMemory);
    assert_eq!(outcome.await.unwrap().err(), Some(Fault::Exited(Exit::OutOfMemory)));
    let next = served.api.invoke(RequestId::random(), 99, event_of("1")).await;
    assert_eq!(next.err(), Some(Fault::NotDelivered(Exit::OutOfMemory)));
}

#[tokio::test]
async fn the_end_of_the_process_before_it_fetches_an_event_leaves_that_undelivered() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    client.call("POST", &format!("invocation/{id}/response"), "1").await;
    outcome.await.unwrap().unwrap();
    let mut call = Box::pin(served.api.invoke(RequestId::random(), 99, event_of("2")));
    let pending =
        std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    assert!(pending, "offered; the client has not asked again");
    served.api.gone(Exit::Code(0));
    assert_eq!(call.await.err(), Some(Fault::NotDelivered(Exit::Code(0))));
}

#[tokio::test]
async fn an_event_is_not_given_to_a_connection_that_has_ended() {
    let mut served = serve(1000).await;
    let mut client = served.client().await;
    client.send("GET", "invocation/next", "").await;
    served.started.take().unwrap().await.unwrap().unwrap();
    // Nothing is awaited from here to the event: the reactor has not heard that the client is gone.
    drop(client);
    let mut call = Box::pin(served.api.invoke(RequestId::random(), 99, event_of("2")));
    let pending =
        std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    served.api.gone(Exit::Signal(9));
    assert_eq!(call.await.err(), Some(Fault::NotDelivered(Exit::Signal(9))));
}

#[tokio::test]
async fn an_answer_may_ask_for_the_next_event_as_its_reply() {
    let mut served = serve(10).await;
    let (mut client, id, outcome) = served.running().await;
    let answer = |id: RequestId, verb: &str, body: &str| {
        let length = body.len();
        format!(
            "POST /2018-06-01/runtime/invocation/{id}/{verb} HTTP/1.1\r\nVirga-Next: 1\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    client.write(&answer(id, "response", "1")).await;
    assert_eq!(event(outcome.await.unwrap()), "1");
    let second = RequestId::random();
    let outcome = served.invoke(second, "2");
    assert_eq!(client.answer().await, (200, "2".to_owned()));
    client.write(&answer(second, "error", "e")).await;
    assert_eq!(function_error(outcome.await.unwrap()).json, "e");
    let third = RequestId::random();
    let outcome = served.invoke(third, "3");
    assert_eq!(client.answer().await, (200, "3".to_owned()));
    // What is not taken is told, and nothing is fetched.
    client.write(&answer(second, "response", "2")).await;
    assert_eq!(client.answer().await.0, 400);
    client.write(&answer(third, "response", "12345678901")).await;
    assert_eq!(client.answer().await.0, 413);
    assert_eq!(outcome.await.unwrap().err(), Some(Fault::AnswerTooLarge { size: 11, limit: 10 }));
    let outcome = served.invoke(RequestId::random(), "4");
    assert_eq!(client.call("GET", "invocation/next", "").await, (200, "4".to_owned()));
    drop(outcome);
}

#[tokio::test]
async fn several_polls_get_several_events_and_answer_in_any_order() {
    const MOST: usize = 5;
    let mut served = serve_several(1000, MOST as u32).await;
    let mut clients = Vec::new();
    for _ in 0..MOST {
        let mut client = served.client().await;
        client.send("GET", "invocation/next", "").await;
        clients.push(client);
    }
    served.started.take().unwrap().await.unwrap().unwrap();
    let mut outcomes = std::collections::HashMap::new();
    for number in 0..MOST {
        let id = RequestId::random();
        outcomes.insert(number.to_string(), (id, served.invoke(id, &number.to_string())));
    }
    let mut fetched = Vec::new();
    for client in &mut clients {
        let (status, number) = client.answer().await;
        assert_eq!(status, 200);
        fetched.push(number);
    }
    let mut sorted = fetched.clone();
    sorted.sort();
    assert_eq!(sorted, ["0", "1", "2", "3", "4"], "each once");
    let busy = served.api.invoke(RequestId::random(), 99, event_of("6")).await;
    assert!(matches!(busy, Err(Fault::BadAnswer(_))), "all places are taken");
    // Answered over one connection, whoever fetched it, last first; the others wait for more.
    for number in fetched.iter().rev() {
        let (id, outcome) = outcomes.remove(number).unwrap();
        let path = format!("invocation/{id}/response");
        assert_eq!(clients[0].call("POST", &path, number).await.0, 202);
        assert_eq!(event(outcome.await.unwrap()), *number);
    }
}

#[tokio::test]
async fn the_end_of_a_process_with_several_under_way_tells_each_what_became_of_it() {
    let mut served = serve_several(1000, 3).await;
    let (mut client, id, first) = {
        let mut client = served.client().await;
        client.send("GET", "invocation/next", "").await;
        served.started.take().unwrap().await.unwrap().unwrap();
        let id = RequestId::random();
        let first = served.invoke(id, "1");
        client.answer().await;
        (client, id, first)
    };
    let second = served.invoke(RequestId::random(), "2");
    assert_eq!(client.call("GET", "invocation/next", "").await, (200, "2".to_owned()));
    assert_eq!(client.call("POST", &format!("invocation/{id}/response"), "1").await.0, 202);
    assert_eq!(event(first.await.unwrap()), "1");
    let mut third = Box::pin(served.api.invoke(RequestId::random(), 99, event_of("3")));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(third.as_mut().poll(cx).is_pending())).await);
    served.api.gone(Exit::Code(9));
    assert_eq!(second.await.unwrap().err(), Some(Fault::Exited(Exit::Code(9))));
    assert_eq!(third.await.err(), Some(Fault::NotDelivered(Exit::Code(9))));
}

#[tokio::test]
async fn of_several_an_event_that_was_not_read_is_handed_out_again() {
    let mut served = serve_several(1000, 2).await;
    let mut reader = served.client().await;
    reader.send("GET", "invocation/next", "").await;
    served.started.take().unwrap().await.unwrap().unwrap();
    let id = RequestId::random();
    let read = served.invoke(id, "1");
    assert_eq!(reader.answer().await, (200, "1".to_owned()));
    // The handler may still run: only its connection is gone.
    drop(reader);
    let mut loser = served.client().await;
    loser.send("GET", "invocation/next", "").await;
    let lost_id = RequestId::random();
    let lost = served.invoke(lost_id, "2");
    loser.stream.readable().await.unwrap();
    drop(loser);
    let mut client = served.client().await;
    assert_eq!(client.call("GET", "invocation/next", "").await, (200, "2".to_owned()));
    for (id, outcome) in [(lost_id, lost), (id, read)] {
        assert_eq!(client.call("POST", &format!("invocation/{id}/response"), "3").await.0, 202);
        assert_eq!(event(outcome.await.unwrap()), "3");
    }
}

#[tokio::test]
async fn an_event_that_its_caller_gave_up_is_not_handed_out() {
    let mut served = serve_several(1000, 2).await;
    let (mut client, id, outcome) = served.running().await;
    let mut given_up = Box::pin(served.api.invoke(RequestId::random(), 99, event_of("2")));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await);
    drop(given_up);
    let third = served.invoke(RequestId::random(), "3");
    assert_eq!(client.call("GET", "invocation/next", "").await, (200, "3".to_owned()));
    assert_eq!(client.call("POST", &format!("invocation/{id}/response"), "1").await.0, 202);
    assert_eq!(event(outcome.await.unwrap()), "1");
    drop(third);
}

#[tokio::test]
async fn when_loading_began_is_told_with_the_first_next() {
    let mut served = serve(1000).await;
    let mut client = served.client().await;
    client
        .write("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nVirga-Init-Began: 123456789\r\n\r\n")
        .await;
    let begun = served.started.take().unwrap().await.unwrap().unwrap();
    assert_eq!(begun.init_began_ns, Some(123_456_789));
}

#[tokio::test]
async fn a_body_may_wait_for_leave_and_come_in_pieces() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    let path = format!("/2018-06-01/runtime/invocation/{id}/response");
    client.write(&format!("POST {path} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")).await;
    let mut leave = [0; 25];
    client.stream.read_exact(&mut leave).await.unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    for piece in ["12", "34"] {
        client.write(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.0, 202);
    assert_eq!(event(outcome.await.unwrap()), "1234");
    // What is refused is refused before the body is sent.
    client.write(&format!("POST {path} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")).await;
    assert_eq!(client.answer().await.0, 403);
    assert_eq!(client.stream.read(&mut leave).await.unwrap(), 0, "what would follow is not clear");
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection() {
    let served = serve(1000).await;
    for bad in ["nonsense\r\n\r\n".to_owned(), format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(70_000))] {
        let mut client = served.client().await;
        client.write(&bad).await;
        assert_eq!(client.answer().await.0, 400);
    }
}
