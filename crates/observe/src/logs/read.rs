//! Reading segments: pages of events, and what groups and streams there are.
//!
//! A page starts at a position and reads forward, so that following a log costs only what is new; or backward, which
//! holds one segment in memory. Segments that rotation removes under a reader's feet are skipped.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use base::Timestamp;

use super::group::{CREATED, segment_path, segments};
use super::record::{self, Record};
use super::types::{Event, EventPage, GroupInfo, LogsError, Query, StreamInfo, io_error};

/// FilterLogEvents: at most 10,000 events a page, and 1 MB.
const MAX_EVENTS: usize = 10_000;
const MAX_ANSWER: usize = 1 << 20;

/// Bytes looked through for one page.
const MAX_SCAN: u64 = 16 << 20;

/// Streams listed.
const MAX_STREAMS: usize = 10_000;

/// How far an event's time may be behind its arrival: two hours (CloudWatch Logs API: PutLogEvents), and ten minutes
/// for streams without a common clock reading or a clock that was set back. A whole segment is skipped only if the
/// next one begins to arrive this long before the start.
const AHEAD_MS: i64 = (120 + 10) * 60 * 1000;

/// Where a record starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    segment: u64,
    offset: u64,
}

impl Position {
    /// Twenty digits: they sort as the positions do.
    fn id(self) -> String {
        format!("{:010}{:010}", self.segment, self.offset)
    }

    pub(super) fn token(self) -> String {
        format!("p{}", self.id())
    }

    fn parse(token: &str) -> Option<Self> {
        let digits = token.strip_prefix('p').filter(|digits| digits.len() == 20)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (segment, offset) = digits.split_at(10);
        Some(Self { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
    }
}

/// One page of events.
pub(super) fn filter(folder: &Path, query: &Query) -> Result<EventPage, LogsError> {
    let numbers = list(folder)?;
    let mut position = match &query.next_token {
        Some(token) => resume(folder, &numbers, token)?,
        None => first(folder, &numbers, query.start)?,
    };
    let mut page = Page::new(query);
    let began = position;
    let start = position.segment;
    for &segment in numbers.iter().filter(|number| **number >= start) {
        if segment > position.segment {
            position = Position { segment, offset: 0 };
        }
        position = page.scan(folder, position)?;
        if page.full {
            break;
        }
    }
    let next_token = page.full.then(|| position.token());
    Ok(EventPage { events: page.events, next_token, resume: position.token(), start: began.token() })
}

/// The page before a token, or the last one; its lines in the order they were written.
pub(super) fn before(folder: &Path, query: &Query) -> Result<EventPage, LogsError> {
    let numbers = list(folder)?;
    let ended = match &query.next_token {
        Some(token) => resume(folder, &numbers, token)?,
        None => end(folder)?,
    };
    let mut page = Page::new(query);
    let mut position = ended;
    for &segment in numbers.iter().rev().filter(|number| **number <= ended.segment) {
        let bound = (segment == ended.segment).then_some(ended.offset);
        position = page.scan_back(folder, segment, bound)?;
        if page.full {
            break;
        }
    }
    page.events.reverse();
    let next_token = page.full.then(|| position.token());
    Ok(EventPage { events: page.events, next_token, resume: ended.token(), start: position.token() })
}

/// Behind the last whole line.
pub(super) fn end(folder: &Path) -> Result<Position, LogsError> {
    let segment = list(folder)?.last().copied().unwrap_or(1);
    let bytes = load(folder, segment, None)?;
    let offset = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
    Ok(Position { segment, offset })
}

/// A segment's bytes, up to an offset. One segment is a bounded number of bytes.
fn load(folder: &Path, segment: u64, bound: Option<u64>) -> Result<Vec<u8>, LogsError> {
    let Some(file) = open(folder, segment)? else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    file.take(bound.unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(failed(folder))?;
    Ok(bytes)
}

/// Removes segments of which nothing is younger than the time, and begins a new one where that was all. Nothing may
/// write meanwhile.
pub(super) fn expire(folder: &Path, before: Timestamp) -> Result<(), LogsError> {
    let numbers = list(folder)?;
    for (index, &segment) in numbers.iter().enumerate() {
        let youngest = match numbers.get(index + 1) {
            Some(&next) => first_arrival(folder, next)?,
            None => last_arrival(folder, segment)?,
        };
        let old = youngest.is_some_and(|time| time.as_millis().saturating_add(AHEAD_MS) < before.as_millis());
        if !old {
            return Ok(());
        }
        if index + 1 == numbers.len() {
            // The number stays known, so that no place is given twice.
            File::create(segment_path(folder, segment + 1)).map_err(failed(folder))?;
        }
        fs::remove_file(segment_path(folder, segment)).map_err(failed(folder))?;
    }
    Ok(())
}

fn last_arrival(folder: &Path, segment: u64) -> Result<Option<Timestamp>, LogsError> {
    let bytes = load(folder, segment, None)?;
    Ok(bytes.rsplit(|byte| *byte == b'\n').find_map(|line| Some(Record::read(line)?.ingested)))
}

/// Where a token points to; the oldest segment if its own was removed.
fn resume(folder: &Path, numbers: &[u64], token: &str) -> Result<Position, LogsError> {
    let position = Position::parse(token).ok_or(LogsError::InvalidToken)?;
    let (oldest, newest) = (numbers.first().copied().unwrap_or(1), numbers.last().copied().unwrap_or(1));
    if position.segment < oldest {
        return Ok(Position { segment: oldest, offset: 0 });
    }
    if position.segment > newest {
        return Err(LogsError::InvalidToken);
    }
    if position.offset == 0 {
        return Ok(position);
    }
    let Some(mut file) = open(folder, position.segment)? else { return Ok(position) };
    let mut before = [0];
    let read = file.seek(SeekFrom::Start(position.offset - 1)).and_then(|_| file.read(&mut before));
    // Within a line or behind the end: no token of ours.
    match read.map_err(failed(folder))? {
        1 if before == *b"\n" => Ok(position),
        _ => Err(LogsError::InvalidToken),
    }
}

/// The first segment that may hold something from `start` on.
fn first(folder: &Path, numbers: &[u64], start: Option<Timestamp>) -> Result<Position, LogsError> {
    let mut segment = numbers.first().copied().unwrap_or(1);
    if let Some(start) = start {
        for &next in numbers.iter().skip(1) {
            match first_arrival(folder, next)? {
                Some(arrived) if arrived.as_millis() < start.as_millis().saturating_sub(AHEAD_MS) => {
                    segment = next
                }
                _ => break,
            }
        }
    }
    Ok(Position { segment, offset: 0 })
}

fn first_arrival(folder: &Path, segment: u64) -> Result<Option<Timestamp>, LogsError> {
    let Some(file) = open(folder, segment)? else { return Ok(None) };
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line).map_err(failed(folder))?;
    Ok(Record::read(&line).map(|record| record.ingested))
}

/// A page while it is filled.
struct Page<'a> {
    query: &'a Query,
    /// Stream names and prefix as they stand in records.
    streams: Vec<Vec<u8>>,
    prefix: Option<Vec<u8>>,
    hidden: Hidden,
    limit: usize,
    events: Vec<Event>,
    bytes: usize,
    scanned: u64,
    /// No more goes in, and there is more.
    full: bool,
}

impl<'a> Page<'a> {
    fn new(query: &'a Query) -> Self {
        let escaped = |name: &String| escaped(name);
        Self {
            query,
            streams: query.streams.iter().map(escaped).collect(),
            prefix: query.stream_prefix.as_ref().map(escaped),
            hidden: Hidden::new(&query.hidden),
            limit: if query.limit == 0 { MAX_EVENTS } else { query.limit.min(MAX_EVENTS) },
            events: Vec::new(),
            bytes: 0,
            scanned: 0,
            full: false,
        }
    }

