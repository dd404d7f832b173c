//! Reads HTTP/1.1 answers far enough to know where each ends and whether it is good.

/// An answer that is coming in.
#[derive(Default)]
pub struct Answer {
    bytes: Vec<u8>,
    head: Option<Head>,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 200, or 202 of an asynchronous call, without a function's error.
    Good,
    /// The server has no room: 429 or 503.
    Refused,
    /// Anything else.
    Bad,
}

struct Head {
    end: usize,
    verdict: Verdict,
    length: Option<usize>,
}

impl Answer {
    /// Takes more bytes. Once the answer is whole: what it says.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Verdict> {
        self.bytes.extend_from_slice(bytes);
        if self.head.is_none() {
            let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            self.head = Some(read_head(&self.bytes[..end], end));
        }
        let head = self.head.as_ref()?;
        let body = &self.bytes[head.end..];
        let whole = match head.length {
            Some(length) => body.len() >= length,
            None => body.ends_with(b"0\r\n\r\n"),
        };
        whole.then_some(head.verdict)
    }
}

fn read_head(bytes: &[u8], end: usize) -> Head {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|value| value.trim().parse().ok());
    let verdict = match text.get(9..12) {
        Some("200" | "202") if !text.contains("\r\nx-amz-function-error:") => Verdict::Good,
        Some("429" | "503") => Verdict::Refused,
        _ => Verdict::Bad,
    };
    Head { end, verdict, length }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Verdict};

    #[test]
    fn answers_end_where_they_say() {
        let mut plain = Answer::default();
        assert_eq!(plain.take(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"), None);
        assert_eq!(plain.take(b"c"), Some(Verdict::Good));
        let mut chunked = Answer::default();
        assert_eq!(chunked.take(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"), None);
        assert_eq!(chunked.take(b"0\r\n\r\n"), Some(Verdict::Good));
    }

    #[test]
    fn errors_are_not_good() {
        let failed = b"HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(Answer::default().take(failed), Some(Verdict::Bad));
        let full = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(Answer::default().take(full), Some(Verdict::Refused));
        assert_eq!(Answer::default().take(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"), Some(Verdict::Bad));
    }
}
