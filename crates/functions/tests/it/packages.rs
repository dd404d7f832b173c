//! Packages that must not be unpacked, and what unpacking makes of those that may.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use functions::Error;
use functions::model::{CreateFunction, UpdateCode};

use crate::world::{World, until};
use crate::zips::{self, Entry, crc32, file, link, with_mode, zip};

async fn refused(world: &World, what: &str, package: Vec<u8>) -> Error {
    let mut args = World::args("bad", "echo");
    args.code = package.into();
    let error = world.functions.create(&world.caller, args).await.expect_err(what);
    assert_eq!(world.folders(), (vec![], vec![]), "{what} leaves nothing");
    assert_eq!(world.blobs.list().await.unwrap(), Vec::<String>::new(), "{what}");
    let outside = std::fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(outside.into_iter().all(|name| name != "evil"), "{what}");
    error
}

/// Zeros, deflated about a thousand to one.
fn bomb(declared: Option<u32>) -> Entry {
    let zeros = vec![0; 8 << 20];
    let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("x", ::zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut writer, &zeros).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let archive = ::zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    let entry = archive.by_index_data(0).unwrap();
    let (start, size) = (30 + 1 + entry_extra(&bytes), entry.compressed_size() as usize);
    Entry {
        name: b"bomb".to_vec(),
        mode: 0o100_644,
        data: bytes[start..start + size].to_vec(),
        method: 8,
        declared: declared.unwrap_or(zeros.len() as u32),
        crc: crc32(&zeros),
        offset: None,
    }
}

fn entry_extra(bytes: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([bytes[28], bytes[29]]))
}

#[tokio::test]
async fn hostile_packages_are_refused_and_leave_nothing() {
    let world = World::new().await;
    let good = file("index.py", b"x");
    let links = [link("x/y/d", "../.."), link("x/y/e", "d/.."), file("x/y/f", b"")];
    let broken = "Could not unzip uploaded file";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("not a zip", b"this is text".to_vec(), broken),
        ("truncated", zip(std::slice::from_ref(&good))[..60].to_vec(), broken),
        ("traversal", zip(&[file("../evil", b"x")]), "leads out"),
        ("deep traversal", zip(&[file("a/../../evil", b"x")]), "leads out"),
        ("absolute", zip(&[file("/tmp/evil", b"x")]), "is absolute"),
        ("backslash", zip(&[file("..\\evil", b"x")]), "backslash"),
        ("drive", zip(&[file("C:evil", b"x")]), "is absolute"),
        ("NUL", zip(&[file("a\0b", b"x")]), "NUL"),
        ("link out", zip(&[link("evil", "/etc/passwd")]), "links out"),
        ("relative link out", zip(&[link("a/evil", "../../x")]), "links out"),
        ("links out together", zip(&links), "links out"),
        ("write through a link", zip(&[link("a", "."), file("a/b", b"x")]), "not a folder"),
        ("device", zip(&[with_mode(file("dev", b""), 0o020_666)]), "neither a file"),
        ("duplicate", zip(&[good.clone(), good.clone()]), "more than once"),
        ("another spelling", zip(&[good.clone(), file("./index.py", b"y")]), "more than once"),
        ("file and folder", zip(&[good.clone(), file("index.py/x", b"y")]), "not a folder"),
        ("shared bytes", zip(&[file("a", b"x"), Entry { offset: Some(0), ..file("b", b"x") }]), "same bytes"),
        ("size too small", zip(&[Entry { declared: 1, ..file("a", b"xyz") }]), ""),
        ("size too large", zip(&[Entry { declared: 9, ..file("a", b"xyz") }]), ""),
        ("wrong checksum", zip(&[Entry { crc: 1, ..file("a", b"xyz") }]), broken),
        ("bomb with a small size", zip(&[bomb(Some(1000))]), ""),
        ("bomb with no size", zip(&[bomb(Some(0))]), ""),
    ];
    for (what, package, said) in cases {
        let error = refused(&world, what, package).await;
        assert!(matches!(&error, Error::InvalidPackage(text) if text.contains(said)), "{what}: {error}");
    }
    let empty = refused(&world, "empty", vec![]).await;
    assert_eq!(empty.to_string(), "Uploaded file must be a non-empty zip");
    let text = refused(&world, "text", b"text".to_vec()).await.to_string();
    assert_eq!(text, "Could not unzip uploaded file. Please check your file, then try to upload again.");
}

