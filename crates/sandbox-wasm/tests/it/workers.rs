//! What only workers have: who shares one, their walls, their ends.

use std::time::Duration;

use base::FunctionArn;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use sandbox::{Exit, Fault};

use crate::case;
use crate::support::{Bench, COMMAND, Case, HELLO, PATIENCE, PROBE, Process, Started, piece, workers};

pub(crate) const CASES: &[Case] = &[
    case!(a_tenant_has_a_worker_and_no_other_has_it),
    case!(a_worker_holds_nothing_and_sees_only_its_tenants_packages),
    case!(a_worker_that_dies_takes_its_calls_along_and_the_next_start_makes_another),
    case!(what_was_not_begun_when_the_worker_died_is_not_delivered),
    case!(what_a_worker_never_read_is_not_delivered),
    case!(a_worker_that_talks_nonsense_is_ended),
    case!(a_worker_out_of_memory_is_told),
    case!(a_worker_without_instances_ends_after_a_while),
    case!(what_a_tenant_no_longer_has_is_gone_from_its_worker),
    case!(one_tenant_runs_in_the_server_until_there_is_a_second),
    case!(large_requests_go_both_ways_at_once),
    case!(a_flood_of_output_is_held_back),
];

async fn of(bench: &Bench, account: &str) -> Started {
    let arn = FunctionArn::parse(&format!("arn:aws:lambda:us-east-1:{account}:function:f:$LATEST")).unwrap();
    bench.start_with(|spec| spec.function = arn).await.unwrap()
}

/// The only worker.
fn worker() -> Process {
    match workers()[..] {
        [worker] => worker,
        ref others => panic!("{others:?}"),
    }
}

/// Waits until this is so, looking often: what is waited for is the kernel's or another process's.
async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

/// Waits until those of earlier cases are gone.
async fn alone() {
    until(|| workers().is_empty()).await;
}

async fn a_tenant_has_a_worker_and_no_other_has_it() {
    alone().await;
    let bench = Bench::with(HELLO).unwrap();
    let _one = of(&bench, "111111111111").await;
    let first = worker();
    let _same = of(&bench, "111111111111").await;
    assert_eq!(worker(), first);
    let _other = of(&bench, "222222222222").await;
    assert_eq!(workers().len(), 2);
}

async fn a_worker_holds_nothing_and_sees_only_its_tenants_packages() {
    alone().await;
    let bench = Bench::with(HELLO).unwrap();
    let one = bench.start().await.unwrap();
    assert_eq!(one.text("GET", "/", "").await.unwrap().0, 200);
    let worker = worker();
    for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
        assert_eq!(worker.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(worker.status("NoNewPrivs"), "1");
    // The jail's filter, and its own on top.
    assert_eq!(
        (worker.status("Seccomp"), worker.status("Seccomp_filters")),
        ("2".to_owned(), "2".to_owned())
    );
    let link = |what: &str| std::fs::read_link(format!("/proc/{}/{what}", worker.0)).unwrap();
    let own = |what: &str| std::fs::read_link(format!("/proc/self/{what}")).unwrap();
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts"] {
        let name = format!("ns/{namespace}");
        assert_ne!(link(&name), own(&name));
    }
    let root = format!("/proc/{}/root", worker.0);
    let package = std::fs::read_dir(format!("{root}/var/task")).unwrap().count();
    assert_eq!(package, 1, "the package of its one function");
    assert!(!std::path::Path::new(&format!("{root}{}", bench.cache().display())).exists());
    // No socket that leads anywhere but to the server: what it has of sockets has no address.
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", worker.0)).unwrap();
    let listening = sockets.lines().skip(1).filter(|line| !line.contains(" 0A ")).count();
    assert_eq!(listening, 0, "{sockets}");
}

async fn a_worker_that_dies_takes_its_calls_along_and_the_next_start_makes_another() {
    alone().await;
    let bench = Bench::with(PROBE).unwrap();
    let instance = bench.start().await.unwrap();
    let mut streaming = instance.get("/drip").await.unwrap().into_body();
    assert_eq!(piece(&mut streaming).await.unwrap(), "chunk 0\n");
    let first = worker();
    let before = first.processor_time();
    let (outcome, ()) = tokio::join!(instance.get("/spin"), async {
        until(|| first.processor_time() > before + Duration::from_millis(50)).await;
        first.kill();
    });
    assert_eq!(outcome.err(), Some(Fault::Exited(Exit::Signal(9))));
    let mut last = streaming.frame().await;
    while let Some(Ok(_)) = last {
        last = streaming.frame().await;
    }
    assert!(last.unwrap().unwrap_err().to_string().contains("has ended"));
    assert_eq!(instance.0.exited().await, Exit::Signal(9));
    let next = bench.start().await.unwrap();
    assert_eq!(next.text("GET", "/count", "").await.unwrap().1, "1");
    assert_ne!(worker(), first);
}

async fn what_was_not_begun_when_the_worker_died_is_not_delivered() {
    alone().await;
    let bench = Bench::with(PROBE).unwrap();
    let instance = bench.start().await.unwrap();
    assert_eq!(instance.text("GET", "/count", "").await.unwrap().1, "1");
    worker().kill();
    assert_eq!(instance.0.exited().await, Exit::Signal(9));
    assert_eq!(instance.get("/count").await.err(), Some(Fault::NotDelivered(Exit::Signal(9))));
}

