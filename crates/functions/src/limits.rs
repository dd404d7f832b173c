//! Every constant with the reason for its value.
//!
//! "Lambda quotas" is the page of that name in the AWS Lambda developer guide, "Lambda API" its API
//! reference. What has no source there protects the host, and says so.

use std::time::Duration;

/// Bytes of a zip uploaded directly (Lambda quotas: 50 MB).
pub(crate) const ZIPPED_BYTES: usize = 50 << 20;

/// Bytes of a package unpacked (Lambda quotas: 250 MB).
pub(crate) const UNZIPPED_BYTES: u64 = 250 << 20;

/// Bytes of all packages of an account where the operator says nothing (Lambda quotas: 75 GB).
pub(crate) const ACCOUNT_CODE_BYTES: u64 = 75 << 30;

/// Entries of a package. Protects the host's inodes and this process's memory; the largest packages seen
/// in the wild have a few ten thousand.
pub(crate) const PACKAGE_ENTRIES: usize = 100_000;

/// Bytes of all paths of a package, implied folders included. Protects this process's memory; a package of a
/// hundred thousand files has ten million.
pub(crate) const PACKAGE_PATH_BYTES: usize = 32 << 20;

/// Names gone through to see where a package's links lead. Protects a core for a second; a large package has some
/// thousand links of a handful of names each.
pub(crate) const LINK_STEPS: usize = 1_000_000;

/// Bytes of one path in a package (Linux: PATH_MAX, less the folder in front).
pub(crate) const PATH_BYTES: usize = 2048;

/// Bytes of one name in a package (Linux: NAME_MAX).
pub(crate) const NAME_BYTES: usize = 255;

/// Links followed before a chain counts as a loop (Linux: MAXSYMLINKS).
pub(crate) const LINK_HOPS: usize = 40;

/// Packages unpacked at the same time: they cost a core and disk bandwidth each.
pub(crate) const UNPACKING_AT_ONCE: usize = 2;

/// Versions prepared at the same time: compiling a component takes all it gets.
pub(crate) const PREPARING_AT_ONCE: usize = 2;

/// Images being fetched, or waiting for the store of images to fetch them: it has a bound of its own, and one that
/// waits costs little.
pub(crate) const FETCHING_AT_ONCE: usize = 64;

/// After how long an outcome that could not be written down is tried again: a disk that is full stays so for a while.
pub(crate) const PREPARE_AGAIN: Duration = Duration::from_secs(1);

/// Bytes of an event and of its answer (Lambda quotas: 6 MB each; the exact number is the service's own).
pub(crate) const PAYLOAD_BYTES: usize = 6_291_556;

/// Bytes of an answer that is streamed (Lambda quotas: 200 MB).
pub(crate) const STREAM_BYTES: usize = 200 << 20;

/// Bytes of all environment variables together (Lambda quotas: 4 KB).
pub(crate) const ENVIRONMENT_BYTES: usize = 4096;

/// Layers of a function (Lambda quotas: five).
pub(crate) const LAYERS: usize = 5;

/// Characters of a layer's name (Lambda API: PublishLayerVersion).
pub(crate) const LAYER_NAME_CHARS: usize = 140;

/// Bytes of an event that waits (Lambda quotas: asynchronous invocation payload, 1 MB).
pub(crate) const EVENT_BYTES: usize = 1 << 20;

/// Seconds that an event may wait where its function does not say (Lambda API: MaximumEventAgeInSeconds).
pub(crate) const EVENT_AGE_S: u32 = 21_600;

/// Retries after a function's error where it does not say (Lambda API: MaximumRetryAttempts).
pub(crate) const EVENT_RETRIES: u32 = 2;

/// The most that `virga:async-retries` asks for: EventBridge's number.
pub(crate) const MOST_EVENT_RETRIES: u32 = 185;

/// `Timeout`, seconds (Lambda API: CreateFunction).
pub(crate) const TIMEOUT_S: std::ops::RangeInclusive<u32> = 1..=900;

/// `virga:async-timeout`, seconds: a day. A call that nobody waits for holds nothing but its instance.
pub(crate) const ASYNC_TIMEOUT_S: std::ops::RangeInclusive<u32> = 1..=86_400;

/// `MemorySize`, MB (Lambda API: CreateFunction).
pub(crate) const MEMORY_MB: std::ops::RangeInclusive<u32> = 128..=10_240;

/// `EphemeralStorage`, MB (Lambda API: CreateFunction).
pub(crate) const EPHEMERAL_MB: std::ops::RangeInclusive<u32> = 512..=10_240;

/// Characters of a description (Lambda API: CreateFunction).
pub(crate) const DESCRIPTION_CHARS: usize = 256;

/// Bytes of a handler (Lambda API: CreateFunction).
pub(crate) const HANDLER_BYTES: usize = 128;

/// Bytes of a function's name (Lambda API: CreateFunction).
pub(crate) const NAME_CHARS: usize = 64;

