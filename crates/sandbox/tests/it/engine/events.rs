//! Event handlers.

use std::time::{Duration, Instant};

use sandbox::{Exit, Fault, Output, StartError};
use serde_json::json;

use super::{ANSWER_BYTES, Engines, PATIENCE};
use crate::case;
use crate::world::{Case, World, groups_named, until};

pub(crate) const CASES: &[Case] = &[
    case!(a_python_handler),
    case!(a_node_handler),
    case!(a_shell_bootstrap_with_curl),
    case!(a_program_that_is_busy_for_a_moment_is_waited_for),
    case!(handlers_with_several_events_at_once),
    case!(function_errors_leave_the_instance_alive),
    case!(initialisation_errors_are_reported),
    case!(initialisation_that_takes_too_long),
    case!(entry_points_that_cannot_start),
    case!(an_exit_ends_the_call),
    case!(too_large_an_answer),
    case!(memory_over_the_limit),
    case!(stopping_and_dropping),
];

const SHOW: &str = r#"
import os, sys
print("loaded")
def handler(event, context):
    print("called")
    names = ("AWS_LAMBDA_RUNTIME_API", "AWS_ENDPOINT_URL", "HOME", "GREETING", "LAMBDA_RUNTIME_DIR", "PORT")
    return {
        "event": event, "env": {name: os.environ.get(name) for name in names}, "cwd": os.getcwd(),
        "path": sys.path[0], "left": context.get_remaining_time_in_millis() > 0, "uid": os.getuid(),
        "runtime": sorted(os.listdir("/var/runtime")),
    }
"#;

async fn a_python_handler(world: World) {
    let engines = Engines::new(&world);
    let running = engines.start(engines.python(SHOW).await).await;
    assert_eq!(running.log.text(), "loaded\n");
    for event in [json!({"n": 1}), json!("ä")] {
        let result = running.result(&event.to_string()).await;
        assert_eq!(result["event"], event);
        assert_eq!(result["cwd"], "/var/task");
        assert_eq!(result["path"], "/var/task");
        assert_eq!(result["left"], true);
        assert_eq!(result["runtime"], json!(["java", "node", "php", "python", "ruby"]));
        let expected = json!({
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "AWS_ENDPOINT_URL": "http://127.0.0.1:9080",
            "HOME": "/tmp", "GREETING": "hello", "LAMBDA_RUNTIME_DIR": "/var/runtime", "PORT": null,
        });
        assert_eq!(result["env"], expected);
    }
    assert_eq!(running.log.text(), "loaded\ncalled\ncalled\n");
    // Without control groups it is sampled.
    until(PATIENCE, || running.instance.peak_memory() > 1 << 20).await;
}

async fn a_node_handler(world: World) {
    let engines = Engines::new(&world);
    let source = "console.log('loaded');
        exports.handler = async (event, context) => {
          console.log('called');
          return { event, cwd: process.cwd(), home: process.env.HOME, left: context.getRemainingTimeInMillis() > 0 };
        };";
    let running = engines.start(engines.node(source).await).await;
    let result = running.result("[1]").await;
    assert_eq!(result, json!({"event": [1], "cwd": "/var/task", "home": "/tmp", "left": true}));
    let log = running.log.text();
    assert!(log.contains("INFO\tloaded\n") && log.ends_with("INFO\tcalled\n"), "{log}");
}

/// Like the tutorial's `bootstrap` for custom runtimes.
const BOOTSTRAP: &str = r#"#!/bin/sh
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
  event=$(curl -sS -D /tmp/head "$api/next")
  id=$(grep "Lambda-Runtime-Aws-Request-Id" /tmp/head | tr -d '[:space:]' | cut -d: -f2)
  echo "got $event"
  curl -sS -o /dev/null "$api/$id/response" -d "{\"echo\":$event}"
done
"#;

async fn a_shell_bootstrap_with_curl(world: World) {
    let engines = Engines::new(&world);
    let running = engines.start(engines.provided(BOOTSTRAP)).await;
    for event in ["1", "{\"a\":\"b c\"}"] {
        let result = running.result(event).await;
        assert_eq!(result["echo"], serde_json::from_str::<serde_json::Value>(event).unwrap());
    }
    assert_eq!(running.log.text(), "got 1\ngot {\"a\":\"b c\"}\n");
}

