//! One call of `connect`: checked, connected outside, and handed to the program's own socket.
//!
//! A program that waits in the call is answered when it is decided, with the error number that the host got. One that
//! does not wait is told `EINPROGRESS` at once, and its socket becomes ready or fails as it would anywhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::{Outlet, relay};
use crate::egress::Place;
use crate::process::jail::{Attempt, MEETING_PORT, Notifier, Reply, Socket};

/// How long a destination may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the program wants to, and its socket.
struct Wanted {
    destination: SocketAddr,
    socket: Socket,
    /// Given back when the connection has ended: the instance's, and the server's.
    places: (OwnedSemaphorePermit, Place),
}

/// Deals with a call; what takes time goes to `connections`.
pub(super) fn begin(
    outlet: &Arc<Outlet>,
    notifier: &Arc<Notifier>,
    attempt: Attempt,
    connections: &mut JoinSet<()>,
) {
    // What stays inside goes on, and so does what is no TCP socket that could be taken outside: there is nothing to
    // be reached, and the kernel's answer is the right one.
    let outside = attempt.destination.filter(|destination| !is_inside(destination.ip()));
    let wanted = outside.and_then(|destination| Some((destination, notifier.socket(&attempt, destination)?)));
    let Some((destination, socket)) = wanted else { return notifier.reply(&attempt, Reply::GoOn) };
    let Ok(own) = Arc::clone(&outlet.places).try_acquire_owned() else {
        outlet.gate.note(&format!("connection to {destination}"), "too many connections are open");
        return notifier.reply(&attempt, Reply::Fail(libc::ENOBUFS));
    };
    let Some(shared) = outlet.gate.place() else {
        return notifier.reply(&attempt, Reply::Fail(libc::ENOBUFS));
    };
    let wanted = Wanted { destination, socket, places: (own, shared) };
    let (outlet, notifier) = (Arc::clone(outlet), Arc::clone(notifier));
    connections.spawn(async move {
        if outlet.gate.check(destination).await.is_err() {
            return notifier.reply(&attempt, Reply::Fail(outlet.refusal));
        }
        match wanted.socket.patience() {
            Some(patience) => waiting(&outlet, &notifier, &attempt, wanted, patience).await,
            None => not_waiting(&outlet, &notifier, &attempt, wanted).await,
        }
    });
}

/// Loopback, and the unspecified address, which Linux takes for loopback: the instance's own.
fn is_inside(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// For a program that waits in the call.
async fn waiting(
    outlet: &Outlet,
    notifier: &Notifier,
    attempt: &Attempt,
    wanted: Wanted,
    patience: Option<Duration>,
) {
    let connecting = connect(wanted.destination);
    let outcome = match patience {
        Some(patience) => tokio::time::timeout(patience, connecting).await,
        None => Ok(connecting.await),
    };
    let stream = match outcome {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return notifier.reply(attempt, Reply::Fail(number(&error))),
        // socket(7), SO_SNDTIMEO.
        Err(_) => return notifier.reply(attempt, Reply::Fail(libc::EINPROGRESS)),
    };
    let inside = match wanted.socket.wait_at(meeting(wanted.destination)) {
        Ok(port) => outlet.jail.meet(port, is_six(wanted.destination)).await,
        Err(error) => Err(error),
    };
    match inside {
        Ok(inside) => {
            notifier.reply(attempt, Reply::Done);
            copy(outlet, wanted, inside, stream).await;
        }
        Err(error) => notifier.reply(attempt, Reply::Fail(number(&error))),
    }
}

/// For a program that waits for its socket to become ready.
async fn not_waiting(outlet: &Outlet, notifier: &Notifier, attempt: &Attempt, wanted: Wanted) {
    let mut connecting = std::pin::pin!(connect(wanted.destination));
    // What the host knows at once, such as that there is no route, is best said at once.
    let early = std::future::poll_fn(|cx| Poll::Ready(connecting.as_mut().poll(cx))).await;
    if let Poll::Ready(Err(error)) = early {
        return notifier.reply(attempt, Reply::Fail(number(&error)));
    }
    let port = match wanted.socket.wait_at(meeting(wanted.destination)) {
        Ok(port) => port,
        Err(error) => return notifier.reply(attempt, Reply::Fail(number(&error))),
    };
    notifier.reply(attempt, Reply::Fail(libc::EINPROGRESS));
    let outcome = match early {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => connecting.await,
    };
    let stream = match outcome {
        Ok(stream) => stream,
        Err(_) => return wanted.socket.fail(),
    };
    match outlet.jail.meet(port, is_six(wanted.destination)).await {
        Ok(inside) => copy(outlet, wanted, inside, stream).await,
        // It was closed meanwhile, or pid 1 cannot: then it waits no longer.
        Err(_) => wanted.socket.fail(),
    }
}

async fn copy(outlet: &Outlet, wanted: Wanted, inside: std::net::TcpStream, outside: TcpStream) {
    let Wanted { socket, places, .. } = wanted;
    // Or the other side would not hear of it when the program closes its own.
    drop(socket);
    let outside = outlet.gate.counted(outside);
    if let Ok(inside) = TcpStream::from_std(inside) {
        relay::run(inside, outside).await;
    }
    drop(places);
}

/// Connects from the host, to the address that was checked.
async fn connect(destination: SocketAddr) -> std::io::Result<TcpStream> {
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    let socket = if destination.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let connecting = socket.connect(destination);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from_raw_os_error(libc::ETIMEDOUT)),
    }
}

/// Where a socket with this destination waits: at an address that its family can name.
fn meeting(destination: SocketAddr) -> SocketAddr {
    let address = match destination.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(address, MEETING_PORT)
}

/// Whether it waits at `::1`.
fn is_six(destination: SocketAddr) -> bool {
    destination.ip().to_canonical().is_ipv6()
}

fn number(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::ECONNABORTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_inside_in_every_spelling() {
        let inside = |address: &str| is_inside(address.parse().unwrap());
        for address in
            ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"]
        {
            assert!(inside(address), "{address}");
        }
        for address in ["0.0.0.1", "10.0.0.1", "::2", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1"] {
            assert!(!inside(address), "{address}");
        }
    }

    #[test]
    fn sockets_wait_where_their_family_can() {
        let at = |destination: &str| meeting(destination.parse().unwrap()).to_string();
        assert_eq!(at("1.2.3.4:443"), "127.0.0.1:1023");
        assert_eq!(at("[2a00::1]:443"), "[::1]:1023");
        assert_eq!(at("[::ffff:1.2.3.4]:443"), "[::ffff:127.0.0.1]:1023");
        assert!(is_six("[2a00::1]:1".parse().unwrap()) && !is_six("[::ffff:1.2.3.4]:1".parse().unwrap()));
    }
}
