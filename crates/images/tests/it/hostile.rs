//! Archives that are after the host: nothing is made outside, and nothing stays.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use crate::layout::{World, gzip, problem};
use crate::tarball::Tarball;

/// Pulls, expects a refusal that says this, and that nothing of it is left.
fn refused(world: &World, layer: Vec<u8>, said: &str) {
    let problem = problem(world.unpack(layer));
    assert!(problem.contains(said), "{said}: {problem}");
    for kind in ["layers", "images", ".staging"] {
        assert_eq!(world.kept(kind), Vec::<String>::new(), "{said}: {kind}");
    }
}

#[test]
fn paths_that_lead_out_are_refused() {
    let world = World::new();
    for bad in ["../evil", "a/../../evil", "a/..", "/../evil"] {
        refused(&world, Tarball::default().file(bad, b"x").end(), "its path leads out of the image");
    }
    assert!(!world.path("evil").exists() && !world.path("store/evil").exists());
}

#[test]
fn what_is_absolute_is_inside() {
    let world = World::new();
    let pulled = world.unpack(Tarball::default().file("/etc/motd", b"inside").end()).unwrap();
    assert_eq!(fs::read(pulled.stored.root.join("etc/motd")).unwrap(), b"inside");
}

#[test]
fn nothing_is_written_through_a_link_out() {
    let world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"before").unwrap();
    let out = outside.to_str().unwrap();
    // Each would be a write into the folder outside, if its link were followed by the host.
    let layer = Tarball::default()
        .folder(out)
        .symlink("a", out)
        .file("a/file", b"evil")
        .symlink("b", &format!("{out}/file"))
        .file("b", b"evil")
        .symlink("up", "../../../../../../../../../../..")
        .file(&format!("up{out}/file"), b"evil")
        .symlink("self", "/proc/self/root")
        .folder("proc/self")
        .end();
    let pulled = world.unpack(layer).unwrap();
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"before");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // They went to the same paths inside.
    assert_eq!(fs::read(pulled.stored.root.join(&out[1..]).join("file")).unwrap(), b"evil");
    assert_eq!(fs::read(pulled.stored.root.join("b")).unwrap(), b"evil");
    assert!(pulled.stored.root.join("a").is_symlink());
}

#[test]
fn hard_links_stay_inside() {
    let world = World::new();
    let secret = world.path("secret");
    fs::write(&secret, b"secret").unwrap();
    let path = secret.to_str().unwrap();
    let missing = "hard link to something that is not in its layer";
    refused(&world, Tarball::default().hard_link("x", path).end(), missing);
    let through = Tarball::default().symlink("out", world.dir.path().to_str().unwrap());
    refused(&world, through.hard_link("x", "out/secret").end(), missing);
    refused(&world, Tarball::default().hard_link("x", "../secret").end(), "leads out");
    refused(&world, Tarball::default().folder("d").hard_link("x", "d").end(), "hard link to a folder");
    // One to a link is to the link.
    let pulled = world.unpack(Tarball::default().symlink("l", path).hard_link("x", "l").end()).unwrap();
    assert!(pulled.stored.root.join("x").is_symlink());
}

