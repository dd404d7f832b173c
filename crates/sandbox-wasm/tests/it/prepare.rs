//! What is deployed: found, refused, compiled once, kept.

use sandbox::{Backend, Contract, Error, Isolation, Prepared, Runtime, Speaks};

use crate::case;
use crate::support::{Bench, COMMAND, Case, HELLO, PROBE, command, files};

pub(crate) const CASES: &[Case] = &[
    case!(a_component_and_a_plain_command_are_told_apart),
    case!(what_cannot_run_is_refused_with_the_reason),
    case!(a_module_that_does_not_validate_is_refused),
    case!(other_runtimes_and_contracts_are_refused),
    case!(the_module_is_the_one_named_or_the_only_one),
    case!(a_module_over_the_limit_is_refused),
    case!(code_is_compiled_once_also_across_restarts),
    case!(damaged_code_is_compiled_again),
    case!(code_that_others_could_have_written_is_not_run),
    case!(the_cache_is_private_and_holds_only_this_engines_code),
    case!(a_forgotten_packages_code_is_removed_and_no_others),
    case!(a_refused_module_leaves_nothing_in_the_cache),
];

async fn refusal(module: &[u8]) -> String {
    let bench = Bench::with(module).unwrap();
    match bench.prepare().await {
        Err(Error::Invalid(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

async fn a_component_and_a_plain_command_are_told_apart() {
    for (module, speaks) in [(HELLO, Speaks::Http), (PROBE, Speaks::Http), (COMMAND, Speaks::Events)] {
        let bench = Bench::with(module).unwrap();
        assert_eq!(bench.backend.isolation(), Isolation::Wasm);
        assert_eq!(bench.prepare().await.unwrap(), Prepared { speaks, one_at_a_time: false });
    }
}

async fn what_cannot_run_is_refused_with_the_reason() {
    let text = |wat: &str| wat::parse_str(wat).unwrap();
    let cases: [(Vec<u8>, &[&str]); 8] = [
        (b"#!/bin/sh\n".to_vec(), &["not WebAssembly"]),
        (HELLO[..HELLO.len() / 2].to_vec(), &["not valid WebAssembly"]),
        (COMMAND[..COMMAND.len() / 2].to_vec(), &["not valid WebAssembly"]),
        (text("(component)"), &["neither wasi:http/incoming-handler@0.2 nor wasi:cli/run@0.2", "nothing"]),
        (text(r#"(module (func (export "f")) (func (export "g")))"#), &["no _start", "f, g"]),
        (
            text(
                r#"(component (import "acme:db/sql@1.0.0" (instance $i)) (import "wasi:keyvalue/store@0.2.0" (instance))
                    (export "wasi:cli/run@0.2.0" (instance $i)))"#,
            ),
            &["not provided", "acme:db/sql@1.0.0, wasi:keyvalue/store@0.2.0"],
        ),
        (
            text(
                r#"(module (import "env" "f" (func)) (memory (export "memory") 1) (func (export "_start") call 0))"#,
            ),
            &["env"],
        ),
        (
            text(r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#),
            &["handle"],
        ),
    ];
    for (module, words) in cases {
        let refusal = refusal(&module).await;
        for word in words {
            assert!(refusal.contains(word), "{word:?} is not in {refusal:?}");
        }
    }
}

async fn a_module_that_does_not_validate_is_refused() {
    let invalid = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x05\x01\x03\0\x6a\x0b";
    let refusal = refusal(invalid).await;
    assert!(refusal.contains("cannot be made a component"), "{refusal}");
}

async fn other_runtimes_and_contracts_are_refused() {
    let bench = Bench::with(HELLO).unwrap();
    let mut artifact = bench.artifact();
    artifact.runtime = Runtime::Python { minor: 11 };
    assert!(
        matches!(bench.backend.prepare(&artifact).await, Err(Error::Invalid(text)) if text.contains("python3.11"))
    );
    artifact.runtime = Runtime::Provided { name: "provided.al2023" };
    assert!(bench.backend.prepare(&artifact).await.is_ok());
    artifact.contract = Contract::Http;
    assert!(
        matches!(bench.backend.prepare(&artifact).await, Err(Error::Invalid(text)) if text.contains("contract"))
    );
}

async fn the_module_is_the_one_named_or_the_only_one() {
    let bench = Bench::empty(|_| {}).unwrap();
    let mut artifact = bench.artifact();
    let refused = |result: Result<Prepared, Error>| match result {
        Err(Error::Invalid(text)) => text,
        other => panic!("not refused: {other:?}"),
    };
    assert!(refused(bench.backend.prepare(&artifact).await).contains("no .wasm file"));
    bench.put("one.wasm", HELLO).unwrap();
    artifact.handler = "any.handler".into();
    assert_eq!(bench.backend.prepare(&artifact).await.unwrap().speaks, Speaks::Http);
    bench.put("two.wasm", COMMAND).unwrap();
    assert!(refused(bench.backend.prepare(&artifact).await).contains("one.wasm, two.wasm"));
    artifact.handler = "two.wasm".into();
    assert_eq!(bench.backend.prepare(&artifact).await.unwrap().speaks, Speaks::Events);
    artifact.handler = "../package/two.wasm".into();
    assert!(refused(bench.backend.prepare(&artifact).await).contains("several"));
}

async fn a_module_over_the_limit_is_refused() {
    let bench = Bench::empty(|settings| settings.max_module_bytes = 1024).unwrap();
    bench.put("guest.wasm", HELLO).unwrap();
    assert!(matches!(bench.prepare().await, Err(Error::Invalid(text)) if text.contains("larger than")));
}

async fn code_is_compiled_once_also_across_restarts() {
    let mut bench = Bench::with(HELLO).unwrap();
    let artifact = bench.artifact();
    let (one, two) = tokio::join!(bench.backend.prepare(&artifact), bench.backend.prepare(&artifact));
    assert!(one.is_ok() && two.is_ok());
    bench.start().await.unwrap();
    assert_eq!(bench.backend.compiled(), 1);
    bench.restart().unwrap();
    bench.prepare().await.unwrap();
    assert_eq!(bench.start().await.unwrap().text("GET", "/", "").await.unwrap().0, 200);
    assert_eq!(bench.backend.compiled(), 0);
}

async fn damaged_code_is_compiled_again() {
    let mut bench = Bench::with(HELLO).unwrap();
    bench.prepare().await.unwrap();
    let damages: [fn(&mut Vec<u8>); 3] =
        [|code| code.truncate(code.len() / 2), |code| *code.last_mut().unwrap() ^= 1, |code| code.clear()];
    for damage in damages {
        let path = files(&bench.cache(), "cwasm").remove(0);
        let mut code = std::fs::read(&path).unwrap();
        damage(&mut code);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, code).unwrap();
        bench.restart().unwrap();
        bench.prepare().await.unwrap();
        assert_eq!(bench.backend.compiled(), 1);
        assert_eq!(bench.start().await.unwrap().text("GET", "/", "").await.unwrap().0, 200);
    }
}

async fn code_that_others_could_have_written_is_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let mut bench = Bench::with(HELLO).unwrap();
    bench.prepare().await.unwrap();
    let path = files(&bench.cache(), "cwasm").remove(0);
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o620)).unwrap();
    bench.restart().unwrap();
    bench.prepare().await.unwrap();
    assert_eq!((bench.backend.compiled(), mode()), (1, 0o600), "compiled again");
    // Nor what a link leads to, be it the same bytes.
    let moved = bench.dir.path().join("moved");
    std::fs::rename(&path, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    bench.restart().unwrap();
    bench.prepare().await.unwrap();
    assert_eq!(bench.backend.compiled(), 1);
}

async fn the_cache_is_private_and_holds_only_this_engines_code() {
    use std::os::unix::fs::PermissionsExt;
    let mut bench = Bench::with(HELLO).unwrap();
    bench.prepare().await.unwrap();
    assert_eq!(std::fs::metadata(bench.cache()).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::write(bench.cache().join("0-0000000000000000.cwasm"), "of another version").unwrap();
    std::fs::write(bench.cache().join("1-2.tmp"), "left by a crash").unwrap();
    bench.restart().unwrap();
    let left = std::fs::read_dir(bench.cache()).unwrap().count();
    assert_eq!(left, 2, "the code and its checksum");
}

async fn a_forgotten_packages_code_is_removed_and_no_others() {
    let mut bench = Bench::with(HELLO).unwrap();
    bench.put("command.wasm", COMMAND).unwrap();
    let of = |bench: &Bench, digest: &str, handler: &str| {
        let mut artifact = bench.artifact();
        artifact.digest = digest.repeat(64);
        artifact.handler = handler.into();
        artifact
    };
    for (digest, handler) in [("a", "guest.wasm"), ("a", "command.wasm"), ("b", "command.wasm")] {
        bench.backend.prepare(&of(&bench, digest, handler)).await.unwrap();
    }
    assert_eq!((files(&bench.cache(), "cwasm").len(), files(&bench.cache(), "sha256").len()), (3, 3));
    bench.backend.forget(&"a".repeat(64));
    bench.backend.forget("../nothing");
    assert_eq!((files(&bench.cache(), "cwasm").len(), files(&bench.cache(), "sha256").len()), (1, 1));
    bench.backend.prepare(&of(&bench, "a", "command.wasm")).await.unwrap();
    assert_eq!(files(&bench.cache(), "cwasm").len(), 2, "written again, though it is still loaded");
    bench.backend.forget(&"a".repeat(64));
    bench.restart().unwrap();
    bench.backend.prepare(&of(&bench, "b", "command.wasm")).await.unwrap();
    assert_eq!(bench.backend.compiled(), 0, "the other package's is there");
    bench.backend.prepare(&of(&bench, "a", "guest.wasm")).await.unwrap();
    assert_eq!(bench.backend.compiled(), 1);
}

async fn a_refused_module_leaves_nothing_in_the_cache() {
    let bench = Bench::with(&command("local.get 7")[..60]).unwrap();
    assert!(bench.prepare().await.is_err());
    assert_eq!(std::fs::read_dir(bench.cache()).unwrap().count(), 0);
}
