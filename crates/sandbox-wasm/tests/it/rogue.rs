//! A worker that somebody else has taken over: it says to everything that it is done, and then what makes no sense.

use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Has this program be such a worker.
pub(crate) const ROGUE: &str = "rogue";

pub(crate) fn run() {
    // SAFETY: a worker is started with its channel there, and this takes it once.
    #[allow(unsafe_code, reason = "the descriptor has no owner yet")]
    let mut channel = unsafe { UnixStream::from_raw_fd(3) };
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = channel.read(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        let digits = text.split("\"ask\":").nth(1).unwrap_or_default();
        let ask: String = digits.chars().take_while(char::is_ascii_digit).collect();
        channel
            .write_all(format!(r#"{{"Done":{{"ask":{ask},"outcome":{{"Ok":null}}}}}}"#).as_bytes())
            .unwrap();
        if text.contains("\"Start\"") {
            channel.write_all(b"nonsense").unwrap();
            // It would go on for as long as it is let.
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
}
