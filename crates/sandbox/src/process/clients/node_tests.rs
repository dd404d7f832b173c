//! The Node client, run by a real Node.

use base::RequestId;
use serde_json::{Value, json};

use crate::Output;
use crate::process::testing::{Program, event_of};

async fn ready_as(handler: &str, files: &[(&str, &str)]) -> Program {
    let mut program = Program::node(handler, files).await;
    let started = program.started().await;
    assert!(started.is_ok(), "{started:?}\n{}", program.log.text());
    program
}

async fn ready(source: &str) -> Program {
    ready_as("index.handler", &[("index.js", source)]).await
}

#[tokio::test]
async fn every_style_of_handler() {
    for source in [
        "exports.handler = async (event) => ({ got: event })",
        "exports.handler = (event) => Promise.resolve({ got: event })",
        "exports.handler = (event, context, callback) => callback(null, { got: event })",
        "exports.handler = (event, context, callback) => { setTimeout(() => callback(null, { got: event }), 5) }",
        "exports.handler = (event, context) => context.succeed({ got: event })",
        "exports.handler = (event, context) => context.done(null, { got: event })",
    ] {
        let program = ready(source).await;
        for event in ["{\"a\":\"ä\"}", "[1]"] {
            assert_eq!(program.result(event).await, format!("{{\"got\":{event}}}"), "{source}");
        }
    }
}

#[tokio::test]
async fn modules_of_both_kinds() {
    let esm = "import { x } from './x.mjs'; export const handler = async () => x";
    let x = ("x.mjs", "export const x = await Promise.resolve('esm')");
    let cjs = "exports.handler = async () => require('./y.cjs')";
    let y = ("y.cjs", "module.exports = 'cjs'");
    let module = ("package.json", "{\"type\":\"module\"}");
    for (handler, files, answer) in [
        ("index.handler", vec![("index.mjs", esm), x], "\"esm\""),
        ("index.handler", vec![("index.js", esm), x, module], "\"esm\""),
        ("index.handler", vec![("index.js", cjs), y], "\"cjs\""),
        ("index.handler", vec![("index.cjs", cjs), y, module], "\"cjs\""),
        ("src/main.api.get", vec![("src/main.js", "exports.api = { get: async () => 'deep' }")], "\"deep\""),
        ("lib.handler", vec![("lib/index.js", "exports.handler = async () => 'folder'")], "\"folder\""),
        (
            "index.handler",
            vec![("index.mjs", "export default { handler: async () => 'default' }")],
            "\"default\"",
        ),
    ] {
        let program = ready_as(handler, &files).await;
        assert_eq!(program.result("1").await, answer, "{handler} {files:?}");
    }
}

