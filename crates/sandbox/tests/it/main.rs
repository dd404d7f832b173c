//! The sandbox crate's integration tests: real jails on the real host.
//!
//! Own harness: [`sandbox::process::jail::Launcher::start`] wants a process with one thread, which libtest does
//! not give. It prints what libtest prints and takes the same filter. With root, the cases that do not need
//! root run a second time as an ordinary user in a process of their own, where limits come from other means.
//!
//! A module of cases is a `pub(crate) const CASES: &[Case]`, listed in [`modules`].

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bombs;
mod engine;
mod host;
mod internet;
mod jail;
mod probes;
mod world;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::process::{Command, ExitCode};
use std::time::Duration;

use futures_util::FutureExt;
use world::{Case, World};

/// An ordinary user of every Linux host.
const NOBODY: u32 = 65534;
/// How long a case may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn modules() -> Vec<(&'static str, &'static [Case])> {
    let jail = jail::CASES.iter().map(|cases| ("jail", *cases));
    let engine = engine::CASES.iter().map(|cases| ("engine", *cases));
    jail.chain(engine)
        .chain([("bombs", bombs::CASES), ("probes", probes::CASES), ("host", host::CASES)])
        .collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((role, rest)) if role == "--role" => return host::play(rest),
        Some((list, _)) if list == "--list" => {
            names("").into_iter().for_each(|name| println!("{name}: test"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let _internet = internet::Internet::begin();
    let rootless_only = arguments.iter().any(|argument| argument == "--rootless");
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let (mut passed, mut failed) = run(&filter);
    if rootless_only {
        println!("rootless result: {passed} passed; {failed} failed");
        return ExitCode::from(u8::from(failed > 0));
    }
    if world::is_root() {
        let (more, worse) = run_as_nobody(&filter);
        (passed, failed) = (passed + more, failed + worse);
    } else {
        println!("not root: the cases that need root were left out");
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
    ExitCode::from(u8::from(failed > 0))
}

fn names(filter: &str) -> Vec<String> {
    let all = modules()
        .into_iter()
        .flat_map(|(module, cases)| cases.iter().map(move |case| format!("{module}::{}", case.name)));
    all.filter(|name| name.contains(filter)).collect()
}

/// Runs what the filter names as the present user; how many passed and failed.
fn run(filter: &str) -> (usize, usize) {
    if names(filter).is_empty() {
        return (0, 0);
    }
    let world = World::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let prefix = if world.root { "" } else { "rootless::" };
    let (mut passed, mut failed) = (0, 0);
    for (module, cases) in modules() {
        for case in cases.iter().filter(|case| world.root || !case.needs_root) {
            let name = format!("{module}::{}", case.name);
            if !name.contains(filter) {
                continue;
            }
            let case = AssertUnwindSafe((case.run)(world.clone())).catch_unwind();
            let ok =
                matches!(runtime.block_on(async { tokio::time::timeout(PATIENCE, case).await }), Ok(Ok(())));
            println!("test {prefix}{name} ... {}", if ok { "ok" } else { "FAILED" });
            *(if ok { &mut passed } else { &mut failed }) += 1;
        }
    }
    drop(runtime);
    world.end();
    (passed, failed)
}

/// Runs the suite again without root.
fn run_as_nobody(filter: &str) -> (usize, usize) {
    // The build folder may be out of an ordinary user's reach.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("it");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    let output = Command::new(&program)
        .args(["--rootless", filter].iter().filter(|argument| !argument.is_empty()))
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let numbers = text.lines().find_map(|line| line.strip_prefix("rootless result: ")).map(|line| {
        let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    });
    // A process that died before its last line is a failure of its own.
    numbers.unwrap_or((0, 1))
}