async fn what_a_worker_never_read_is_not_delivered() {
    alone().await;
    let bench = Bench::with(PROBE).unwrap();
    let instance = bench.start().await.unwrap();
    assert_eq!(instance.text("GET", "/count", "").await.unwrap().1, "1");
    // Stopped, it takes in nothing of what it is sent; what it is sent all the same goes to waste when it dies.
    worker().stop();
    let mut call = Box::pin(instance.get("/count"));
    assert!((&mut call).now_or_never().is_none());
    worker().kill();
    assert_eq!(call.await.err(), Some(Fault::NotDelivered(Exit::Signal(9))));
}

async fn a_worker_that_talks_nonsense_is_ended() {
    alone().await;
    let rogue = |settings: &mut sandbox_wasm::WorkerSettings| {
        settings.arguments.push(crate::rogue::ROGUE.to_owned());
    };
    let bench = Bench::with_workers(rogue).unwrap();
    bench.put("guest.wasm", HELLO).unwrap();
    let instance = bench.start().await.unwrap();
    let exit = tokio::time::timeout(PATIENCE, instance.0.exited()).await.unwrap();
    assert_eq!(exit, Exit::Stopped);
    until(|| workers().is_empty()).await;
}

async fn a_worker_out_of_memory_is_told() {
    alone().await;
    let mut bench = Bench::with_workers(|settings| settings.memory_bytes = 96 << 20).unwrap();
    let eats = "(drop (memory.grow (i32.const 4096)))
        (memory.fill (i32.const 65536) (i32.const 7) (i32.const 200000000))";
    bench.put("guest.wasm", &crate::support::command(eats)).unwrap();
    bench.limits.memory_bytes = 1 << 30;
    let instance = bench.start().await.unwrap();
    assert_eq!(instance.event("{}").await, Err(Fault::Exited(Exit::OutOfMemory)));
}

async fn a_worker_without_instances_ends_after_a_while() {
    alone().await;
    let bench = Bench::with_workers(|settings| settings.idle = Duration::from_millis(300)).unwrap();
    bench.put("guest.wasm", COMMAND).unwrap();
    let first = bench.start().await.unwrap();
    let process = worker();
    first.0.stop().await;
    drop(first);
    // Taken up again in time, it stays.
    let second = bench.start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(worker(), process);
    assert!(second.event("{}").await.is_ok());
    drop(second);
    alone().await;
    let folders = bench.dir.path().join("workers");
    until(|| std::fs::read_dir(&folders).unwrap().count() == 0).await;
    assert!(bench.start().await.unwrap().event("{}").await.is_ok());
}

async fn what_a_tenant_no_longer_has_is_gone_from_its_worker() {
    alone().await;
    let bench = Bench::with(HELLO).unwrap();
    let one = bench.start().await.unwrap();
    let folder = || {
        let worker = std::fs::read_dir(bench.dir.path().join("workers")).unwrap().next().unwrap().unwrap();
        std::fs::read_dir(worker.path()).unwrap().count()
    };
    assert_eq!(folder(), 1);
    drop(one);
    sandbox::Backend::forget(&bench.backend, &"a".repeat(64));
    until(|| folder() == 0).await;
    assert_eq!(bench.start().await.unwrap().text("GET", "/", "").await.unwrap().0, 200, "loaded anew");
}

async fn one_tenant_runs_in_the_server_until_there_is_a_second() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    alone().await;
    let tenants = Arc::new(AtomicUsize::new(1));
    let counted = tenants.clone();
    let bench = Bench::with_workers(|settings| {
        settings.separation = sandbox_wasm::Separation::Auto;
        settings.tenants = Arc::new(move || counted.load(Ordering::Relaxed));
    });
    let bench = bench.unwrap();
    bench.put("guest.wasm", HELLO).unwrap();
    let _here = bench.start().await.unwrap();
    assert_eq!(workers().len(), 0);
    tenants.store(2, Ordering::Relaxed);
    let apart = bench.start().await.unwrap();
    assert_eq!(workers().len(), 1);
    assert_eq!(apart.text("GET", "/", "").await.unwrap().0, 200);
}

async fn large_requests_go_both_ways_at_once() {
    let bench = Bench::with(HELLO).unwrap();
    let instance = bench.start().await.unwrap();
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    let (status, text) = instance.text("POST", "/", large.clone()).await.unwrap();
    assert_eq!(status, 200);
    assert!(text.as_bytes() == large, "{} bytes", text.len());
    assert_eq!(instance.text("POST", "/", "abc").await.unwrap().1, "abc", "and the next call is clean");
}

async fn a_flood_of_output_is_held_back() {
    // Prints without end; nobody reads while the call is not polled.
    let flood = crate::support::command(
        "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 65536))
         (loop $on (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (br $on))",
    );
    alone().await;
    let bench = Bench::with(&flood).unwrap();
    let instance = bench.start().await.unwrap();
    let mut call = Box::pin(instance.event("{}"));
    assert!((&mut call).now_or_never().is_none());
    // It comes to a stop: its worker uses no processor time any more.
    let worker = worker();
    let resting = || {
        let before = worker.processor_time();
        std::thread::sleep(Duration::from_millis(50));
        worker.processor_time() - before < Duration::from_millis(10)
    };
    until(resting).await;
    let resident: u64 = worker.status("RssAnon").trim_end_matches(" kB").parse().unwrap();
    assert!(resident < 64 << 10, "{resident} kB");
    drop(call);
    tokio::time::timeout(PATIENCE, instance.0.stop()).await.unwrap();
}
