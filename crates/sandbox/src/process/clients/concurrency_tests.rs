//! Several events at once, with a real Python and a real Node.
//!
//! That calls overlap is never a matter of time here: they wait for each other.

use base::RequestId;
use serde_json::{Value, json};

use crate::process::testing::{Program, event_of};
use crate::{Fault, Output};

const MOST: &[(&str, &str)] = &[("AWS_LAMBDA_MAX_CONCURRENCY", "4")];

/// The three ways in which several run at once.
const TASKS: &str = "tasks";
const THREADS: &str = "threads";
const NODE: &str = "node";

/// Does what its event asks for. `met` is the number of calls that wait for each other.
fn source(kind: &str) -> &'static str {
    match kind {
        TASKS => {
            r#"
import asyncio, contextvars, logging, os, sys
arrived, gate, log = 0, asyncio.Event(), logging.getLogger()
own = contextvars.ContextVar("own", default=None)
async def late():
    raise ValueError("late")
async def handler(event, context):
    global arrived, gate
    before = own.get()
    own.set(event.get("name"))
    arrived += 1
    if arrived >= event.get("met", arrived + 1):
        gate.set()
    if "met" in event:
        await gate.wait()
    log.warning("in %s", event.get("name"))
    do = event.get("do")
    if do == "raise":
        raise ValueError(event["name"])
    if do == "exit":
        sys.exit(3)
    if do == "reset":
        arrived, gate = 0, asyncio.Event()
    if do == "cancel":
        asyncio.current_task().cancel()
        await asyncio.sleep(60)
    if do == "late":
        asyncio.ensure_future(late())
        await asyncio.sleep(0)
    return {"name": own.get(), "before": before, "id": context.aws_request_id, "trace": context.trace_id,
            "env": os.environ.get("_X_AMZN_TRACE_ID"), "met": arrived}
"#
        }
        THREADS => {
            r#"
import contextvars, logging, os, sys, threading
arrived, gate, lock, log = 0, threading.Event(), threading.Lock(), logging.getLogger()
own = contextvars.ContextVar("own", default=None)
def handler(event, context):
    global arrived, gate
    before = own.get()
    own.set(event.get("name"))
    with lock:
        arrived += 1
        if arrived >= event.get("met", arrived + 1):
            gate.set()
    if "met" in event:
        gate.wait()
    log.warning("in %s", event.get("name"))
    do = event.get("do")
    if do == "raise":
        raise ValueError(event["name"])
    if do == "exit":
        sys.exit(3)
    if do == "reset":
        arrived, gate = 0, threading.Event()
    return {"name": own.get(), "before": before, "id": context.aws_request_id, "trace": context.trace_id,
            "env": os.environ.get("_X_AMZN_TRACE_ID"), "met": arrived}
"#
        }
        _ => {
            r#"
const { AsyncLocalStorage } = require('async_hooks');
const own = new AsyncLocalStorage();
let arrived = 0, open, gate = new Promise((resolve) => { open = resolve; });
exports.handler = async (event, context) => {
  const before = own.getStore() || null;
  own.enterWith(event.name);
  arrived += 1;
  if (arrived >= event.met) open();
  if (event.met) await gate;
  console.warn('in', event.name);
  if (event.do === 'raise') throw new RangeError(event.name);
  if (event.do === 'exit') process.exit(3);
  if (event.do === 'reset') { arrived = 0; gate = new Promise((resolve) => { open = resolve; }); }
  if (event.do === 'throw') await new Promise(() => setTimeout(() => { throw new RangeError(event.name); }, 1));
  if (event.do === 'reject') { Promise.reject(new RangeError(event.name)); await new Promise(() => {}); }
  if (event.do === 'late') setImmediate(() => { throw new RangeError('late'); });
  return { name: own.getStore(), before, id: context.awsRequestId, trace: context.xRayTraceId,
           env: process.env._X_AMZN_TRACE_ID || null, met: arrived };
};
"#
        }
    }
}

