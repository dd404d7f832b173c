//! Blobs: named by content, whole or absent, never outside their folder.

use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use store::{Blobs, Error};

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[tokio::test]
async fn blobs_are_kept_under_their_digest() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("blobs");
    let blobs = Blobs::open(&folder).unwrap();
    assert_eq!(blobs.put(Bytes::from_static(b"abc")).await.unwrap(), ABC);
    assert_eq!(blobs.put(Bytes::from_static(b"abc")).await.unwrap(), ABC, "twice is once");
    let empty = blobs.put(Bytes::new()).await.unwrap();
    assert_eq!(blobs.path(ABC), folder.join("ba").join("78").join(ABC));
    assert_eq!(std::fs::metadata(blobs.path(ABC)).unwrap().permissions().mode() & 0o777, 0o600);

    let again = Blobs::open(&folder).unwrap();
    assert_eq!(again.get(ABC).await.unwrap().as_deref(), Some(b"abc".as_slice()));
    assert_eq!(again.get(&empty).await.unwrap().as_deref(), Some(b"".as_slice()));
    assert_eq!(again.list().await.unwrap(), [ABC, empty.as_str()]);

    again.remove(ABC).await.unwrap();
    again.remove(ABC).await.unwrap();
    assert_eq!(again.get(ABC).await.unwrap(), None);
    assert_eq!(again.list().await.unwrap(), [empty]);
}

#[tokio::test]
async fn what_is_no_digest_is_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
    let upper = ABC.to_uppercase();
    for bad in ["", "..", "../secret", "../../../etc/passwd", upper.as_str(), &ABC[1..], "ü"] {
        assert!(blobs.path(bad).starts_with(dir.path().join("blobs")), "{bad}");
        assert!(!blobs.path(bad).exists());
        assert_eq!(blobs.get(bad).await.unwrap(), None);
        blobs.remove(bad).await.unwrap();
    }
    assert!(secret.exists());
}

#[tokio::test]
async fn an_interrupted_put_is_cleared_and_its_blob_absent() {
    let dir = tempfile::tempdir().unwrap();
    Blobs::open(dir.path()).unwrap();
    let left = dir.path().join("unfinished").join("7");
    std::fs::write(&left, "half").unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    assert!(!left.exists());
    assert!(blobs.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn damage_is_found_and_mended_by_the_next_put() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    blobs.put(Bytes::from_static(b"abc")).await.unwrap();
    std::fs::write(blobs.path(ABC), b"ab").unwrap();
    assert!(matches!(blobs.get(ABC).await, Err(Error::Io { .. })));
    blobs.put(Bytes::from_static(b"abc")).await.unwrap();
    assert_eq!(blobs.get(ABC).await.unwrap().as_deref(), Some(b"abc".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_put_the_same_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let puts: Vec<_> = (0..32)
        .map(|number| {
            let blobs = blobs.clone();
            tokio::spawn(async move { blobs.put(Bytes::from(vec![number % 4; 10_000])).await.unwrap() })
        })
        .collect();
    for put in puts {
        let digest = put.await.unwrap();
        assert_eq!(blobs.get(&digest).await.unwrap().unwrap().len(), 10_000);
    }
    assert_eq!(blobs.list().await.unwrap().len(), 4);
}
