//! A network namespace with nothing but loopback, and sockets in it.
//!
//! For the way out there are the sockets that names are asked for at, and the *meeting port*: a listener on each
//! loopback address, to which every packet is dropped. A socket of the program that is on its way out is made to
//! connect to one and so waits, as a connecting socket does, until the server knows what comes of it. Then a socket
//! from the same port connects to the waiting one, which to both is a simultaneous open (RFC 9293, 3.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::process::jail::sys;
use crate::process::jail::wire::{Doing, Failure, MEETING_PORT};

/// Connections that wait to be accepted on a listener made here.
const BACKLOG: i32 = 1024;
/// Where names are asked for.
const DNS_PORT: u16 = 53;

const FOUR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// The sockets of the way out.
pub(super) struct WayOut {
    /// For names: datagrams, then streams. Go to the server.
    pub(super) names: [OwnedFd; 2],
    /// The meeting port's. Stay open here as long as the jail lives.
    pub(super) meeting: Vec<OwnedFd>,
}

/// Brings loopback up and makes what is the same for all jails. The jail's `/proc` is mounted.
pub(super) fn set_up() -> Result<WayOut, Failure> {
    let socket = stream(FOUR).doing("making a socket")?;
    sys::loopback_up(socket.as_fd()).doing("bringing loopback up")?;
    // The ports of this namespace are all the program's: `$PORT` may be 80.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").doing("opening low ports")?;
    let names = || Ok([datagrams(DNS_PORT)?, listener(DNS_PORT)?]);
    let names = names().map_err(|error: Errno| error).doing("making the sockets for names")?;
    let mut meeting = vec![meeting_listener(FOUR).doing("making the meeting port")?];
    // Not where the host has no IPv6; then no program has a socket of it either.
    meeting.extend(meeting_listener(SIX).ok());
    Ok(WayOut { names, meeting })
}

/// Makes listeners on 127.0.0.1.
pub(super) fn listen(ports: &[u16]) -> Result<Vec<OwnedFd>, Failure> {
    ports.iter().map(|&port| listener(port).doing(format!("listening on port {port}"))).collect()
}

/// What a connection attempt has come to.
pub(super) enum Attempt {
    /// There it is.
    Connected(OwnedFd),
    /// Not yet: becomes writable when decided.
    Pending(OwnedFd),
}

/// Starts to connect to a port of 127.0.0.1, without waiting.
pub(super) fn start_connecting(port: u16) -> Result<Attempt, Errno> {
    attempt(stream(FOUR)?, SocketAddr::new(FOUR, port))
}

/// Starts to connect from the meeting port to the program's port, without waiting.
pub(super) fn start_meeting(port: u16, six: bool) -> Result<Attempt, Errno> {
    let address = if six { SIX } else { FOUR };
    let socket = stream(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &SocketAddr::new(address, MEETING_PORT))?;
    attempt(socket, SocketAddr::new(address, port))
}

fn attempt(socket: OwnedFd, to: SocketAddr) -> Result<Attempt, Errno> {
    match connect(&socket, &to) {
        Ok(()) => Ok(Attempt::Connected(socket)),
        Err(Errno::INPROGRESS) => Ok(Attempt::Pending(socket)),
        Err(error) => Err(error),
    }
}

/// How a pending attempt was decided.
pub(super) fn decided(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::socket_error(socket)?
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

fn stream(address: IpAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::STREAM, FLAGS, None)
}

fn datagrams(port: u16) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, FLAGS, None)?;
    bind(&socket, &SocketAddr::new(FOUR, port))?;
    Ok(socket)
}

fn listener(port: u16) -> Result<OwnedFd, Errno> {
    let socket = stream(FOUR)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::new(FOUR, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Deaf before it listens; its port may be used by the sockets that meet.
fn meeting_listener(address: IpAddr) -> Result<OwnedFd, Errno> {
    let socket = stream(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sys::deafen(socket.as_fd()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    bind(&socket, &SocketAddr::new(address, MEETING_PORT))?;
    rustix::net::listen(&socket, 1)?;
    Ok(socket)
}
