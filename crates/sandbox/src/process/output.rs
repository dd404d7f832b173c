//! What an instance prints: from the pipe that is its stdout and stderr to the sink.
//!
//! Two readers share the pipe under one lock. A task follows it while the instance runs; and whoever is
//! about to pass an answer on empties it first, so that a call's log lines are in the sink before its
//! answer is out. Bytes reach the sink in the order they were written, never twice.
//!
//! What the task reads is bounded in rate: a program that prints faster finds its pipe full and waits, at the cost of
//! its own time-out and nobody else's processor time. Nothing is lost, and an answer never waits for the rate: what
//! its instance had printed by then fits into the pipe, and is taken along.
//!
//! An answer that carries no log has its lines taken along only where the runtime knows of some: most calls
//! print nothing, and looking costs a system call.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use crate::LogSink;

/// The pipe's default capacity on Linux: one read empties it.
const CHUNK: usize = 64 * 1024;

/// The most that one answer waits for: a child that floods its output must not hold its own answer.
const DRAIN_AT_MOST: usize = 1024 * 1024;

/// Bytes a second that an instance may print in the long run, unless the settings say otherwise: far more than
/// anybody reads, and a hundredth of a core to take.
pub(crate) const BYTES_PER_S: u64 = 4 << 20;

/// The read end of an instance's output.
pub(crate) struct Output {
    pipe: Receiver,
    sink: Arc<dyn LogSink>,
    state: Mutex<State>,
}

/// What whoever reads has for himself.
struct State {
    /// Grows to [`CHUNK`] with the first byte printed: an instance that prints nothing costs nothing.
    buffer: Vec<u8>,
    allowance: Allowance,
}

/// How much may be read yet: a bucket that fills with time and holds [`DRAIN_AT_MOST`].
struct Allowance {
    bytes_per_s: u64,
    /// Below zero after answers that took more along.
    left: i64,
    /// When `left` was right. The clock is read when little is left, not for each line: after a silence as much as
    /// the bucket holds is there twice.
    at: Instant,
}

impl Allowance {
    fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), left: DRAIN_AT_MOST as i64, at: Instant::now() }
    }

    fn spend(&mut self, bytes: usize) {
        self.left = (self.left - bytes as i64).max(-(DRAIN_AT_MOST as i64));
    }

    /// Adds what time has brought.
    fn fill(&mut self) {
        let now = Instant::now();
        let brought = now.duration_since(self.at).as_micros() * u128::from(self.bytes_per_s) / 1_000_000;
        if brought > 0 {
            let room = DRAIN_AT_MOST as i64 - self.left;
            self.left += i64::try_from(brought).unwrap_or(i64::MAX).min(room);
            self.at = now;
        }
    }

    /// How long until a whole chunk may be read; `None`: now.
    fn wait(&mut self) -> Option<Duration> {
        if self.left < CHUNK as i64 {
            self.fill();
        }
        let lacking = u64::try_from(CHUNK as i64 - self.left).ok().filter(|lacking| *lacking > 0)?;
        // Rounded up: to wait too short a time would be to wait twice.
        Some(Duration::from_micros(lacking.saturating_mul(1_000_000) / self.bytes_per_s + 1))
    }
}

impl Output {
    /// Takes the pipe. Must be called inside the async runtime.
    pub(crate) fn new(pipe: OwnedFd, sink: Arc<dyn LogSink>) -> io::Result<Self> {
        let state = State { buffer: Vec::new(), allowance: Allowance::new(BYTES_PER_S) };
        Ok(Self { pipe: Receiver::from_owned_fd(pipe)?, sink, state: Mutex::new(state) })
    }

    /// The same with another bound on its rate.
    pub(crate) fn with_rate(self, bytes_per_s: u64) -> Self {
        self.state.lock().allowance = Allowance::new(bytes_per_s);
        self
    }

