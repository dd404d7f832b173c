//! Layers in parts, from what `virga build` packs to what an instance reads, with a registry that misbehaves.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::index::{self, Index};
use super::meter::{Meter, Outcome};
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

/// A registry of one blob, which keeps connections open.
struct Registry {
    address: String,
    connections: Arc<AtomicU32>,
    parts: Arc<Mutex<Vec<(u64, usize)>>>,
    meddle: Arc<Mutex<Option<Meddle>>>,
}

impl Registry {
    fn start(blob: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (parts, meddle) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
        let connections = Arc::new(AtomicU32::new(0));
        let registry = Self {
            address,
            connections: Arc::clone(&connections),
            parts: Arc::clone(&parts),
            meddle: Arc::clone(&meddle),
        };
        let blob: Arc<[u8]> = blob.into();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::Relaxed);
                let (blob, parts, meddle) = (Arc::clone(&blob), Arc::clone(&parts), Arc::clone(&meddle));
                // One that hangs up is no more than that.
                std::thread::spawn(move || drop(serve(&stream.unwrap(), &blob, &parts, &meddle)));
            }
        });
        registry
    }

    fn fetched(&self) -> usize {
        self.parts.lock().iter().map(|(_, length)| length).sum()
    }
}

fn serve(
    mut stream: &TcpStream,
    blob: &[u8],
    parts: &Mutex<Vec<(u64, usize)>>,
    meddle: &Mutex<Option<Meddle>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let head: Vec<String> =
            lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        if head.is_empty() {
            return Ok(());
        }
        let range = head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.split_once('-'));
        let Some((first, last)) = range else {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        };
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let mut bytes = blob[first..=last].to_vec();
        let status = match &*meddle.lock() {
            Some(meddle) => meddle(first as u64, &mut bytes),
            None => 206,
        };
        if status == HANG_UP {
            return Ok(());
        }
        parts.lock().push((first as u64, bytes.len()));
        let answer = format!(
            "HTTP/1.1 {} X\r\ncontent-range: bytes {first}-{last}/{}\r\ncontent-length: {}\r\n\r\n",
            if status == FALL_SILENT { 206 } else { status },
            blob.len(),
            bytes.len()
        );
        stream.write_all(answer.as_bytes())?;
        if status == FALL_SILENT {
            stream.write_all(&bytes[..bytes.len() / 2])?;
            // Until the other side has had enough.
            return stream.read(&mut [0]).map(drop);
        }
        stream.write_all(&bytes)?;
    }
}

/// What is no status: the registry hangs up instead.
const HANG_UP: u16 = 0;
/// A status after which the registry sends half, and says nothing more.
const FALL_SILENT: u16 = 206 + 1;

/// Remembers how runs went.
#[derive(Default)]
struct Seen(Mutex<Vec<Outcome>>, AtomicU32);

impl Meter for Seen {
    fn received(&self, bytes: u64) {
        self.1.fetch_add(u32::try_from(bytes).unwrap(), Ordering::Relaxed);
    }

    fn part(&self) {}

