//! The resolvers that answer: the host's, or those that the server was told of.
//!
//! A query goes out as it came but for its number, from a socket of its own with a port that the kernel picks, so
//! that an answer is hard to forge. No cache: the host's resolvers have one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use super::message;

/// For one attempt at one resolver.
const ATTEMPT: Duration = Duration::from_secs(2);
/// For all of them: a little less than C libraries wait for one answer.
const PATIENCE: Duration = Duration::from_millis(4500);
/// Resolvers that are asked, as in resolv.conf(5).
const RESOLVERS: usize = 3;
/// Bytes of an answer by UDP: what the largest size that resolvers ask for in practice needs, and some.
const DATAGRAM: usize = 8192;
/// How long the list of the host's resolvers is used before it is looked at again.
const FRESH: Duration = Duration::from_secs(5);

/// Where names are looked up.
pub(super) struct Upstream {
    told: Vec<SocketAddr>,
    found: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Upstream {
    /// `told` may be empty: then it is the host's resolvers.
    pub(super) fn new(told: Vec<SocketAddr>) -> Self {
        Self { told, found: Mutex::new(None) }
    }

    /// The answer to a query, under the query's own number. By TCP for those who asked by TCP.
    pub(super) async fn ask(&self, query: &[u8], by_tcp: bool) -> io::Result<Vec<u8>> {
        let resolvers = self.resolvers();
        let deadline = Instant::now() + PATIENCE;
        let mut sent = query.to_vec();
        message::renumber(&mut sent, random());
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        // Twice around, as C libraries do.
        for resolver in resolvers.iter().chain(&resolvers) {
            let attempt = async {
                if by_tcp { by_stream(*resolver, &sent).await } else { by_datagram(*resolver, &sent).await }
            };
            let attempt = timeout_at(deadline, timeout(ATTEMPT, attempt));
            match attempt.await {
                Ok(Ok(Ok(mut answer))) => {
                    message::renumber(&mut answer, [query[0], query[1]]);
                    return Ok(answer);
                }
                Ok(Ok(Err(error))) => last = error,
                Ok(Err(_)) => last = io::ErrorKind::TimedOut.into(),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    fn resolvers(&self) -> Vec<SocketAddr> {
        if !self.told.is_empty() {
            return self.told.clone();
        }
        let mut found = self.found.lock();
        let now = Instant::now();
        match &*found {
            Some((read, resolvers)) if now.duration_since(*read) < FRESH => resolvers.clone(),
            _ => {
                let text = std::fs::read_to_string(Path::new("/etc/resolv.conf")).unwrap_or_default();
                let resolvers = parse(&text);
                *found = Some((now, resolvers.clone()));
                resolvers
            }
        }
    }
}

/// The resolvers of a resolv.conf(5).
fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let word = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // A link-local resolver has its interface's name or number behind it.
        if let Some((address, zone)) = word.split_once('%') {
            let index = std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex"));
            let index = zone.parse().or_else(|_| index.unwrap_or_default().trim().parse()).ok()?;
            return Some(std::net::SocketAddrV6::new(address.parse().ok()?, 53, 0, index).into());
        }
        Some(SocketAddr::new(word.parse().ok()?, 53))
    };
    let found: Vec<_> = text.lines().filter_map(address).take(RESOLVERS).collect();
    if found.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))] } else { found }
}

/// Hard to guess, for a number that an answer has to repeat.
fn random() -> [u8; 2] {
    let bytes = RandomState::new().build_hasher().finish().to_ne_bytes();
    [bytes[0], bytes[1]]
}

async fn by_datagram(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if resolver.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not answer this query is somebody's attempt to.
        if message::answer(query, &buffer[..length]).is_some() {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_stream(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    message::answer(query, &answer).map(|_| answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_hosts_resolvers_are_read() {
        let check = |text: &str, expect: &[&str]| {
            let expect: Vec<std::net::SocketAddr> =
                expect.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(parse(text), expect, "{text}");
        };
        check("# x\nnameserver 10.0.0.2\nnameserver\tfd00::1 \nsearch a\n", &["10.0.0.2:53", "[fd00::1]:53"]);
        check("nameserver fe80::1%3\n", &["[fe80::1%3]:53"]);
        check("nameserver 1.1.1.1\n".repeat(5).as_str(), &["1.1.1.1:53"; 3]);
        check("nameservers 1.1.1.1\nnameserver x\n", &["127.0.0.1:53"]);
        check("", &["127.0.0.1:53"]);
    }
}
