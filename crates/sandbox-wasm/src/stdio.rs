//! What a guest prints and reads: stdout and stderr as log lines, and a command's answer.
//!
//! Streams are made when the guest asks for them; a guest that prints nothing costs nothing.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sandbox::LogSink;
use wasmtime::format_err;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::worker::Relayed;

/// Bytes that a guest may write in one go.
const WRITE_AT_ONCE: usize = 64 << 10;
/// Bytes of a line that wait for its end, so that calls at the same time do not cut each other's lines.
const LINE: usize = 8 << 10;

/// Where what a call prints goes.
#[derive(Clone)]
pub(crate) enum Log {
    /// The instance's log.
    Here(Arc<dyn LogSink>),
    /// The call's line to the server, in a worker.
    Relayed(Arc<Relayed>),
}

impl Log {
    pub(crate) fn write(&self, bytes: &[u8]) {
        match self {
            Self::Here(sink) => sink.write(bytes),
            Self::Relayed(relayed) => relayed.write(bytes),
        }
    }

    fn has_room(&self) -> bool {
        match self {
            Self::Here(_) => true,
            Self::Relayed(relayed) => relayed.has_room(),
        }
    }

    async fn room(&self) {
        if let Self::Relayed(relayed) = self {
            relayed.room().await;
        }
    }
}

/// Writes to a call's log, by lines.
pub(crate) struct LogStream {
    log: Log,
    line: Vec<u8>,
}

impl LogStream {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, line: Vec::new() }
    }

    fn pass_on(&mut self, bytes: &[u8]) {
        if self.line.is_empty() && bytes.ends_with(b"\n") {
            return self.log.write(bytes);
        }
        self.line.extend_from_slice(bytes);
        let whole = match self.line.iter().rposition(|byte| *byte == b'\n') {
            _ if self.line.len() > LINE => self.line.len(),
            Some(end) => end + 1,
            None => return,
        };
        self.log.write(&self.line[..whole]);
        self.line.drain(..whole);
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.log.write(&self.line);
        }
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.pass_on(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.log.has_room() { WRITE_AT_ONCE } else { 0 })
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {
        self.log.room().await;
    }
}

/// A command's stdout, which is its answer; over the limit the guest is stopped.
#[derive(Clone)]
pub(crate) struct Answer {
    limit: usize,
    state: Arc<Mutex<AnswerState>>,
}

#[derive(Default)]
struct AnswerState {
    bytes: Vec<u8>,
    over: bool,
}

impl Answer {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: Arc::default() }
    }

    /// Whether the guest tried to write more than is allowed.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().over
    }

    /// What was written.
    pub(crate) fn take(&self) -> Bytes {
        std::mem::take(&mut self.state.lock().bytes).into()
    }
}

impl OutputStream for Answer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut state = self.state.lock();
        if bytes.len() > self.limit - state.bytes.len() {
            state.over = true;
            return Err(StreamError::Trap(format_err!("the answer is larger than {} bytes", self.limit)));
        }
        state.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_AT_ONCE)
    }
}

#[async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {}
}
