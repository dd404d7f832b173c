//! Layers in parts, from what `virga build` packs to what an instance reads, with a registry that misbehaves.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;

use super::index::{self, Index};
use super::partial::Partial;
use super::remote::{Remote, Urgency};
use super::toc;
use super::touched::Touched;
use super::view::View;
use crate::build::{Choice, list};
use crate::fuse::tests::ask;
use crate::fuse::{Bytes, ROOT, Tree};
use crate::layer::{Budget, TREE};
use crate::registry::Connector;
use crate::{Digest, Error, Reference};

/// What a registry does to a part: its first byte in the blob, and its bytes.
type Meddle = Box<dyn Fn(u64, &mut Vec<u8>) -> u16 + Send>;

/// A registry of one blob.
struct Registry {
    address: String,
    parts: Arc<Mutex<Vec<(u64, usize)>>>,
    meddle: Arc<Mutex<Option<Meddle>>>,
}

impl Registry {
    fn start(blob: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (parts, meddle) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
        let registry = Self { address, parts: Arc::clone(&parts), meddle: Arc::clone(&meddle) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // One that hangs up is no more than that.
                let _ = serve(stream.unwrap(), &blob, &parts, &meddle);
            }
        });
        registry
    }

    fn fetched(&self) -> usize {
        self.parts.lock().iter().map(|(_, length)| length).sum()
    }
}

fn serve(
    mut stream: TcpStream,
    blob: &[u8],
    parts: &Mutex<Vec<(u64, usize)>>,
    meddle: &Mutex<Option<Meddle>>,
) -> std::io::Result<()> {
    let lines: Vec<String> =
        BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let range = lines.iter().find_map(|line| line.strip_prefix("range: bytes=")?.split_once('-'));
    let Some((first, last)) = range else {
        return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    };
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let mut bytes = blob[first..=last].to_vec();
    let status = match &*meddle.lock() {
        Some(meddle) => meddle(first as u64, &mut bytes),
        None => 206,
    };
    parts.lock().push((first as u64, bytes.len()));
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-range: bytes {first}-{last}/{}\r\ncontent-length: {}\r\n\r\n",
        blob.len(),
        bytes.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&bytes)
}

/// A layer that was packed, the registry that has it, and the place where it is made.
struct World {
    dir: tempfile::TempDir,
    registry: Registry,
    index: Index,
    table: Vec<u8>,
    files: HashMap<PathBuf, Vec<u8>>,
}

fn noise(length: u32, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    fs::create_dir_all(app.join("sub")).unwrap();
    let mut files = HashMap::new();
    for (name, content) in [
        ("small", b"hello".to_vec()),
        ("big", noise(5_000_000, 1)),
        ("sub/other", noise(1_500_000, 2)),
        ("empty", Vec::new()),
    ] {
        fs::write(app.join(name), &content).unwrap();
        files.insert(Path::new("app").join(name), content);
    }
    std::os::unix::fs::symlink("sub/other", app.join("link")).unwrap();
    let items = list(&app, &|_, _| Choice::Keep).unwrap();
    let packed = crate::build::pack_for_tests(&items, "app", dir.path());
    let (blob, toc) = packed;
    let size = blob.len() as u64;
    let end = toc::place(&blob[blob.len() - 51..], size).unwrap();
    let table = toc::text(&blob[usize::try_from(end).unwrap()..blob.len() - 51], &toc).unwrap();
    let index = Index { blob: Digest::of(&blob), size, end, toc };
    let layer = dir.path().join("layer");
    fs::create_dir(&layer).unwrap();
    index::outline(&index, &table, &layer, Budget::default()).unwrap();
    World { registry: Registry::start(blob), dir, index, table, files }
}

impl World {
    fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    fn open(&self, fresh: bool) -> Arc<Partial> {
        let touched = Touched::read(self.dir.path(), &Digest::of(b"touched"));
        Arc::new(Partial::open(&self.layer(), touched, fresh).unwrap())
    }

    fn remote(&self, complaints: &Arc<AtomicU32>) -> Arc<Remote> {
        let Ok(Reference::Registry(name)) = Reference::parse(&format!("{}/a/b", self.registry.address))
        else {
            panic!("a name")
        };
        let complaints = Arc::clone(complaints);
        let complain = Arc::new(move |_: &str| {
            complaints.fetch_add(1, Ordering::Relaxed);
        });
        Arc::new(Remote::new(Connector::new(&[], None).unwrap(), name, None, complain))
    }

    fn view(&self, fresh: bool) -> (Arc<View>, Arc<AtomicU32>) {
        let complaints = Arc::default();
        let remote = self.remote(&complaints);
        let id = Digest::of(b"image");
        let view = View::open(&id, &self.layer().join(TREE), vec![self.open(fresh)], remote).unwrap();
        (Arc::new(view), complaints)
    }
}

fn node(view: &View, path: &str) -> u64 {
    path.split('/').fold(ROOT, |folder, name| view.look_up(folder, name.as_bytes()).unwrap().unwrap().node)
}

