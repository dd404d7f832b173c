//! Answers in pieces.

use super::*;
use crate::{StreamEnd, Streamed};

impl Client {
    /// The head of an answer in pieces.
    async fn begin(&mut self, id: RequestId, headers: &str) {
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        let framing = "Transfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: streaming";
        self.write(&format!("POST {path} HTTP/1.1\r\nHost: x\r\n{framing}\r\n{headers}\r\n")).await;
    }
}

fn streamed(outcome: Result<CallOutput, Fault>) -> Streamed {
    match outcome {
        Ok(CallOutput::Stream(streamed)) => streamed,
        Ok(_) => panic!("no answer in pieces"),
        Err(fault) => panic!("{fault:?}"),
    }
}

/// What there is until the end, and that.
async fn rest(mut streamed: Streamed) -> (String, StreamEnd) {
    let reading = async {
        let mut all = Vec::new();
        while let Some(piece) = streamed.next().await {
            all.extend_from_slice(&piece);
        }
        (String::from_utf8(all).unwrap(), streamed.end().await)
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an end in time")
}

#[tokio::test]
async fn a_piece_is_there_before_the_next_is_made() {
    let mut served = serve(5).await;
    let (mut client, id, outcome) = served.running().await;
    client.begin(id, "Content-Type: text/plain\r\n").await;
    // Nothing but the head was sent.
    let mut answer = streamed(outcome.await.unwrap());
    assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
    for piece in ["one", "two"] {
        client.write(&format!("3\r\n{piece}\r\n")).await;
        let next = tokio::time::timeout(PATIENCE, answer.next()).await.unwrap();
        assert_eq!(next.as_deref(), Some(piece.as_bytes()));
    }
    rustix::io::write(&served.writer, b"line\n").unwrap();
    client.write("5\r\nthree\r\n0\r\n\r\n").await;
    assert_eq!(rest(answer).await, ("three".to_owned(), Ok(None)), "more than an answer as a whole may be");
    assert_eq!(served.log.text(), "line\n", "the log comes before the end");
    assert_eq!(client.answer().await.0, 202);
    assert_eq!(client.call("POST", &format!("invocation/{id}/response"), "1").await.0, 403);
}

#[tokio::test]
async fn what_goes_wrong_midway_is_in_the_trailers() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    client.begin(id, "").await;
    client.write("1\r\na\r\n0\r\nLambda-Runtime-Function-Error-Type: E\r\n").await;
    client.write("Lambda-Runtime-Function-Error-Body: e30=\r\n\r\n").await;
    let error = FunctionError { json: "{}".into(), error_type: Some("E".to_owned()) };
    assert_eq!(rest(streamed(outcome.await.unwrap())).await, ("a".to_owned(), Ok(Some(error))));
}

#[tokio::test]
async fn the_reply_may_be_the_next_event() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    client.begin(id, "Virga-Next: 1\r\n").await;
    client.write("1\r\na\r\n0\r\n\r\n").await;
    assert_eq!(rest(streamed(outcome.await.unwrap())).await.1, Ok(None));
    let second = RequestId::random();
    let outcome = served.invoke(second, "2");
    assert_eq!(client.answer().await, (200, "2".to_owned()));
    client.call("POST", &format!("invocation/{second}/response"), "3").await;
    assert_eq!(event(outcome.await.unwrap()), "3");
}

#[tokio::test]
async fn who_does_not_read_holds_up_who_writes() {
    const SIZE: usize = 64 << 20;
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    client.begin(id, "").await;
    let answer = streamed(outcome.await.unwrap());
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let writes = async {
        for _ in 0..SIZE / 0x10000 {
            client.write(&chunk).await;
        }
    };
    // A write that comes to an end late is as good as one that never does.
    let blocked = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(blocked, writes).await.is_err(), "all of it went somewhere");
    drop(answer);
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_and_cannot_be_sent_again() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    client.begin(id, "").await;
    client.write("2\r\nab\r\n5\r\ncd").await;
    drop(client);
    let end = rest(streamed(outcome.await.unwrap())).await;
    assert_eq!(end, ("abcd".to_owned(), Err(Fault::Truncated)));
    let mut again = served.client().await;
    assert_eq!(again.call("POST", &format!("invocation/{id}/response"), "1").await.0, 403);
}

#[tokio::test]
async fn the_end_of_the_process_is_the_end_of_the_answer() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    client.begin(id, "").await;
    client.write("2\r\nab\r\n").await;
    let answer = streamed(outcome.await.unwrap());
    // As it is with a process that is killed: its sockets are closed a little before its parent hears of it.
    drop(client);
    served.api.gone(Exit::OutOfMemory);
    assert_eq!(rest(answer).await, ("ab".to_owned(), Err(Fault::Exited(Exit::OutOfMemory))));
}

#[tokio::test]
async fn bodies_that_are_not_framed_as_they_say() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    client.begin(id, "").await;
    client.write("2\r\nabc\r\n").await;
    assert_eq!(client.answer().await.0, 400);
    assert_eq!(rest(streamed(outcome.await.unwrap())).await, ("ab".to_owned(), Err(Fault::Truncated)));
}

#[tokio::test]
async fn other_modes_are_refused_or_as_they_were() {
    let mut served = serve(1000).await;
    let (mut client, id, outcome) = served.running().await;
    let head = |mode| {
        format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nLambda-Runtime-Function-Response-Mode: {mode}\r\n\r\n1"
        )
    };
    client.write(&head("trickling")).await;
    let (status, body) = client.answer().await;
    assert_eq!((status, body.contains("Runtime.InvalidResponseModeHeader")), (400, true));
    client.write(&head("buffered")).await;
    assert_eq!(client.answer().await.0, 202);
    assert_eq!(event(outcome.await.unwrap()), "1");
}
