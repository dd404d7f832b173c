//! What users see of a start and of its parts, and the settings that starts are made with.

use std::time::Duration;

use functions::model::UrlAuth;
use functions::{Alarm, Invoke};
use sandbox::Origin;

use crate::world::{World, tail};

const LABELS: &str = r#"faas_name="hello",faas_version="$LATEST""#;

fn phase(world: &World, phase: &str, origin: &str) -> Option<f64> {
    let labels = format!(r#"{LABELS},phase="{phase}",origin="{origin}""#);
    let account = &world.caller.account;
    world.metric(&format!(
        r#"faas_coldstart_phase_duration_seconds_sum{{cloud_account_id="{account}",{labels}}}"#
    ))
}

#[tokio::test]
async fn a_start_is_broken_down_where_the_back_end_tells() {
    let world = World::new().await;
    world.create("hello", "phased").await;
    let traced = |event: &str| Invoke { trace: true, ..world.call("hello", event) };
    let first = world.functions.invoke(&world.caller, traced("1")).await.unwrap();
    let report = tail(&first).lines().last().unwrap().to_owned();
    let (lambdas, ours) = report.split_once(" ms\tStart: ").unwrap();
    assert!(lambdas.contains("\tInit Duration: "), "Lambda's field comes first: {report}");
    assert_eq!(ours, "template\tSandbox: 2.00 ms\tRuntime: 20.00 ms\tCode: 300.00 ms\t");
    let timings = first.timings.unwrap();
    let startup = timings.startup.unwrap();
    assert_eq!((startup.phases.origin, startup.phases.init), (Origin::Template, Duration::from_millis(300)));
    assert!(timings.wait >= startup.total, "it was started for this call");
    let second = world.functions.invoke(&world.caller, traced("2")).await.unwrap();
    assert!(!tail(&second).contains("Start: ") && second.timings.unwrap().startup.is_none());
    assert_eq!(world.invoke("hello", "3").await.unwrap().timings, None, "nobody asked");

    assert_eq!(phase(&world, "sandbox", "template"), Some(0.002));
    assert_eq!(phase(&world, "runtime", "template"), Some(0.02));
    assert_eq!(phase(&world, "init", "template"), Some(0.3));
    assert!(phase(&world, "first_call", "template").is_some());
    assert_eq!(phase(&world, "init", "cold"), None);
    let count = r#"phase="first_call",origin="template"} 1"#;
    assert!(world.metrics.encode().contains(count), "one first call");
}

#[tokio::test]
async fn a_start_of_which_nothing_is_known_shows_its_length_alone() {
    let world = World::new().await;
    world.create("hello", "echo").await;
    let outcome = world.invoke("hello", "1").await.unwrap();
    assert!(tail(&outcome).contains("Init Duration: ") && !tail(&outcome).contains("Start: "));
    assert_eq!(phase(&world, "init", "cold"), None);
    assert!(phase(&world, "first_call", "cold").is_some());
}

#[tokio::test]
async fn a_call_without_an_instance_counts_as_failed() {
    let world = World::new().await;
    world.create("hello", "init-error").await;
    world.invoke("hello", "1").await.unwrap().result.unwrap_err();
    let web = [("virga:contract", "http")];
    world.create_with(World::args("web", "init-exit"), &web).await;
    let function = world.named("web");
    world
        .functions
        .create_url(&world.caller, &function, UrlAuth::None, None, Default::default())
        .await
        .unwrap();
    let route = world.functions.route_by_name("web").unwrap();
    let request = Box::new(http::Request::new(sandbox::Body::empty()));
    let id = base::RequestId::random();
    let answer = world.functions.serve_http(&route, id, &Alarm::default(), request).await;
    assert!(answer.is_err());
    for name in ["hello", "web"] {
        for metric in ["faas_invocations_total", "faas_errors_total", "faas_init_errors_total"] {
            let account = &world.caller.account;
            let line = format!(r#"{metric}{{cloud_account_id="{account}",faas_name="{name}""#);
            assert_eq!(world.metric(&line), Some(1.0), "{line}");
        }
    }
}

#[tokio::test]
async fn an_instance_is_told_how_much_it_may_be_given() {
    let world = World::new().await;
    let tags = [
        ("virga:hard-concurrency", "3"),
        ("virga:template", "off"),
        ("virga:memory", "17"),
        ("virga:cpu", "7"),
    ];
    world.create_with(World::args("hello", "gate"), &tags).await;
    let calls = ["1", "2", "3"].map(|event| world.spawn("hello", event));
    world.begun(3).await;
    world.stage.gate.add_permits(3);
    for call in calls {
        call.await.unwrap().unwrap().result.unwrap();
    }
    assert_eq!(world.started(), 1, "one instance took them all");
    let spec = world.stage.started.borrow()[0].clone();
    let env = |key: &str| spec.env.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), Some("17"));
    assert_eq!((spec.concurrency, spec.template), (3, false));
    assert_eq!((spec.limits.memory_bytes, spec.limits.cpu_hundredths), (17 << 20, Some(7)));

    world.create("plain", "echo").await;
    world.invoke("plain", "1").await.unwrap();
    let spec = world.stage.started.borrow()[1].clone();
    assert!(spec.template && spec.concurrency == 1);
    // Processor time does not follow from memory.
    assert_eq!(spec.limits.cpu_hundredths, None);
}