async fn a_program_that_is_busy_for_a_moment_is_waited_for(world: World) {
    let engines = Engines::new(&world);
    let function = engines.provided(BOOTSTRAP);
    let program = function.spec.artifact.dir.join("bootstrap");
    let writer = std::fs::File::options().append(true).open(program).unwrap();
    let let_go = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        drop(writer);
    };
    let (running, ()) = tokio::join!(engines.start(function), let_go);
    assert_eq!(running.result("1").await["echo"], 1);
}

/// Each call waits for the other.
const TOGETHER: [&str; 3] = [
    "import threading\nboth = threading.Barrier(2)\ndef handler(event, context):\n    both.wait()\n    return event\n",
    "import asyncio\nwaiting = []\nasync def handler(event, context):\n    if waiting:\n        waiting.pop().set()\n    else:\n        waiting.append(asyncio.Event())\n        await waiting[0].wait()\n    return event\n",
    "let other;
     exports.handler = (event) => new Promise((resolve) => {
       if (other) { other(); resolve(event); } else other = () => resolve(event);
     });",
];

async fn handlers_with_several_events_at_once(world: World) {
    let engines = Engines::new(&world);
    for (number, source) in TOGETHER.into_iter().enumerate() {
        let mut function = if number < 2 { engines.python(source).await } else { engines.node(source).await };
        function.spec.concurrency = 2;
        let running = engines.start(function).await;
        let (first, second) = tokio::join!(running.result("1"), running.result("2"));
        assert_eq!((first, second), (json!(1), json!(2)), "{source}");
        running.instance.stop().await;
    }
}

async fn function_errors_leave_the_instance_alive(world: World) {
    let engines = Engines::new(&world);
    let source = "def handler(event, context):\n    return 1 // event\n";
    let running = engines.start(engines.python(source).await).await;
    let Ok(Output::FunctionError(error)) = running.event("0").await else { panic!("no function error") };
    assert_eq!(error.error_type.as_deref(), Some("ZeroDivisionError"));
    let report: serde_json::Value = serde_json::from_slice(&error.json).unwrap();
    assert!(report["stackTrace"][0].as_str().unwrap().starts_with("  File \"/var/task/app.py\", line 2"));
    assert!(running.log.text().starts_with("[ERROR] ZeroDivisionError: "), "{}", running.log.text());
    assert_eq!(running.result("1").await, 1);
}

async fn initialisation_errors_are_reported(world: World) {
    let engines = Engines::new(&world);
    for (function, kind) in [
        (engines.python("def handler(").await, "Runtime.UserCodeSyntaxError"),
        (engines.python("import nonesuch").await, "Runtime.ImportModuleError"),
        (engines.python("x = 1").await, "Runtime.HandlerNotFound"),
        (engines.python("raise OSError('gone')").await, "OSError"),
        (engines.node("const const").await, "Runtime.UserCodeSyntaxError"),
        (engines.node("require('nonesuch')").await, "Runtime.ImportModuleError"),
        (engines.node("exports.x = 1").await, "Runtime.HandlerNotFound"),
    ] {
        let id = function.spec.instance.clone();
        let Err((StartError::Init { json, error_type }, log)) = engines.try_start(function).await else {
            panic!("{kind}: no error of initialisation")
        };
        let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((error_type.as_deref(), &report["errorType"]), (Some(kind), &json!(kind)));
        assert!(log.text().contains(kind), "{}", log.text());
        assert!(groups_named(id.as_str()).is_empty());
    }
    let exits = engines.python("import sys\nprint('bye')\nsys.exit(9)").await;
    let Err((StartError::Exited(exit), log)) = engines.try_start(exits).await else { panic!("no exit") };
    assert_eq!((exit, log.text().as_str()), (Exit::Code(9), "bye\n"));
}