    /// Reads until every writer is gone, at the rate at most.
    pub(crate) async fn follow(&self) {
        while self.pipe.readable().await.is_ok() {
            let wait = self.state.lock().allowance.wait();
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
                continue;
            }
            match self.read_all(Self::ask_runtime, Bound::Rate) {
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
        self.read_all(Self::ask_runtime, Bound::Answer).ok();
    }

    /// Hands over what the pipe holds now, without waiting for more.
    pub(crate) fn drain(&self) {
        // Past the runtime, which may not have heard yet that there is something to read.
        self.read_all(|pipe, buffer| Ok(rustix::io::read(pipe, buffer)?), Bound::Answer).ok();
    }

    /// Reads through the runtime, so that it learns when the pipe is empty.
    fn ask_runtime(pipe: &Receiver, buffer: &mut [u8]) -> io::Result<usize> {
        pipe.try_read(buffer)
    }

    /// Reads until the pipe is empty, within a bound; an error is its end.
    fn read_all(
        &self,
        read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>,
        bound: Bound,
    ) -> Result<Found, Ended> {
        let mut state = self.state.lock();
        let most = self.most(&state.allowance, bound);
        let mut total = 0;
        while total < most {
            match self.read_once(&mut state.buffer, most - total, &read) {
                Ok(0) => return Err(Ended),
                Ok(length) => {
                    self.sink.write(&state.buffer[..length]);
                    state.allowance.spend(length);
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

    /// Bytes to read at most.
    fn most(&self, allowance: &Allowance, bound: Bound) -> usize {
        match (bound, usize::try_from(allowance.left)) {
            (Bound::Rate, left) => left.unwrap_or(0).min(DRAIN_AT_MOST),
            (Bound::Answer, Ok(1..)) => DRAIN_AT_MOST,
            // Over its rate: what was printed before the answer is in the pipe; what comes while we read, was not.
            (Bound::Answer, _) => {
                let there = rustix::io::ioctl_fionread(&self.pipe).unwrap_or(0);
                usize::try_from(there).unwrap_or(DRAIN_AT_MOST).min(DRAIN_AT_MOST)
            }
        }
    }

    fn read_once(
        &self,
        buffer: &mut Vec<u8>,
        most: usize,
        read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if !buffer.is_empty() {
            let most = most.min(buffer.len());
            return read(&self.pipe, &mut buffer[..most]);
        }
        let mut first = [0; 512];
        let length = read(&self.pipe, &mut first[..most.min(512)])?;
        buffer.resize(CHUNK, 0);
        buffer[..length].copy_from_slice(&first[..length]);
        Ok(length)
    }
}

/// What bounds a read.
#[derive(Clone, Copy)]
enum Bound {
    /// What the instance may print yet.
    Rate,
    /// What an answer waits for at most.
    Answer,
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
        // At a rate that never makes it wait.
        let output = Arc::new(Output::new(read, Arc::new(Slow)).unwrap().with_rate(1 << 40));
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

    /// Prints without end.
    fn flood(write: OwnedFd) -> std::thread::JoinHandle<usize> {
        std::thread::spawn(move || {
            let mut printed = 0;
            while let Ok(length) = rustix::io::write(&write, &[b'z'; CHUNK]) {
                printed += length;
            }
            printed
        })
    }

    #[tokio::test]
    async fn a_flood_is_read_at_its_rate() {
        let (read, write) = pipe();
        let kept = Arc::new(Kept::default());
        let rate = 1 << 20;
        let output = Arc::new(Output::new(read, kept.clone()).unwrap().with_rate(rate));
        let begun = Instant::now();
        let following = {
            let output = output.clone();
            tokio::spawn(async move { output.follow().await })
        };
        let writer = flood(write);
        // What a full bucket holds comes at once, the next half second's share in half a second.
        let (burst, share) = (DRAIN_AT_MOST, rate as usize / 2);
        while kept.0.lock().len() < burst + share {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(490), "{:?}", begun.elapsed());
        let most = burst + (begun.elapsed().as_secs_f64() * rate as f64) as usize + CHUNK;
        assert!(kept.0.lock().len() <= most, "{} of {most}", kept.0.lock().len());
        // The last reader gone, the writer is told.
        following.abort();
        assert!(following.await.unwrap_err().is_cancelled());
        drop(output);
        let printed = writer.join().unwrap();
        assert!(printed <= kept.0.lock().len() + 2 * CHUNK, "it waited for its reader");
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_the_rate() {
        let (read, write) = pipe();
        rustix::pipe::fcntl_setpipe_size(&write, DRAIN_AT_MOST).unwrap();
        let kept = Arc::new(Kept::default());
        let output = Output::new(read, kept.clone()).unwrap().with_rate(1);
        let line = vec![b'l'; DRAIN_AT_MOST];
        // The second and third are far over a byte a second.
        for round in 1..=3 {
            assert_eq!(rustix::io::write(&write, &line).unwrap(), DRAIN_AT_MOST);
            output.drain();
            assert_eq!(kept.0.lock().len(), round * DRAIN_AT_MOST);
        }
        assert!(output.state.lock().allowance.wait().is_some(), "what answers took along counts");
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
