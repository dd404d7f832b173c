//! What each interface of WASI gives a guest, and what it does not: docs/wasm.md lists the same.
//!
//! Most guests here are preview-1 commands written as text, which reach the interfaces of 0.2 through the adapter.

use std::time::{SystemTime, UNIX_EPOCH};

use sandbox::{Egress, Fault};

use crate::case;
use crate::support::{Bench, Case, PATIENCE};

pub(crate) const CASES: &[Case] = &[
    case!(files_of_the_package_are_opened_and_none_outside_it),
    case!(the_package_cannot_be_changed),
    case!(the_package_is_the_only_directory_given),
    case!(the_environment_is_the_functions_and_nothing_of_the_servers),
    case!(randomness_differs_from_call_to_call),
    case!(clocks_tell_the_time_and_go_forward),
    case!(a_guest_can_sleep_and_blocks_nobody_while_it_does),
    case!(preview_1_has_no_sockets),
    case!(too_much_randomness_at_once_is_refused),
    case!(sockets_are_denied_where_egress_is_off),
    case!(configuration_is_the_environment),
];

/// `errno` of preview 1.
const SUCCESS: u8 = 0;
const BADF: u8 = 8;

/// A command with what the tests call of preview 1, `data` at 1024 and four pages of memory. `$say` answers with
/// the bytes at an address.
pub(crate) fn preview1(data: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
              (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_create_directory"
              (func $mkdir (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_rename"
              (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_symlink"
              (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 4)
            (table $table 1 funcref)
            (data (i32.const 1024) "{data}")
            (func $say (param $start i32) (param $length i32)
              (i32.store (i32.const 0) (local.get $start))
              (i32.store (i32.const 4) (local.get $length))
              (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
            (func $say_status (param $status i32)
              (i32.store8 (i32.const 16) (local.get $status))
              (call $say (i32.const 16) (i32.const 1)))
            (func $main (export "_start") {body}))"#
    );
    wat::parse_str(text).unwrap()
}

async fn answer(data: &str, body: &str) -> Vec<u8> {
    let bench = Bench::with(&preview1(data, body)).unwrap();
    bench.start().await.unwrap().event("{}").await.unwrap().to_vec()
}

/// The status of one call of a function that is given `path` at 1024, in a package with `note.txt` and links that
/// lead out of it.
async fn status(path: &str, body: &str) -> u8 {
    let bench = Bench::with(&preview1(path, body)).unwrap();
    bench.put("note.txt", b"noted").unwrap();
    std::fs::write(bench.dir.path().join("secret"), "not for guests").unwrap();
    std::os::unix::fs::symlink("../secret", bench.package().join("relative")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", bench.package().join("absolute")).unwrap();
    std::os::unix::fs::symlink("/", bench.package().join("root")).unwrap();
    let answer = bench.start().await.unwrap().event("{}").await.unwrap();
    assert_eq!(std::fs::read(bench.package().join("note.txt")).unwrap(), b"noted");
    assert_eq!(std::fs::read(bench.dir.path().join("secret")).unwrap(), b"not for guests");
    assert!(!bench.package().join("made").exists() && !bench.dir.path().join("made").exists());
    answer[0]
}

/// Opens the path below descriptor `fd`, links followed.
fn open(fd: u32, path: &str, create: u32, rights: u64) -> String {
    let length = path.len();
    format!(
        "(call $say_status (call $open (i32.const {fd}) (i32.const 1) (i32.const 1024) (i32.const {length})
            (i32.const {create}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 32)))"
    )
}

const READ: u64 = 2;
const WRITE: u64 = 64;

async fn files_of_the_package_are_opened_and_none_outside_it() {
    assert_eq!(status("note.txt", &open(3, "note.txt", 0, READ)).await, SUCCESS);
    assert_eq!(status("./note.txt", &open(3, "./note.txt", 0, READ)).await, SUCCESS);
    for path in [
        "..",
        "../secret",
        "./../secret",
        "x/../../secret",
        "/etc/passwd",
        "/var/task/note.txt",
        "/proc/self/environ",
        "relative",
        "absolute",
        "root/etc/passwd",
        "",
    ] {
        assert_ne!(status(path, &open(3, path, 0, READ)).await, SUCCESS, "{path:?}");
    }
}

async fn the_package_cannot_be_changed() {
    for body in [open(3, "made", 1, WRITE), open(3, "made", 9, WRITE)] {
        assert_ne!(status("made", &body).await, SUCCESS, "{body}");
    }
    assert_ne!(status("note.txt", &open(3, "note.txt", 8, WRITE)).await, SUCCESS, "truncated");
    for (path, call) in [
        ("made", "$mkdir (i32.const 3) (i32.const 1024) (i32.const 4)"),
        ("note.txt", "$unlink (i32.const 3) (i32.const 1024) (i32.const 8)"),
        ("relative", "$unlink (i32.const 3) (i32.const 1024) (i32.const 8)"),
        (
            "note.txtmade",
            "$rename (i32.const 3) (i32.const 1024) (i32.const 8) (i32.const 3) (i32.const 1032) (i32.const 4)",
        ),
        (
            "note.txtmade",
            "$symlink (i32.const 1024) (i32.const 8) (i32.const 3) (i32.const 1032) (i32.const 4)",
        ),
    ] {
        assert_ne!(status(path, &format!("(call $say_status (call {call}))")).await, SUCCESS, "{call}");
    }
}

async fn the_package_is_the_only_directory_given() {
    let prestat = |fd| format!("(call $say_status (call $prestat (i32.const {fd}) (i32.const 32)))");
    assert_eq!(status("", &prestat(3)).await, SUCCESS);
    for fd in [0, 1, 2, 4, 5, 100] {
        assert_ne!(status("", &prestat(fd)).await, SUCCESS, "{fd}");
    }
    assert_eq!(status("", &prestat(4)).await, BADF);
    assert_eq!(status("note.txt", &open(4, "note.txt", 0, READ)).await, BADF);
}

async fn the_environment_is_the_functions_and_nothing_of_the_servers() {
    assert!(std::env::var_os("PATH").is_some(), "this process has an environment that could leak");
    let text = answer(
        "",
        "(drop (call $environ_sizes (i32.const 32) (i32.const 36)))
         (drop (call $environ (i32.const 64) (i32.const 2048)))
         (call $say (i32.const 2048) (i32.load (i32.const 36)))",
    )
    .await;
    assert_eq!(text, b"NAME=Ada\0");
}

async fn randomness_differs_from_call_to_call() {
    let body =
        "(drop (call $random (i32.const 2048) (i32.const 32))) (call $say (i32.const 2048) (i32.const 32))";
    let bench = Bench::with(&preview1("", body)).unwrap();
    let instance = bench.start().await.unwrap();
    let (one, two) = (instance.event("{}").await.unwrap(), instance.event("{}").await.unwrap());
    assert_eq!((one.len(), two.len()), (32, 32));
    assert_ne!(one, two);
    assert_ne!(&one[..16], &one[16..], "nor is it repeated within a call");
}

async fn clocks_tell_the_time_and_go_forward() {
    let clock =
        |id: u32, at: u32| format!("(drop (call $clock (i32.const {id}) (i64.const 1) (i32.const {at})))");
    let body = format!(
        "{}{}{} (call $say (i32.const 2048) (i32.const 24))",
        clock(0, 2048),
        clock(1, 2056),
        clock(1, 2064)
    );
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let times = answer("", &body).await;
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let time = |at: usize| u128::from(u64::from_le_bytes(times[at..at + 8].try_into().unwrap()));
    assert!((before..=after).contains(&time(0)), "{before} {} {after}", time(0));
    assert!(time(8) <= time(16));
}

async fn a_guest_can_sleep_and_blocks_nobody_while_it_does() {
    // One subscription at 2048: a clock (tag 0 at 8), monotonic (1 at 16), an hour (at 24).
    let sleeper = preview1(
        "",
        "(i32.store (i32.const 2064) (i32.const 1)) (i64.store (i32.const 2072) (i64.const 3600000000000))
         (drop (call $poll (i32.const 2048) (i32.const 3072) (i32.const 1) (i32.const 32)))",
    );
    let (sleeping, good) = (Bench::with(&sleeper).unwrap(), Bench::with(&preview1("", "")).unwrap());
    let (sleeper, neighbour) = (sleeping.start().await.unwrap(), good.start().await.unwrap());
    tokio::select! {
        biased;
        outcome = sleeper.event("{}") => panic!("an hour has passed: {outcome:?}"),
        outcome = neighbour.event("{}") => assert!(outcome.is_ok(), "{outcome:?}"),
    }
    tokio::time::timeout(PATIENCE, sleeper.0.stop()).await.unwrap();
}

async fn preview_1_has_no_sockets() {
    let accept = "(call $say_status (call $accept (i32.const 3) (i32.const 0) (i32.const 32)))";
    let bench = Bench::with(&preview1("", accept)).unwrap();
    let outcome = bench.start().await.unwrap().event("{}").await;
    assert!(matches!(&outcome, Err(Fault::Trap(text)) if text.contains("sock_accept")), "{outcome:?}");
}

async fn too_much_randomness_at_once_is_refused() {
    // By a component: the adapter asks for as much as it is asked for.
    let body =
        "(drop (memory.grow (i32.const 64))) (drop (call $random (i32.const 65536) (i32.const 2097152)))";
    let bench = Bench::with(&preview1("", body)).unwrap();
    let outcome = bench.start().await.unwrap().event("{}").await;
    assert!(matches!(&outcome, Err(Fault::Trap(text)) if text.contains("random bytes")), "{outcome:?}");
}

/// A command that makes a TCP socket and returns well if it gets one.
fn socket() -> Vec<u8> {
    let errors = [
        "unknown",
        "access-denied",
        "not-supported",
        "invalid-argument",
        "out-of-memory",
        "timeout",
        "concurrency-conflict",
        "not-in-progress",
        "would-block",
        "invalid-state",
        "new-socket-limit",
        "address-not-bindable",
        "address-in-use",
        "remote-unreachable",
        "connection-refused",
        "connection-reset",
        "connection-aborted",
        "datagram-too-large",
        "name-unresolvable",
        "temporary-resolver-failure",
        "permanent-resolver-failure",
    ]
    .map(|name| format!("\"{name}\""))
    .join(" ");
    let text = format!(
        r#"(component
          (import "wasi:sockets/network@0.2.0" (instance $network
            (type $codes (enum {errors}))
            (export "error-code" (type (eq $codes)))
            (type $families (enum "ipv4" "ipv6"))
            (export "ip-address-family" (type (eq $families)))))
          (alias export $network "error-code" (type $code))
          (alias export $network "ip-address-family" (type $family))
          (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
          (alias export $tcp "tcp-socket" (type $socket))
          (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
            (alias outer 1 $code (type $code_))
            (export "error-code" (type $code (eq $code_)))
            (alias outer 1 $family (type $family_))
            (export "ip-address-family" (type $family (eq $family_)))
            (alias outer 1 $socket (type $socket_))
            (export "tcp-socket" (type $socket (eq $socket_)))
            (export "create-tcp-socket"
              (func (param "address-family" $family) (result (result (own $socket) (error $code)))))))
          (core module $memory (memory (export "memory") 1))
          (core instance $memory (instantiate $memory))
          (core func $create (canon lower (func $create "create-tcp-socket") (memory $memory "memory")))
          (core module $main
            (import "host" "memory" (memory 1))
            (import "host" "create" (func $create (param i32 i32)))
            (func (export "run") (result i32)
              (call $create (i32.const 0) (i32.const 16))
              (if (i32.load8_u (i32.const 16))
                (then (if (i32.ne (i32.load8_u (i32.const 20)) (i32.const 1)) (then unreachable))))
              (i32.load8_u (i32.const 16))))
          (core instance $main (instantiate $main
            (with "host" (instance (export "memory" (memory $memory "memory")) (export "create" (func $create))))))
          (func $run (result (result)) (canon lift (core func $main "run")))
          (instance $exports (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    );
    wat::parse_str(text).unwrap()
}

async fn sockets_are_denied_where_egress_is_off() {
    let bench = Bench::with(&socket()).unwrap();
    let closed = bench.start_with(|spec| spec.egress = Egress::None).await.unwrap();
    // It traps at any other error than access-denied.
    assert_eq!(closed.event("{}").await, Err(Fault::Exited(sandbox::Exit::Code(1))));
}

async fn configuration_is_the_environment() {
    let guest = |name: &str| {
        let length = name.len();
        let text = format!(
            r#"(component
              (import "wasi:config/store@0.2.0-rc.1" (instance $store
                (type $variant (variant (case "upstream" string) (case "io" string)))
                (export "error" (type $error (eq $variant)))
                (export "get" (func (param "key" string) (result (result (option string) (error $error)))))))
              (core module $memory (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
              (core instance $memory (instantiate $memory))
              (core func $get (canon lower (func $store "get")
                (memory $memory "memory") (realloc (func $memory "realloc"))))
              (core module $main
                (import "host" "memory" (memory 1))
                (import "host" "get" (func $get (param i32 i32 i32)))
                (data (i32.const 1024) "{name}")
                (func (export "run") (result i32)
                  (call $get (i32.const 1024) (i32.const {length}) (i32.const 16))
                  (if (i32.load8_u (i32.const 16)) (then unreachable))
                  (if (i32.eqz (i32.load8_u (i32.const 20))) (then (return (i32.const 1))))
                  (if (i32.ne (i32.load (i32.const 28)) (i32.const 3)) (then unreachable))
                  (if (i32.ne (i32.load8_u (i32.const 4096)) (i32.const 65)) (then unreachable))
                  (i32.const 0)))
              (core instance $main (instantiate $main
                (with "host" (instance (export "memory" (memory $memory "memory")) (export "get" (func $get))))))
              (func $run (result (result)) (canon lift (core func $main "run")))
              (instance $exports (export "run" (func $run)))
              (export "wasi:cli/run@0.2.0" (instance $exports)))"#
        );
        Bench::with(&wat::parse_str(text).unwrap()).unwrap()
    };
    assert!(guest("NAME").start().await.unwrap().event("{}").await.is_ok());
    let absent = guest("PATH").start().await.unwrap().event("{}").await;
    assert_eq!(absent, Err(Fault::Exited(sandbox::Exit::Code(1))));
}
