//! What an instance prints: from the pipe that is its stdout and stderr to the sink.
//!
//! Two readers share the pipe under one lock. A task follows it while the instance runs; and whoever is
//! about to pass an answer on empties it first, so that a call's log lines are in the sink before its
//! answer is out. Bytes reach the sink in the order they were written, never twice.
//!
//! An answer that carries no log has its lines taken along only where the runtime knows of some: most calls
//! print nothing, and looking costs a system call.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::unix::pipe::Receiver;

use crate::LogSink;

/// The pipe's default capacity on Linux: one read empties it.
const CHUNK: usize = 64 * 1024;

/// The most that one answer waits for: a child that floods its output must not hold its own answer.
const DRAIN_AT_MOST: usize = 1024 * 1024;

/// The read end of an instance's output.
pub(crate) struct Output {
    pipe: Receiver,
    sink: Arc<dyn LogSink>,
    /// Grows to [`CHUNK`] with the first byte printed: an instance that prints nothing costs nothing.
    buffer: Mutex<Vec<u8>>,
}

impl Output {
    /// Takes the pipe. Must be called inside the async runtime.
    pub(crate) fn new(pipe: OwnedFd, sink: Arc<dyn LogSink>) -> io::Result<Self> {
        Ok(Self { pipe: Receiver::from_owned_fd(pipe)?, sink, buffer: Mutex::new(Vec::new()) })
    }

    /// Reads until every writer is gone.
    pub(crate) async fn follow(&self) {
        while self.pipe.readable().await.is_ok() {
            match self.take_known() {
                Ok(Found::Nothing) => {}
                // Waiting for what is there already does not give way to others.
                Ok(Found::More) => tokio::task::yield_now().await,
                Err(Ended) => return,
            }
        }
    }

    /// Hands over what the runtime has heard of, without asking the pipe itself. What was printed before an
    /// answer that the runtime had to wait for was heard of with or before that answer.
    pub(crate) fn drain_known(&self) {
        self.take_known().ok();
    }

    /// Reads through the runtime, so that it learns when the pipe is empty.
    fn take_known(&self) -> Result<Found, Ended> {
        self.read_all(|pipe, buffer| pipe.try_read(buffer))
    }

    /// Hands over what the pipe holds now, without waiting for more.
    pub(crate) fn drain(&self) {
        // Past the runtime, which may not have heard yet that there is something to read.
        self.read_all(|pipe, buffer| Ok(rustix::io::read(pipe, buffer)?)).ok();
    }

    /// Reads until the pipe is empty, within a bound; an error is its end.
    fn read_all(&self, read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>) -> Result<Found, Ended> {
        let mut buffer = self.buffer.lock();
        let mut total = 0;
        while total < DRAIN_AT_MOST {
            match self.read_once(&mut buffer, &read) {
                Ok(0) => return Err(Ended),
                Ok(length) => {
                    self.sink.write(&buffer[..length]);
                    total += length;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Found::Nothing),
                Err(error) => {
                    tracing::warn!(%error, "an instance's output cannot be read");
                    return Err(Ended);
                }
            }
        }
        Ok(Found::More)
    }

    fn read_once(
        &self,
        buffer: &mut Vec<u8>,
        read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if !buffer.is_empty() {
            return read(&self.pipe, buffer);
        }
        let mut first = [0; 512];
        let length = read(&self.pipe, &mut first)?;
        buffer.resize(CHUNK, 0);
        buffer[..length].copy_from_slice(&first[..length]);
        Ok(length)
    }
}

/// What is left in the pipe after reading.
enum Found {
    /// Nothing for now.
    Nothing,
    /// More than is read at a time.
    More,
}

/// Every writer is gone.
struct Ended;

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

    /// Is slower than whoever writes, so that the pipe is never found empty.
    struct Slow;

    impl LogSink for Slow {
        fn write(&self, _: &[u8]) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    #[tokio::test]
    async fn a_flood_leaves_others_their_turn() {
        let (read, write) = pipe();
        rustix::pipe::fcntl_setpipe_size(&write, 16 * CHUNK).unwrap();
        let output = Arc::new(Output::new(read, Arc::new(Slow)).unwrap());
        let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writer = tokio::task::spawn_blocking({
            let seen = seen.clone();
            move || {
                // Some seconds for the sink above.
                for number in 0..2_000 {
                    if seen.load(std::sync::atomic::Ordering::Relaxed) {
                        return number;
                    }
                    rustix::io::write(&write, &[b'z'; CHUNK]).unwrap();
                }
                2_000
            }
        });
        let follower = tokio::spawn(async move { output.follow().await });
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        seen.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writer.await.unwrap() < 2_000, "nobody else ran while there was something to read");
        follower.await.unwrap();
    }

    #[tokio::test]
    async fn takes_what_the_runtime_heard_of() {
        let (read, write) = pipe();
        let kept = Arc::new(Kept::default());
        let output = Output::new(read, kept.clone()).unwrap();
        for (text, total) in [("a", "a"), ("b", "ab")] {
            rustix::io::write(&write, text.as_bytes()).unwrap();
            output.pipe.readable().await.unwrap();
            output.drain_known();
            assert_eq!(kept.text(), total);
            output.drain_known();
            assert_eq!(kept.text(), total);
        }
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