async fn initialisation_that_takes_too_long(world: World) {
    let engines = Engines::new(&world);
    let source = "import time\nprint('slow')\ntime.sleep(600)\n";
    let function = engines.python(source).await.init_timeout(Duration::from_millis(1500));
    let (id, begun) = (function.spec.instance.clone(), Instant::now());
    let Err((error, log)) = engines.try_start(function).await else { panic!("it started") };
    assert!(matches!(error, StartError::TimedOut), "{error:?}");
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    assert_eq!(log.text(), "slow\n");
    assert!(groups_named(id.as_str()).is_empty());
}

async fn entry_points_that_cannot_start(world: World) {
    let engines = Engines::new(&world);
    let provided = sandbox::Runtime::parse("provided.al2023").unwrap();
    for files in [&[][..], &[("bootstrap", 0o644, "#!/bin/sh\n")], &[("bootstrap", 0o755, "#!/no/such\n")]] {
        let function = engines.function(provided.clone(), "", files);
        let Err((error, _)) = engines.try_start(function).await else { panic!("it started") };
        assert!(matches!(error, StartError::Entrypoint(_)), "{error:?}");
    }
}

async fn an_exit_ends_the_call(world: World) {
    let engines = Engines::new(&world);
    for (source, exit) in [
        ("import sys\ndef handler(e, c):\n    print('last')\n    sys.exit(3)\n", Exit::Code(3)),
        (
            "import os, signal\ndef handler(e, c):\n    print('last')\n    os.kill(os.getpid(), signal.SIGKILL)\n",
            Exit::Signal(9),
        ),
    ] {
        let running = engines.start(engines.python(source).await).await;
        assert_eq!(running.fault("1").await, Fault::Exited(exit));
        assert_eq!(running.log.text(), "last\n");
        assert_eq!(running.instance.exited().await, exit);
        assert_eq!(running.fault("1").await, Fault::NotDelivered(exit), "the second event was not fetched");
    }
}

async fn too_large_an_answer(world: World) {
    let engines = Engines::new(&world);
    let source = "exports.handler = async (n) => 'x'.repeat(n)";
    let running = engines.start(engines.node(source).await).await;
    let fault = running.fault("200000").await;
    assert_eq!(fault, Fault::AnswerTooLarge { size: 200_002, limit: ANSWER_BYTES });
    let exact = running.result("99998").await;
    assert_eq!(exact.as_str().map(str::len), Some(99_998), "the limit itself is allowed");
}

async fn memory_over_the_limit(world: World) {
    let engines = Engines::new(&world);
    let source =
        "def handler(e, c):\n    held = []\n    while True:\n        held.append(bytearray(8 << 20))\n";
    let running = engines.start(engines.python(source).await).await;
    match running.event("1").await {
        Err(Fault::Exited(exit)) => assert_eq!(exit, Exit::OutOfMemory),
        // Where memory is held by RLIMIT_DATA, Python sees the limit first.
        Ok(Output::FunctionError(error)) => assert_eq!(error.error_type.as_deref(), Some("MemoryError")),
        Ok(_) => panic!("unlimited memory"),
        Err(fault) => panic!("{fault:?}"),
    }
}

async fn stopping_and_dropping(world: World) {
    let engines = Engines::new(&world);
    let source = "import time\ndef handler(e, c):\n    print('sleeping')\n    time.sleep(600)\n";
    let running = engines.start(engines.python(source).await).await;
    let log = running.log.clone();
    let stop = async {
        until(PATIENCE, || !log.text().is_empty()).await;
        running.instance.stop().await;
        assert!(groups_named(running.id.as_str()).is_empty());
    };
    let (fault, ()) = tokio::join!(running.fault("1"), stop);
    assert_eq!(fault, Fault::Exited(Exit::Stopped));
    assert_eq!(running.instance.exited().await, Exit::Stopped);

    let token = world.token();
    let source =
        format!("import subprocess\nsubprocess.Popen(['sleep', '{token}'])\ndef handler(e, c): pass\n");
    let running = engines.start(engines.python(&source).await).await;
    assert_eq!(crate::world::processes_with(&token).len(), 1);
    drop(running);
    until(PATIENCE, || crate::world::processes_with(&token).is_empty()).await;
}
