//! What is kept, and for how long.

use std::fs;
use std::io::Write;

use serde_json::json;

use crate::layout::{ARCHITECTURE, World, problem};
use crate::tarball::Tarball;

fn layer(name: &str) -> Vec<u8> {
    Tarball::default().file(name, name.as_bytes()).end()
}

#[test]
fn layers_go_with_the_last_image_that_has_them() {
    let world = World::new();
    world.image(&[layer("base"), layer("one")]);
    let one = world.pull().unwrap();
    world.image(&[layer("base"), layer("two")]);
    let two = world.pull().unwrap();
    world.images.remove(&one.id).unwrap();
    assert_eq!(world.kept("images").len(), 2, "a pull holds it");
    let (one_id, two_id) = (one.id.clone(), two.id.clone());
    drop(one);
    world.images.remove(&one_id).unwrap();
    assert_eq!((world.kept("images").len(), world.kept("layers").len()), (1, 2));
    assert!(world.images.find(&one_id).is_none() && world.images.find(&two_id).is_some());
    drop(two);
    world.images.remove(&two_id).unwrap();
    for kind in ["images", "layers", ".staging"] {
        assert_eq!(world.kept(kind), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn a_start_keeps_what_is_wanted_and_whole() {
    let mut world = World::new();
    world.image(&[layer("base"), layer("one")]);
    let one = world.pull().unwrap().id;
    world.image(&[layer("base"), layer("two")]);
    let two = world.pull().unwrap().id;
    // What a server that was killed in the middle leaves.
    fs::create_dir_all(world.path("store/.staging/7/tree/etc")).unwrap();
    fs::create_dir_all(world.path("store/layers").join("a".repeat(64)).join("tree")).unwrap();
    fs::create_dir_all(world.path("store/images").join("b".repeat(64)).join("rootfs")).unwrap();
    world.restart(&|id| *id == one);
    assert!(world.images.find(&one).is_some() && world.images.find(&two).is_none());
    assert_eq!((world.kept("images").len(), world.kept("layers").len()), (1, 2));
    assert_eq!(world.kept(".staging"), Vec::<String>::new());
    world.images.remove(&one).unwrap();
    assert_eq!(world.kept("layers"), Vec::<String>::new(), "counted anew");
}

#[test]
fn a_store_that_is_full_says_so_and_takes_more_once_there_is_room() {
    // What a layer takes at once while it comes, and two small ones.
    let world = World::with_room((16 << 20) + 5000);
    world.image(&[layer("one")]);
    let one = world.pull().unwrap().id;
    world.image(&[layer("one"), layer("two")]);
    world.pull().unwrap();
    world.image(&[layer("one"), layer("two"), layer("three")]);
    world.pull().unwrap();
    world.image(&[layer("four")]);
    let problem = problem(world.pull());
    assert!(problem.contains("--images-gb"), "{problem}");
    assert_eq!((world.kept("layers").len(), world.kept(".staging").len()), (3, 0));
    world.image(&[layer("one")]);
    world.pull().expect("what is there takes nothing");
    for id in world.kept("images").iter().filter(|id| *id != one.hex()) {
        world.images.remove(&images::Digest::from_hex(id).unwrap()).unwrap();
    }
    world.image(&[layer("four")]);
    world.pull().unwrap();
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let world = World::new();
    world.image(&[layer("base")]);
    let first = world.pull().unwrap();
    for blob in fs::read_dir(world.path("layout/blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        // The layer's bytes are gone from the source; documents stay.
        if fs::read(blob.path()).unwrap().starts_with(&[0x1f, 0x8b]) {
            fs::remove_file(blob.path()).unwrap();
        }
    }
    assert_eq!(world.pull().unwrap().id, first.id);
}

#[test]
fn layers_come_packed_in_three_ways() {
    for pack in [|bytes: &[u8]| bytes.to_vec(), crate::layout::gzip, zstd_frames] {
        let world = World::new();
        let layer = layer("x");
        let config = json!({
            "os": "linux", "architecture": ARCHITECTURE,
            "rootfs": { "type": "layers", "diff_ids": [images::Digest::of(&layer)] },
        });
        world.manifest(&config, &[world.blob(&pack(&layer))]);
        assert!(world.pull().unwrap().stored.root.join("x").exists());
    }
}

/// As zstd:chunked has it: frames that are skipped, and several that are not.
fn zstd_frames(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
    for part in bytes.chunks(700) {
        out.extend(zstd::encode_all(part, 1).unwrap());
    }
    out
}

#[test]
fn archives_of_docker_save() {
    let world = World::new();
    let (base, top) = (layer("base"), layer("top"));
    let config = json!({
        "os": "linux", "architecture": ARCHITECTURE, "config": { "Cmd": ["/bin/x"] },
        "rootfs": { "type": "layers", "diff_ids": [images::Digest::of(&base), images::Digest::of(&top), images::Digest::of(&base)] },
    });
    let manifest = json!([
        { "Config": "c.json", "RepoTags": ["docker.io/library/app:v1"], "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"] },
    ]);
    let archive = Tarball::default()
        .file("1/layer.tar", &base)
        .file("2/layer.tar", &top)
        .symlink("3/layer.tar", "../1/layer.tar")
        .file("c.json", config.to_string().as_bytes())
        .file("manifest.json", manifest.to_string().as_bytes())
        .end();
    fs::File::create(world.path("app.tar")).unwrap().write_all(&archive).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pull = |tag: &str| {
        let reference = format!("docker-archive:{}{tag}", world.path("app.tar").display());
        runtime.block_on(world.images.pull("1", &reference, None))
    };
    let pulled = pull("").unwrap();
    assert!(pulled.stored.root.join("top").exists());
    assert_eq!(pulled.stored.execution.command, ["/bin/x"]);
    assert!(pull(":library/app:v1").is_ok());
    assert!(problem(pull(":other:v1")).contains("no image of this name"));
    fs::write(world.path("app.tar"), &archive[..archive.len() / 2]).unwrap();
    assert!(problem(pull("")).contains("manifest.json") || problem(pull("")).contains("in the middle"));
}

#[test]
fn images_for_other_machines_are_refused() {
    let world = World::new();
    let config = json!({
        "os": "linux", "architecture": "s390x", "rootfs": { "type": "layers", "diff_ids": [] },
    });
    world.manifest(&config, &[]);
    assert!(problem(world.pull()).contains("the image is for linux/s390x"));
}