    /// Reads a segment from a position to its end, or until the page is full; where it stopped. A last line
    /// without its end is left for later.
    fn scan(&mut self, folder: &Path, mut position: Position) -> Result<Position, LogsError> {
        let Some(mut file) = open(folder, position.segment)? else { return Ok(position) };
        file.seek(SeekFrom::Start(position.offset)).map_err(failed(folder))?;
        let mut reader = BufReader::with_capacity(256 << 10, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(failed(folder))?;
            if line.pop() != Some(b'\n') {
                return Ok(position);
            }
            if self.is_full() {
                self.full = true;
                return Ok(position);
            }
            self.look(position, &line);
            self.scanned += length as u64;
            position.offset += length as u64;
        }
    }

    /// Reads a segment backward from an offset, or its end, to its start or until the page is full; where it stopped.
    fn scan_back(&mut self, folder: &Path, segment: u64, bound: Option<u64>) -> Result<Position, LogsError> {
        let bytes = load(folder, segment, bound)?;
        let mut end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        while end > 0 {
            let position = Position { segment, offset: end as u64 };
            if self.is_full() {
                self.full = true;
                return Ok(position);
            }
            let line = &bytes[..end - 1];
            let start = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            self.look(Position { segment, offset: start as u64 }, &line[start..]);
            self.scanned += (end - start) as u64;
            end = start;
        }
        Ok(Position { segment, offset: 0 })
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.bytes >= MAX_ANSWER || self.scanned >= MAX_SCAN
    }

    fn look(&mut self, position: Position, line: &[u8]) {
        if let Some(record) = Record::read(line).filter(|record| self.wants(position, record)) {
            self.take(position, &record);
        }
    }