    fn run(&self, _: Duration, outcome: Outcome) {
        self.0.lock().push(outcome);
    }
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

/// A layer, the digest of its table, and its files.
type Packed = (Vec<u8>, Digest, HashMap<PathBuf, Vec<u8>>);

fn packed() -> Packed {
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
    let (blob, toc) = crate::build::pack_for_tests(&items, "app", dir.path());
    (blob, toc, files)
}

fn world() -> World {
    // Packed once for all tests: it takes a while.
    static PACKED: std::sync::OnceLock<Packed> = std::sync::OnceLock::new();
    let (blob, toc, files) = PACKED.get_or_init(packed).clone();
    let dir = tempfile::tempdir().unwrap();
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

    fn remote(&self, complaints: &Arc<AtomicU32>, seen: Arc<Seen>) -> Arc<Remote> {
        let Ok(Reference::Registry(name)) = Reference::parse(&format!("{}/a/b", self.registry.address))
        else {
            panic!("a name")
        };
        let complaints = Arc::clone(complaints);
        let complain = Arc::new(move |_: &str| {
            complaints.fetch_add(1, Ordering::Relaxed);
        });
        Arc::new(Remote::new(Connector::new(&[], None).unwrap(), name, None, complain, seen))
    }

    fn view(&self, fresh: bool) -> (Arc<View>, Arc<AtomicU32>) {
        let (view, complaints, _) = self.seen(fresh);
        (view, complaints)
    }

    fn seen(&self, fresh: bool) -> (Arc<View>, Arc<AtomicU32>, Arc<Seen>) {
        let (complaints, seen) = (Arc::default(), Arc::<Seen>::default());
        let remote = self.remote(&complaints, Arc::clone(&seen));
        let id = Digest::of(b"image");
        let view = View::open(&id, &self.layer().join(TREE), vec![self.open(fresh)], remote).unwrap();
        (Arc::new(view), complaints, seen)
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
    let (view, complaints, seen) = world.seen(true);
    *world.registry.meddle.lock() = Some(Box::new(|_, bytes| {
        let last = bytes.len() - 100;
        bytes[last / 2] ^= 1;
        206
    }));
    assert_eq!(read(&view, "app/sub/other", 0, 100).await, Err(Errno::IO));
    assert_eq!(complaints.load(Ordering::Relaxed), 1);
    let asked = world.registry.parts.lock().len();
    assert!(asked >= 2, "it is asked for once more");
    assert_eq!(*seen.0.lock(), [Outcome::Invalid]);
    for _ in 0..20 {
        assert_eq!(read(&view, "app/sub/other", 0, 100).await, Err(Errno::IO));
    }
    assert_eq!(world.registry.parts.lock().len(), asked, "whoever asks again at once hears the same");
    assert_eq!(complaints.load(Ordering::Relaxed), 1);
    *world.registry.meddle.lock() = None;
    tokio::time::sleep(crate::limits::FAILED_FOR + Duration::from_millis(100)).await;
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
async fn a_registry_that_breaks_off_gives_nothing() {
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
async fn a_connection_is_used_again() {
    let world = world();
    let (view, _, seen) = world.seen(true);
    let layer = &view.layers[0];
    // From the back, so that each is a run of its own.
    for part in (0..layer.parts.len()).rev() {
        layer.fetch(part..part + 1, &view.remote, Urgency::Now).await.unwrap();
    }
    assert!(view.is_whole());
    let runs = world.registry.parts.lock().len();
    assert!(runs >= 7, "{runs}");
    // A part is there before its answer was read to the end: two may be under way.
    let connections = world.registry.connections.load(Ordering::Relaxed);
    assert!(connections <= 2, "{connections} for {runs} runs");
    assert_eq!(seen.1.load(Ordering::Relaxed) as usize, world.registry.fetched());
    assert!(seen.0.lock().iter().all(|outcome| *outcome == Outcome::Came));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_is_no_failure() {
    let world = world();
    let (view, _) = world.view(true);
    // One try each.
    let range = async || view.remote.range(&world.index.blob, 0, 1000).await?.all().await;
    range().await.unwrap();
    let hung_up = AtomicU32::new(0);
    *world.registry.meddle.lock() = Some(Box::new(move |_, _| {
        // Once: the connection that was kept.
        if hung_up.fetch_add(1, Ordering::Relaxed) == 0 { HANG_UP } else { 206 }
    }));
    range().await.unwrap();
    assert_eq!(world.registry.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_there_before_the_rest_has_come() {
    let world = world();
    let (view, _) = world.view(true);
    *world.registry.meddle.lock() = Some(Box::new(|_, _| FALL_SILENT));
    let layer = &view.layers[0];
    let first = layer.order[0] as usize;
    let fetched = layer.fetch(first..first + 1, &view.remote, Urgency::Whenever);
    tokio::time::timeout(crate::limits::SILENCE / 2, fetched).await.expect("it does not wait").unwrap();
    let [(_, length)] = world.registry.parts.lock()[..] else { panic!("one run") };
    assert!(length > 6_000_000, "{length}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_it_broke_off_is_not_fetched_again() {
    let world = world();
    let (view, _) = world.view(true);
    let layer = &view.layers[0];
    let failures = AtomicU32::new(0);
    *world.registry.meddle.lock() = Some(Box::new(move |_, bytes| {
        // The last byte of the first answer is wrong.
        if failures.fetch_add(1, Ordering::Relaxed) == 0 {
            let last = bytes.len() - 20;
            bytes[last] ^= 1;
        }
        206
    }));
    layer.fetch_all(&view.remote).await.unwrap();
    let runs = world.registry.parts.lock().clone();
    assert_eq!(runs[0].0 + runs[0].1 as u64, runs[1].0 + runs[1].1 as u64, "the same run: {runs:?}");
    assert!(runs[1].1 < 1_600_000, "the last part of it alone: {runs:?}");
}

#[test]
fn a_part_that_is_there_stays_so() {
    let world = world();
    let layer = world.open(false);
    let parts = layer.parts.len();
    for part in 0..parts - 1 {
        layer.settle(part, true);
        // Somebody who looked before it came.
        layer.settle(part, false);
        assert!(layer.is_there(part));
        layer.settle(part, true);
    }
    assert!(!layer.is_whole(), "one is missing");
    layer.settle(parts - 1, true);
    assert!(layer.is_whole());
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
    let offset = std::cell::Cell::new(0);
    let file = |name: &str, size: u64| {
        offset.set(offset.get() + 1);
        let digest = Digest::of(b"").to_string();
        json!({ "name": name, "type": "reg", "size": size, "offset": offset.get(), "chunkDigest": digest })
    };
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
