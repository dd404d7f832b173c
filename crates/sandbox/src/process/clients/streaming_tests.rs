//! Answers in pieces, by the clients of every language that has them.

use base::RequestId;

use super::MAX_CONCURRENCY;
use crate::Output;
use crate::process::testing::{Program, event_of};

const HEAD_FIRST: &str = "application/vnd.awslambda.http-integration-response";
const OCTETS: &str = "application/octet-stream";
const PLAIN: &str = "text/plain; charset=utf-8";
const LINES: &str = "application/x-ndjson";

async fn up(mut program: Program) -> Program {
    let started = program.started().await;
    assert!(started.is_ok(), "{started:?}\n{}", program.log.text());
    program
}

async fn node(source: &str) -> Program {
    up(Program::node("index.handler", &[("index.js", source)]).await).await
}

async fn check(program: &Program, event: &str, content_type: &str, expected: &str, error: Option<&str>) {
    let (kind, answer, failed) = program.streamed(event).await;
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!((kind.as_str(), answer.as_str()), (content_type, expected), "{event}");
    let failed = failed.map(|(error_type, report)| {
        let message = report["errorMessage"].as_str().unwrap_or_default().to_owned();
        format!("{error_type}: {message}")
    });
    assert_eq!(failed.as_deref(), error, "{event}");
}

/// An error before the first piece is an error as ever.
async fn check_early(program: &Program, error_type: &str) {
    let (kind, report) = program.error("\"fail\"").await;
    assert_eq!((kind.as_deref(), report["errorMessage"].as_str()), (Some(error_type), Some("early")));
}

#[tokio::test]
async fn node_streams_what_is_written() {
    let program = node(
        r#"
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const write = (stream, text) => new Promise((done) => stream.write(text, done));
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  if (event === 'fail') throw new RangeError('early');
  if (event === 'pipeline') return pipeline(Readable.from(['a', 'b', Buffer.from('c')]), stream);
  if (event === 'http') {
    stream = awslambda.HttpResponseStream.from(stream, { statusCode: 418, headers: { 'x-a': '1' }, cookies: ['c=1'] });
    stream.write('tea');
    return stream.end();
  }
  if (event === 'only a head') return awslambda.HttpResponseStream.from(stream, { statusCode: 204 }).end();
  if (event === 'nothing') return stream.end();
  if (event === 'left open') { stream.write('open'); return; }
  if (event === 'after the end') { stream.write('x'); stream.end(); await null; throw new RangeError('after'); }
  stream.setContentType('text/plain');
  await write(stream, 'one ');
  if (event === 'late') { try { stream.setContentType('a/b'); } catch (e) { stream.write(e.name); } return stream.end(); }
  if (event === 'break') throw new RangeError('bad\n\u00e4');
  if (event === 'destroy') { stream.destroy(new RangeError('destroyed')); return new Promise(() => {}); }
  stream.write({ two: context.functionName });
  stream.end(' three');
});
"#,
    )
    .await;
    check(&program, "1", "text/plain", "one {\"two\":\"greet\"} three", None).await;
    check(&program, "\"pipeline\"", OCTETS, "abc", None).await;
    let head = "{\"statusCode\":418,\"headers\":{\"x-a\":\"1\"},\"cookies\":[\"c=1\"]}\0\0\0\0\0\0\0\0tea";
    check(&program, "\"http\"", HEAD_FIRST, head, None).await;
    check(&program, "\"only a head\"", HEAD_FIRST, "{\"statusCode\":204}\0\0\0\0\0\0\0\0", None).await;
    check(&program, "\"nothing\"", OCTETS, "", None).await;
    check(&program, "\"left open\"", OCTETS, "open", None).await;
    check(&program, "\"late\"", "text/plain", "one InvalidStreamingOperation", None).await;
    check(&program, "\"break\"", "text/plain", "one ", Some("RangeError: bad\n\u{e4}")).await;
    check(&program, "\"destroy\"", "text/plain", "one ", Some("RangeError: destroyed")).await;
    check(&program, "\"after the end\"", OCTETS, "x", Some("RangeError: after")).await;
    check_early(&program, "RangeError").await;
    check(&program, "\"pipeline\"", OCTETS, "abc", None).await;
}

