//! The Python client, run by a real Python.

use base::RequestId;
use serde_json::{Value, json};

use crate::process::testing::{ANSWER_BYTES, Program, event_of};
use crate::{Fault, Output};

async fn ready(source: &str) -> Program {
    let mut program = Program::python("app.handler", &[("app.py", source)]).await;
    let started = program.started().await;
    assert!(started.is_ok(), "{started:?}\n{}", program.log.text());
    program
}

#[tokio::test]
async fn answers_again_and_again_from_one_process() {
    let program = ready(
        "import os\ncount = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return [count, os.getpid(), event]\n",
    )
    .await;
    let first: Value = serde_json::from_str(&program.result(r#"{"a":"ä"}"#).await).unwrap();
    let second: Value = serde_json::from_str(&program.result("[1,2.5,null]").await).unwrap();
    assert_eq!((&first[0], &second[0]), (&json!(1), &json!(2)));
    assert_eq!(first[1], second[1]);
    assert_eq!((&first[2], &second[2]), (&json!({"a": "ä"}), &json!([1, 2.5, null])));
}

#[tokio::test]
async fn the_context_object() {
    let program = ready(
        r#"
import os
def handler(event, context):
    c = context.client_context
    return {
        "id": context.aws_request_id, "name": context.function_name, "version": context.function_version,
        "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
        "group": context.log_group_name, "stream": context.log_stream_name,
        "left": 0 < context.get_remaining_time_in_millis() <= 10000,
        "client": [c.client.app_title, c.client.installation_id, c.custom, c.env],
        "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        "trace": os.environ["_X_AMZN_TRACE_ID"],
    }
"#,
    )
    .await;
    let id = RequestId::random();
    let mut event = event_of("{}");
    event.client_context =
        Some(r#"{"client":{"app_title":"ä"},"custom":{"a":1},"env":{"b":"c"}}"#.to_owned());
    event.cognito_identity = Some(r#"{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}"#.to_owned());
    let Ok(Output::Event(answer)) = program.call_with(id, event.clone()).await else { panic!() };
    assert_eq!(
        serde_json::from_slice::<Value>(&answer).unwrap(),
        json!({
            "id": id.to_string(), "name": "greet", "version": "7", "arn": event.invoked_arn, "memory": "128",
            "group": "/aws/lambda/greet", "stream": "stream", "left": true,
            "client": ["ä", null, {"a": 1}, {"b": "c"}], "identity": ["i", "p"], "trace": event.trace_id,
        })
    );
    let source = "def handler(event, context):\n    return [context.client_context, context.identity.cognito_identity_id]\n";
    assert_eq!(ready(source).await.result("{}").await, "[null, null]");
}

#[tokio::test]
async fn the_trace_is_in_the_environment_and_costs_no_memory() {
    let program = ready(
        r#"
import os
kept = []
real = os.putenv
def putenv(name, value):
    kept.append(value)
    real(name, value)
os.putenv = putenv
def handler(event, context):
    seen = [os.environ["_X_AMZN_TRACE_ID"] == context.trace_id, len(kept)]
    if event:
        import subprocess
        child = subprocess.check_output(["/bin/sh", "-c", "echo $_X_AMZN_TRACE_ID"])
        seen += [child.decode().strip() == context.trace_id]
    return seen
"#,
    )
    .await;
    assert_eq!(program.result("0").await, "[true, 0]");
    assert_eq!(program.result("0").await, "[true, 0]", "the C library keeps what it is given for ever");
    assert_eq!(program.result("1").await, "[true, 0, true]", "a child is told, once there may be one");
    assert_eq!(program.result("1").await, "[true, 2, true]");
}

#[tokio::test]
async fn an_exception_is_reported_and_the_next_call_works() {
    let program = ready(
        "def handler(event, context):\n    if event:\n        raise ValueError('no ' + event)\n    return 'fine'\n",
    )
    .await;
    let (kind, report) = program.error("\"way\"").await;
    assert_eq!(kind.as_deref(), Some("ValueError"));
    assert_eq!((&report["errorType"], &report["errorMessage"]), (&json!("ValueError"), &json!("no way")));
    let stack = report["stackTrace"].as_array().unwrap();
    assert_eq!(stack.len(), 1, "only the user's frames: {stack:?}");
    assert!(stack[0].as_str().unwrap().contains("app.py\", line 3, in handler\n    raise ValueError("));
    let log = program.log.text();
    assert!(
        log.starts_with("[ERROR] ValueError: no way\rTraceback (most recent call last):\r  File "),
        "{log}"
    );
    assert_eq!(log.matches('\n').count(), 1, "one line: {log}");
    assert_eq!(program.result("\"\"").await, "\"fine\"");
}

#[tokio::test]
async fn output_is_there_before_the_answer() {
    let program = ready(
        "import sys\nprint('init')\ndef handler(event, context):\n    print('out')\n    print('err', file=sys.stderr)\n    print('end', end='')\n",
    )
    .await;
    assert_eq!(program.log.text(), "init\n");
    assert_eq!(program.result("1").await, "null");
    assert_eq!(program.log.text(), "init\nout\nerr\nend");
}

#[tokio::test]
async fn logging_is_lambdas() {
    let program = ready(
        "import logging\nlog = logging.getLogger(__name__)\ndef handler(event, context):\n    logging.basicConfig(format='other')\n    log.info('quiet')\n    log.warning('two\\nlines')\n    return context.aws_request_id\n",
    )
    .await;
    let id = program.result("1").await.replace('"', "");
    let log = program.log.text();
    let fields: Vec<_> = log.split('\t').collect();
    assert_eq!((fields[0], fields[2], fields[3]), ("[WARNING]", id.as_str(), "two\nlines\n"), "{log}");
    assert!(fields[1].ends_with('Z') && fields[1].contains('T') && fields[1].len() == 24, "{log}");
}

#[tokio::test]
async fn initialisation_errors_have_lambdas_names() {
    for (handler, source, kind, message) in [
        (
            "app",
            "",
            "Runtime.MalformedHandlerName",
            "Bad handler 'app': not enough values to unpack (expected 2, got 1)",
        ),
        (
            "none.handler",
            "",
            "Runtime.ImportModuleError",
            "Unable to import module 'none': No module named 'none'",
        ),
        (
            "app.handler",
            "import nonesuch",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'nonesuch'",
        ),
        ("app.handler", "x = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("app.handler", "def handler(", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "),
        (
            "sys.exit",
            "",
            "Runtime.BuiltInModuleConflict",
            "Cannot use built-in module sys as a handler module",
        ),
        ("app.handler", "raise KeyError('k')", "KeyError", "'k'"),
    ] {
        let mut program = Program::python(handler, &[("app.py", source)]).await;
        let (announced, report) = program.init_error().await;
        assert_eq!(announced.as_deref(), Some(kind));
        assert_eq!(report["errorType"], kind);
        assert!(report["errorMessage"].as_str().unwrap().starts_with(message), "{report}");
        assert!(program.log.text().contains(&format!("[ERROR] {kind}: {message}")), "{}", program.log.text());
        assert_eq!(program.exit_code().await, Some(1));
    }
}

#[tokio::test]
async fn handlers_in_packages_and_folders() {
    let files = [
        ("a/__init__.py", ""),
        ("a/b.py", "def go(e, c):\n    return __name__\n"),
        ("d/e.py", "def go(e, c):\n    return __name__\n"),
    ];
    for (handler, name) in [("a.b.go", "\"a.b\""), ("a/b.go", "\"a.b\""), ("d/e.go", "\"d.e\"")] {
        let mut program = Program::python(handler, &files).await;
        program.started().await.unwrap();
        assert_eq!(program.result("0").await, name);
    }
}

#[tokio::test]
async fn results_are_marshalled_like_lambdas() {
    let program = ready(
        "import decimal, os\ndef handler(event, context):\n    return eval(event, {'D': decimal.Decimal, 'os': os})\n",
    )
    .await;
    for (expression, answer) in [
        ("'ä€😀'", "\"ä€😀\""),
        ("float('nan')", "NaN"),
        ("{1: (2, None)}", "{\"1\": [2, null]}"),
        ("[D('3'), D('1.5'), D('NaN')]", "[3, 1.5, NaN]"),
        ("b'raw'", "raw"),
        ("'\\ud800'", "\"\\ud800\""),
        ("None", "null"),
    ] {
        assert_eq!(program.result(&json!(expression).to_string()).await, answer, "{expression}");
    }
    let (kind, report) = program.error("\"{1, 2}\"").await;
    assert_eq!(kind.as_deref(), Some("Runtime.MarshalError"));
    let message = "Unable to marshal response: Object of type set is not JSON serializable";
    assert_eq!(report["errorMessage"], message);
    assert_eq!(program.result("\"'x' * 90000\"").await.len(), 90_002);
    let id = RequestId::random();
    let Err(fault) = program.call_with(id, event_of("\"'x' * 200000\"")).await else { panic!() };
    assert_eq!(fault, Fault::AnswerTooLarge { size: 200_002, limit: ANSWER_BYTES });
    assert_eq!(program.result("\"1\"").await, "1", "it lives");
}

#[tokio::test]
async fn large_events_arrive_whole() {
    let program = ready("def handler(event, context):\n    return len(event)\n").await;
    let event = json!("y".repeat(5_000_000)).to_string();
    assert_eq!(program.result(&event).await, "5000000");
}

#[tokio::test]
async fn an_exit_in_the_handler_ends_the_process() {
    for (source, code) in [
        ("import sys\ndef handler(e, c):\n    sys.exit(3)\n", 3),
        ("import os\ndef handler(e, c):\n    os._exit(4)\n", 4),
    ] {
        let program = ready(source).await;
        let api = program.api.clone();
        let call = tokio::spawn(async move { api.invoke(RequestId::random(), 0, event_of("1")).await });
        let exit = crate::Exit::Code(program_exit(program).await);
        assert_eq!(exit, crate::Exit::Code(code));
        call.abort();
    }
}

async fn program_exit(program: Program) -> i32 {
    program.exit_code().await.unwrap()
}

#[tokio::test]
async fn the_client_imports_nothing_slow() {
    let source = "import sys\ndef handler(event, context):\n    return [name for name in event if name in sys.modules]\n";
    let program = ready(source).await;
    assert_eq!(program.result(r#"["json", "re", "socket", "logging", "http", "typing"]"#).await, "[]");
}
