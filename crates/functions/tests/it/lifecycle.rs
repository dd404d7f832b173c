//! Create, change, delete, and what a crash leaves.

use std::sync::atomic::Ordering;

use functions::Error;
use functions::model::*;

use crate::world::{World, until};
use crate::zips;

#[tokio::test]
async fn a_function_lives_and_goes() {
    let world = World::new().await;
    let created = world.create("hello", "echo").await;
    assert_eq!(created.configuration.state_reason.unwrap().code, "Creating");
    let active = world.functions.get(&world.caller, &world.named("hello")).unwrap();
    assert_eq!((active.configuration.state, active.configuration.state_reason), (State::Active, None));
    let outcome = world.invoke("hello", "{\"a\":1}").await.unwrap();
    assert_eq!(outcome.result.unwrap(), "{\"a\":1}");
    assert_eq!(outcome.executed_version, "$LATEST");
    assert_eq!(
        world.functions.package(&world.caller, &world.named("hello")).await.unwrap(),
        zips::package("x")
    );

    world.functions.delete(&world.caller, &world.named("hello")).await.unwrap();
    let error = world.invoke("hello", "{}").await.unwrap_err();
    let arn = format!("Function not found: arn:aws:lambda:us-east-1:{}:function:hello", world.caller.account);
    assert_eq!(error.to_string(), arn);
    world.live(0).await;
    world.nothing_kept().await;
    until("the metrics are gone", || (!world.metrics.encode().contains("hello")).then_some(())).await;
}

