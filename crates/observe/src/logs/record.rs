//! One line of a segment: `TIMESTAMP TAB STREAM TAB MESSAGE LF`, the time in milliseconds. Where an event arrived at
//! another time than it happened, that follows its own: `TIMESTAMP,ARRIVAL`.
//!
//! Backslash, line feed and tab are written `\\`, `\n` and `\t`, so that a line feed always ends a record.
//! Bytes that are not UTF-8 are kept as they are and replaced when read.

use std::borrow::Cow;

use base::Timestamp;

/// A record as it stands in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) timestamp: Timestamp,
    /// When it arrived. Never earlier than that of the record before, but for a clock that was set back.
    pub(super) ingested: Timestamp,
    stream: &'a [u8],
    message: &'a [u8],
}

/// Appends a record that arrived as it happened. `stream` is escaped already.
pub(super) fn write(to: &mut Vec<u8>, timestamp: Timestamp, stream: &[u8], message: &[u8]) {
    write_late(to, timestamp, timestamp, stream, message);
}

/// Appends a record that arrived at a time of its own. `stream` is escaped already.
pub(super) fn write_late(
    to: &mut Vec<u8>,
    timestamp: Timestamp,
    ingested: Timestamp,
    stream: &[u8],
    message: &[u8],
) {
    to.extend_from_slice(timestamp.as_millis().to_string().as_bytes());
    if ingested != timestamp {
        to.push(b',');
        to.extend_from_slice(ingested.as_millis().to_string().as_bytes());
    }
    to.push(b'\t');
    to.extend_from_slice(stream);
    to.push(b'\t');
    escape(to, message);
    to.push(b'\n');
}

/// Appends the bytes so that they hold neither a line feed nor a tab.
pub(super) fn escape(to: &mut Vec<u8>, bytes: &[u8]) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\n' | b'\t');
    // Looks at many bytes at a time, since it never stops early; most lines hold nothing special.
    if !bytes.iter().fold(false, |any, byte| any | special(byte)) {
        return to.extend_from_slice(bytes);
    }
    let mut rest = bytes;
    while let Some(position) = rest.iter().position(special) {
        to.extend_from_slice(&rest[..position]);
        to.push(b'\\');
        to.push(match rest[position] {
            b'\n' => b'n',
            b'\t' => b't',
            _ => b'\\',
        });
        rest = &rest[position + 1..];
    }
    to.extend_from_slice(rest);
}

impl<'a> Record<'a> {
    /// Reads a record without its line feed; `None` for what a crash has torn.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(3, |b| *b == b'\t');
        let (time, stream, message) = (fields.next()?, fields.next()?, fields.next()?);
        let time = std::str::from_utf8(time).ok()?;
        let (time, ingested) = time.split_once(',').unwrap_or((time, time));
        let (timestamp, ingested) = (Timestamp(time.parse().ok()?), Timestamp(ingested.parse().ok()?));
        Some(Self { timestamp, ingested, stream, message })
    }

    pub(super) fn stream(&self) -> Cow<'a, str> {
        text(self.stream)
    }

    pub(super) fn message(&self) -> Cow<'a, str> {
        text(self.message)
    }

    /// The stream's name as it is written.
    pub(super) fn raw_stream(&self) -> &'a [u8] {
        self.stream
    }
}

fn text(escaped: &[u8]) -> Cow<'_, str> {
    if !escaped.contains(&b'\\') {
        return String::from_utf8_lossy(escaped);
    }
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                _ => b'\\',
            },
            byte => byte,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for message in ["", "plain", "tab\tand\nline \\n \\", "\r", "ünï"] {
            let mut line = Vec::new();
            let mut stream = Vec::new();
            escape(&mut stream, b"2026/11/20/[$LATEST]\tx");
            write(&mut line, Timestamp(7), &stream, message.as_bytes());
            assert_eq!(line.pop(), Some(b'\n'));
            assert!(!line.contains(&b'\n'));
            let record = Record::read(&line).unwrap();
            assert_eq!(record.timestamp, Timestamp(7));
            assert_eq!(record.stream(), "2026/11/20/[$LATEST]\tx");
            assert_eq!(record.message(), message);
        }
    }

    #[test]
    fn what_arrives_late_says_when() {
        let mut line = Vec::new();
        write_late(&mut line, Timestamp(7), Timestamp(9), b"s", b"m");
        assert_eq!(line, b"7,9\ts\tm\n");
        let record = Record::read(&line[..line.len() - 1]).unwrap();
        assert_eq!((record.timestamp, record.ingested), (Timestamp(7), Timestamp(9)));
    }

    #[test]
    fn torn_records_are_none() {
        for line in ["", "12", "12\tstream", "x\tstream\tmessage", "1,\ts\tm"] {
            assert!(Record::read(line.as_bytes()).is_none(), "{line}");
        }
        assert_eq!(Record::read(b"1\ts\t\xff").unwrap().message(), "\u{fffd}");
    }
}
