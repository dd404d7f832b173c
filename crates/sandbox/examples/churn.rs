//! Measures sandboxes made and destroyed a second: one by one and several at once.
//!
//! Each runs `/bin/true` under everything that isolates a function (namespaces, control groups, limits, mounts,
//! seccomp) and counts when nothing of it is left. Prints one JSON object. Arguments: how many each time (default
//! 400), how many at once (default 8).

use std::path::Path;
use std::time::{Duration, Instant};

use base::InstanceId;
use sandbox::process::jail::{Beginning, Job, Launcher, MissingLimits, ProgramClass};
use sandbox::{BoxError, Limits};

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let count = arguments.next().transpose()?.unwrap_or(400).max(1);
    let at_once = arguments.next().transpose()?.unwrap_or(8).clamp(1, count);
    let folder = tempfile::tempdir()?;
    let launcher = Launcher::start(folder.path(), MissingLimits::Degrade)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(measure(&launcher, folder.path(), count, at_once));
    launcher.shutdown();
    println!("{}", result?);
    Ok(())
}

async fn measure(
    launcher: &Launcher,
    folder: &Path,
    count: usize,
    at_once: usize,
) -> Result<serde_json::Value, BoxError> {
    // What is done once only is not counted.
    once(launcher, folder).await?;
    let begun = Instant::now();
    let mut started = Vec::with_capacity(count);
    for _ in 0..count {
        started.push(once(launcher, folder).await?);
    }
    let alone = begun.elapsed();
    let begun = Instant::now();
    let workers = (0..at_once).map(|_| async {
        for _ in 0..count / at_once {
            once(launcher, folder).await?;
        }
        Ok::<_, BoxError>(())
    });
    futures_util::future::try_join_all(workers).await?;
    let together = begun.elapsed();
    started.sort_unstable();
    Ok(serde_json::json!({
        "sandboxes": count,
        "one_by_one_per_s": rate(count, alone),
        "at_once": at_once,
        "at_once_per_s": rate(count / at_once * at_once, together),
        "start_p50_us": started[count / 2].as_micros() as u64,
        "start_p99_us": started[count * 99 / 100].as_micros() as u64,
    }))
}

fn rate(count: usize, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64()) as u64
}

/// Makes one and waits until it is gone; how long it took to run its program.
async fn once(launcher: &Launcher, folder: &Path) -> Result<Duration, BoxError> {
    let job = Job {
        instance: InstanceId::random(),
        argv: vec!["/bin/true".to_owned()],
        class: ProgramClass::Native,
        env: Vec::new(),
        code: folder.to_owned(),
        root: None,
        mounts: Vec::new(),
        layered: Vec::new(),
        shared: Vec::new(),
        limits: Limits {
            memory_bytes: 128 << 20,
            cpu_hundredths: None,
            tmp_bytes: 16 << 20,
            pids: 64,
            answer_bytes: 0,
        },
        way_out: true,
        listen: vec![9001],
        beginning: Beginning::Executed,
    };
    let begun = Instant::now();
    let jail = launcher.spawn(job).await?;
    let started = begun.elapsed();
    jail.exited().await;
    Ok(started)
}