#[tokio::test]
async fn what_is_there_already_and_what_breaks_rules_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    world.create("hello", "echo").await;
    let again = world.functions.create(&world.caller, World::args("hello", "echo")).await.unwrap_err();
    assert_eq!(again.to_string(), "Function already exist: hello");
    let refused = async |change: fn(&mut CreateFunction)| {
        let mut args = World::args("other", "echo");
        args.code = zips::package("other").into();
        change(&mut args);
        world.functions.create(&world.caller, args).await.unwrap_err()
    };
    assert!(matches!(refused(|args| args.handler = "no-runtime".into()).await, Error::InvalidRuntime(_)));
    assert!(matches!(refused(|args| args.runtime = "go1.x".into()).await, Error::InvalidRuntime(_)));
    assert!(matches!(refused(|args| args.name = "a b".into()).await, Error::Invalid(_)));
    assert!(matches!(refused(|args| args.timeout_s = 901).await, Error::Invalid(_)));
    let reserved = |args: &mut CreateFunction| {
        args.environment.insert("AWS_REGION".into(), "x".into());
    };
    assert!(matches!(refused(reserved).await, Error::Invalid(_)));
    assert_eq!(world.folders().0.len(), 1, "only hello's package");
    assert_eq!(world.blobs.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_waits_for_another_ones_registry() {
    let world = World::new().await;
    for number in 0..4 {
        let mut args = World::args(&format!("image-{number}"), "");
        (args.runtime, args.code) = (String::new(), NewCode::Image("r.example/a".into()));
        let created = world.functions.create(&world.caller, args).await.unwrap();
        assert_eq!(created.configuration.state, State::Pending);
    }
    // Settles in time, though these never do.
    world.create("hello", "echo").await;
    let waiting = world.functions.get(&world.caller, &world.named("image-0")).unwrap();
    assert_eq!(waiting.configuration.state, State::Pending);
}

#[tokio::test]
async fn python_and_node_are_told_what_to_run() {
    let world = World::new().await;
    let without = |name: &str, runtime: &str, contract: &str| {
        let mut args = World::args(name, "");
        args.runtime = runtime.into();
        args.tags.insert("virga:contract".into(), contract.into());
        args
    };
    let said = "Runtime and Handler are mandatory parameters for functions created with deployment packages.";
    for runtime in ["python3.11", "nodejs20.x"] {
        for contract in ["lambda", "http"] {
            let args = without("refused", runtime, contract);
            let error = world.functions.create(&world.caller, args).await.unwrap_err();
            assert!(matches!(&error, Error::Invalid(text) if text == said), "{runtime} {contract}: {error}");
        }
    }
    assert_eq!(world.blobs.list().await.unwrap().len(), 0);
    for (runtime, contract) in [
        ("provided.al2023", "lambda"),
        ("provided.al2023", "http"),
        ("provided.al2023", "wasi"),
        ("wasm", "wasi"),
    ] {
        world
            .create_with(without(&format!("{runtime}-{contract}").replace('.', "-"), runtime, contract), &[])
            .await;
    }
    world.create("named", "echo").await;
    let updates = [
        ("named", UpdateConfiguration { handler: Some(String::new()), ..Default::default() }),
        (
            "provided-al2023-lambda",
            UpdateConfiguration { runtime: Some("python3.11".into()), ..Default::default() },
        ),
    ];
    for (name, update) in updates {
        let function = world.named(name);
        let error = world.functions.update_configuration(&world.caller, &function, update).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid(text) if text == said), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_stranger_is_refused_whatever_there_is() {
    let world = World::new().await;
    world.create("hello", "echo").await;
    let arn = base::FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:x").unwrap();
    let function = iam::Caller {
        principal: iam::Principal::Session(iam::RoleSession::of_function(arn, "virga-function").into()),
        ..world.caller.clone()
    };
    for name in ["hello", "absent"] {
        let error = world.functions.get(&function, &world.named(name)).unwrap_err().to_string();
        assert!(
            error.contains("is not authorized to perform: lambda:GetFunctionConfiguration on resource: arn:"),
            "{error}"
        );
        let call = world.call(name, "{}");
        assert!(matches!(world.functions.invoke(&function, call).await, Err(Error::Denied(_))));
    }
    assert!(matches!(world.functions.delete(&function, &world.named("hello")).await, Err(Error::Denied(_))));
}

#[tokio::test]
async fn what_a_crash_interrupts_is_finished_by_the_next_start() {
    let world = World::new().await;
    world.create("old", "echo").await;
    let mut args = World::args("slow", "slow-prepare");
    args.runtime = "wasm".into();
    world.functions.create(&world.caller, args).await.unwrap();
    until("preparing", || (world.stage.prepared.load(Ordering::SeqCst) >= 3).then_some(())).await;
    let error = world.invoke("slow", "{}").await.unwrap_err();
    assert!(matches!(&error, Error::NotReady(text) if text.ends_with("state: Pending")), "{error}");
    // What a crash in the middle of an upload and of a deletion leaves.
    std::fs::create_dir_all(world.code_dir().join(".staging/half")).unwrap();
    std::fs::create_dir(world.code_dir().join("0".repeat(64))).unwrap();
    let nobodys = world.blobs.put(zips::package("nobody's")).await.unwrap();

    let world = world.crash().await;
    assert_eq!(*world.stage.forgotten.lock().unwrap(), [nobodys.clone(), nobodys], "by both back ends");
    assert_eq!(world.folders().1, Vec::<String>::new());
    assert_eq!((world.folders().0.len(), world.blobs.list().await.unwrap().len()), (1, 1));
    assert_eq!(
        world.functions.get(&world.caller, &world.named("slow")).unwrap().configuration.state,
        State::Pending
    );
    world.stage.prepare_gate.add_permits(1);
    assert_eq!(world.settled(&world.named("slow")).await.configuration.state, State::Active);
    assert_eq!(world.invoke("old", "1").await.unwrap().result.unwrap(), "1");
}

#[tokio::test]
async fn a_server_that_starts_tells_back_ends_which_revisions_there_are() {
    let world = World::new().await;
    world.create("hello", "echo").await;
    let function = world.named("hello");
    let published = world.functions.publish(&world.caller, &function, Default::default()).await.unwrap();
    let latest = world.functions.get(&world.caller, &function).unwrap();
    assert!(world.stage.kept.lock().unwrap().is_empty(), "there was nothing as it started");
    let world = world.crash().await;
    let both = [published, latest].map(|view| view.configuration.revision_id);
    assert_eq!(*world.stage.kept.lock().unwrap(), both.into());
}

#[tokio::test]
async fn missing_folders_are_unpacked_again() {
    let world = World::new().await;
    world.create("hello", "echo").await;
    let (folders, _) = world.folders();
    std::fs::remove_dir_all(world.code_dir().join(&folders[0])).unwrap();
    let world = world.crash().await;
    assert_eq!(world.folders().0, folders);
    let text = std::fs::read_to_string(world.code_dir().join(&folders[0]).join("index.py")).unwrap();
    assert_eq!(text, "x");
}

#[tokio::test]
async fn what_is_not_known_yet_is_no_failure() {
    let world = World::new().await;
    let mut args = World::args("early", "not-yet");
    let refused = world.functions.create(&world.caller, args.clone()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Unavailable(text) if text == "python3.99 may be on this host"),
        "{refused}"
    );
    assert!(world.functions.get(&world.caller, &world.named("early")).is_err());
    args.runtime = "wasm".into();
    world.functions.create(&world.caller, args).await.unwrap();
    until("asked again", || (world.stage.prepared.load(Ordering::SeqCst) >= 3).then_some(())).await;
    let waiting = world.functions.get(&world.caller, &world.named("early")).unwrap().configuration;
    assert_eq!(
        (waiting.state, waiting.state_reason.map(|reason| reason.code)),
        (State::Pending, Some("Creating".into()))
    );
    world.stage.prepare_gate.add_permits(1);
    assert_eq!(world.settled(&world.named("early")).await.configuration.state, State::Active);
}

#[tokio::test]
async fn a_failed_prepare_is_a_state_with_its_reason() {
    let world = World::new().await;
    let mut args = World::args("broken", "no-runtime");
    args.runtime = "wasm".into();
    world.functions.create(&world.caller, args).await.unwrap();
    let failed = world.settled(&world.named("broken")).await.configuration;
    assert_eq!(failed.state, State::Failed);
    assert_eq!(failed.state_reason.unwrap().text, "python3.99 is not on this host");
    assert!(matches!(world.invoke("broken", "{}").await, Err(Error::NotReady(_))));
    // It can be mended.
    let update = UpdateConfiguration { handler: Some("command".into()), ..Default::default() };
    let changed =
        world.functions.update_configuration(&world.caller, &world.named("broken"), update).await.unwrap();
    assert_eq!(changed.configuration.state, State::Pending);
    assert_eq!(world.settled(&world.named("broken")).await.configuration.state, State::Active);
    assert_eq!(world.invoke("broken", "7").await.unwrap().result.unwrap(), "7");
}

#[tokio::test]
async fn calls_get_the_old_version_until_the_new_one_is_prepared() {
    let world = World::new().await;
    let mut args = World::args("app", "command");
    args.runtime = "wasm".into();
    world.create_with(args, &[]).await;
    let function = world.named("app");
    let update = |handler: &str| UpdateConfiguration { handler: Some(handler.into()), ..Default::default() };
    let changed =
        world.functions.update_configuration(&world.caller, &function, update("slow-prepare")).await.unwrap();
    assert_eq!(changed.configuration.update_status, UpdateStatus::InProgress);
    assert_eq!(changed.configuration.state, State::Active);
    assert_eq!(world.invoke("app", "1").await.unwrap().result.unwrap(), "1");
    let error =
        world.functions.update_configuration(&world.caller, &function, update("x")).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("The operation cannot be performed at this time. An update is in progress")
    );

    // After a crash in the middle too.
    let world = world.crash().await;
    assert_eq!(world.invoke("app", "2").await.unwrap().result.unwrap(), "2");
    assert_eq!(world.stage.started.borrow()[0].artifact.handler, "command");
    world.stage.prepare_gate.add_permits(1);
    assert_eq!(world.settled(&function).await.configuration.update_status, UpdateStatus::Successful);
    world.invoke("app", "3").await.unwrap();
    assert_eq!(world.stage.started.borrow()[1].artifact.handler, "slow-prepare");
    world.live(1).await;

    // One that fails leaves what works in place.
    world.functions.update_configuration(&world.caller, &function, update("no-runtime")).await.unwrap();
    let failed = world.settled(&function).await.configuration;
    assert_eq!((failed.state, failed.update_status), (State::Active, UpdateStatus::Failed));
    let world = world.crash().await;
    world.stage.prepare_gate.add_permits(1);
    world.invoke("app", "4").await.unwrap();
    assert_eq!(world.stage.started.borrow()[0].artifact.handler, "slow-prepare");
}