async fn read(view: &View, path: &str, at: u64, size: u32) -> Result<Vec<u8>, Errno> {
    match view.read(node(view, path), at, size)? {
        Bytes::Now(bytes) => Ok(bytes),
        Bytes::Later(bytes) => bytes.await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_fetched_and_no_more() {
    let world = world();
    let (view, _) = world.view(true);
    assert_eq!(world.registry.fetched(), 0);
    let attributes = view.attributes(node(&view, "app/big")).unwrap();
    assert_eq!((attributes.size, attributes.modified), (5_000_000, 0));
    assert_eq!(view.link(node(&view, "app/link")).unwrap(), b"sub/other");
    let names: Vec<_> = view.list(node(&view, "app")).unwrap().iter().map(|name| name.name.clone()).collect();
    assert_eq!(names, [".", "..", "big", "empty", "link", "small", "sub"]);
    assert!(view.look_up(ROOT, b"nothing").unwrap().is_none());
    assert_eq!(read(&view, "app/empty", 0, 10).await.unwrap(), b"");
    assert_eq!(world.registry.fetched(), 0, "names and attributes are there");

    let big = &world.files[Path::new("app/big")];
    assert_eq!(read(&view, "app/big", 2_500_000, 1000).await.unwrap(), big[2_500_000..2_501_000]);
    let one = world.registry.fetched();
    assert!(one > 1000 && one < 2_200_000, "{one}");
    assert_eq!(read(&view, "app/big", 2_500_000, 1000).await.unwrap(), big[2_500_000..2_501_000]);
    assert_eq!(world.registry.fetched(), one, "once");
    assert!(view.remote.waited() > std::time::Duration::ZERO);
    for (path, content) in &world.files {
        let seen = read(&view, path.to_str().unwrap(), 0, 6_000_000).await.unwrap();
        assert!(&seen == content, "{}", path.display());
        assert!(&fs::read(world.layer().join(TREE).join(path)).unwrap() == content, "in the store too");
    }
    assert!(view.is_whole());
    view.layers[0].complete().unwrap();
    assert!(!index::is_partial(&world.layer()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_not_what_the_index_says_reaches_nobody() {
    let world = world();
    let (view, complaints) = world.view(true);
    *world.registry.meddle.lock() = Some(Box::new(|_, bytes| {
        let last = bytes.len() - 100;
        bytes[last / 2] ^= 1;
        206
    }));
    assert_eq!(read(&view, "app/sub/other", 0, 100).await, Err(Errno::IO));
    assert_eq!(complaints.load(Ordering::Relaxed), 1);
    assert!(world.registry.parts.lock().len() >= 2, "it is asked for once more");
    *world.registry.meddle.lock() = None;
    assert_eq!(
        read(&view, "app/sub/other", 0, 100).await.unwrap(),
        world.files[Path::new("app/sub/other")][..100]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_fails_for_a_while_is_waited_for() {
    let world = world();
    let (view, complaints) = world.view(true);
    let failures = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&failures);
    *world.registry.meddle.lock() = Some(Box::new(move |_, bytes| {
        if count.fetch_add(1, Ordering::Relaxed) < 2 {
            bytes.clear();
            return 503;
        }
        206
    }));
    assert_eq!(read(&view, "app/small", 0, 100).await.unwrap(), b"hello");
    assert_eq!((failures.load(Ordering::Relaxed), complaints.load(Ordering::Relaxed)), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_parts_or_with_others_gives_nothing() {
    let world = world();
    let (view, _) = world.view(true);
    *world.registry.meddle.lock() = Some(Box::new(|_, bytes| {
        bytes.pop();
        206
    }));
    let session = |layer: Arc<Partial>| async move { layer.fetch(0..1, &view.remote, Urgency::Now).await };
    assert!(matches!(&*session(world.open(true)).await.unwrap_err(), Error::Unreachable(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_looked_at() {
    let world = world();
    let (view, _) = world.view(true);
    view.layers[0].fetch_all(&view.remote).await.unwrap();
    let all = world.registry.fetched();
    drop(view);
    // A page that did not reach the disk.
    let file = fs::File::options().write(true).open(world.layer().join(TREE).join("app/big")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 4096], 3_000_000).unwrap();
    let (view, _) = world.view(false);
    for (path, content) in &world.files {
        assert!(
            &read(&view, path.to_str().unwrap(), 0, 6_000_000).await.unwrap() == content,
            "{}",
            path.display()
        );
    }
    let again = world.registry.fetched() - all;
    assert!(again > 0 && again < 1_100_000, "one part of {all}: {again}");
    assert!(view.is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_is_fetched_ahead() {
    let world = world();
    let (view, _) = world.view(true);
    read(&view, "app/big", 3_100_000, 10).await.unwrap();
    read(&view, "app/small", 0, 10).await.unwrap();
    view.layers[0].touched.lock().keep();
    // The layer goes and comes again.
    fs::remove_dir_all(world.layer()).unwrap();
    fs::create_dir(world.layer()).unwrap();
    index::outline(&world.index, &world.table, &world.layer(), Budget::default()).unwrap();
    let (view, _) = world.view(true);
    let before = world.registry.fetched();
    view.layers[0].fetch_touched(&view.remote).await.unwrap();
    let ahead = world.registry.fetched() - before;
    assert!(ahead > 1_000_000 && ahead < 1_200_000, "{ahead}");
    read(&view, "app/big", 3_100_000, 10).await.unwrap();
    read(&view, "app/small", 0, 10).await.unwrap();
    assert_eq!(world.registry.fetched() - before, ahead);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_want_the_same_have_it_fetched_once() {
    let world = world();
    let (view, _) = world.view(true);
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let view = Arc::clone(&view);
            tokio::spawn(async move { read(&view, "app/big", 0, 4096).await.unwrap() })
        })
        .collect();
    for read in reads {
        assert!(read.await.unwrap() == world.files[Path::new("app/big")][..4096]);
    }
    assert_eq!(world.registry.parts.lock().len(), 1);
}

#[test]
fn the_kernel_reads_through_the_protocol() {
    let world = world();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (view, _) = world.view(true);
    let small = node(&view, "app/small");
    let body = [&0_u64.to_ne_bytes()[..], &1_u64.to_ne_bytes(), &3_u32.to_ne_bytes(), &[0; 20]].concat();
    let Some(Ok(Bytes::Later(bytes))) = ask(&*view, 15, small, &body) else { panic!("it is not there yet") };
    assert_eq!(runtime.block_on(bytes).unwrap(), b"ell");
    let Some(Ok(Bytes::Now(bytes))) = ask(&*view, 15, small, &body) else { panic!("it is there") };
    assert_eq!(bytes, b"ell");
    assert!(matches!(ask(&*view, 15, 4711, &body), Some(Err(Errno::STALE))));
}

/// Makes a layer of an index that somebody with bad intentions wrote.
fn hostile(entries: &serde_json::Value) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let text = serde_json::json!({ "version": 1, "entries": entries }).to_string();
    let index = Index { blob: Digest::of(b"blob"), size: 2000, end: 1000, toc: Digest::of(text.as_bytes()) };
    let made = index::outline(&index, text.as_bytes(), dir.path(), Budget { bytes: 1 << 20, entries: 100 });
    let opened = made.and_then(|_| Partial::open(dir.path(), Touched::default(), true));
    assert!(!dir.path().parent().unwrap().join("escaped").exists());
    opened.map(drop).map_err(|error| error.to_string())
}

#[test]
fn an_index_makes_nothing_outside_its_layer() {
    use serde_json::json;
    let file = |name: &str, size: u64| json!({ "name": name, "type": "reg", "size": size, "offset": 1, "chunkDigest": Digest::of(b"").to_string() });
    let link = |name: &str, to: &str| json!({ "name": name, "type": "symlink", "linkName": to });
    let hard = |name: &str, to: &str| json!({ "name": name, "type": "hardlink", "linkName": to });
    hostile(&json!([file("a", 5), hard("b", "a"), link("c", "/etc/passwd")])).unwrap();
    for (problem, entries) in [
        ("leads out", json!([file("../escaped", 5)])),
        ("something else is in its place", json!([link("d", ".."), file("d/escaped", 5)])),
        (
            "something else is in its place",
            json!([link("d", "e"), json!({ "name": "e", "type": "dir" }), file("d/f", 5)]),
        ),
        ("lists it twice", json!([file("a", 5), file("a", 5)])),
        ("something else is in its place", json!([file("a", 5), file("a", 6)])),
        ("something else is in its place", json!([file("a", 5), link("a", "b")])),
        ("lists it twice", json!([file("a", 5), file("b", 5), hard("b", "a")])),
        ("not in its layer", json!([hard("b", "/etc/passwd")])),
        ("too large", json!([file("a", 2 << 20)])),
        (
            "entries",
            json!((0..200).map(|n| json!({ "name": format!("d{n}"), "type": "dir" })).collect::<Vec<_>>()),
        ),
    ] {
        let error = hostile(&entries).expect_err(&entries.to_string());
        assert!(error.contains(problem), "{error}, not {problem}: {entries}");
    }
}

#[test]
fn a_table_is_what_the_manifest_says() {
    let world = world();
    let mut other = world.table.clone();
    other[30] ^= 1;
    fs::write(world.layer().join("toc.json"), other).unwrap();
    assert!(Partial::open(&world.layer(), Touched::default(), true).is_err());
    let member = |text: &[u8]| {
        let mut archive = crate::tar::tests::file(toc::NAME, text);
        archive.extend([0; 1024]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive).unwrap();
        gzip.finish().unwrap()
    };
    let digest = Digest::of(&world.table);
    assert_eq!(toc::text(&member(&world.table), &digest).unwrap(), world.table);
    let error = toc::text(&member(b"{}"), &digest).unwrap_err().to_string();
    assert!(error.contains("not what the manifest says"), "{error}");
    assert!(toc::text(b"nonsense", &digest).is_err());
}