    fn wants(&self, position: Position, record: &Record<'_>) -> bool {
        let stream = record.raw_stream();
        self.query.start.is_none_or(|start| record.timestamp >= start)
            && self.query.end.is_none_or(|end| record.timestamp <= end)
            && (self.streams.is_empty() || self.streams.iter().any(|name| name == stream))
            && self.prefix.as_ref().is_none_or(|prefix| stream.starts_with(prefix))
            && !self.hidden.hides(position, stream)
            && self.query.matcher.as_ref().is_none_or(|matcher| (matcher.0)(&record.message()))
    }

    fn take(&mut self, position: Position, record: &Record<'_>) {
        let event = Event {
            id: position.id(),
            stream: record.stream().into_owned(),
            timestamp: record.timestamp,
            ingested: record.ingested,
            message: record.message().into_owned(),
        };
        self.bytes += event.message.len() + event.stream.len() + event.id.len();
        self.events.push(event);
    }
}

fn escaped(name: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    record::escape(&mut escaped, name.as_bytes());
    escaped
}

/// Deleted streams: what lies before a place is not shown.
struct Hidden(HashMap<Vec<u8>, Position>);

impl Hidden {
    fn new(hidden: &[(String, String)]) -> Self {
        let places = hidden.iter().filter_map(|(name, token)| Some((escaped(name), Position::parse(token)?)));
        Self(places.collect())
    }

    fn hides(&self, position: Position, stream: &[u8]) -> bool {
        !self.0.is_empty() && self.0.get(stream).is_some_and(|until| position < *until)
    }
}

/// The streams of a group, the newest last line first.
pub(super) fn streams(folder: &Path, hidden: &[(String, String)]) -> Result<Vec<StreamInfo>, LogsError> {
    let mut found: HashMap<Vec<u8>, StreamInfo> = HashMap::new();
    let hidden = Hidden::new(hidden);
    for &segment in list(folder)?.iter().rev() {
        let Some(file) = open(folder, segment)? else { continue };
        let mut reader = BufReader::with_capacity(256 << 10, file);
        let mut line = Vec::new();
        let mut position = Position { segment, offset: 0 };
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(failed(folder))?;
            if length == 0 {
                break;
            }
            match Record::read(&line) {
                Some(record) if !hidden.hides(position, record.raw_stream()) => note(&mut found, &record),
                _ => {}
            }
            position.offset += length as u64;
        }
        // Older segments hold older streams: enough are known.
        if found.len() >= MAX_STREAMS {
            break;
        }
    }
    let mut streams: Vec<_> = found.into_values().collect();
    streams.sort_unstable_by(|a, b| (b.last_event, &b.name).cmp(&(a.last_event, &a.name)));
    streams.truncate(MAX_STREAMS);
    Ok(streams)
}

fn note(found: &mut HashMap<Vec<u8>, StreamInfo>, record: &Record<'_>) {
    let time = record.timestamp;
    if let Some(stream) = found.get_mut(record.raw_stream()) {
        stream.first_event = stream.first_event.min(time);
        stream.last_event = stream.last_event.max(time);
        stream.first_ingested = stream.first_ingested.min(record.ingested);
        stream.last_ingested = stream.last_ingested.max(record.ingested);
        return;
    }
    let name = record.stream().into_owned();
    let (first_ingested, last_ingested) = (record.ingested, record.ingested);
    let stream = StreamInfo { name, first_event: time, last_event: time, first_ingested, last_ingested };
    found.insert(record.raw_stream().to_vec(), stream);
}

/// What is known of a group without reading it.
pub(super) fn group_info(name: String, folder: &Path) -> Result<GroupInfo, LogsError> {
    let lengths = list(folder)?.into_iter().map(|segment| fs::metadata(segment_path(folder, segment)));
    let stored_bytes = lengths.flatten().map(|found| found.len()).sum();
    let created = fs::read_to_string(folder.join(CREATED)).ok().and_then(|text| text.parse().ok());
    Ok(GroupInfo { name, created: Timestamp(created.unwrap_or_default()), stored_bytes })
}

fn list(folder: &Path) -> Result<Vec<u64>, LogsError> {
    match segments(folder) {
        Ok(numbers) => Ok(numbers),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(LogsError::GroupNotFound),
        Err(error) => Err(failed(folder)(error)),
    }
}

/// `None` if rotation has removed it.
fn open(folder: &Path, segment: u64) -> Result<Option<File>, LogsError> {
    match File::open(segment_path(folder, segment)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(folder)(error)),
    }
}

fn failed(folder: &Path) -> impl FnOnce(std::io::Error) -> LogsError {
    io_error(|| format!("cannot read the logs in {}", folder.display()))
}