#[test]
fn devices_and_rights_do_not_come_out() {
    let world = World::new();
    let layer = Tarball::default()
        .entry("disk", b'4', "", 0o666, b"")
        .entry("tty", b'3', "", 0o666, b"")
        .entry("pipe", b'6', "", 0o666, b"")
        .entry("su", b'0', "", 0o4755, b"x")
        .entry("group", b'0', "", 0o2711, b"x")
        .entry("shadow", b'0', "", 0o000, b"x")
        .entry("closed", b'5', "", 0o7000, b"")
        .end();
    let pulled = world.unpack(layer).unwrap();
    let root = &pulled.stored.root;
    for special in ["disk", "tty", "pipe"] {
        assert!(!root.join(special).exists(), "{special}");
    }
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("su"), mode("group"), mode("shadow"), mode("closed")], [0o755, 0o755, 0o644, 0o755]);
    let all = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_type().unwrap());
    assert!(all.into_iter().all(|kind| !kind.is_block_device() && !kind.is_char_device() && !kind.is_fifo()));
    assert_eq!(fs::metadata(root.join("su")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn sizes_that_lie_are_refused() {
    let world = World::new();
    let giant = (8 << 30) - 1;
    refused(&world, Tarball::default().lying("x", b'0', "", 0o644, b"y", giant).cut(), "ends in the middle");
    refused(&world, Tarball::default().lying("x", b'0', "", 0o644, b"y", 4000).end(), "ends in the middle");
    refused(&world, Tarball::default().lying("x", b'S', "", 0o644, b"", giant).end(), "sparse");
    let sparse = b"22 GNU.sparse.major=1\n";
    refused(&world, Tarball::default().entry("x", b'x', "", 0o644, sparse).file("y", b"").end(), "sparse");
    refused(&world, Tarball::default().lying("x", b'L', "", 0o644, b"", giant).cut(), "too large");
    refused(&world, b"this is no archive at all".repeat(40), "a number in a header is none");
}

#[test]
fn names_and_depths_are_bounded() {
    let world = World::new();
    let pax = |path: &str| {
        let rest = path.len() + " path=\n".len();
        let length = (rest + 3..).find(|length| length.to_string().len() + rest == *length).unwrap();
        format!("{length} path={path}\n")
    };
    let named = |path: &str| {
        Tarball::default().entry("x", b'x', "", 0o644, pax(path).as_bytes()).file("y", b"").end()
    };
    refused(&world, named(&"d/".repeat(130)), "too many folders");
    refused(&world, named(&"n".repeat(256)), "a name in its path is too long");
    refused(&world, named(&"n/".repeat(2100)), "its path is too long");
    assert!(world.unpack(named(&format!("{}/x", "n".repeat(255)))).is_ok());
}

#[test]
fn links_do_not_lead_deeper_than_paths_may() {
    let deep = "d/".repeat(49);
    let layer = |links: usize| {
        // Each link leads to the end of a chain of folders that begins at the end of the one before.
        (0..links).fold(Tarball::default(), |tar, link| {
            let start = if link == 0 { String::new() } else { format!("l{}/", link - 1) };
            tar.folder(&format!("{start}{deep}d")).symlink(&format!("l{link}"), &format!("{start}{deep}d"))
        })
    };
    refused(&World::new(), layer(30).end(), "too many folders");
    assert!(World::new().unpack(layer(2).file("l1/x", b"").end()).is_ok());
}

#[test]
fn what_layers_take_away_is_bounded() {
    // The tail of a path that is as long as paths may be; each whiteout takes some kilobytes.
    let long = "n".repeat(200);
    let path = format!("{}/.wh.x", vec![long; 20].join("/"));
    let layer = (0..4200)
        .fold(Tarball::default(), |tar, _| tar.entry("x", b'L', "", 0o644, path.as_bytes()).file("y", b""));
    refused(&World::new(), layer.end(), "takes too much away");
}

#[test]
fn what_occurs_twice_is_what_came_last() {
    let world = World::new();
    let layer = Tarball::default()
        .file("x", b"first")
        .hard_link("y", "x")
        .file("x", b"second")
        .folder("z/inner")
        .file("z", b"a file now")
        .file("w", b"")
        .folder("w")
        .file("w/inner", b"")
        .hard_link("x", "x")
        .end();
    let root = world.unpack(layer).unwrap().stored.root;
    assert_eq!(fs::read(root.join("x")).unwrap(), b"second");
    assert_eq!(fs::read(root.join("y")).unwrap(), b"first", "a file is replaced, not written over");
    assert_eq!(fs::read(root.join("z")).unwrap(), b"a file now");
    assert!(root.join("w/inner").exists());
    refused(&World::new(), Tarball::default().file("f", b"").file("f/below", b"").end(), "not a folder");
}

#[test]
fn blobs_that_are_not_what_they_say_are_refused() {
    let world = World::new();
    let layer = Tarball::default().file("x", b"hello").end();
    let corrupted = |change: &dyn Fn(&mut Vec<u8>)| {
        let manifest = world.image(std::slice::from_ref(&layer));
        assert!(manifest.is_object());
        let path = world.path("layout/blobs/sha256").join(images::Digest::of(&gzip(&layer)).hex());
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let problem = problem(world.pull());
        assert_eq!(world.kept("layers"), Vec::<String>::new());
        problem
    };
    let byte = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    assert!(corrupted(&byte(30)).contains("is not what its digest says"));
    assert!(corrupted(&byte(0)).contains("is not what its digest says"));
    assert!(corrupted(&|bytes| bytes.truncate(40)).contains("shorter than its size"));
    assert!(corrupted(&|bytes| bytes.push(0)).contains("is not what its digest says"));
}

#[test]
fn a_layer_must_be_the_one_that_the_configuration_lists() {
    let world = World::new();
    let (good, other) = (Tarball::default().file("x", b"1").end(), Tarball::default().file("x", b"2").end());
    let config = serde_json::json!({
        "os": "linux", "architecture": crate::layout::ARCHITECTURE,
        "rootfs": { "type": "layers", "diff_ids": [images::Digest::of(&good)] },
    });
    world.manifest(&config, &[world.blob(&gzip(&other))]);
    assert!(problem(world.pull()).contains("not what the image's configuration says"));
    assert_eq!(world.kept("layers"), Vec::<String>::new());
}

#[test]
fn layouts_lead_nowhere_else() {
    let world = World::new();
    let manifest = world.image(&[Tarball::default().file("x", b"").end()]);
    let digest = manifest["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let blob = world.path("layout/blobs/sha256").join(digest);
    fs::rename(&blob, world.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), &blob).unwrap();
    assert!(problem(world.pull()).contains("does not exist"), "a link to an absolute path is one inside");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outside = runtime.block_on(world.images.pull("1", "oci:/etc", None));
    assert!(problem(outside).contains("not in a folder that the server takes images from"));
}
