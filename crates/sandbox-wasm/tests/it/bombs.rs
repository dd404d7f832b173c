//! Guests that want more than their share: of memory, of the processor, of the host's attention.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sandbox::Fault;

use crate::case;
use crate::support::{Bench, Case, PATIENCE, apart, workers};
use crate::wasi::preview1;

pub(crate) const CASES: &[Case] = &[
    case!(tables_count_as_memory),
    case!(a_stack_has_an_end),
    case!(a_flood_of_host_calls_gives_way_and_ends_with_its_call),
    case!(a_busy_guest_keeps_to_its_share_of_the_processor),
    case!(a_share_is_enough_for_what_fits_into_it),
];

async fn tables_count_as_memory() {
    // Grows by 1,000 elements until that fails, and then traps.
    let bomb = preview1(
        "",
        "(loop $on (br_if $on
           (i32.ge_s (table.grow $table (ref.null func) (i32.const 1000)) (i32.const 0)))) unreachable",
    );
    let mut bench = Bench::with(&bomb).unwrap();
    bench.limits.memory_bytes = 1 << 20;
    let instance = bench.start().await.unwrap();
    let outcome = instance.event("{}").await;
    assert!(matches!(&outcome, Err(Fault::Trap(text)) if text.contains("more memory")), "{outcome:?}");
    let peak = instance.0.peak_memory();
    assert!(peak > (1 << 20) - 8_000 && peak <= 1 << 20, "{peak}");
}

async fn a_stack_has_an_end() {
    let bench = Bench::with(&preview1("", "(call $main)")).unwrap();
    let outcome = bench.start().await.unwrap().event("{}").await;
    assert!(matches!(&outcome, Err(Fault::Trap(text)) if text.contains("stack")), "{outcome:?}");
}

async fn a_flood_of_host_calls_gives_way_and_ends_with_its_call() {
    let good = Bench::with(&preview1("", "")).unwrap();
    let neighbour = good.start().await.unwrap();
    for flood in [
        "(drop (call $random (i32.const 2048) (i32.const 64)))",
        "(drop (call $clock (i32.const 1) (i64.const 1) (i32.const 2048)))",
        "(drop (call $prestat (i32.const 99) (i32.const 2048)))",
    ] {
        let bench = Bench::with(&preview1("", &format!("(loop $on {flood} (br $on))"))).unwrap();
        let instance = bench.start().await.unwrap();
        tokio::select! {
            biased;
            outcome = instance.event("{}") => panic!("an endless guest ended: {outcome:?}"),
            outcome = neighbour.event("{}") => assert!(outcome.is_ok(), "{outcome:?}"),
        }
        tokio::time::timeout(PATIENCE, instance.0.stop()).await.unwrap();
    }
}

/// Processor time of this thread, which runs the whole test; apart, of the workers.
fn processor_time() -> Duration {
    if apart() {
        return workers().iter().map(|worker| worker.processor_time()).sum();
    }
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

async fn a_busy_guest_keeps_to_its_share_of_the_processor() {
    let mut bench = Bench::with(&preview1("", "(loop $on (br $on))")).unwrap();
    bench.limits.cpu_hundredths = Some(1);
    let instance = bench.start().await.unwrap();
    let (began, before) = (Instant::now(), processor_time());
    let outcome = tokio::time::timeout(Duration::from_secs(3), instance.event("{}")).await;
    assert!(outcome.is_err(), "an endless guest ended: {outcome:?}");
    let spent = processor_time() - before;
    // The share, what may be used at once, and a tick that came late.
    let allowed = began.elapsed() / 100 + Duration::from_millis(40);
    assert!(spent <= allowed, "{spent:?} of {allowed:?}");
}

async fn a_share_is_enough_for_what_fits_into_it() {
    let mut bench = Bench::with(&preview1("yes", "(call $say (i32.const 1024) (i32.const 3))")).unwrap();
    bench.limits.cpu_hundredths = Some(1);
    let instance = bench.start().await.unwrap();
    for _ in 0..3 {
        assert_eq!(instance.event("{}").await.unwrap(), "yes");
    }
}
