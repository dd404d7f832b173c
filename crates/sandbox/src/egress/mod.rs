//! What code may connect to, decided in one place for every back end.
//!
//! [`Egress`] is the setting and decides by address alone; [`address`] knows what kind of place an address is; a
//! [`Gate`] is one instance's way out: it looks names up, remembers what listed names resolved to, checks
//! destinations and says in the function's log what it refused. [`Network`] is what all gates of a server share.
//!
//! Invariants: what is checked is the address that is then connected to, never a name; a name is resolved once, by
//! Virga. Nothing here opens a connection for a guest: [`crate::process`] and `sandbox-wasm` do, after asking.
//!
//! Left out: the host's `/etc/hosts`, its search domains, UDP.

pub mod address;
mod counted;
mod gate;
mod message;
mod places;
mod rules;
mod upstream;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use counted::Counted;
pub use gate::{Gate, Refused};
pub use places::Place;
use places::Places;
pub use rules::{Egress, Rules, Verdict};
use upstream::Upstream;

/// Connections beyond the instances that may be open at once, where the host allows as many open files.
const MAX_CONNECTIONS: u64 = 16_384;

/// Names that may be looked up at once.
const MAX_QUERIES: u64 = 4096;

/// What all instances' ways out share.
pub struct Network {
    upstream: Upstream,
    /// Each connection outside takes one: it holds up to four of the server's descriptors.
    connections: Places,
    /// Each look-up under way takes one: it holds a descriptor and some kilobytes.
    queries: Places,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// Names are looked up at these resolvers; none given, at the host's (`/etc/resolv.conf`, read again when it
    /// changes).
    pub fn new(resolvers: Vec<SocketAddr>) -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let places = |most| Places::new(usize::try_from((files / 8).clamp(16, most)).unwrap_or(usize::MAX));
        Self {
            upstream: Upstream::new(resolvers),
            connections: places(MAX_CONNECTIONS),
            queries: places(MAX_QUERIES),
        }
    }

    /// Whether the address is one of the host's: then the kernel sends to it from itself. Nothing is sent. A server that
    /// has no room to ask takes it for one.
    pub fn is_own(address: IpAddr) -> bool {
        let any = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let source = || -> std::io::Result<IpAddr> {
            let socket = std::net::UdpSocket::bind((any, 0))?;
            // Any port: no datagram follows.
            socket.connect((address, 9))?;
            Ok(socket.local_addr()?.ip())
        };
        is_source(address, source())
    }
}

fn is_source(address: IpAddr, source: std::io::Result<IpAddr>) -> bool {
    match source {
        Ok(source) => source == address,
        // Where nothing leads there, a connection does not either.
        Err(error) => {
            matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn an_address_that_cannot_be_asked_about_is_the_hosts() {
        let [one, other] = ["198.41.0.99", "198.41.0.4"].map(|text| text.parse::<IpAddr>().unwrap());
        assert!(is_source(one, Ok(one)) && !is_source(one, Ok(other)));
        assert!(is_source(one, Err(Error::from_raw_os_error(libc::EMFILE))), "out of descriptors");
        assert!(!is_source(one, Err(Error::from_raw_os_error(libc::ENETUNREACH))));
    }
}
