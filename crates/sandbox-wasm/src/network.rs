//! A guest's way out: its sockets and the names that it looks up, by the same rules as a process's.
//!
//! A guest has no network of its own: an address that it may connect to is connected to from the host, loopback
//! included where everything is open. It opens no ports of the host and sends no datagrams. Names are looked up by
//! [`sandbox::egress::Gate`] alone, which remembers what listed ones resolve to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::vec;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sandbox::Egress;
use wasmtime::component::Resource;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, subscribe};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsView};

use crate::host::{Guest, Shared};
use crate::outside::{Outside, Unreachable};

/// What a guest's sockets may do.
pub(crate) fn context(egress: &Egress, outside: &Outside) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder.allow_udp(false).allow_ip_name_lookup(false);
    // A worker has no network to connect in.
    let Outside::Here(gate, _) = outside else { return builder.allow_tcp(false).build() };
    if *egress == Egress::None {
        return builder.allow_tcp(false).build();
    }
    let gate = Arc::clone(gate);
    builder.allow_tcp(true).socket_addr_check(move |address, purpose| {
        let allowed = may(&gate, address, purpose);
        Box::pin(std::future::ready(allowed))
    });
    builder.build()
}

fn may(gate: &sandbox::egress::Gate, address: SocketAddr, purpose: SocketAddrUse) -> bool {
    match purpose {
        SocketAddrUse::TcpConnect => gate.check_known(address).is_ok(),
        // What the kernel does before it connects.
        SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
        _ => false,
    }
}

/// The addresses of a name, once they are there.
enum Addresses {
    Coming(BoxFuture<'static, Result<Vec<IpAddr>, ErrorCode>>),
    Here(Result<vec::IntoIter<IpAddr>, ErrorCode>),
}

impl Addresses {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&mut Result<vec::IntoIter<IpAddr>, ErrorCode>> {
        if let Self::Coming(coming) = self {
            match coming.poll_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(found) => *self = Self::Here(found.map(Vec::into_iter)),
            }
        }
        match self {
            Self::Here(here) => Poll::Ready(here),
            Self::Coming(_) => Poll::Pending,
        }
    }
}

impl Pollable for Addresses {
    fn ready<'a: 'b, 'b>(&'a mut self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        Self: 'b,
    {
        Box::pin(std::future::poll_fn(|cx| self.poll(cx).map(|_| ())))
    }
}

async fn look_up(shared: Arc<Shared>, name: String) -> Result<Vec<IpAddr>, ErrorCode> {
    shared.outside.look_up(&name).await.map_err(|unreachable| match unreachable {
        Unreachable::Denied | Unreachable::Prohibited => ErrorCode::AccessDenied,
        Unreachable::NoAddress => ErrorCode::NameUnresolvable,
        Unreachable::NoPlace | Unreachable::Failed(_) => ErrorCode::TemporaryResolverFailure,
    })
}

/// The bindings name a type of wasmtime's own that nobody else can make; in the table it is ours.
fn ours(stream: &Resource<ResolveAddressStream>) -> Resource<Addresses> {
    Resource::new_own(stream.rep())
}

impl network::Host for Guest {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.sockets().convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.sockets().network_error_code(error)
    }
}

impl network::HostNetwork for Guest {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.sockets(), network)
    }
}

impl ip_name_lookup::Host for Guest {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        // Holding it is the right to ask.
        self.table().get(&network)?;
        if self.shared().spec.egress == Egress::None {
            return Err(ErrorCode::PermanentResolverFailure.into());
        }
        let coming = look_up(Arc::clone(self.shared()), name).boxed();
        let addresses = self.table().push(Addresses::Coming(coming))?;
        Ok(Resource::new_own(addresses.rep()))
    }
}

impl ip_name_lookup::HostResolveAddressStream for Guest {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let addresses = self.table().get_mut(&ours(&stream))?;
        match addresses.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Err(ErrorCode::WouldBlock.into()),
            Poll::Ready(Ok(rest)) => Ok(rest.next().map(IpAddress::from)),
            Poll::Ready(Err(error)) => Err((*error).into()),
        }
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table(), ours(&stream))
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table().delete(ours(&stream))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sandbox::LogSink;
    use sandbox::egress::{Gate, Network};

    use super::*;

    struct Nowhere;

    impl LogSink for Nowhere {
        fn write(&self, _: &[u8]) {}
    }

    fn gate(egress: &str) -> Arc<Gate> {
        let network = Arc::new(Network::new(Vec::new()));
        Arc::new(Gate::new(egress.parse().unwrap(), network, Arc::new(Nowhere)))
    }

    #[test]
    fn sockets_connect_where_they_may_and_open_no_ports() {
        use SocketAddrUse::{TcpAccept, TcpBind, TcpConnect, TcpListen, UdpBind, UdpReceive, UdpSend};
        let may = |egress: &str, address: &str, purpose| {
            super::may(&gate(egress), address.parse().unwrap(), purpose)
        };
        assert!(may("public", "1.1.1.1:80", TcpConnect));
        for address in
            ["127.0.0.1:80", "10.0.0.1:80", "169.254.169.254:80", "[::1]:80", "[::ffff:127.0.0.1]:80"]
        {
            assert!(!may("public", address, TcpConnect), "{address}");
            assert!(may("open", address, TcpConnect), "{address}");
        }
        assert!(may("10.0.0.0/8:80", "10.0.0.1:80", TcpConnect));
        assert!(!may("10.0.0.0/8:80", "10.0.0.1:81", TcpConnect));
        assert!(may("public", "0.0.0.0:0", TcpBind));
        for (address, purpose) in [
            ("0.0.0.0:80", TcpBind),
            ("127.0.0.1:0", TcpBind),
            ("0.0.0.0:0", TcpListen),
            ("1.1.1.1:80", TcpAccept),
            ("0.0.0.0:0", UdpBind),
            ("1.1.1.1:80", UdpSend),
            ("1.1.1.1:80", UdpReceive),
        ] {
            assert!(!may("open", address, purpose), "{address} {purpose:?}");
        }
    }

    #[test]
    fn addresses_are_there_when_the_future_is() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let coming = async { receiver.await.map_err(|_| ErrorCode::Unknown) };
        let mut addresses = Addresses::Coming(coming.boxed());
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(addresses.poll(cx).is_pending());
        sender.send(vec![IpAddr::from([1, 1, 1, 1])]).unwrap();
        let Poll::Ready(Ok(found)) = addresses.poll(cx) else { panic!("not there") };
        assert_eq!(found.next(), Some(IpAddr::from([1, 1, 1, 1])));
        let Poll::Ready(Ok(found)) = addresses.poll(cx) else { panic!("gone") };
        assert_eq!(found.next(), None);
    }
}