#[tokio::test]
async fn what_is_too_much_is_said_with_the_limit() {
    let world = World::new().await;
    let one = bomb(None);
    let entries: Vec<Entry> =
        (0..32).map(|n| Entry { name: format!("z{n}").into_bytes(), ..one.clone() }).collect();
    let package = zip(&entries);
    assert!(package.len() < 1 << 20);
    let error = refused(&world, "256 MB of zeros", package).await;
    assert!(
        matches!(&error, Error::CodeTooLarge(text) if text == "Unzipped size must be smaller than 262144000 bytes")
    );
    let error = refused(&world, "a large zip", vec![0; (50 << 20) + 1]).await;
    assert!(matches!(error, Error::CodeTooLarge(_)));
}

#[tokio::test]
async fn modes_are_what_other_users_need_and_no_more() {
    let world = World::new().await;
    let mut args = World::args("good", "echo");
    args.code = zip(&[
        with_mode(file("bin/run", b"#!"), 0o106_711),
        with_mode(file("secret", b"s"), 0o100_600),
        with_mode(file("empty/", b""), 0o040_700),
        link("bin/alias", "run"),
    ])
    .into();
    world.create_with(args, &[]).await;
    let (folders, staging) = world.folders();
    assert!(staging.is_empty());
    let root = world.code_dir().join(&folders[0]);
    let mode = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        [mode(""), mode("bin"), mode("empty"), mode("bin/run"), mode("secret")],
        [0o755, 0o755, 0o755, 0o755, 0o644]
    );
    assert_eq!(std::fs::read(root.join("bin/alias")).unwrap(), b"#!");
}

#[tokio::test]
async fn the_same_package_is_kept_once_and_as_long_as_somebody_needs_it() {
    let world = World::new().await;
    world.create("a", "echo").await;
    world.create("b", "echo").await;
    assert_eq!((world.folders().0.len(), world.blobs.list().await.unwrap().len()), (1, 1));
    let digest = world.folders().0.remove(0);
    world.functions.delete(&world.caller, &world.named("a")).await.unwrap();
    assert_eq!(world.invoke("b", "1").await.unwrap().result.unwrap(), "1");
    until("a is gone", || (!world.metrics.encode().contains("\"a\"")).then_some(())).await;
    assert!(world.stage.forgotten.lock().unwrap().is_empty(), "b needs it");
    world.functions.delete(&world.caller, &world.named("b")).await.unwrap();
    world.nothing_kept().await;
    assert_eq!(*world.stage.forgotten.lock().unwrap(), [digest.clone(), digest], "by both back ends");
}

#[tokio::test]
async fn a_function_deleted_while_it_is_prepared_leaves_nothing_of_that() {
    let world = World::new().await;
    let mut args = World::args("slow", "slow-prepare");
    args.runtime = "wasm".into();
    world.functions.create(&world.caller, args).await.unwrap();
    until("preparing", || (world.stage.prepared.load(Ordering::SeqCst) == 1).then_some(())).await;
    let slow = world.folders().0;
    world.functions.delete(&world.caller, &world.named("slow")).await.unwrap();
    // Its metrics go after its code would; another function's removal comes after this one's.
    world
        .create_with(CreateFunction { code: zips::package("y").into(), ..World::args("other", "echo") }, &[])
        .await;
    world.functions.delete(&world.caller, &world.named("other")).await.unwrap();
    until("the other is gone", || (world.folders().0 == slow).then_some(())).await;
    assert!(!world.stage.forgotten.lock().unwrap().contains(&slow[0]), "it is being prepared");
    world.stage.prepare_gate.add_permits(1);
    world.nothing_kept().await;
    assert!(world.stage.forgotten.lock().unwrap().contains(&slow[0]), "after it was prepared");
}

#[tokio::test]
async fn code_stays_while_a_call_of_a_replaced_version_runs_on_it() {
    let world = World::new().await;
    world.create("a", "gate").await;
    world.create("b", "echo").await;
    let (shared, _) = world.folders();
    let running = world.spawn("a", "1");
    world.begun(1).await;
    let new = zips::package("new");
    let update = UpdateCode { code: new.into(), dry_run: false, publish: false, revision_id: None };
    world.functions.update_code(&world.caller, &world.named("a"), update).await.unwrap();
    world.settled(&world.named("a")).await;
    // Its metrics go after its code would.
    world.invoke("b", "1").await.unwrap();
    world.functions.delete(&world.caller, &world.named("b")).await.unwrap();
    until("b is gone", || (!world.metrics.encode().contains("\"b\"")).then_some(())).await;
    assert!(world.folders().0.contains(&shared[0]), "a call still runs on it");
    world.stage.gate.add_permits(1);
    running.await.unwrap().unwrap();
    until("the shared code is gone", || (world.folders().0.len() == 1).then_some(())).await;
}
