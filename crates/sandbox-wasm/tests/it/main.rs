//! The WebAssembly back end with real guests: built ones from C (guests/, see examples/hello-wasm/build.sh)
//! and small ones written as text where a test needs just one thing.
//!
//! Own harness: workers are started by a launcher, which wants a process with one thread, and are this program. Every
//! case runs twice: in this process, and in workers. It prints what libtest prints and takes the same filter.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod bombs;
mod calls;
mod events;
mod hostile;
mod https;
mod prepare;
mod rogue;
mod support;
mod wasi;
mod workers;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::FutureExt;
use sandbox::process::jail::{Launcher, MissingLimits};
use support::{Case, PLACE, Place};

/// What has this program be a worker.
pub(crate) const WORKER: &str = "--worker";
/// How long a case may take.
const PATIENCE: Duration = Duration::from_secs(120);

const MODULES: [(&str, &[Case]); 7] = [
    ("bombs", bombs::CASES),
    ("calls", calls::CASES),
    ("events", events::CASES),
    ("hostile", hostile::CASES),
    ("https", https::CASES),
    ("prepare", prepare::CASES),
    ("wasi", wasi::CASES),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == WORKER) {
        match arguments.get(1) {
            Some(rogue) if rogue == rogue::ROGUE => rogue::run(),
            _ => sandbox_wasm::run_worker().unwrap(),
        }
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    if arguments.iter().any(|argument| argument == "--list") {
        cases().for_each(|(name, ..)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let data = tempfile::tempdir().unwrap();
    let launcher = Launcher::start(data.path(), MissingLimits::Degrade).unwrap();
    let (mut passed, mut failed) = (0, 0);
    for (name, case, apart) in cases().filter(|(name, ..)| name.contains(&filter)) {
        let place = if apart { Place::Apart(launcher.clone()) } else { Place::Here };
        let ok = run(case, place);
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        *(if ok { &mut passed } else { &mut failed }) += 1;
    }
    launcher.shutdown();
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
    ExitCode::from(u8::from(failed > 0))
}

/// All cases, and whether each runs apart.
fn cases() -> impl Iterator<Item = (String, &'static Case, bool)> {
    let all = || MODULES.iter().flat_map(|(module, cases)| cases.iter().map(move |case| (*module, case)));
    let here = all().map(|(module, case)| (format!("{module}::{}", case.name), case, false));
    let apart = all().map(|(module, case)| (format!("apart::{module}::{}", case.name), case, true));
    let only = workers::CASES.iter().map(|case| (format!("workers::{}", case.name), case, true));
    here.chain(apart).chain(only)
}

fn run(case: &Case, place: Place) -> bool {
    let mut builder = match case.threads {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let case = AssertUnwindSafe(PLACE.scope(place, (case.run)())).catch_unwind();
    matches!(runtime.block_on(async { tokio::time::timeout(PATIENCE, case).await }), Ok(Ok(())))
}
