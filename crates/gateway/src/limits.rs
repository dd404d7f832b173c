//! Bounds that are not settings, with their reasons.

/// Bytes of a request's head. Common front ends take 8 to 60 KiB.
pub(crate) const HEAD: usize = 32 * 1024;

/// Bytes that a connection buffers in each direction: a slow client's most expensive part.
pub(crate) const BUFFER: usize = 64 * 1024;

/// Bytes of a body that becomes an event (Lambda quotas: invocation payload).
pub(crate) const EVENT_BODY: usize = 6_291_556;

/// Bytes of the head that a streamed answer begins with: as many as a request's may have.
pub(crate) const PRELUDE: usize = HEAD;

/// Bytes that an upgraded connection buffers in each direction.
pub(crate) const TUNNEL_BUFFER: usize = 8 * 1024;

/// Bytes that are read and thrown away so that a client that is still sending sees its refusal.
pub(crate) const LINGER_BYTES: usize = 256 * 1024 * 1024;
/// Seconds that this may take in all.
pub(crate) const LINGER_S: u64 = 5;
/// Seconds of silence after which the client has sent what it will.
pub(crate) const LINGER_IDLE_S: u64 = 1;
