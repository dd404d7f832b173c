//! The Ruby client, run by a real Ruby.

use base::RequestId;
use serde_json::{Value, json};

use crate::process::testing::{ANSWER_BYTES, Program, event_of};
use crate::{Fault, Output};

async fn ready(source: &str) -> Program {
    let mut program = Program::ruby("app.handler", &[("app.rb", source)]).await;
    let started = program.started().await;
    assert!(started.is_ok(), "{started:?}\n{}", program.log.text());
    program
}

#[tokio::test]
async fn answers_again_and_again_from_one_process() {
    let program =
        ready("$count = 0\ndef handler(event:, context:)\n  $count += 1\n  [$count, $$, event]\nend\n").await;
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
def handler(event:, context:)
  left = context.get_remaining_time_in_millis
  {
    id: context.aws_request_id, name: context.function_name, version: context.function_version,
    arn: context.invoked_function_arn, memory: context.memory_limit_in_mb, group: context.log_group_name,
    stream: context.log_stream_name, left: left.positive? && left <= 10_000 && context.deadline_ms > left,
    client: context.client_context, identity: context.identity, trace: ENV["_X_AMZN_TRACE_ID"],
  }
end
"#,
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
            "id": id.to_string(), "name": "greet", "version": "7", "arn": event.invoked_arn, "memory": "128",
            "group": "/aws/lambda/greet", "stream": "stream", "left": true, "client": client, "identity": null,
            "trace": event.trace_id,
        })
    );
}

