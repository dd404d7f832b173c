//! Messages of `application/vnd.amazon.eventstream`: how AWS streams in an HTTP body.
//!
//! A message is its length, the length of its headers, a checksum of both, headers, payload, and a checksum of all that
//! (Smithy: Amazon Event Stream specification). Only what is sent here is here: three text headers.

use bytes::{BufMut, Bytes, BytesMut};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.amazon.eventstream";

/// Bytes before the headers.
const PRELUDE: usize = 12;
/// Bytes of a checksum.
const CHECKSUM: usize = 4;
/// The type of a header's value that is text.
const TEXT: u8 = 7;

/// An event's message.
pub(crate) fn event(event_type: &str, content_type: &str, payload: &[u8]) -> Bytes {
    message(
        [(":message-type", "event"), (":event-type", event_type), (":content-type", content_type)],
        payload,
    )
}

/// The message of an exception that the service's model has for the stream; nothing follows it.
pub(crate) fn exception(name: &str, text: &str) -> Bytes {
    let payload = serde_json::json!({ "message": text }).to_string();
    message(
        [(":message-type", "exception"), (":exception-type", name), (":content-type", "application/json")],
        payload.as_bytes(),
    )
}

fn message(named: [(&str, &str); 3], payload: &[u8]) -> Bytes {
    let mut headers = BytesMut::new();
    for (name, value) in named {
        header(&mut headers, name, value);
    }
    let length = PRELUDE + headers.len() + payload.len() + CHECKSUM;
    let mut message = BytesMut::with_capacity(length);
    message.put_u32(word(length));
    message.put_u32(word(headers.len()));
    message.put_u32(crc32fast::hash(&message));
    message.put_slice(&headers);
    message.put_slice(payload);
    message.put_u32(crc32fast::hash(&message));
    message.freeze()
}

fn header(into: &mut BytesMut, name: &str, value: &str) {
    // Names and values are this crate's own and short.
    into.put_u8(name.len() as u8);
    into.put_slice(name.as_bytes());
    into.put_u8(TEXT);
    into.put_u16(value.len() as u16);
    into.put_slice(value.as_bytes());
}

/// Payloads are cut long before this is not enough.
fn word(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As botocore's decoder reads it: headers and payload, both checksums being right.
    fn decode(message: &[u8]) -> (Vec<(String, String)>, Vec<u8>) {
        let word = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        let (length, headers_length) = (word(0) as usize, word(4) as usize);
        assert_eq!(length, message.len());
        assert_eq!(word(8), crc32fast::hash(&message[..8]));
        assert_eq!(word(length - 4), crc32fast::hash(&message[..length - 4]));
        let (mut rest, payload) = message[PRELUDE..length - CHECKSUM].split_at(headers_length);
        let mut headers = Vec::new();
        while let [name_length, more @ ..] = rest {
            let (name, more) = more.split_at(usize::from(*name_length));
            let [TEXT, high, low, more @ ..] = more else { panic!("no text") };
            let (value, more) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            headers.push((
                String::from_utf8(name.to_vec()).unwrap(),
                String::from_utf8(value.to_vec()).unwrap(),
            ));
            rest = more;
        }
        (headers, payload.to_vec())
    }

    #[test]
    fn what_is_written_can_be_read() {
        let message = event("PayloadChunk", "application/octet-stream", b"a\0b");
        let (headers, payload) = decode(&message);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            (":message-type", "event"),
            (":event-type", "PayloadChunk"),
            (":content-type", "application/octet-stream"),
        ];
        assert_eq!((headers.as_slice(), payload.as_slice()), (&expected[..], &b"a\0b"[..]));
        assert_eq!(decode(&event("X", "y", b"")).1, b"");
        let (headers, payload) = decode(&exception("E", "why"));
        assert_eq!(headers[0], (":message-type".to_owned(), "exception".to_owned()));
        assert_eq!(headers[1], (":exception-type".to_owned(), "E".to_owned()));
        assert_eq!(payload, br#"{"message":"why"}"#);
    }

    #[test]
    fn checksums_are_the_formats() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }
}