#[tokio::test]
async fn node_tells_an_error_that_nothing_catches_and_ends() {
    let program = node(
        "exports.handler = awslambda.streamifyResponse((event, stream) => {
           stream.write('begun', () => setTimeout(() => { throw new Error('late'); }, 0));
         });",
    )
    .await;
    check(&program, "1", OCTETS, "begun", Some("Error: late")).await;
    assert_eq!(program.exit_code().await, Some(129));
}

#[tokio::test]
async fn node_streams_several_answers_at_once() {
    let source = "let others = [];
        exports.handler = awslambda.streamifyResponse(async (event, stream) => {
          stream.write(`${event}`);
          await new Promise((done) => { others.push(done); if (others.length === 3) others.forEach((go) => go()); });
          if (event === 2) throw new Error('two');
          stream.end('!');
        });";
    let env = [(MAX_CONCURRENCY, "3")];
    let program = up(Program::node_with("index.handler", &[("index.js", source)], &env).await).await;
    tokio::join!(
        check(&program, "1", OCTETS, "1!", None),
        check(&program, "2", OCTETS, "2", Some("Error: two")),
        check(&program, "3", OCTETS, "3!", None),
    );
}

#[tokio::test]
async fn node_waits_for_its_reader() {
    let program = node(
        "const drained = (stream) => new Promise((go) => {
           const held = setTimeout(() => console.log('held up'), 300);
           stream.once('drain', () => { clearTimeout(held); go(); });
         });
         exports.handler = awslambda.streamifyResponse(async (event, stream) => {
           const chunk = Buffer.alloc(1 << 16);
           for (let i = 0; i < 1024; i++) {
             if (!stream.write(chunk)) await drained(stream);
           }
           console.log('all written');
           stream.end();
         });",
    )
    .await;
    let Ok(Output::Stream(mut answer)) = program.call_with(RequestId::random(), event_of("1")).await else {
        panic!()
    };
    let mut size = answer.next().await.unwrap().len();
    let stands = async {
        while !["held up", "all written"].iter().any(|word| program.log.text().contains(word)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::process::testing::PATIENCE, stands).await.unwrap();
    assert!(!program.log.text().contains("all written"), "64 MiB went somewhere");
    while let Some(piece) = answer.next().await {
        size += piece.len();
    }
    assert_eq!((size, answer.end().await), (64 << 20, Ok(None)));
    assert!(program.log.text().contains("all written"));
}

#[tokio::test]
async fn python_streams_what_a_generator_yields() {
    let source = r#"
def pieces(event):
    if event == "fail":
        raise ValueError("early")
    if event == "http":
        yield {"statusCode": 201, "headers": {"x-a": "1"}}
        yield b"body"
        return
    if event == "bytes":
        yield b"\x00"
        yield bytearray(b"a")
        return
    if event == "lines":
        yield {"n": 1}
        yield [2]
        return
    if event == "nothing":
        return
    yield "\u00e4"
    print("in between")
    yield ""
    if event == "break":
        raise ValueError("late\n")
    yield "c"

def handler(event, context):
    if event == "plain":
        return {"n": 1}
    return pieces(event)
"#;
    let program = up(Program::python("app.handler", &[("app.py", source)]).await).await;
    check(&program, "1", PLAIN, "\u{e4}c", None).await;
    check(&program, "\"bytes\"", OCTETS, "\0a", None).await;
    check(&program, "\"lines\"", LINES, "{\"n\": 1}\n[2]\n", None).await;
    check(&program, "\"nothing\"", OCTETS, "", None).await;
    let head = "{\"statusCode\": 201, \"headers\": {\"x-a\": \"1\"}}\0\0\0\0\0\0\0\0body";
    check(&program, "\"http\"", HEAD_FIRST, head, None).await;
    check(&program, "\"break\"", PLAIN, "\u{e4}", Some("ValueError: late\n")).await;
    check_early(&program, "ValueError").await;
    assert_eq!(program.result("\"plain\"").await, "{\"n\": 1}");
    let log = program.log.text();
    assert!(log.contains("in between\n") && log.contains("[ERROR] ValueError: late"), "{log}");
}