async fn start(kind: &str, source: &str) -> Program {
    let mut program = match kind {
        NODE => Program::node_with("index.handler", &[("index.js", source)], MOST).await,
        _ => Program::python_with("app.handler", &[("app.py", source)], MOST).await,
    };
    let started = program.started().await;
    assert!(started.is_ok(), "{kind}: {started:?}\n{}", program.log.text());
    assert!(started.unwrap().init_began_ns.is_some(), "{kind} tells when it began");
    program
}

async fn several(kind: &str) -> Program {
    start(kind, source(kind)).await
}

/// A call with its id; the outcome.
async fn call(program: &Program, id: RequestId, event: Value) -> Result<Output, Fault> {
    program.call_with(id, event_of(&event.to_string())).await
}

fn result(outcome: Result<Output, Fault>) -> Value {
    match outcome {
        Ok(Output::Event(json)) => serde_json::from_slice(&json).unwrap(),
        Ok(Output::FunctionError(error)) => panic!("{error:?}"),
        Ok(Output::Stream(_) | Output::Http(_) | Output::NotTaken(..)) => panic!("a response"),
        Err(fault) => panic!("{fault:?}"),
    }
}

fn error(outcome: Result<Output, Fault>) -> (Value, Value) {
    let Ok(Output::FunctionError(error)) = outcome else { panic!("no error") };
    let report: Value = serde_json::from_slice(&error.json).unwrap();
    (report["errorType"].clone(), report["errorMessage"].clone())
}

/// Lines of the log that a call has written, by its id.
fn lines(log: &str, id: RequestId) -> Vec<&str> {
    let id = id.to_string();
    log.lines().filter(|line| line.contains(&id)).collect()
}

#[tokio::test]
async fn calls_run_at_once_each_with_what_is_its_own() {
    for kind in [TASKS, THREADS, NODE] {
        let program = several(kind).await;
        // Twice: the second time every slot has had a call before.
        for _ in 0..2 {
            let ids: Vec<_> = (0..4).map(|_| RequestId::random()).collect();
            let calls = ids.iter().enumerate().map(|(number, id)| {
                let event = json!({"name": format!("c{number}"), "met": 4});
                call(&program, *id, event)
            });
            let answers = futures_util::future::join_all(calls).await;
            for ((number, id), answer) in ids.iter().enumerate().zip(answers) {
                let expected = json!({
                    "name": format!("c{number}"), "before": null, "id": id.to_string(), "met": 4,
                    "trace": event_of("1").trace_id, "env": null,
                });
                assert_eq!(result(answer), expected, "{kind}\n{}", program.log.text());
                let log = program.log.text();
                let lines = lines(&log, *id);
                assert_eq!(lines.len(), 1, "{kind}: {log}");
                assert!(lines[0].contains(&format!("in c{number}")), "{kind}: {lines:?}");
            }
            result(call(&program, RequestId::random(), json!({"do": "reset"})).await);
        }
    }
}

#[tokio::test]
async fn answers_may_come_in_another_order() {
    for kind in [TASKS, THREADS, NODE] {
        let program = several(kind).await;
        let (first, last) =
            tokio::join!(call(&program, RequestId::random(), json!({"name": "waits", "met": 3})), async {
                // Goes past the first one, whichever begins first; the next opens the gate for it.
                let other = call(&program, RequestId::random(), json!({"name": "passes"})).await;
                let opener = call(&program, RequestId::random(), json!({"name": "opens", "met": 3})).await;
                (result(other), result(opener))
            },);
        assert_eq!(result(first)["name"], "waits");
        assert_eq!((&last.0["name"], &last.1["name"]), (&json!("passes"), &json!("opens")), "{kind}");
    }
}

#[tokio::test]
async fn an_error_is_the_answer_of_its_own_call_alone() {
    for kind in [TASKS, THREADS, NODE] {
        let program = several(kind).await;
        let raised = RequestId::random();
        let (good, bad) = tokio::join!(
            call(&program, RequestId::random(), json!({"name": "good", "met": 2})),
            call(&program, raised, json!({"name": "bad", "met": 2, "do": "raise"})),
        );
        assert_eq!(result(good)["name"], "good");
        let name = if kind == NODE { "RangeError" } else { "ValueError" };
        assert_eq!(error(bad), (json!(name), json!("bad")));
        assert_eq!(
            result(call(&program, RequestId::random(), json!({"name": "next"})).await)["name"],
            "next"
        );
    }
}