#[tokio::test]
async fn new_code_replaces_the_old_and_its_instances() {
    let world = World::new().await;
    let created = world.create("hello", "gate").await.configuration;
    let running = world.spawn("hello", "1");
    world.begun(1).await;
    let update = |revision: &str, dry_run| UpdateCode {
        code: zips::package("new").into(),
        dry_run,
        publish: false,
        revision_id: Some(revision.to_owned()),
    };
    let function = world.named("hello");
    let revision = created.revision_id;
    let stale =
        world.functions.update_code(&world.caller, &function, update("stale", false)).await.unwrap_err();
    assert!(matches!(stale, Error::PreconditionFailed(_)));
    let dry = world.functions.update_code(&world.caller, &function, update(&revision, true)).await.unwrap();
    assert_ne!(dry.configuration.code, created.code);
    assert_eq!(world.folders().0.len(), 1);
    let updated =
        world.functions.update_code(&world.caller, &function, update(&revision, false)).await.unwrap();
    assert_eq!(updated.configuration.code, dry.configuration.code);
    assert_ne!(updated.configuration.revision_id, revision);
    world.settled(&function).await;
    let next = world.spawn("hello", "2");
    world.begun(2).await;
    assert_eq!(world.folders().0.len(), 2, "the old code stays while a call runs on it");
    world.stage.gate.add_permits(2);
    running.await.unwrap().unwrap();
    next.await.unwrap().unwrap();
    until("the old code is gone", || (world.folders().0.len() == 1).then_some(())).await;
    world.live(1).await;
}

