//! Guests that want the host to hold for them what their own memory may not.

use sandbox::Fault;

use crate::case;
use crate::support::{Bench, Case};

pub(crate) const CASES: &[Case] = &[case!(what_the_host_holds_is_bounded)];

/// A command that makes headers, each with a value of 60,000 bytes, until it holds `count` of them.
fn holder(count: u32) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "wasi:http/types@0.2.0" (instance $types
            (export "fields" (type $fields (sub resource)))
            (type $variant (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
            (export "header-error" (type $error (eq $variant)))
            (export "[constructor]fields" (func (result (own $fields))))
            (export "[method]fields.append"
              (func (param "self" (borrow $fields)) (param "name" string) (param "value" (list u8))
                (result (result (error $error)))))))
          (core module $memory (memory (export "memory") 2))
          (core instance $memory (instantiate $memory))
          (core func $new (canon lower (func $types "[constructor]fields")))
          (core func $append
            (canon lower (func $types "[method]fields.append") (memory $memory "memory")))
          (core module $main
            (import "host" "memory" (memory 2))
            (import "host" "new" (func $new (result i32)))
            (import "host" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
            (data (i32.const 0) "a")
            (func (export "run") (result i32) (local $left i32)
              (memory.fill (i32.const 1024) (i32.const 98) (i32.const 60000))
              (local.set $left (i32.const {count}))
              (loop $on
                (call $append (call $new) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 60000)
                  (i32.const 16))
                (if (i32.load8_u (i32.const 16)) (then unreachable))
                (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
              (i32.const 0)))
          (core instance $main (instantiate $main
            (with "host" (instance
              (export "memory" (memory $memory "memory"))
              (export "new" (func $new))
              (export "append" (func $append))))))
          (func $run (result (result)) (canon lift (core func $main "run")))
          (instance $exports (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    );
    wat::parse_str(text).unwrap()
}

async fn what_the_host_holds_is_bounded() {
    let few = Bench::with(&holder(400)).unwrap();
    assert_eq!(few.start().await.unwrap().event("{}").await.as_deref(), Ok(&b""[..]));
    // The guest itself may have 64 MiB.
    let many = Bench::with(&holder(1200)).unwrap();
    let outcome = many.start().await.unwrap().event("{}").await;
    assert!(matches!(&outcome, Err(Fault::Trap(text)) if text.contains("resource")), "{outcome:?}");
}