#[tokio::test]
async fn the_context_object() {
    let program = ready(
        "exports.handler = async (event, c) => {
           const left = c.getRemainingTimeInMillis();
           return { ...c, left: left > 0 && left <= 10000, trace: process.env._X_AMZN_TRACE_ID };
         }",
    )
    .await;
    let id = RequestId::random();
    let mut event = event_of("{}");
    event.client_context = Some(r#"{"custom":{"a":"ä"}}"#.to_owned());
    event.cognito_identity = Some(r#"{"cognitoIdentityId":"i"}"#.to_owned());
    let Ok(Output::Event(answer)) = program.call_with(id, event.clone()).await else { panic!() };
    assert_eq!(
        serde_json::from_slice::<Value>(&answer).unwrap(),
        json!({
            "callbackWaitsForEmptyEventLoop": true, "functionVersion": "7", "functionName": "greet",
            "memoryLimitInMB": "128", "xRayTraceId": event.trace_id, "logGroupName": "/aws/lambda/greet", "logStreamName": "stream",
            "clientContext": {"custom": {"a": "ä"}}, "identity": {"cognitoIdentityId": "i"},
            "invokedFunctionArn": event.invoked_arn, "awsRequestId": id.to_string(), "left": true,
            "trace": event.trace_id,
        })
    );
}

#[tokio::test]
async fn a_callback_waits_for_the_event_loop_unless_told_not_to() {
    let source = |wait| {
        format!(
            "let late = false;
             exports.handler = (event, context, callback) => {{
               context.callbackWaitsForEmptyEventLoop = {wait};
               if (event === 'late') return callback(null, late);
               const timer = setTimeout(() => {{ late = true; console.log('late'); }}, 100);
               callback(null, 'done');
             }}"
        )
    };
    let waits = ready(&source(true)).await;
    assert_eq!(waits.result("1").await, "\"done\"");
    assert_eq!(waits.result("\"late\"").await, "true");
    let goes_on = ready(&source(false)).await;
    assert_eq!(goes_on.result("1").await, "\"done\"");
    assert_eq!(goes_on.result("\"late\"").await, "false");
}

#[tokio::test]
async fn a_handler_that_never_answers_answers_null() {
    for source in [
        "exports.handler = () => {}",
        "exports.handler = () => new Promise(() => {})",
        "exports.handler = async () => {}",
    ] {
        let program = ready(source).await;
        assert_eq!(program.result("1").await, "null", "{source}");
        assert_eq!(program.result("1").await, "null", "{source}");
    }
}

#[tokio::test]
async fn errors_are_reported_and_the_next_call_works() {
    for fail in [
        "async () => { throw new TypeError('bad') }",
        "() => { throw new TypeError('bad') }",
        "(e, c, callback) => callback(new TypeError('bad'))",
        "(e, c) => c.fail(new TypeError('bad'))",
    ] {
        let program = ready(&format!(
            "const fail = {fail}; exports.handler = (e, c, cb) => e ? fail(e, c, cb) : cb(null, 'fine')"
        ))
        .await;
        let (kind, report) = program.error("1").await;
        assert_eq!(kind.as_deref(), Some("TypeError"), "{fail}");
        assert_eq!((&report["errorType"], &report["errorMessage"]), (&json!("TypeError"), &json!("bad")));
        assert_eq!(report["trace"][0], "TypeError: bad");
        assert!(report["trace"][1].as_str().unwrap().contains("index.js"), "{report}");
        let log = program.log.text();
        assert!(
            log.contains(
                "\tERROR\tInvoke Error \t{\"errorType\":\"TypeError\",\"errorMessage\":\"bad\",\"stack\":["
            ),
            "{log}"
        );
        assert_eq!(program.result("0").await, "\"fine\"");
    }
    let program = ready("exports.handler = async () => { throw 'words' }").await;
    let (_, report) = program.error("1").await;
    assert_eq!(report, json!({"errorType": "string", "errorMessage": "words", "trace": []}));
    let program = ready("exports.handler = async () => { const a = {}; a.a = a; return a }").await;
    let (_, report) = program.error("1").await;
    assert!(report["errorMessage"].as_str().unwrap().starts_with("Unable to stringify response body"));
}

#[tokio::test]
async fn what_nothing_caught_is_reported_and_ends_the_process() {
    for (source, kind, message, code) in [
        (
            "exports.handler = (e, c, cb) => { setTimeout(() => { throw new RangeError('late') }, 1) }",
            "RangeError",
            "late",
            129,
        ),
        (
            "exports.handler = (e, c, cb) => { Promise.reject(new RangeError('lost')); setTimeout(cb, 1000) }",
            "Runtime.UnhandledPromiseRejection",
            "RangeError: lost",
            128,
        ),
    ] {
        let program = ready(source).await;
        let (announced, report) = program.error("1").await;
        assert_eq!(announced.as_deref(), Some(kind));
        assert_eq!(report["errorMessage"], message);
        assert_eq!(program.exit_code().await, Some(code));
    }
}

#[tokio::test]
async fn console_lines_are_lambdas() {
    let program = ready(
        "console.log('init'); exports.handler = async (e, c) => { console.log('a', { b: 1 }); console.warn('x\\ny'); process.stdout.write('raw\\n'); return c.awsRequestId }",
    )
    .await;
    assert!(program.log.text().ends_with("\tundefined\tINFO\tinit\n"), "{}", program.log.text());
    let id = program.result("1").await.replace('"', "");
    let log = program.log.text();
    let lines: Vec<_> = log.lines().skip(1).collect();
    assert!(lines[0].ends_with(&format!("Z\t{id}\tINFO\ta {{ b: 1 }}")), "{log}");
    assert!(lines[1].ends_with(&format!("Z\t{id}\tWARN\tx\ry")), "{log}");
    assert_eq!(lines[2], "raw");
}

#[tokio::test]
async fn initialisation_errors_have_lambdas_names() {
    for (handler, source, kind, message) in [
        ("index", "", "Runtime.MalformedHandlerName", "Bad handler"),
        (
            "../index.handler",
            "",
            "Runtime.MalformedHandlerName",
            "'../index.handler' is not a valid handler name.",
        ),
        (
            "none.handler",
            "",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'none'\nRequire stack:\n- ",
        ),
        (
            "index.handler",
            "require('nonesuch')",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'nonesuch'\nRequire stack:\n- ",
        ),
        (
            "index.handler",
            "exports.x = 1",
            "Runtime.HandlerNotFound",
            "index.handler is undefined or not exported",
        ),
        (
            "index.handler",
            "exports.handler = 1",
            "Runtime.HandlerNotFound",
            "index.handler is not a function",
        ),
        ("index.handler", "const const", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        ("index.handler", "throw new URIError('u')", "URIError", "u"),
        (
            "index.handler",
            "Promise.reject(new Error('r')); exports.handler = async () => 1",
            "Runtime.UnhandledPromiseRejection",
            "Error: r",
        ),
    ] {
        let mut program = Program::node(handler, &[("index.js", source)]).await;
        if kind == "Runtime.UnhandledPromiseRejection" {
            // Node notices after the module is loaded: before or after the first `next`.
            assert_eq!(program.exit_code().await, Some(128));
            continue;
        }
        let (announced, report) = program.init_error().await;
        assert_eq!(announced.as_deref(), Some(kind), "{report}");
        assert!(report["errorMessage"].as_str().unwrap().starts_with(message), "{report}");
        assert_eq!(program.exit_code().await, Some(1));
    }
    let mut program = Program::node("index.handler", &[("index.mjs", "await new Promise(() => {})")]).await;
    assert_eq!(program.init_error().await.0.as_deref(), Some("Runtime.NodeJsExit"));
}

#[tokio::test]
async fn large_events_and_answers_arrive_whole() {
    let program =
        ready("exports.handler = async (e) => e.length > 1e6 ? e.length : 'ä'.repeat(e.length)").await;
    assert_eq!(program.result(&json!("y".repeat(5_000_000)).to_string()).await, "5000000");
    assert_eq!(program.result(&json!("y".repeat(40_000)).to_string()).await.len(), 80_002);
}
