//! Writing one stream: lines out of chunks.

use std::sync::Arc;

use base::Clock;
use parking_lot::Mutex;

use super::group::Group;
use super::record;
use super::tail::Tail;

/// The longest line; what is longer becomes several. CloudWatch Logs: 256 KB an event.
const MAX_LINE: usize = 256 << 10;

/// Writes one stream. Every method returns once the bytes are with the kernel: a crash of the server loses
/// nothing that was written, a crash of the host may. An unfinished last line is written on drop.
pub struct LogStream {
    group: Arc<Group>,
    /// As it stands in records.
    name: Vec<u8>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The line whose end has not come yet.
    unfinished: Vec<u8>,
    /// Set while somebody collects one.
    tail: Option<Tail>,
    /// How many do.
    tails: u32,
}

impl LogStream {
    pub(super) fn new(group: Arc<Group>, name: &str, clock: Arc<dyn Clock>) -> Self {
        let mut escaped = Vec::with_capacity(name.len());
        record::escape(&mut escaped, name.as_bytes());
        Self { group, name: escaped, clock, state: Mutex::default() }
    }

    /// Takes output as it comes, cuts it at line ends (LF or CR LF); a line over 256 KiB is cut.
    pub fn write(&self, chunk: &[u8]) {
        self.append(|state, line| {
            let mut rest = chunk;
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                state.extend(&rest[..end], line);
                state.finish(line);
                rest = &rest[end + 1..];
            }
            state.extend(rest, line);
        });
    }

    /// Writes what an unfinished last line holds.
    pub fn flush(&self) {
        self.append(State::flush);
    }

    /// Writes a line of the platform's own, after flushing.
    pub fn line(&self, text: &str) {
        self.lines([text]);
    }

    /// Writes lines of the platform's own (END and REPORT) with one call to the kernel, after flushing.
    pub fn lines<'a>(&self, texts: impl IntoIterator<Item = &'a str>) {
        self.append(|state, line| {
            state.flush(line);
            for text in texts {
                line(state, text.as_bytes());
            }
        });
    }

    /// Collects a tail until [`LogStream::end_tail`]: a call begins. Calls that run at once share it, with what was
    /// written since the first of them began.
    pub fn begin_tail(&self) {
        let mut state = self.state.lock();
        state.tails += 1;
        state.tail.get_or_insert_default();
    }

    /// The last 4 KiB written since [`LogStream::begin_tail`], from the start of a line. Nothing unless one
    /// was begun.
    pub fn tail(&self) -> Vec<u8> {
        self.state.lock().tail.as_ref().map(Tail::read).unwrap_or_default()
    }

    /// The same, and the end of a tail that was begun.
    pub fn end_tail(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        state.tails = state.tails.saturating_sub(1);
        let tail = state.tail.as_ref().map(Tail::read).unwrap_or_default();
        if state.tails == 0 {
            state.tail = None;
        }
        tail
    }

    /// Gathers records and writes them at once, while no other thread adds to this stream.
    fn append(&self, gather: impl FnOnce(&mut State, &mut dyn FnMut(&mut State, &[u8]))) {
        let mut records = Vec::new();
        let mut now = None;
        let mut state = self.state.lock();
        gather(&mut state, &mut |state, line| {
            let now = *now.get_or_insert_with(|| self.clock.now());
            record::write(&mut records, now, &self.name, line);
            if let Some(tail) = &mut state.tail {
                tail.push(line);
            }
        });
        if let Some(now) = now {
            self.group.append(now, &records);
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.flush();
    }
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStream")
            .field("name", &String::from_utf8_lossy(&self.name))
            .finish_non_exhaustive()
    }
}

impl State {
    /// Adds to the unfinished line; gives away what is over the longest.
    fn extend(&mut self, mut bytes: &[u8], line: &mut dyn FnMut(&mut Self, &[u8])) {
        while self.unfinished.len() + bytes.len() > MAX_LINE {
            let (part, rest) = bytes.split_at(MAX_LINE - self.unfinished.len());
            self.unfinished.extend_from_slice(part);
            bytes = rest;
            let mut full = std::mem::take(&mut self.unfinished);
            self.unfinished = full.split_off(character_boundary(&full));
            line(self, &full);
        }
        self.unfinished.extend_from_slice(bytes);
    }

    /// The line's end has come.
    fn finish(&mut self, line: &mut dyn FnMut(&mut Self, &[u8])) {
        let mut whole = std::mem::take(&mut self.unfinished);
        if whole.last() == Some(&b'\r') {
            whole.pop();
        }
        line(self, &whole);
    }

    fn flush(&mut self, line: &mut dyn FnMut(&mut Self, &[u8])) {
        if !self.unfinished.is_empty() {
            let whole = std::mem::take(&mut self.unfinished);
            line(self, &whole);
        }
    }
}

/// Where to cut so that no UTF-8 sequence is split: before a sequence that the end has cut off.
fn character_boundary(bytes: &[u8]) -> usize {
    let end = bytes.len();
    let start = (end.saturating_sub(3)..end).rev().find(|at| bytes[*at] >= 0xC0);
    match start {
        Some(at) if at > 0 && std::str::from_utf8(&bytes[at..]).is_err_and(|e| e.error_len().is_none()) => at,
        _ => end,
    }
}