#[tokio::test]
async fn python_streams_on_an_event_loop_and_in_threads() {
    let waits = "import asyncio
waiting = []
async def handler(event, context):
    yield str(event)
    waiting.append(asyncio.get_running_loop().create_future())
    mine = waiting[-1]
    if len(waiting) == 3:
        for one in waiting:
            one.set_result(None)
    await mine
    if event == 2:
        raise ValueError('two')
    yield '!'
";
    let threads = "import threading
barrier = threading.Barrier(3)
def handler(event, context):
    yield str(event)
    barrier.wait()
    if event == 2:
        raise ValueError('two')
    yield '!'
";
    for source in [waits, threads] {
        let env = [(MAX_CONCURRENCY, "3")];
        let program = up(Program::python_with("app.handler", &[("app.py", source)], &env).await).await;
        tokio::join!(
            check(&program, "1", PLAIN, "1!", None),
            check(&program, "2", PLAIN, "2", Some("ValueError: two")),
            check(&program, "3", PLAIN, "3!", None),
        );
    }
}

#[tokio::test]
async fn ruby_streams_what_an_enumerator_yields() {
    let source = r#"
def handler(event:, context:)
  return { n: 1 } if event == 'plain'
  Enumerator.new do |out|
    raise ArgumentError, 'early' if event == 'fail'
    if event == 'http'
      out << { statusCode: 201, headers: { 'x-a' => '1' } } << 'body'
    elsif event == 'lines'
      out << { n: 1 } << [2]
    elsif event != 'nothing'
      out << "\u00e4" << ''
      raise ArgumentError, "late\n" if event == 'break'
      exit 3 if event == 'exit'
      out << 'c'
    end
  end
end
"#;
    let program = up(Program::ruby("app.handler", &[("app.rb", source)]).await).await;
    check(&program, "1", PLAIN, "\u{e4}c", None).await;
    check(&program, "\"lines\"", LINES, "{\"n\":1}\n[2]\n", None).await;
    check(&program, "\"nothing\"", OCTETS, "", None).await;
    let head = "{\"statusCode\":201,\"headers\":{\"x-a\":\"1\"}}\0\0\0\0\0\0\0\0body";
    check(&program, "\"http\"", HEAD_FIRST, head, None).await;
    check(&program, "\"break\"", PLAIN, "\u{e4}", Some("Function<ArgumentError>: late\n")).await;
    check_early(&program, "Function<ArgumentError>").await;
    assert_eq!(program.result("\"plain\"").await, "{\"n\":1}");
    check(&program, "\"exit\"", PLAIN, "\u{e4}", Some("Function<SystemExit>: exit")).await;
    assert_eq!(program.exit_code().await, Some(3));
}

#[tokio::test]
async fn php_streams_what_a_generator_yields() {
    let source = r#"<?php
return function ($event) {
    if ($event === 'plain') {
        return ['n' => 1];
    }
    return (function () use ($event) {
        if ($event === 'fail') {
            throw new ValueError('early');
        }
        if ($event === 'http') {
            yield ['statusCode' => 201, 'headers' => ['x-a' => '1']];
            yield 'body';
        } elseif ($event === 'lines') {
            yield ['n' => 1];
            yield [2];
        } elseif ($event !== 'nothing') {
            yield "\u{e4}";
            yield '';
            if ($event === 'break') {
                throw new ValueError("late\n");
            }
            if ($event === 'fatal') {
                trigger_error('over', E_USER_ERROR);
            }
            yield 'c';
        }
    })();
};
"#;
    let program = up(Program::php("index.php", &[("index.php", source)]).await).await;
    check(&program, "1", PLAIN, "\u{e4}c", None).await;
    check(&program, "\"lines\"", LINES, "{\"n\":1}\n[2]\n", None).await;
    check(&program, "\"nothing\"", OCTETS, "", None).await;
    let head = "{\"statusCode\":201,\"headers\":{\"x-a\":\"1\"}}\0\0\0\0\0\0\0\0body";
    check(&program, "\"http\"", HEAD_FIRST, head, None).await;
    check(&program, "\"break\"", PLAIN, "\u{e4}", Some("ValueError: late\n")).await;
    check_early(&program, "ValueError").await;
    assert_eq!(program.result("\"plain\"").await, "{\"n\":1}");
    check(&program, "\"fatal\"", PLAIN, "\u{e4}", Some("UserError: over")).await;
    assert_eq!(program.exit_code().await, Some(255));
}
