//! WASI commands: the event on stdin, the answer on stdout, and all the ways to end.

use sandbox::{Exit, Fault};

use crate::case;
use crate::support::{Bench, COMMAND, Case, HELLO, PATIENCE, Started, command};

pub(crate) const CASES: &[Case] = &[
    case!(a_command_sees_its_event_and_environment_and_answers),
    case!(an_exit_status_is_the_outcome),
    case!(a_trap_is_told_with_its_place),
    case!(an_answer_over_the_limit_is_not_gathered),
    case!(an_answer_of_the_limit_is_given),
    case!(memory_ends_at_the_limit),
    case!(a_module_that_needs_more_than_the_limit_does_not_start_its_call),
    case!(endless_guests_give_way_and_end_when_dropped),
    case!(a_request_is_not_for_a_command_nor_an_event_for_a_handler),
];

async fn outcome(body: &str) -> Result<String, Fault> {
    let bench = Bench::with(&command(body)).unwrap();
    let answer = bench.start().await.unwrap().event("{}").await?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

/// Writes `length` bytes of zeroed memory to `fd`.
fn write(fd: u32, length: u32) -> String {
    format!(
        "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {length}))
         (drop (call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))"
    )
}

async fn a_command_sees_its_event_and_environment_and_answers() {
    let bench = Bench::with(COMMAND).unwrap();
    let instance = bench.start_with(|spec| spec.artifact.handler = "guest.wasm".into()).await.unwrap();
    let answer = instance.event(r#"{"n":1}"#).await.unwrap();
    assert_eq!(answer, r#"{"event":{"n":1},"handler":"guest.wasm","name":"Ada"}"#);
    assert_eq!(bench.log.text(), "7 bytes on stdin\n");
    assert!(instance.0.peak_memory() >= 65536);
}

async fn an_exit_status_is_the_outcome() {
    assert_eq!(outcome("(call $exit (i32.const 3))").await, Err(Fault::Exited(Exit::Code(3))));
    assert_eq!(outcome("(call $exit (i32.const 0))").await, Ok(String::new()));
    assert_eq!(outcome("").await, Ok(String::new()));
}

async fn a_trap_is_told_with_its_place() {
    match outcome("unreachable").await {
        Err(Fault::Trap(text)) => {
            assert!(text.contains("unreachable"), "{text}");
            assert!(text.contains("main"), "names of functions: {text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(outcome("(call $main)").await, Err(Fault::Trap(text)) if text.contains("stack")));
}

async fn an_answer_over_the_limit_is_not_gathered() {
    let bench = Bench::with(&command(&format!("(loop $on {} (br $on))", write(1, 60000)))).unwrap();
    let limit = bench.limits.answer_bytes;
    let answer = bench.start().await.unwrap().event("{}").await;
    assert_eq!(answer, Err(Fault::AnswerTooLarge { size: limit + 1, limit }));
}

async fn an_answer_of_the_limit_is_given() {
    let mut bench = Bench::with(&command(&write(1, 60000))).unwrap();
    bench.limits.answer_bytes = 60000;
    assert_eq!(bench.start().await.unwrap().event("{}").await.unwrap().len(), 60000);
}

async fn memory_ends_at_the_limit() {
    // Grows by a page until that fails, and then traps.
    let bomb =
        command("(loop $on (br_if $on (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) unreachable");
    let bench = Bench::with(&bomb).unwrap();
    let instance = bench.start().await.unwrap();
    assert!(matches!(instance.event("{}").await, Err(Fault::Trap(text)) if text.contains("memory")));
    let peak = instance.0.peak_memory();
    assert!(peak <= bench.limits.memory_bytes && peak > bench.limits.memory_bytes / 2, "{peak}");
}

async fn a_module_that_needs_more_than_the_limit_does_not_start_its_call() {
    let mut bench = Bench::with(COMMAND).unwrap();
    bench.limits.memory_bytes = 65536;
    let answer = bench.start().await.unwrap().event("{}").await;
    assert!(matches!(&answer, Err(Fault::Trap(text)) if text.contains("memory")), "{answer:?}");
}

async fn gives_way(instance: &Started, neighbour: &Started) {
    // The endless one is polled first and again and again; on one thread the neighbour gets its turn only
    // if the endless one gives way.
    tokio::select! {
        biased;
        outcome = instance.event("{}") => panic!("an endless guest ended: {outcome:?}"),
        outcome = neighbour.event("{}") => assert!(outcome.is_ok(), "{outcome:?}"),
    }
}

async fn endless_guests_give_way_and_end_when_dropped() {
    let loops = Bench::with(&command("(loop $on (br $on))")).unwrap();
    let prints = Bench::with(&command(&format!("(loop $on {} (br $on))", write(2, 100)))).unwrap();
    let good = Bench::with(COMMAND).unwrap();
    let neighbour = good.start().await.unwrap();
    for bench in [loops, prints] {
        let instance = bench.start().await.unwrap();
        gives_way(&instance, &neighbour).await;
        // Nothing is left of the dropped call, or this would wait for it.
        tokio::time::timeout(PATIENCE, instance.0.stop()).await.unwrap();
    }
}

async fn a_request_is_not_for_a_command_nor_an_event_for_a_handler() {
    let command = Bench::with(COMMAND).unwrap().start().await.unwrap();
    assert!(matches!(command.get("/").await, Err(Fault::BadAnswer(_))));
    let handler = Bench::with(HELLO).unwrap().start().await.unwrap();
    assert!(matches!(handler.event("{}").await, Err(Fault::BadAnswer(_))));
}
