//! Layers over each other: what the upper ones take away, replace and keep.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::json;

use crate::layout::World;
use crate::tarball::Tarball;

fn merged(layers: &[Vec<u8>]) -> (World, PathBuf) {
    let world = World::new();
    world.image(layers);
    let root = world.pull().unwrap().stored.root;
    (world, root)
}

#[test]
fn whiteouts_take_away_what_is_below_and_nothing_else() {
    let (world, root) = merged(&[
        Tarball::default().file("a/one", b"").file("a/two", b"").file("b/deep/x", b"").file("c", b"").end(),
        Tarball::default().file("a/.wh.one", b"").file(".wh.b", b"").file("a/.wh.absent", b"").end(),
        // In whatever order, a whiteout is not about its own layer.
        Tarball::default().file("c", b"new").file(".wh.c", b"").end(),
    ]);
    assert!(!root.join("a/one").exists() && root.join("a/two").exists() && !root.join("b").exists());
    assert_eq!(fs::read(root.join("c")).unwrap(), b"new");
    let names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".wh.")), "{names:?}");
    drop(world);
}

#[test]
fn opaque_folders_begin_empty() {
    let (_world, root) = merged(&[
        Tarball::default().file("d/old", b"").folder("d/sub").file("e/old", b"").end(),
        Tarball::default().file("d/new", b"").file("d/.wh..wh..opq", b"").end(),
    ]);
    let names: Vec<_> =
        fs::read_dir(root.join("d")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["new"]);
    assert!(root.join("e/old").exists());
}

#[test]
fn whiteouts_reach_nothing_outside() {
    let world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"").unwrap();
    let below =
        Tarball::default().symlink("out", outside.to_str().unwrap()).folder("d").file("d/f", b"").end();
    let above =
        Tarball::default().file("out/.wh.file", b"").file("out/.wh..wh..opq", b"").folder("out/inner").end();
    world.image(&[below, above]);
    let root = world.pull().unwrap().stored.root;
    assert!(outside.join("file").exists());
    assert!(
        root.join("out").is_dir() && !root.join("out").is_symlink(),
        "a folder replaces a link, as in overlayfs"
    );
    for bad in [".wh.", "d/.wh...", "d/.wh.."] {
        let problem = crate::layout::problem(World::new().unpack(Tarball::default().file(bad, b"").end()));
        assert!(problem.contains("takes away something outside"), "{bad}: {problem}");
    }
}

#[test]
fn kinds_replace_each_other() {
    let (_world, root) = merged(&[
        Tarball::default().file("f", b"").folder("d").file("d/x", b"").symlink("l", "f").end(),
        Tarball::default().folder("f").file("f/y", b"").file("d", b"flat").file("l", b"real").end(),
    ]);
    assert!(root.join("f/y").exists());
    assert_eq!(fs::read(root.join("d")).unwrap(), b"flat");
    assert!(!root.join("l").is_symlink());
}

#[test]
fn instances_find_what_they_mount_on_and_their_user() {
    let world = World::new();
    let passwd = "root:x:0:0:root:/root:/bin/sh";
    let layer = Tarball::default()
        .symlink("dev", "/etc")
        .file("proc", b"")
        .file("etc/passwd", passwd.as_bytes())
        .symlink("etc/hosts", "/etc/passwd");
    world.image_with(&[layer.end()], json!({ "WorkingDir": "/srv/app" }));
    let root = world.pull().unwrap().stored.root;
    for place in ["dev", "proc", "tmp", "srv/app"] {
        assert!(root.join(place).is_dir() && !root.join(place).is_symlink(), "{place}");
    }
    assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "127.0.0.1 localhost\n");
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert_eq!(users, format!("{passwd}\nsandbox:x:993:993::/tmp:/sbin/nologin\n"));
}

#[test]
fn images_share_the_files_of_a_common_layer() {
    let world = World::new();
    let base = Tarball::default().file("lib", &[7; 5000]).file("etc/passwd", b"").end();
    world.image(&[base.clone(), Tarball::default().file("one", b"1").end()]);
    let one = world.pull().unwrap();
    world.image(&[base, Tarball::default().file("two", b"2").end()]);
    let two = world.pull().unwrap();
    let inode = |root: &PathBuf, name: &str| fs::metadata(root.join(name)).unwrap().ino();
    let roots = (&one.stored.root, &two.stored.root);
    assert_eq!(inode(roots.0, "lib"), inode(roots.1, "lib"));
    assert_ne!(inode(roots.0, "etc/passwd"), inode(roots.1, "etc/passwd"), "each image's own");
    assert_eq!((world.kept("layers").len(), world.kept("images").len()), (3, 2));
}