#[tokio::test]
async fn an_exception_is_reported_and_the_next_call_works() {
    let program = ready(
        "class Lost < StandardError; end\ndef look(way) = raise(Lost, \"no #{way}\")\ndef handler(event:, context:)\n  look(event) unless event.empty?\n  :fine\nend\n",
    )
    .await;
    let (kind, report) = program.error("\"way\"").await;
    assert_eq!(kind.as_deref(), Some("Function<Lost>"));
    assert_eq!((&report["errorType"], &report["errorMessage"]), (&json!("Function<Lost>"), &json!("no way")));
    let stack: Vec<_> =
        report["stackTrace"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(stack.len(), 2, "only the user's frames: {stack:?}");
    assert!(
        stack[0].contains("/app.rb:2:in `look'") && stack[1].contains("/app.rb:4:in `handler'"),
        "{stack:?}"
    );
    let log = program.log.text();
    assert!(log.starts_with("Error raised from handler method\t{\"errorMessage\":\"no way\""), "{log}");
    assert_eq!(log.matches('\n').count(), 1, "one line: {log}");
    assert_eq!(program.result("\"\"").await, "\"fine\"");
}

#[tokio::test]
async fn an_error_that_cannot_say_what_it_is() {
    let program = ready(
        "class Odd < StandardError\n  def message = raise(KeyError, 'no')\nend\ndef handler(event:, context:)\n  raise Odd unless event.empty?\n  :fine\nend\n",
    )
    .await;
    let (kind, report) = program.error("\"x\"").await;
    assert_eq!(kind.as_deref(), Some("Function<Odd>"));
    assert_eq!(report["errorMessage"], "its message raised KeyError");
    assert_eq!(program.result("\"\"").await, "\"fine\"", "it lives");
}

#[tokio::test]
async fn what_is_no_standard_error_ends_the_process() {
    for (source, kind, code) in [
        ("exit(3)", "Function<SystemExit>", 3),
        ("def f = f\n  f", "Function<SystemStackError>", 1),
        ("eval('def')", "Function<SyntaxError>", 1),
    ] {
        let program = ready(&format!("def handler(event:, context:)\n  {source}\nend\n")).await;
        let (announced, _) = program.error("1").await;
        assert_eq!(announced.as_deref(), Some(kind));
        assert_eq!(program.exit_code().await, Some(code));
    }
}

#[tokio::test]
async fn output_is_there_before_the_answer() {
    let program = ready(
        "puts 'init'\ndef handler(event:, context:)\n  puts 'out'\n  warn 'err'\n  print 'end'\n  nil\nend\n",
    )
    .await;
    assert_eq!(program.log.text(), "init\n");
    assert_eq!(program.result("1").await, "null");
    assert_eq!(program.log.text(), "init\nout\nerr\nend");
}

#[tokio::test]
async fn logging_is_lambdas() {
    let program = ready(
        "require 'logger'\nLOG = Logger.new($stdout, progname: 'me')\ndef handler(event:, context:)\n  LOG.warn('careful')\n  context.aws_request_id\nend\n",
    )
    .await;
    let id = program.result("1").await.replace('"', "");
    let log = program.log.text();
    assert!(log.starts_with("W, ["), "{log}");
    assert!(log.ends_with(&format!("]  WARN {id} -- me: careful\n")), "{log}");
}

#[tokio::test]
async fn initialisation_errors_have_lambdas_names() {
    for (handler, source, kind, message) in [
        ("app", "", "Init<ArgumentError>", "Invalid handler app, must be of form FILENAME.METHOD"),
        ("none.handler", "", "Init<LoadError>", "cannot load such file -- none"),
        ("app.handler", "require 'nonesuch'", "Init<LoadError>", "cannot load such file -- nonesuch"),
        ("app.handler", "Nonesuch", "Init<NameError>", "uninitialized constant Nonesuch"),
        ("app.handler", "def handler(", "Init<SyntaxError>", ""),
        ("app.handler", "raise KeyError, 'k'", "Init<KeyError>", "k"),
    ] {
        let mut program = Program::ruby(handler, &[("app.rb", source)]).await;
        let (announced, report) = program.init_error().await;
        assert_eq!(announced.as_deref(), Some(kind), "{report}");
        assert_eq!(report["errorType"], kind);
        assert!(report["errorMessage"].as_str().unwrap().starts_with(message), "{report}");
        assert!(program.log.text().contains("Init error when loading handler\t{"), "{}", program.log.text());
        assert_eq!(program.exit_code().await, Some(1));
    }
}

#[tokio::test]
async fn handlers_in_classes_and_folders() {
    let files = [
        (
            "app.rb",
            "module A\n  class B\n    def self.go(event:, context:) = \"#{name} #{event}\"\n  end\nend\n",
        ),
        ("d/e.rb", "require 'other'\ndef go(event:, context:) = OTHER\n"),
        ("other.rb", "OTHER = __method__.inspect\n"),
        ("json.rb", "def go(event:, context:) = 'mine'\n"),
    ];
    for (handler, answer) in [("app.A::B.go", "\"A::B 1\""), ("d/e.go", "\"nil\""), ("json.go", "\"mine\"")] {
        let mut program = Program::ruby(handler, &files).await;
        let started = program.started().await;
        assert!(started.is_ok(), "{started:?} {}", program.log.text());
        assert_eq!(program.result("1").await, answer);
    }
    let mut program = Program::ruby("app.nothing", &files).await;
    program.started().await.unwrap();
    let (kind, report) = program.error("1").await;
    assert_eq!(kind.as_deref(), Some("Function<NoMethodError>"));
    let message = report["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("undefined method `nothing' for main"), "{message}");
}

#[tokio::test]
async fn results_are_marshalled_like_lambdas() {
    let program = ready("require 'stringio'\ndef handler(event:, context:) = eval(event)\n").await;
    for (expression, answer) in [
        ("'ä€😀'", "\"ä€😀\""),
        ("{ 1 => [:two, nil] }", "{\"1\":[\"two\",null]}"),
        ("StringIO.new('raw')", "raw"),
        ("Class.new { def to_json(*) = '[9]' }.new", "[9]"),
        ("nil", "null"),
    ] {
        assert_eq!(program.result(&json!(expression).to_string()).await, answer, "{expression}");
    }
    let (kind, _) = program.error("\"0.0 / 0\"").await;
    assert_eq!(kind.as_deref(), Some("Function<JSON::GeneratorError>"));
    assert_eq!(program.result("\"'x' * 90000\"").await.len(), 90_002);
    let id = RequestId::random();
    let Err(fault) = program.call_with(id, event_of("\"'x' * 200000\"")).await else { panic!() };
    assert_eq!(fault, Fault::AnswerTooLarge { size: 200_002, limit: ANSWER_BYTES });
    assert_eq!(program.result("\"1\"").await, "1", "it lives");
}

#[tokio::test]
async fn large_events_arrive_whole() {
    let program = ready("def handler(event:, context:) = event.size\n").await;
    assert_eq!(program.result(&json!("y".repeat(5_000_000)).to_string()).await, "5000000");
}

#[tokio::test]
async fn an_exit_without_handlers_ends_the_process() {
    let program = ready("def handler(event:, context:) = exit!(4)\n").await;
    let api = program.api.clone();
    let call = tokio::spawn(async move { api.invoke(RequestId::random(), 0, event_of("1")).await });
    assert_eq!(program.exit_code().await, Some(4));
    call.abort();
}

#[tokio::test]
async fn the_client_requires_nothing_that_gems_bring() {
    let program = Program::ruby(
        "app.handler",
        &[("app.rb", "LOADED = Gem.loaded_specs.keys\ndef handler(event:, context:) = LOADED\n")],
    );
    let mut program = program.await;
    program.started().await.unwrap();
    let bare: Value = serde_json::from_str(&program.result("1").await).unwrap();
    for gem in ["json", "logger", "io-wait"] {
        assert!(!bare.as_array().unwrap().contains(&json!(gem)), "{bare}");
    }
}