/// Code signing configurations of an account. Lambda documents no number; protects memory.
pub(crate) const CODE_SIGNING_CONFIGS: usize = 1000;

/// Signing profiles of an account. Protects memory.
pub(crate) const SIGNING_PROFILES: usize = 1000;

/// Keys that a signing profile has had. Protects memory; a key a month comes to eight years.
pub(crate) const PROFILE_VERSIONS: usize = 100;

/// Signatures of an account that were revoked one by one. Protects memory; a whole key is revoked with its profile.
pub(crate) const SIGNING_REVOCATIONS: usize = 100_000;

/// Aliases of a function. Lambda documents no number; protects the size of what a change copies.
pub(crate) const ALIASES: usize = 1000;

/// Tags of a function (Lambda: Using tags).
pub(crate) const TAGS: usize = 50;

/// Characters of a tag's key (Lambda: Using tags).
pub(crate) const TAG_KEY_CHARS: usize = 128;

/// Characters of a tag's value (Lambda: Using tags).
pub(crate) const TAG_VALUE_CHARS: usize = 256;

/// Characters of a host name (RFC 1035 §2.3.4).
pub(crate) const DOMAIN_CHARS: usize = 253;

/// Items of a page of a listing (Lambda API: ListFunctions answers at most 50 whatever was asked for).
pub(crate) const PAGE_ITEMS: usize = 50;

/// Calls in flight per web-server instance: what scaling aims at. Cloud Run's default is 80.
pub(crate) const SOFT_CONCURRENCY_HTTP: u32 = 80;

/// Calls in flight per web-server instance: never exceeded.
pub(crate) const HARD_CONCURRENCY_HTTP: u32 = 100;

/// Calls in flight per version where one handle serves them all: a WebAssembly guest or an open file each.
pub(crate) const CONCURRENCY_SHARED: u32 = 1000;

/// Where a web server listens when nothing is said: what Cloud Run and its kin tell it.
pub(crate) const PORT: u16 = 8080;

/// Processes and threads of an instance (Lambda quotas: 1,024).
pub(crate) const PIDS: u32 = 1024;

/// How long an instance's credentials last, where its longest call is no longer than Lambda's.
pub(crate) const SESSION: Duration = Duration::from_secs(12 * 3600);

/// How much longer than its longest call an instance's credentials last at least: starting, and a clock that is off.
pub(crate) const SESSION_SPARE: Duration = Duration::from_secs(3600);

/// An idle instance older than this is stopped, so that none outlives its credentials.
pub(crate) const INSTANCE_AGE: Duration = Duration::from_secs(10 * 3600);

/// How often pools are looked after: calls that wait too long are sent away, idle instances are suspended.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// Ticks to a second, which is how often the rest of it is done.
pub(crate) const TICKS_A_SECOND: u64 = 2;

/// After how long an idle instance is suspended: a steady caller's next call comes sooner.
pub(crate) const FREEZE_AFTER: Duration = Duration::from_millis(500);

/// How often back ends are asked what they keep in memory, in seconds: asking may cost them a look at each of it.
pub(crate) const RESIDENTS_EVERY_S: u64 = 5;

/// What is left each second of the count of calls that evictions go by: half after five minutes.
pub(crate) const FREQUENCY_KEPT: f64 = 0.997_692;

/// How long an idle instance is left alone by functions that hold no less: the next call of a trickle finds it.
pub(crate) const LEFT_ALONE: Duration = Duration::from_secs(10);

/// How long a function waits for room before others are asked again to give way, and the least that functions
/// which have to take turns get. Looked at once a second, so a little less than that.
pub(crate) const TURN: Duration = Duration::from_millis(900);

/// After how long an instance that is to be kept ready and did not come up is started again.
pub(crate) const STANDBY_AGAIN: Duration = Duration::from_secs(5);

/// How long a new version's first instance is waited for before calls go to it.
pub(crate) const WARMED_WITHIN: Duration = Duration::from_secs(10);

/// After how long a refused caller should try again where nothing is known: a start takes about as long.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The least and the most that a refused caller is told.
pub(crate) const RETRY_SOONEST: Duration = Duration::from_millis(50);
/// See [`RETRY_SOONEST`].
pub(crate) const RETRY_LATEST: Duration = Duration::from_secs(30);

/// Words of an image's entry point, or of its command (Lambda API: ImageConfig).
pub(crate) const IMAGE_WORDS: usize = 1500;

/// Bytes of these. They go to pid 1 in one message, together with the environment.
pub(crate) const IMAGE_WORDS_BYTES: usize = 32 << 10;

/// Characters of the reason that an image function does not come about.
pub(crate) const REASON_CHARS: usize = 2000;

/// Bytes of an image function's working directory (Lambda API: ImageConfig).
pub(crate) const WORKING_DIRECTORY_CHARS: usize = 1000;

/// Bytes of a resource policy (Lambda quotas: function resource-based policy, 20 KB).
pub(crate) const POLICY_BYTES: usize = 20_480;
