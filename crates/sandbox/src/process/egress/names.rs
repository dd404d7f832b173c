//! The instance's resolver, at 127.0.0.1:53 inside.
//!
//! Queries are handed to the gate as they came. What is beyond the bound is dropped by UDP, where clients ask again,
//! and waits by TCP.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::pace::Pace;
use crate::egress::Gate;

/// Queries by UDP that are under way at once.
const MAX_QUERIES: usize = 64;
/// Queries by UDP that are taken in a stretch of time.
const MAX_RATE: (u32, Duration) = (200, Duration::from_secs(1));
/// Connections at once, and how long one may be silent.
const MAX_CONNECTIONS: usize = 8;
const SILENCE: Duration = Duration::from_secs(10);
/// Bytes of a query: one question, and what extensions add.
const QUERY: usize = 1232;

/// Serves until the sockets fail.
pub(super) async fn serve(gate: &Gate, datagrams: UdpSocket, streams: TcpListener) {
    let mut queries = FuturesUnordered::new();
    let mut pace = Pace::new(MAX_RATE.0, MAX_RATE.1);
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            ready = datagrams.readable() => {
                if ready.is_err() {
                    return;
                }
                let mut query = [0; QUERY];
                // A longer one is cut, and does not parse then.
                let Ok((length, from)) = datagrams.try_recv_from(&mut query) else { continue };
                let now = Instant::now();
                if queries.len() < MAX_QUERIES && pace.wait_until(now).is_none() {
                    pace.take(now);
                    queries.push(answer(gate, &datagrams, query[..length].to_vec(), from));
                }
            }
            accepted = streams.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => connections.push(converse(gate, stream)),
                // Out of descriptors, for a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(()) = queries.next(), if !queries.is_empty() => {}
            Some(_) = connections.next(), if !connections.is_empty() => {}
        }
    }
}

async fn answer(gate: &Gate, socket: &UdpSocket, query: Vec<u8>, from: SocketAddr) {
    if let Some(answer) = gate.answer(&query, false).await {
        // Whoever asked may be gone.
        let _ = socket.send_to(&answer, from).await;
    }
}

/// Queries one after the other, each behind its length (RFC 7766).
async fn converse(gate: &Gate, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = usize::from(timeout(SILENCE, stream.read_u16()).await??);
        if length > QUERY {
            return Ok(());
        }
        let mut query = vec![0; length];
        timeout(SILENCE, stream.read_exact(&mut query)).await??;
        let Some(answer) = gate.answer(&query, true).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        timeout(SILENCE, stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())).await??;
    }
}
