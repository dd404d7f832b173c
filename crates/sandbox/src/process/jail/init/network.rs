//! A network namespace with nothing but loopback, and sockets in it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::process::jail::sys;
use crate::process::jail::wire::{Doing, Failure};

/// Connections that wait to be accepted on a listener made here.
const BACKLOG: i32 = 1024;

/// Brings loopback up. The jail's `/proc` is mounted.
pub(super) fn set_up() -> Result<(), Failure> {
    let socket = stream().doing("making a socket")?;
    sys::loopback_up(socket.as_fd()).doing("bringing loopback up")?;
    // The ports of this namespace are all the program's: `$PORT` may be 80.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").doing("opening low ports")
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
    let socket = stream()?;
    match connect(&socket, &local(port)) {
        Ok(()) => Ok(Attempt::Connected(socket)),
        Err(Errno::INPROGRESS) => Ok(Attempt::Pending(socket)),
        Err(error) => Err(error),
    }
}

/// How a pending attempt was decided.
pub(super) fn decided(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::socket_error(socket)?
}

fn stream() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
}

fn listener(port: u16) -> Result<OwnedFd, Errno> {
    let socket = stream()?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &local(port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}
