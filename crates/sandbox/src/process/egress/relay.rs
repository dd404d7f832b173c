//! Bytes between a program's connection and the one outside: both ways, each closed by itself, with fixed buffers.
//!
//! A connection that one side resets is reset on the other: a program must not take a broken answer for a whole one.

use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::egress::Counted;

/// Copies until both directions have ended.
pub(super) async fn run(mut inside: TcpStream, mut outside: Counted<TcpStream>) {
    for stream in [&inside, outside.get_ref()] {
        // Only a delay would be lost.
        let _ = stream.set_nodelay(true);
    }
    if copy_bidirectional(&mut inside, &mut outside).await.is_err() {
        reset(&inside);
        reset(outside.get_ref());
    }
}

/// Has the close that follows say that the connection broke.
fn reset(stream: &TcpStream) {
    // It may be gone already.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