#[tokio::test]
async fn settings_ride_on_tags_and_are_part_of_the_configuration() {
    let world = World::new().await;
    let created = world.create("app", "echo").await.configuration;
    let function = world.named("app");
    let tags =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    world.functions.tag(&world.caller, &function, tags(&[("team", "a")])).await.unwrap();
    let same = world.functions.get(&world.caller, &function).unwrap().configuration;
    assert_eq!(same.revision_id, created.revision_id);
    world.functions.tag(&world.caller, &function, tags(&[("virga:memory", "64")])).await.unwrap();
    let changed = world.settled(&function).await.configuration;
    assert_ne!(changed.revision_id, created.revision_id);
    assert_eq!(changed.memory_bytes(), 64 << 20);
    let error =
        world.functions.tag(&world.caller, &function, tags(&[("virga:memry", "64")])).await.unwrap_err();
    assert!(error.to_string().contains("'virga:memry' is unknown"));
    let world = world.crash().await;
    world.functions.untag(&world.caller, &function, &["virga:memory".into(), "team".into()]).await.unwrap();
    assert_eq!(world.settled(&function).await.configuration.memory_bytes(), 128 << 20);
    assert!(world.functions.tags(&world.caller, &function).unwrap().is_empty());
}

#[tokio::test]
async fn an_outcome_that_cannot_be_written_down_is_tried_again() {
    let world = World::new().await;
    let run = async |sql: &'static str| {
        let done: Result<u64, store::Error> = world.store.write(move |tx| tx.execute(sql, &[])).await;
        done.unwrap();
    };
    run("CREATE TRIGGER broken BEFORE UPDATE ON function_versions BEGIN SELECT RAISE(ABORT, 'no'); END")
        .await;
    let mut args = World::args("app", "slow-prepare");
    args.runtime = "wasm".into();
    world.functions.create(&world.caller, args).await.unwrap();
    world.stage.prepare_gate.add_permits(2);
    until("prepared in vain", || (world.stage.prepared.load(Ordering::SeqCst) >= 2).then_some(())).await;
    run("DROP TRIGGER broken").await;
    world.stage.prepare_gate.add_permits(10);
    assert_eq!(world.settled(&world.named("app")).await.configuration.state, State::Active);
}
