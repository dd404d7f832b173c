//! One instance's way out.
//!
//! Everything that an instance wants outside is asked here: which address a name has, and whether a destination may
//! be connected to. What listed names resolved to is remembered as long as it holds; a destination that is not
//! remembered has the names that are listed at its port looked up again, since an instance may have begun as a copy
//! of one that knew.
//!
//! Bounded: addresses remembered, lines in the log.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::address::unwrapped;
use super::message::{self, A, AAAA};
use super::places::{Held, Place};
use super::{Counted, Egress, Network, Verdict};
use crate::{Count, LogSink};

/// How long an address of a listed name is remembered at least, and at most: programs resolve a name a little before
/// they connect, and some keep addresses longer than they were told to.
const REMEMBERED: (u32, u32) = (60, 3600);
/// Addresses remembered for one instance.
const ADDRESSES: usize = 4096;
/// How long a listed name that was looked up for a destination is not looked up for another.
const LOOKED_UP: Duration = Duration::from_secs(5);
/// Lines about refusals in the function's log: so many in so long.
const LINES: u32 = 5;
const LINES_EACH: Duration = Duration::from_secs(10);

/// One instance's way out.
pub struct Gate {
    egress: Egress,
    network: Arc<Network>,
    log: Arc<dyn LogSink>,
    known: Mutex<Known>,
    lines: Mutex<Lines>,
    connections: Held,
    queries: Held,
}

/// Why something was refused; its text is for the function's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Default)]
struct Known {
    addresses: HashMap<(IpAddr, u16), Instant>,
    looked_up: HashMap<String, Instant>,
}

struct Lines {
    since: Option<Instant>,
    written: u32,
    left_out: u32,
}

impl Gate {
    /// For an instance whose log is `log`.
    pub fn new(egress: Egress, network: Arc<Network>, log: Arc<dyn LogSink>) -> Self {
        Self {
            egress,
            network,
            log,
            known: Mutex::default(),
            lines: Mutex::new(Lines { since: None, written: 0, left_out: 0 }),
            connections: Held::default(),
            queries: Held::default(),
        }
    }

    /// Whether there is nothing that it lets through.
    pub(crate) fn is_shut(&self) -> bool {
        self.egress == Egress::None
    }

    /// Whether this address and port may be connected to; what is refused is in the function's log.
    pub async fn check(&self, destination: SocketAddr) -> Result<(), Refused> {
        if self.decide(destination) == Verdict::IfResolved && !self.knows(destination) {
            self.look_up_again(destination.port()).await;
        }
        self.check_known(destination)
    }

    /// [`check`](Self::check) by what is known already: nothing is looked up.
    pub fn check_known(&self, destination: SocketAddr) -> Result<(), Refused> {
        let refused = match self.decide(destination) {
            Verdict::Allowed => return Ok(()),
            Verdict::IfResolved if self.knows(destination) => return Ok(()),
            Verdict::IfResolved => "not the address of a listed name",
            Verdict::Refused(what) => what,
        };
        Err(self.refuse(&format!("connection to {destination}"), refused))
    }

    /// One of the places for connections that all gates share, to be kept as long as the connection; `None`: the
    /// log says that there is none.
    pub fn place(&self) -> Option<Place> {
        let place = self.network.connections.take(&self.connections);
        if place.is_none() {
            self.refuse("connection", "too many connections are open");
        }
        place
    }

    /// Counts a connection that was made, and what goes over it.
    pub fn counted<S>(&self, outside: S) -> Counted<S> {
        Counted::new(outside, Arc::clone(&self.log))
    }

    /// The addresses of a name that may be connected to at some port. Empty: it has none.
    pub async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Refused> {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        // RFC 6761: never asked for outside.
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        if lower == "localhost" || lower.ends_with(".localhost") {
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        }
        if !self.egress.resolves(name) {
            return Err(self.refuse(&format!("name {name}"), self.unlisted()));
        }
        let (four, six) = tokio::join!(self.records(name, A), self.records(name, AAAA));
        let found: Vec<IpAddr> = four.into_iter().chain(six).collect();
        self.shown(name, found)
    }

    /// The addresses of one kind.
    async fn records(&self, name: &str, kind: u16) -> Vec<IpAddr> {
        let Some(query) = message::query(name, kind) else { return Vec::new() };
        let Ok(answer) = self.ask(&query, false).await else { return Vec::new() };
        let Some(answer) = message::answer(&query, &answer) else { return Vec::new() };
        self.remember(name, &answer.addresses);
        answer.addresses.into_iter().map(|(address, _)| address).collect()
    }

    /// Asks the resolvers. `ResourceBusy`: too many look-ups are under way.
    async fn ask(&self, query: &[u8], by_tcp: bool) -> std::io::Result<Vec<u8>> {
        let place = self.network.queries.take(&self.queries);
        let _place = place.ok_or(std::io::ErrorKind::ResourceBusy)?;
        self.network.upstream.ask(query, by_tcp).await
    }

