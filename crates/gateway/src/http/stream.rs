//! A connection's socket, and its unhurried end.
//!
//! Closing a socket while the client is still sending makes the kernel reset the connection, and the reset
//! can overtake the answer that says why. So where a request's body may be unread, the socket outlives its
//! connection for a moment: what still comes is thrown away, within bounds.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::gateway::Place;
use crate::limits;

/// Whether a connection ends unhurriedly.
pub(crate) type Linger = Arc<AtomicBool>;

/// Bytes up to which pieces are put together: a plain write of them costs less than a vectored one.
const SMALL: usize = 1024;

/// The slices as one, where they are small.
fn joined<'a>(slices: &[io::IoSlice<'_>], whole: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut end = 0;
    for slice in slices {
        whole.get_mut(end..end + slice.len())?.copy_from_slice(slice);
        end += slice.len();
    }
    Some(&whole[..end])
}

/// A socket with its place among the connections.
pub(crate) struct Stream {
    /// Taken out by `drop` only.
    inner: Option<TcpStream>,
    place: Option<Arc<Place>>,
    linger: Linger,
}

impl Stream {
    pub(crate) fn new(inner: TcpStream, place: Arc<Place>, linger: Linger) -> Self {
        Self { inner: Some(inner), place: Some(place), linger }
    }

    fn socket(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        self.get_mut().inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (Some(socket), Some(place)) = (self.inner.take(), self.place.take()) else { return };
        if self.linger.load(Ordering::Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let _place = place;
                let limit = Duration::from_secs(limits::LINGER_S);
                // Past the limit the client sees a reset, as it would have at once.
                let _ = tokio::time::timeout(limit, drain(socket)).await;
            });
        }
    }
}

async fn drain(mut socket: TcpStream) -> io::Result<()> {
    socket.shutdown().await?;
    let mut waste = vec![0; 16 * 1024];
    let mut left = limits::LINGER_BYTES;
    while left > 0 {
        let idle = Duration::from_secs(limits::LINGER_IDLE_S);
        match tokio::time::timeout(idle, socket.read(&mut waste)).await?? {
            0 => return Ok(()),
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket()?;
        let mut whole = [0; SMALL];
        match joined(slices, &mut whole) {
            Some(bytes) => socket.poll_write(cx, bytes),
            None => socket.poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_one() {
        let mut whole = [0; SMALL];
        let pieces = [io::IoSlice::new(b"head"), io::IoSlice::new(b""), io::IoSlice::new(b"body")];
        assert_eq!(joined(&pieces, &mut whole), Some(&b"headbody"[..]));
        let just = [7; SMALL - 4];
        assert_eq!(
            joined(&[io::IoSlice::new(b"head"), io::IoSlice::new(&just)], &mut whole).unwrap().len(),
            SMALL
        );
        assert_eq!(joined(&[io::IoSlice::new(b"heads"), io::IoSlice::new(&just)], &mut whole), None);
    }
}
