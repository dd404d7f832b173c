//! How programs start, or do not, and end.

use std::future::Future;
use std::task::{Context, Waker};

use sandbox::{Error, Exit, StartError};

use crate::case;
use crate::world::{Case, PATIENCE, World, groups_named, lines_of, processes_with, until};

pub(crate) const CASES: &[Case] = &[
    case!(exits_with_its_status),
    case!(ends_with_a_signal),
    case!(its_end_is_the_jails_end),
    case!(kill_leaves_nothing),
    case!(drop_leaves_nothing),
    case!(a_start_given_up_leaves_nothing),
    case!(programs_that_cannot_start_say_why),
    case!(jobs_that_make_no_sense_are_refused),
    case!(nothing_leaks),
    case!(many_start_at_once),
];

async fn exits_with_its_status(world: World) {
    let outcome = world.sh("echo hello; echo there >&2; exit 7").await;
    assert_eq!((outcome.exit, outcome.output.as_str()), (Exit::Code(7), "hello\nthere\n"));
}

async fn ends_with_a_signal(world: World) {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
        assert_eq!(world.sh(&format!("kill -{signal} $$")).await.exit, Exit::Signal(signal));
    }
}

async fn its_end_is_the_jails_end(world: World) {
    let token = world.token();
    let mut job = world.script(&format!("setsid sleep {token} & (sleep {token} &) ; exit 3"));
    job.limits.pids = 10;
    let instance = job.instance.clone();
    let outcome = world.run(job).await;
    assert_eq!(outcome.exit, Exit::Code(3));
    assert_eq!(processes_with(&token), Vec::<u32>::new());
    assert_eq!(groups_named(instance.as_str()).len(), 0);
}

async fn kill_leaves_nothing(world: World) {
    let token = world.token();
    let job =
        world.script(&format!("sleep {token} & setsid sleep {token} & trap '' TERM; echo up; sleep {token}"));
    let instance = job.instance.clone();
    let mut jail = world.spawn(job).await.unwrap();
    let _output = lines_of(&mut jail, "up").await;
    until(PATIENCE, || processes_with(&token).len() >= 3).await;
    if world.has_groups() {
        assert!(!groups_named(instance.as_str()).is_empty(), "the cgroup has the instance's name");
    }
    jail.kill().await;
    assert_eq!(processes_with(&token), Vec::<u32>::new());
    assert_eq!(groups_named(instance.as_str()).len(), 0);
    assert_eq!(jail.exited().await, Exit::Stopped);
    // Again is harmless.
    jail.kill().await;
}

async fn drop_leaves_nothing(world: World) {
    let token = world.token();
    let job = world.script(&format!("sleep {token} & echo up; sleep {token}"));
    let instance = job.instance.clone();
    let mut jail = world.spawn(job).await.unwrap();
    let _output = lines_of(&mut jail, "up").await;
    drop(jail);
    until(PATIENCE, || processes_with(&token).is_empty() && groups_named(instance.as_str()).is_empty()).await;
}

async fn a_start_given_up_leaves_nothing(world: World) {
    let token = world.token();
    // Given up after none, one, two … of the steps that a start takes.
    for steps in 0..12 {
        let job = world.script(&format!("sleep {token}"));
        let instance = job.instance.clone();
        let mut start = Box::pin(world.spawn(job));
        for _ in 0..steps {
            if start.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(start);
        until(PATIENCE, || groups_named(instance.as_str()).is_empty()).await;
    }
    until(PATIENCE, || processes_with(&token).is_empty()).await;
}

async fn programs_that_cannot_start_say_why(world: World) {
    let elf_of_another_machine = "\u{7f}ELF\u{2}\u{1}\u{1}\0\0\0\0\0\0\0\0\0\u{2}\0\u{f3}\0\u{1}\0\0\0 and so on, long enough to be one more or less";
    let code = world.code(&[
        ("plain", 0o644, "#!/bin/sh\n"),
        ("nothing", 0o755, ""),
        ("prose", 0o755, "echo no first line\n"),
        ("lost", 0o755, "#!/usr/bin/no-such-shell -e\n"),
        ("windows", 0o755, "#!/bin/sh\r\necho\r\n"),
        ("foreign", 0o755, elf_of_another_machine),
    ]);
    std::fs::create_dir(code.join("folder")).unwrap();
    for (name, expect) in [
        ("absent", "/var/task/absent does not exist"),
        ("plain/more", "a part of the path is not a folder"),
        ("plain", "is not executable"),
        ("folder", "is a folder"),
        ("nothing", "is empty"),
        ("prose", "starts with #!"),
        ("lost", "interpreter /usr/bin/no-such-shell does not exist"),
        ("windows", "carriage return"),
        ("foreign", "another machine"),
    ] {
        let mut job = world.script("");
        job.code = code.clone();
        job.argv = vec![format!("/var/task/{name}")];
        match world.spawn(job).await {
            Err(StartError::Entrypoint(text)) => assert!(text.contains(expect), "{name}: {text}"),
            Err(other) => panic!("{name}: {other:?}"),
            Ok(_) => panic!("{name} started"),
        }
    }
}

async fn jobs_that_make_no_sense_are_refused(world: World) {
    let invalid = |job| async {
        let error = world.spawn(job).await.err().expect("it started");
        assert!(matches!(error, StartError::Sandbox(Error::Invalid(_))), "{error:?}");
    };
    let mut job = world.script("");
    job.argv = vec!["sh".to_owned()];
    invalid(job).await;
    let mut job = world.script("");
    job.argv.clear();
    invalid(job).await;
    let mut job = world.script("");
    job.env.push(("BIG".to_owned(), "x".repeat(1 << 20)));
    invalid(job).await;
    let mut job = world.script("");
    job.listen = (1..20).collect();
    invalid(job).await;
    let mut job = world.script("");
    job.code = world.data().join("no-such-folder");
    assert!(matches!(world.spawn(job).await.err(), Some(StartError::Sandbox(Error::Host { .. }))));
    let mut job = world.script("");
    job.env.push(("ZERO".to_owned(), "a\0b".to_owned()));
    assert!(matches!(world.spawn(job).await.err(), Some(StartError::Entrypoint(_))));
}

async fn nothing_leaks(world: World) {
    let launcher = world.launcher_pid();
    let open = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    world.sh("true").await;
    let before = (open(std::process::id()), open(launcher));
    for _ in 0..10 {
        world.sh("true").await;
        let mut job = world.script("");
        job.argv = vec!["/var/task/absent".to_owned()];
        assert!(world.spawn(job).await.is_err());
    }
    // The descriptors of the last one go a moment after its end was told.
    until(PATIENCE, || (open(std::process::id()), open(launcher)) <= before).await;
    let zombies =
        || crate::world::children(launcher).into_iter().filter(|pid| crate::world::is_zombie(*pid)).count();
    until(PATIENCE, || zombies() == 0).await;
    until(PATIENCE, || crate::world::children(launcher).is_empty()).await;
}

async fn many_start_at_once(world: World) {
    let runs = (0..32).map(|number| {
        let world = world.clone();
        async move { world.sh(&format!("echo {number}; exit {number}")).await }
    });
    for (number, outcome) in futures_util::future::join_all(runs).await.into_iter().enumerate() {
        assert_eq!((outcome.exit, outcome.output), (Exit::Code(number as i32), format!("{number}\n")));
    }
}
