//! What an instance prints: from the pipe that is its stdout and stderr to the sink.
//!
//! Two readers share the pipe under one lock. A task follows it while the instance runs; and whoever is
//! about to pass an answer on empties it first, so that a call's log lines are in the sink before its
//! answer is out. Bytes reach the sink in the order they were written, never twice.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::LogSink;

/// The pipe's default capacity on Linux: one read empties it.
const CHUNK: usize = 64 * 1024;

/// The most that one answer waits for: a child that floods its output must not hold its own answer.
const DRAIN_AT_MOST: usize = 1024 * 1024;

/// The read end of an instance's output.
pub(crate) struct Output {
    pipe: AsyncFd<OwnedFd>,
    sink: Arc<dyn LogSink>,
    /// Grows to [`CHUNK`] with the first byte printed: an instance that prints nothing costs nothing.
    buffer: Mutex<Vec<u8>>,
}

/// What a round of reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    Empty,
    Ended,
}

impl Output {
    /// Takes the pipe, which must be non-blocking. Must be called inside the async runtime.
    pub(crate) fn new(pipe: OwnedFd, sink: Arc<dyn LogSink>) -> std::io::Result<Self> {
        let pipe = AsyncFd::with_interest(pipe, Interest::READABLE)?;
        Ok(Self { pipe, sink, buffer: Mutex::new(Vec::new()) })
    }

    /// Reads until every writer is gone.
    pub(crate) async fn follow(&self) {
        loop {
            let Ok(mut ready) = self.pipe.readable().await else { return };
            match self.read_all() {
                Drained::Empty => ready.clear_ready(),
                Drained::Ended => return,
            }
        }
    }

    /// Hands over what the pipe holds now, without waiting for more.
    pub(crate) fn drain(&self) {
        self.read_all();
    }

    fn read_all(&self) -> Drained {
        let mut buffer = self.buffer.lock();
        let mut total = 0;
        while total < DRAIN_AT_MOST {
            match self.read_once(&mut buffer) {
                Ok(0) => return Drained::Ended,
                Ok(read) => {
                    self.sink.write(&buffer[..read]);
                    total += read;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Drained::Empty,
                Err(error) => {
                    tracing::warn!(%error, "an instance's output cannot be read");
                    return Drained::Ended;
                }
            }
        }
        Drained::Empty
    }

    fn read_once(&self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        if !buffer.is_empty() {
            return rustix::io::read(self.pipe.get_ref().as_fd(), buffer.as_mut_slice());
        }
        let mut first = [0; 512];
        let read = rustix::io::read(self.pipe.get_ref().as_fd(), &mut first)?;
        buffer.resize(CHUNK, 0);
        buffer[..read].copy_from_slice(&first[..read]);
        Ok(read)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keeps everything written to it.
    #[derive(Default)]
    pub(crate) struct Kept(Mutex<Vec<u8>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock()).into_owned()
        }
    }

    impl LogSink for Kept {
        fn write(&self, bytes: &[u8]) {
            self.0.lock().extend_from_slice(bytes);
        }
    }

    /// A non-blocking read end and its write end.
    pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        (read, write)
    }

    #[tokio::test]
    async fn drains_what_is_there_and_does_not_wait() {
        let (read, write) = pipe();
        let kept = Arc::new(Kept::default());
        let output = Output::new(read, kept.clone()).unwrap();
        output.drain();
        assert_eq!(kept.text(), "");
        rustix::io::write(&write, &[b'x'; 3000]).unwrap();
        output.drain();
        rustix::io::write(&write, b"y").unwrap();
        output.drain();
        assert_eq!(kept.text(), "x".repeat(3000) + "y");
    }

    #[tokio::test]
    async fn follows_to_the_end() {
        let (read, write) = pipe();
        let kept = Arc::new(Kept::default());
        let output = Arc::new(Output::new(read, kept.clone()).unwrap());
        let follower = tokio::spawn({
            let output = output.clone();
            async move { output.follow().await }
        });
        let writer = std::thread::spawn(move || {
            for _ in 0..100 {
                rustix::io::write(&write, &[b'z'; 20_000]).unwrap();
            }
        });
        follower.await.unwrap();
        writer.join().unwrap();
        assert_eq!(kept.text().len(), 2_000_000);
    }
}
