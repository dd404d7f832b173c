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

/// Images of one account that are pulled at the same time: each takes a core for decompression, and the network.
pub(crate) const PULLS_OF_ONE: usize = 4;

/// Images that are pulled at the same time, but that an account which pulls none may always pull one: each holds a thread.
pub(crate) const PULLS_AT_ONCE: usize = 16;

/// Bytes that a layer on its way takes of the store's room at a time.
pub(crate) const ROOM_STEP: u64 = 16 << 20;

/// Parts of a body that wait to be unpacked; each is what one read of the network gave, 64 KiB or so at most.
pub(crate) const PARTS_AHEAD: usize = 16;

/// How long a pull may take in all: a registry that sends a byte now and then must not keep the others waiting for good.
pub(crate) const PULL: Duration = Duration::from_secs(30 * 60);

/// Bytes of a layer's table of contents, uncompressed: some two hundred an entry, which take as many again in memory.
pub(crate) const TOC_BYTES: u64 = 64 << 20;

/// Entries of a layer's table of contents, parts of files among them, which are held in memory: as many as a table of the
/// greatest length has where names are of an ordinary one.
pub(crate) const TOC_ENTRIES: usize = 400_000;

/// Bytes of a part of a file that is fetched for itself, and of what has to be unpacked before it; other tools make 4 MiB, and
/// it is held in memory.
pub(crate) const PART_BYTES: u64 = 8 << 20;

/// Images that are shown before they are all there: each has a thread and some forty descriptors.
pub(crate) const SHOWN: usize = 128;

/// Files and parts that all of them list: some 300 bytes each.
pub(crate) const SHOWN_ENTRIES: u64 = 2_000_000;

/// Bytes of a gzip member's header, with whatever name and comment it has, and its checksum.
pub(crate) const MEMBER_BYTES: u64 = 4096;

/// Bytes of the parts that a layer is made of: what has to be fetched for one byte of a file.
pub(crate) const MADE_PART_BYTES: u64 = 1 << 20;

/// Bytes of a layer, compressed, from which on it is worth to be fetched in parts.
pub(crate) const PARTIAL_BYTES: u64 = 4 << 20;

/// Bytes that are fetched at once where somebody waits for some of them: a request costs as much as so many bytes.
pub(crate) const AHEAD_BYTES: u64 = 1 << 20;

/// Where files are read from one end to the other, and where nobody waits.
pub(crate) const RUN_BYTES: u64 = 8 << 20;

/// Bytes between two parts that are fetched along rather than asked for around.
pub(crate) const GAP_BYTES: u64 = 64 << 10;

/// Requests for parts of one image at the same time where somebody waits.
pub(crate) const RUNS_AT_ONCE: usize = 6;

/// The same for what earlier instances used: fewer, so that whoever waits has most of the line.
pub(crate) const RUNS_AHEAD: usize = 3;

/// MiB that all of them together may hold of what is on its way: two parts of the greatest size, and many of the usual one.
pub(crate) const RUNS_MIB: u32 = 32;

/// Times that a part is asked for, the pauses doubled: some six seconds, beside what the registry takes.
pub(crate) const PART_ATTEMPTS: u32 = 6;

/// How long is waited for a next part; a slow line goes on for as long as it takes.
pub(crate) const PART_PATIENCE: Duration = Duration::from_secs(60);

/// How long parts that could not be had are not asked for anew.
pub(crate) const FAILED_FOR: Duration = Duration::from_millis(500);

/// How often somebody is told that parts of an image cannot be had.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(1);

/// Connections to one registry that are kept for the next request: what one image uses at once.
pub(crate) const KEPT_OF_ONE: usize = 8;

/// Connections that are kept in all.
pub(crate) const KEPT_IN_ALL: usize = 64;

/// How long a connection is kept that nobody uses: less than servers and what is between us and them are known to.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(10);

/// Bytes of what is remembered as used of a layer.
pub(crate) const TOUCHED_BYTES: u64 = 256 << 20;

/// Layers of which that is remembered.
pub(crate) const TOUCHED_LAYERS: usize = 1000;

/// How often what is used is written down, and looked whether all is there.
pub(crate) const KEEP: Duration = Duration::from_secs(1);

/// The longest pause between two tries to complete an image.
pub(crate) const COMPLETE_AGAIN: Duration = Duration::from_secs(60);
