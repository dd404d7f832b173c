//! Every bound with the reason for its value.

use std::time::Duration;

/// Bytes of an image, its layers unpacked (Lambda quotas: 10 GB), and of its layers as they are sent.
pub(crate) const IMAGE_BYTES: u64 = 10 << 30;

/// Bytes of a manifest or index: registries refuse more than 4 MiB.
pub(crate) const MANIFEST_BYTES: u64 = 4 << 20;

/// Bytes of an image's configuration. Its history may be long.
pub(crate) const CONFIG_BYTES: u64 = 4 << 20;

/// Layers of an image: what Docker itself can stack.
pub(crate) const LAYERS: usize = 127;

/// Entries of all layers of an image. Protects the host's inodes; images of a whole desktop have some hundred thousand.
pub(crate) const ENTRIES: u64 = 1_000_000;

/// Bytes of one path and of one link's target (Linux: PATH_MAX).
pub(crate) const PATH_BYTES: usize = 4095;

/// Bytes of one name (Linux: NAME_MAX).
pub(crate) const NAME_BYTES: usize = 255;

/// Folders around an entry. Protects the stack of whoever walks the tree.
pub(crate) const DEPTH: usize = 128;

/// Bytes of an extended header of an archive: it may hold attributes of a file, each of 64 KiB at most.
pub(crate) const EXTENSION_BYTES: u64 = 1 << 20;

/// Files that layers take away.
pub(crate) const WHITEOUTS: usize = 100_000;

/// Bytes of their paths, which are held in memory: so many paths of an ordinary length.
pub(crate) const WHITEOUT_BYTES: usize = 16 << 20;

/// Window of a zstd stream, as a power of two (RFC 8878 recommends that decoders support 8 MB; 128 MB is what the
/// reference decoder takes unless told otherwise).
pub(crate) const ZSTD_WINDOW_LOG: u32 = 27;

/// Times that a download is begun which broke off.
pub(crate) const ATTEMPTS: u32 = 3;

/// Before it is begun again; doubled each time.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How long a registry may take to be connected to.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// How long it may take to answer, or between two parts of a body.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// Redirects followed: registries send a client to their storage, once.
pub(crate) const REDIRECTS: usize = 5;

/// Images pulled at the same time: each takes a core for decompression, and the network.
pub(crate) const PULLS_AT_ONCE: usize = 4;

/// Parts of a body that wait to be unpacked; each is what one read of the network gave, 64 KiB or so at most.
pub(crate) const PARTS_AHEAD: usize = 16;

/// How long a pull may take in all: a registry that sends a byte now and then must not keep the others waiting for good.
pub(crate) const PULL: Duration = Duration::from_secs(30 * 60);