#[tokio::test]
async fn an_error_that_nothing_catches_is_the_answer_of_its_own_call_too() {
    let cases = [
        (NODE, "throw", "RangeError", "bad"),
        (NODE, "reject", "Runtime.UnhandledPromiseRejection", "RangeError: bad"),
        (TASKS, "cancel", "CancelledError", ""),
    ];
    for (kind, how, name, message) in cases {
        let program = several(kind).await;
        let (bad, good) = tokio::join!(
            call(&program, RequestId::random(), json!({"name": "bad", "met": 2, "do": how})),
            call(&program, RequestId::random(), json!({"name": "good", "met": 2})),
        );
        assert_eq!(error(bad), (json!(name), json!(message)), "{kind} {how}\n{}", program.log.text());
        assert_eq!(result(good)["name"], "good");
        assert_eq!(
            result(call(&program, RequestId::random(), json!({"name": "next"})).await)["name"],
            "next"
        );
    }
}

#[tokio::test]
async fn late_work_of_a_call_that_is_over_harms_nobody() {
    for kind in [TASKS, NODE] {
        let program = several(kind).await;
        for _ in 0..3 {
            let answer = call(&program, RequestId::random(), json!({"name": "a", "do": "late"})).await;
            assert_eq!(result(answer)["name"], "a", "{kind}");
        }
    }
}

#[tokio::test]
async fn an_exit_ends_the_process_with_its_code() {
    for kind in [TASKS, THREADS, NODE] {
        let program = several(kind).await;
        let api = program.api.clone();
        let calls: Vec<_> = ["exit", "stay"]
            .into_iter()
            .map(|how| {
                let event = event_of(&json!({"name": how, "met": 2, "do": how}).to_string());
                let api = api.clone();
                tokio::spawn(async move { api.invoke(RequestId::random(), 0, event).await })
            })
            .collect();
        let log = program.log.clone();
        assert_eq!(program.exit_code().await, Some(3), "{kind}");
        assert!(!log.text().contains("pending"), "{kind}: {}", log.text());
        calls.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test]
async fn more_calls_than_slots_take_turns() {
    for kind in [TASKS, THREADS, NODE] {
        let program = several(kind).await;
        for round in 0..50 {
            let names: Vec<_> = (0..4).map(|n| json!({"name": format!("{round} {n}")}).to_string()).collect();
            let answers = program.results(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
            for (number, answer) in answers.iter().enumerate() {
                let answer: Value = serde_json::from_str(answer).unwrap();
                assert_eq!(answer["name"], format!("{round} {number}"), "{kind}");
            }
        }
    }
}

#[tokio::test]
async fn every_style_of_node_handler_at_once() {
    for source in [
        "let n = 0, all = []; exports.handler = (event, context, callback) => { all.push(callback); if (++n == 3) all.forEach((c) => c(null, 'cb')); }",
        "let n = 0, all = []; exports.handler = (event) => new Promise((r) => { all.push(r); if (++n == 3) all.forEach((c) => c('cb')); })",
    ] {
        let program = start(NODE, source).await;
        assert_eq!(program.results(&["1", "2", "3"]).await, ["\"cb\"", "\"cb\"", "\"cb\""], "{source}");
    }
    // Without a promise or a callback it is done when it returns.
    let program = start(NODE, "exports.handler = (event) => {}").await;
    assert_eq!(program.results(&["1", "2"]).await, ["null", "null"]);
}

#[tokio::test]
async fn a_coroutine_alone_needs_no_concurrency() {
    let source =
        "import asyncio\nasync def handler(event, context):\n    await asyncio.sleep(0)\n    return event\n";
    let mut program = Program::python("app.handler", &[("app.py", source)]).await;
    program.started().await.unwrap();
    for event in ["1", "[2]"] {
        assert_eq!(program.result(event).await, event);
    }
    let large = json!("y".repeat(90_000)).to_string();
    assert_eq!(program.result(&large).await.len(), 90_002);
}
