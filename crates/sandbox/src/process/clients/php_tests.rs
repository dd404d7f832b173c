//! The PHP client, run by a real PHP.

use base::RequestId;
use serde_json::{Value, json};

use crate::process::testing::{ANSWER_BYTES, Program, event_of};
use crate::{Fault, Output};

async fn ready(source: &str) -> Program {
    let mut program = Program::php("index.php", &[("index.php", &format!("<?php\n{source}"))]).await;
    let started = program.started().await;
    assert!(started.is_ok(), "{started:?}\n{}", program.log.text());
    program
}

#[tokio::test]
async fn answers_again_and_again_from_one_process() {
    let program = ready(
        "$count = 0;\nreturn function ($event) use (&$count) { $count++; return [$count, getmypid(), $event]; };",
    )
    .await;
    let first: Value = serde_json::from_str(&program.result(r#"{"a":"ä/"}"#).await).unwrap();
    let second: Value = serde_json::from_str(&program.result("[1,2.5,2.0,null]").await).unwrap();
    assert_eq!((&first[0], &second[0]), (&json!(1), &json!(2)));
    assert_eq!(first[1], second[1]);
    assert_eq!((&first[2], &second[2]), (&json!({"a": "ä/"}), &json!([1, 2.5, 2.0, null])));
}

#[tokio::test]
async fn the_context_object() {
    let program = ready(
        r#"
return fn (array $event, Bref\Context\Context $c) => [
    "id" => $c->getAwsRequestId(), "name" => $c->getFunctionName(), "version" => $c->getFunctionVersion(),
    "arn" => $c->getInvokedFunctionArn(), "memory" => $c->getMemoryLimitInMb(),
    "group" => $c->getLogGroupName(), "stream" => $c->getLogStreamName(),
    "left" => 0 < $c->getRemainingTimeInMillis() && $c->getRemainingTimeInMillis() <= 10000,
    "client" => $c->getClientContext(), "identity" => $c->getIdentity(),
    "trace" => [$c->getTraceId(), getenv("_X_AMZN_TRACE_ID")],
];"#,
    )
    .await;
    let id = RequestId::random();
    let mut event = event_of("{}");
    let client = json!({"client": {"app_title": "ä"}, "custom": {"a": 1}});
    event.client_context = Some(client.to_string());
    let Ok(Output::Event(answer)) = program.call_with(id, event.clone()).await else { panic!() };
    assert_eq!(
        serde_json::from_slice::<Value>(&answer).unwrap(),
        json!({
            "id": id.to_string(), "name": "greet", "version": "7", "arn": event.invoked_arn, "memory": 128,
            "group": "/aws/lambda/greet", "stream": "stream", "left": true, "client": client, "identity": null,
            "trace": [event.trace_id, event.trace_id],
        })
    );
}

#[tokio::test]
async fn an_exception_is_reported_and_the_next_call_works() {
    let program = ready(
        "class Lost extends RuntimeException {}\nfunction look($way) { throw new Lost(\"no $way\", 0, new LogicException('why')); }\nreturn function ($event) {\n    if ($event) { look($event); }\n    return 'fine';\n};",
    )
    .await;
    let (kind, report) = program.error("\"way\"").await;
    assert_eq!(kind.as_deref(), Some("Lost"));
    assert_eq!((&report["errorType"], &report["errorMessage"]), (&json!("Lost"), &json!("no way")));
    let stack: Vec<_> =
        report["stackTrace"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert!(stack[0].ends_with("/index.php:3"), "{stack:?}");
    assert!(stack[1].starts_with("#0 ") && stack[1].contains("index.php(5): look("), "{stack:?}");
    assert_eq!(stack[2], "Previous: LogicException: why", "only the user's frames: {stack:?}");
    let log = program.log.text();
    assert!(log.contains("\tInvoke Error\t{\"errorType\":\"Lost\",\"errorMessage\":\"no way\""), "{log}");
    assert_eq!(log.matches('\n').count(), 1, "one line: {log}");
    assert_eq!(program.result("\"\"").await, "\"fine\"");
}

#[tokio::test]
async fn of_a_deep_recursion_the_innermost_frames_are_told() {
    let program = ready(
        "function down($left) { if (!$left) { throw new LogicException('deep'); } down($left - 1); }\nreturn fn () => down(20000);",
    )
    .await;
    let (kind, report) = program.error("1").await;
    assert_eq!((kind.as_deref(), &report["errorMessage"]), (Some("LogicException"), &json!("deep")));
    let stack = report["stackTrace"].as_array().unwrap();
    assert_eq!(stack.len(), 101);
    assert!(stack[1].as_str().unwrap().starts_with("#0 "), "{}", stack[1]);
}

#[tokio::test]
async fn errors_without_a_name_and_without_a_log() {
    let program = ready("return fn () => throw new class('odd') extends RuntimeException {};").await;
    let (kind, report) = program.error("1").await;
    assert_eq!(kind.as_deref(), Some("RuntimeException@anonymous"));
    assert_eq!(
        (&report["errorType"], &report["errorMessage"]),
        (&json!("RuntimeException@anonymous"), &json!("odd"))
    );
    let program =
        ready("return function () { fclose(STDOUT); fclose(STDERR); throw new LogicException('l'); };").await;
    let (kind, report) = program.error("1").await;
    assert_eq!((kind.as_deref(), &report["errorMessage"]), (Some("LogicException"), &json!("l")));
}

#[tokio::test]
async fn a_time_limit_is_its_invocations() {
    let program = ready(
        "return function () { static $set; $set ??= set_time_limit(1); for ($end = hrtime(true) + 700_000_000; hrtime(true) < $end;) { sha1('x'); } return 'in time'; };",
    )
    .await;
    for _ in 0..3 {
        assert_eq!(program.result("1").await, "\"in time\"");
    }
}

#[tokio::test]
async fn output_is_there_before_the_answer() {
    let program = ready(
        "echo \"init\\n\";\nreturn function () { echo \"out\\n\"; fwrite(STDERR, \"err\\n\"); ob_start(); echo 'held'; };",
    )
    .await;
    assert_eq!(program.log.text(), "init\n");
    assert_eq!(program.result("1").await, "null");
    assert_eq!(program.log.text(), "init\nout\nerr\nheld");
}

#[tokio::test]
async fn warnings_go_to_the_log_once() {
    let program = ready("return fn () => $nothing;").await;
    assert_eq!(program.result("1").await, "null");
    let log = program.log.text();
    assert!(log.starts_with("PHP Warning:  Undefined variable $nothing in "), "{log}");
    assert_eq!(log.matches('\n').count(), 1, "{log}");
}

#[tokio::test]
async fn fatal_errors_are_reported_and_end_the_process() {
    for (source, kind, message) in [
        (
            "return function () { $all = ''; while (true) { $all .= str_repeat('x', 1 << 20); } };",
            "FatalError",
            "Allowed memory size of 117440512 bytes exhausted",
        ),
        ("return fn () => trigger_error('mine', E_USER_ERROR);", "UserError", "mine"),
        (
            "return function () { eval('class A extends DateTime { function format(int $x): int { return 1; } }'); };",
            "FatalError",
            "Declaration of A::format(int $x): int must be compatible",
        ),
    ] {
        let program = ready(source).await;
        let (announced, report) = program.error("1").await;
        assert_eq!(announced.as_deref(), Some(kind));
        assert!(report["errorMessage"].as_str().unwrap().starts_with(message), "{report}");
        assert!(report["stackTrace"][0].as_str().unwrap().contains("/index.php"), "{report}");
        assert_eq!(program.exit_code().await, Some(255));
    }
}

#[tokio::test]
async fn initialisation_errors_have_names() {
    for (handler, source, kind, message) in [
        (
            "index.handler",
            "",
            "Runtime.HandlerNotFound",
            "Handler 'index.handler' does not exist: a PHP handler is the path of a file, such as index.php",
        ),
        ("none.php", "", "Runtime.HandlerNotFound", "Handler 'none.php' does not exist"),
        (
            "index.php",
            "",
            "Runtime.HandlerNotFound",
            "Handler 'index.php' must return a function, it returned int",
        ),
        ("index.php", "return function (", "ParseError", "Unclosed '('"),
        ("index.php", "throw new DomainException('k');", "DomainException", "k"),
        ("index.php", "nonesuch();", "Error", "Call to undefined function nonesuch()"),
        ("index.php", "function f() {}\nfunction f() {}", "FatalError", "Cannot redeclare f()"),
    ] {
        let mut program = Program::php(handler, &[("index.php", &format!("<?php\n{source}"))]).await;
        let (announced, report) = program.init_error().await;
        assert_eq!(announced.as_deref(), Some(kind), "{report}");
        assert_eq!(report["errorType"], kind);
        assert!(report["errorMessage"].as_str().unwrap().starts_with(message), "{report}");
        assert!(program.log.text().contains("Init Error\t{"), "{}", program.log.text());
        let code = if kind == "FatalError" { 255 } else { 1 };
        assert_eq!(program.exit_code().await, Some(code));
    }
}

#[tokio::test]
async fn handlers_may_be_objects_and_lie_in_folders() {
    let files = [
        ("src/fn.php", "<?php return fn () => basename(__FILE__);"),
        (
            "object.php",
            "<?php class H { function handle($event, $context) { return $event + 1; } } return new H;",
        ),
        ("invoke.php", "<?php class I { function __invoke($event) { return $event + 2; } } return new I;"),
        ("lib/x.php", "<?php const X = 7;"),
        ("include.php", "<?php require 'lib/x.php'; return fn () => X;"),
    ];
    for (handler, answer) in
        [("src/fn.php", "\"fn.php\""), ("object.php", "2"), ("invoke.php", "3"), ("include.php", "7")]
    {
        let mut program = Program::php(handler, &files).await;
        program.started().await.unwrap();
        assert_eq!(program.result("1").await, answer);
    }
}

#[tokio::test]
async fn what_has_no_json_is_an_error_and_large_bodies_pass() {
    let program = ready("return fn ($event) => is_int($event) ? str_repeat('x', $event) : \"\\xff\";").await;
    let (kind, report) = program.error("null").await;
    assert_eq!(kind.as_deref(), Some("JsonException"));
    assert!(report["errorMessage"].as_str().unwrap().starts_with("Malformed UTF-8"), "{report}");
    assert_eq!(program.result("90000").await.len(), 90_002);
    let id = RequestId::random();
    let Err(fault) = program.call_with(id, event_of("200000")).await else { panic!() };
    assert_eq!(fault, Fault::AnswerTooLarge { size: 200_002, limit: ANSWER_BYTES });
    assert_eq!(program.result("1").await, "\"x\"", "it lives");
    let program = ready("return fn ($event) => strlen($event);").await;
    assert_eq!(program.result(&json!("y".repeat(5_000_000)).to_string()).await, "5000000");
}

#[tokio::test]
async fn an_exit_in_the_handler_ends_the_process() {
    for (source, code) in [("return fn () => exit(3);", 3), ("return function () { echo @$x; exit; };", 0)] {
        let program = ready(source).await;
        let api = program.api.clone();
        let call = tokio::spawn(async move { api.invoke(RequestId::random(), 0, event_of("1")).await });
        assert_eq!(program.exit_code().await, Some(code));
        call.abort();
    }
}

/// PSR-3's interface as its third version declares it; the first two say less of types.
const PSR: &str = "<?php
namespace Psr\\Log;
class InvalidArgumentException extends \\InvalidArgumentException {}
interface LoggerInterface {
    public function emergency(string|\\Stringable $message, array $context = []): void;
    public function alert(string|\\Stringable $message, array $context = []): void;
    public function critical(string|\\Stringable $message, array $context = []): void;
    public function error(string|\\Stringable $message, array $context = []): void;
    public function warning(string|\\Stringable $message, array $context = []): void;
    public function notice(string|\\Stringable $message, array $context = []): void;
    public function info(string|\\Stringable $message, array $context = []): void;
    public function debug(string|\\Stringable $message, array $context = []): void;
    public function log($level, string|\\Stringable $message, array $context = []): void;
}
";

#[tokio::test]
async fn a_logger_writes_lines_or_objects() {
    let source = r#"<?php
spl_autoload_register(fn ($class) => str_starts_with($class, 'Psr\\Log\\') && require_once __DIR__ . '/psr.php');
return function ($event, $context) {
    $log = $context->getLogger();
    $log->debug('a detail');
    $log->info('{who} said {count}', ['who' => 'Ada', 'count' => 7]);
    $log->log('critical', 'caught', ['exception' => new RangeException('far', 0, new LogicException('why'))]);
    if (is_array($event)) { echo $event['missing']; @$event['hushed']; trigger_error('of mine', E_USER_NOTICE); }
    if ($event === 'raise') { throw new DomainException("ra\nised"); }
    try { $log->log('loud', 'x'); } catch (InvalidArgumentException $error) { $class = get_class($error); }
    return [$log instanceof Psr\Log\LoggerInterface, $class];
};
"#;
    let files = [("index.php", source), ("psr.php", PSR)];
    for (format, level) in [("Text", ""), ("JSON", "INFO"), ("JSON", "ERROR")] {
        let env = [("AWS_LAMBDA_LOG_FORMAT", format), ("AWS_LAMBDA_LOG_LEVEL", level)];
        let mut program = Program::described("php", "index.php", &files, &env).await;
        program.started().await.unwrap();
        let id = RequestId::random();
        let Ok(Output::Event(answer)) = program.call_with(id, event_of("{}")).await else { panic!() };
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, json!([true, "Psr\\Log\\InvalidArgumentException"]));
        program.error("\"raise\"").await;
        let log = program.log.text();
        if format == "Text" {
            let line = log.lines().nth(1).unwrap();
            assert!(line.ends_with(&format!("Z\t{id}\tINFO\tAda said 7")), "{log}");
            assert!(
                log.contains("\tDEBUG\ta detail\n") && log.contains("\tFATAL\tcaught\nLogicException: why"),
                "{log}"
            );
            assert!(log.contains("PHP Warning:  Undefined array key"), "{log}");
            continue;
        }
        let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |level: &str| entries.iter().filter(|entry| entry["level"] == level).collect::<Vec<_>>();
        assert!(of("DEBUG").is_empty(), "{log}");
        let caught = of("FATAL")[0];
        assert_eq!((&caught["message"], &caught["errorType"]), (&json!("caught"), &json!("RangeException")));
        assert!(caught["stackTrace"].as_array().unwrap().len() >= 2, "{log}");
        let raised = of("ERROR");
        assert_eq!((raised.len(), &raised[0]["errorMessage"]), (1, &json!("ra\nised")), "{log}");
        if level == "ERROR" {
            assert_eq!(entries.len(), 3, "{log}");
            continue;
        }
        let said = of("INFO")[0];
        assert_eq!((&said["message"], &said["requestId"]), (&json!("Ada said 7"), &json!(id.to_string())));
        assert_eq!(
            (&said["who"], &said["count"]),
            (&json!("Ada"), &json!(7)),
            "what is given along is told too"
        );
        assert_eq!(of("INFO")[1]["message"], "of mine");
        let warned = of("WARN");
        assert_eq!(warned.len(), 1, "{log}");
        assert!(warned[0]["location"].as_str().unwrap().ends_with("index.php:8"), "{log}");
    }
}
