//! Idle instances that are frozen, and what wakes them.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use sandbox::{Body, Exit};
use serde_json::json;

use super::{Engines, PATIENCE, Running};
use crate::case;
use crate::world::{Case, World, groups_named, until};

pub(crate) const CASES: &[Case] = &[
    case!(what_is_frozen_uses_no_processor_time_until_it_is_called),
    case!(a_call_under_way_is_not_frozen),
    case!(a_frozen_web_server_answers),
    case!(stopping_what_is_frozen_leaves_nothing),
    case!(dropping_what_is_frozen_leaves_nothing),
    case!(freezing_and_calling_at_once),
];

/// Longer than the kernel's unit of processor time by far.
const A_WHILE: Duration = Duration::from_millis(300);

/// The first call leaves a process behind that never rests, with the event among its arguments.
const SPIN: &str = r#"
import subprocess
children = []
def handler(event, context):
    if event:
        children.append(subprocess.Popen(["/bin/sh", "-c", "while :; do :; done", event]))
    return [child.poll() for child in children]
"#;

/// Units of processor time of the processes with such an argument, and how many these are.
fn spent(argument: &str) -> (u64, usize) {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|other| other == argument.as_bytes())
    });
    let times = pids.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
    });
    times.fold((0, 0), |(sum, count), time| (sum + time, count + 1))
}

/// A function that spins, and the argument of the process that does.
async fn spinning(engines: &Engines) -> (Running, String) {
    let running = engines.start(engines.python(SPIN).await).await;
    let token = format!("spin-{}", running.id.as_str());
    assert_eq!(running.result(&json!(token).to_string()).await, json!([null]));
    until(PATIENCE, || spent(&token).0 > 0).await;
    (running, token)
}

/// Freezes and waits until that shows.
async fn freeze(running: &Running, token: &str) {
    running.instance.freeze();
    let mut last = u64::MAX;
    loop {
        let now = spent(token).0;
        if now == last {
            return;
        }
        last = now;
        tokio::time::sleep(A_WHILE / 3).await;
    }
}

async fn what_is_frozen_uses_no_processor_time_until_it_is_called(world: World) {
    let engines = Engines::new(&world);
    let (running, token) = spinning(&engines).await;
    for _ in 0..2 {
        freeze(&running, &token).await;
        let before = spent(&token);
        assert_eq!(before.1, 1);
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(spent(&token), before);
        // Again is harmless.
        running.instance.freeze();
        assert_eq!(running.result("null").await, json!([null]));
        until(PATIENCE, || spent(&token).0 > before.0).await;
    }
    running.instance.stop().await;
}

async fn a_call_under_way_is_not_frozen(world: World) {
    let engines = Engines::new(&world);
    let source = "import time\ndef handler(event, context):\n    print('in', flush=True)\n    time.sleep(0.2)\n    return 1\n";
    let running = engines.start(engines.python(source).await).await;
    let call = running.result("1");
    let freeze = async {
        until(PATIENCE, || running.log.text().contains("in\n")).await;
        running.instance.freeze();
    };
    assert_eq!(tokio::join!(call, freeze).0, json!(1));
}

async fn a_frozen_web_server_answers(world: World) {
    let engines = Engines::new(&world);
    let source =
        "let n = 0;\nrequire('http').createServer((q, a) => a.end(String(n += 1))).listen(process.env.PORT);";
    let running = engines.start(engines.node_server(source).await).await;
    for expected in ["1", "2", "3"] {
        running.instance.freeze();
        let request = Request::get("/").header("host", "x").body(Body::empty()).unwrap();
        let answer = running.request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected);
    }
    running.instance.stop().await;
}

async fn stopping_what_is_frozen_leaves_nothing(world: World) {
    let engines = Engines::new(&world);
    let (running, token) = spinning(&engines).await;
    freeze(&running, &token).await;
    tokio::time::timeout(PATIENCE, running.instance.stop()).await.unwrap();
    assert_eq!(running.instance.exited().await, Exit::Stopped);
    assert_eq!(spent(&token), (0, 0));
    assert_eq!(groups_named(running.id.as_str()).len(), 0);
    // Neither does anything any more.
    running.instance.freeze();
    running.fault("1").await;
}

async fn dropping_what_is_frozen_leaves_nothing(world: World) {
    let engines = Engines::new(&world);
    let (running, token) = spinning(&engines).await;
    freeze(&running, &token).await;
    let id = running.id.clone();
    drop(running);
    until(PATIENCE, || spent(&token) == (0, 0) && groups_named(id.as_str()).is_empty()).await;
}

async fn freezing_and_calling_at_once(world: World) {
    let engines = Engines::new(&world);
    let running =
        engines.start(engines.python("def handler(event, context):\n    return event\n").await).await;
    let instance = running.instance.clone();
    let freezer = tokio::spawn(async move {
        loop {
            instance.freeze();
            tokio::task::yield_now().await;
        }
    });
    for number in 0..500 {
        assert_eq!(running.result(&number.to_string()).await, json!(number));
    }
    freezer.abort();
}