    /// Answers a DNS query. `None`: it deserves no answer.
    pub(crate) async fn answer(&self, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let Some(question) = message::question(query) else {
            return message::refusal(query, message::NOT_IMPLEMENTED);
        };
        let name = &question.name;
        if !self.egress.resolves(name) {
            self.refuse(&format!("name {name}"), self.unlisted());
            return message::refusal(query, message::NO_SUCH_NAME);
        }
        let Ok(bytes) = self.ask(query, by_tcp).await else {
            return message::refusal(query, message::SERVER_FAILURE);
        };
        let answer = message::answer(query, &bytes)?;
        self.remember(name, &answer.addresses);
        let found = answer.addresses.iter().map(|(address, _)| *address).collect();
        match self.shown(name, found) {
            Ok(_) => Some(bytes),
            Err(_) => message::refusal(query, message::NO_SUCH_NAME),
        }
    }

    /// Those addresses of a name that lead anywhere; an error if it has some and none does.
    fn shown(&self, name: &str, mut addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
        let mut refused = None;
        addresses.retain(|address| match self.shows(name, *address) {
            Ok(()) => true,
            Err(what) => {
                refused = Some((*address, what));
                false
            }
        });
        match refused {
            Some((address, what)) if addresses.is_empty() => {
                Err(self.refuse(&format!("name {name}, which is {address} here,"), what))
            }
            _ => Ok(addresses),
        }
    }

    fn unlisted(&self) -> &'static str {
        if self.is_shut() { "there is no network" } else { "not listed" }
    }

    fn decide(&self, destination: SocketAddr) -> Verdict {
        self.egress.decide(destination, Network::is_own)
    }

    fn shows(&self, name: &str, address: IpAddr) -> Result<(), &'static str> {
        self.egress.shows(name, address, Network::is_own)
    }

    fn remember(&self, name: &str, addresses: &[(IpAddr, u32)]) {
        let now = Instant::now();
        let mut known = self.known.lock();
        for port in self.egress.ports_of(name) {
            for (address, ttl) in addresses {
                if known.addresses.len() >= ADDRESSES {
                    known.addresses.retain(|_, until| *until > now);
                }
                let place = (unwrapped(*address), port);
                if known.addresses.len() < ADDRESSES || known.addresses.contains_key(&place) {
                    let until = now + Duration::from_secs((*ttl).clamp(REMEMBERED.0, REMEMBERED.1).into());
                    let slot = known.addresses.entry(place).or_insert(until);
                    *slot = until.max(*slot);
                }
            }
        }
    }

    fn knows(&self, destination: SocketAddr) -> bool {
        let place = (unwrapped(destination.ip()), destination.port());
        self.known.lock().addresses.get(&place).is_some_and(|until| *until > Instant::now())
    }

    async fn look_up_again(&self, port: u16) {
        let names: Vec<String> = {
            let now = Instant::now();
            let mut known = self.known.lock();
            let stale = |name: &&str| {
                known.looked_up.get(*name).is_none_or(|last| now.duration_since(*last) > LOOKED_UP)
            };
            let names: Vec<String> = self.egress.names_at(port).filter(stale).map(str::to_owned).collect();
            known.looked_up.extend(names.iter().map(|name| (name.clone(), now)));
            names
        };
        let all = names.iter().map(|name| async move {
            tokio::join!(self.records(name, A), self.records(name, AAAA));
        });
        futures_util::future::join_all(all).await;
    }

    /// Says in the function's log that something was refused, within bounds.
    pub(crate) fn note(&self, what: &str, why: &str) {
        self.refuse(what, why);
    }

    /// Says so in the function's log, within bounds.
    fn refuse(&self, what: &str, why: &str) -> Refused {
        self.log.count(Count::Refused, 1);
        let text = format!("{what} refused: {why} (virga:egress = {})", self.egress);
        if let Some(left_out) = self.lines.lock().take(Instant::now()) {
            let more = if left_out > 0 {
                format!(" (and {left_out} more that were not logged)")
            } else {
                String::new()
            };
            self.log.write(format!("[virga] {text}{more}\n").as_bytes());
        }
        Refused(text)
    }
}

impl Lines {
    /// `Some`: a line may be written, and so many before it were not.
    fn take(&mut self, now: Instant) -> Option<u32> {
        if self.since.is_none_or(|since| now.duration_since(since) >= LINES_EACH) {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written >= LINES {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::Places;
    use super::*;

    struct Nowhere;

    impl LogSink for Nowhere {
        fn write(&self, _bytes: &[u8]) {}
    }

    #[tokio::test]
    async fn without_a_place_nothing_goes_out() {
        let resolver = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let network = Network {
            queries: Places::new(0),
            connections: Places::new(0),
            ..Network::new(vec![resolver.local_addr().unwrap()])
        };
        let gate = Gate::new(Egress::Public, Arc::new(network), Arc::new(Nowhere));
        let query = message::query("a.example", A).unwrap();
        let answer = gate.answer(&query, false).await.unwrap();
        assert_eq!(answer[3] & 0x0f, message::SERVER_FAILURE);
        assert!(gate.look_up("a.example").await.unwrap().is_empty());
        let heard = resolver.try_recv(&mut [0; 64]).unwrap_err();
        assert_eq!(heard.kind(), std::io::ErrorKind::WouldBlock, "it was asked");
        assert!(gate.place().is_none());
    }
}
