//! A guest's way out as its process has it: through the gate itself, or, in a worker, by asking the server.
//!
//! Both decide by [`sandbox::egress::Gate`], which is always in the server. A worker has no network: it is handed one
//! end of a socket pair, and the server copies bytes between the other end and the connection that it has made.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sandbox::Spec;
use sandbox::egress::{Counted, Gate, Network, Place};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::trust::Trust;
use crate::worker::Asker;

/// Where an instance's guests turn to.
pub(crate) enum Outside {
    /// The gate is in this process.
    Here(Arc<Gate>, Arc<Trust>),
    /// The server has it.
    Asked(Asker),
}

/// Why there is no connection, or no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unreachable {
    /// The rules refuse the name.
    Denied,
    /// The rules refuse every address that the name has.
    Prohibited,
    /// The name has no address.
    NoAddress,
    /// Too many connections are open.
    NoPlace,
    /// The system's error number, 0 where there is none.
    Failed(i32),
}

/// A connection to somewhere outside.
pub(crate) enum Connection {
    /// Of this process, with the place that it takes.
    Here(Counted<TcpStream>, Place),
    /// Whose other end the server serves.
    Relayed(UnixStream),
}

/// Both directions of it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connection {
    /// The bytes, and what is to be dropped with them.
    pub(crate) fn split(self) -> (Box<dyn Stream>, Option<Place>) {
        match self {
            Self::Here(stream, place) => (Box::new(stream), Some(place)),
            Self::Relayed(stream) => (Box::new(stream), None),
        }
    }
}

impl Outside {
    /// For an instance of this process.
    pub(crate) fn here(spec: &Spec, network: Arc<Network>, trust: Arc<Trust>) -> Self {
        Self::Here(Arc::new(Gate::new(spec.egress.clone(), network, spec.output.clone())), trust)
    }

    /// A connection to the first address of a host that can be connected to.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<Connection, Unreachable> {
        match self {
            Self::Here(gate, _) => {
                connect(gate, host, port).await.map(|(stream, place)| Connection::Here(stream, place))
            }
            Self::Asked(asker) => asker.connect(host, port).await.map(Connection::Relayed),
        }
    }

    /// What encrypts connections, which is done in this process wherever they are made.
    pub(crate) async fn tls(&self) -> std::io::Result<tls::Client> {
        match self {
            Self::Here(_, trust) => trust.client().await,
            Self::Asked(asker) => asker.tls().await,
        }
    }

    /// The addresses of a name that may be connected to.
    pub(crate) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Unreachable> {
        match self {
            Self::Here(gate, _) => look_up(gate, name).await,
            Self::Asked(asker) => asker.look_up(name).await,
        }
    }
}

/// By this gate.
pub(crate) async fn look_up(gate: &Gate, name: &str) -> Result<Vec<IpAddr>, Unreachable> {
    match gate.look_up(name).await {
        Ok(found) if found.is_empty() => Err(Unreachable::NoAddress),
        Ok(found) => Ok(found),
        Err(_) => Err(Unreachable::Denied),
    }
}

/// By this gate, with the place that the connection takes.
pub(crate) async fn connect(
    gate: &Gate,
    host: &str,
    port: u16,
) -> Result<(Counted<TcpStream>, Place), Unreachable> {
    let place = gate.place().ok_or(Unreachable::NoPlace)?;
    let mut last = Unreachable::NoAddress;
    for address in look_up(gate, host).await? {
        let destination = SocketAddr::new(address, port);
        if gate.check(destination).await.is_err() {
            last = Unreachable::Prohibited;
            continue;
        }
        match TcpStream::connect(destination).await {
            Ok(stream) => {
                // A request that follows the end of a handshake would wait for its acknowledgement; no more is lost than
                // that.
                let _ = stream.set_nodelay(true);
                return Ok((gate.counted(stream), place));
            }
            Err(error) => last = Unreachable::Failed(error.raw_os_error().unwrap_or(0)),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use sandbox::Egress;

    use super::*;

    struct Nowhere;

    impl sandbox::LogSink for Nowhere {
        fn write(&self, _: &[u8]) {}
    }

    #[tokio::test]
    async fn what_is_written_is_sent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Gate::new(Egress::Open, Arc::new(Network::new(Vec::new())), Arc::new(Nowhere));
        let port = listener.local_addr().unwrap().port();
        let (stream, _) = connect(&gate, "127.0.0.1", port).await.ok().unwrap();
        assert!(stream.get_ref().nodelay().unwrap());
    }
}
