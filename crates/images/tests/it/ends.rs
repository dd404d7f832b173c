//! Pulls that nobody waits for any more: what they began ends, and nothing of it stays.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use images::Digest;
use serde_json::json;

use crate::layout::{ARCHITECTURE, World};
use crate::tarball::Tarball;

const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn layers_of_a_pull_that_was_given_up_go() {
    let world = World::new();
    let layer = (0..1000).fold(Tarball::default(), |tar, number| tar.file(&format!("f{number}"), b"x")).end();
    world.image(&[layer]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (images, reference) = (world.images.clone(), world.reference());
    let pull = runtime.spawn(async move { images.pull("1", &reference, None).await.map(drop) });
    until("it unpacks", || !world.kept(".staging").is_empty());
    pull.abort();
    assert!(runtime.block_on(pull).unwrap_err().is_cancelled());
    until("nothing is left", || {
        ["layers", "images", ".staging"].into_iter().all(|kind| world.kept(kind).is_empty())
    });
}

/// A registry that answers everything but the layer's bytes, of which it never sends the end. It tells when the client
/// is gone.
fn drip(stream: TcpStream, config: &[u8], manifest: &[u8], gone: &Sender<()>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(request)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let mut stream = stream;
    let mut answer = |body: &[u8], size: usize| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    };
    match request.split(' ').nth(1).unwrap() {
        path if path.contains("/manifests/") => answer(manifest, manifest.len()),
        path if path.ends_with(&Digest::of(config).to_string()) => answer(config, config.len()),
        path if path.contains("/blobs/") => {
            answer(b"", 1 << 30);
            // Returns once the other side has closed.
            let _ = stream.read(&mut [0]);
            gone.send(()).unwrap();
        }
        _ => answer(b"", 0),
    }
}

/// Starts a registry of an image with this layer, of which it never sends the end: its name there, and what tells when a client
/// that wanted the layer is gone.
fn silent_registry(layer: &[u8]) -> (String, Receiver<()>) {
    let config = json!({
        "os": "linux", "architecture": ARCHITECTURE, "rootfs": { "diff_ids": [Digest::of(layer)] },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "config": { "digest": Digest::of(&config), "size": config.len() },
        "layers": [{ "digest": Digest::of(b"the layer as sent"), "size": 1 << 30 }],
    });
    let manifest = manifest.to_string().into_bytes();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/a/b", listener.local_addr().unwrap());
    let (gone, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, manifest, gone) = (config.clone(), manifest.clone(), gone.clone());
            std::thread::spawn(move || drip(stream.unwrap(), &config, &manifest, &gone));
        }
    });
    (reference, told)
}

#[test]
fn nobody_waits_for_another_accounts_registry() {
    let world = World::new();
    let layer = Tarball::default().file("x", b"x").end();
    let (reference, _told) = silent_registry(&layer);
    world.image(&[layer]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let pulls: Vec<_> = (0..20)
        .map(|_| {
            let (images, reference) = (world.images.clone(), reference.clone());
            runtime.spawn(async move { images.pull("1", &reference, None).await.map(drop) })
        })
        .collect();
    until("one unpacks", || !world.kept(".staging").is_empty());
    let (images, reference) = (world.images.clone(), world.reference());
    // The same layer.
    let other = async move { tokio::time::timeout(PATIENCE, images.pull("2", &reference, None)).await };
    let pulled = runtime.block_on(other).expect("it is not kept waiting").unwrap();
    assert!(pulled.stored.root.join("x").exists());
    pulls.into_iter().for_each(|pull| pull.abort());
}

#[test]
fn a_registry_that_never_ends_holds_nothing() {
    let world = World::new();
    let (reference, told) = silent_registry(b"a layer");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let images = world.images.clone();
    let pull = runtime.spawn(async move { images.pull("1", &reference, None).await.map(drop) });
    until("it unpacks", || !world.kept(".staging").is_empty());
    pull.abort();
    assert!(runtime.block_on(pull).unwrap_err().is_cancelled());
    told.recv_timeout(PATIENCE).expect("the connection is closed");
    // The thread that waited for bytes has ended too.
    until("nothing is left", || world.kept(".staging").is_empty());
}
