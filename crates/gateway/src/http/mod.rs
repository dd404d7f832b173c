//! HTTP as a proxy sees it: headers, framing, sockets.

pub(crate) mod framing;
pub(crate) mod headers;
pub(crate) mod stream;
pub(crate) mod timer;
