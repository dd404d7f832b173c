//! How a web server inside an instance is reached.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::jail::Jail;

/// Where the server's port is.
pub(crate) enum Route {
    /// On the loopback interface of the instance's own network namespace.
    Inside(Arc<Jail>, u16),
    /// On this process's own.
    #[cfg(test)]
    Host(u16),
}

impl Route {
    /// A new connection to the port. `ConnectionRefused` while nobody listens.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = match self {
            Self::Inside(jail, port) => TcpStream::from_std(jail.connect(*port).await?)?,
            #[cfg(test)]
            Self::Host(port) => TcpStream::connect(("127.0.0.1", *port)).await?,
        };
        stream.set_nodelay(true)?;
        // It never leaves this host: nothing is gained by measuring and pacing a network. Where it is not allowed,
        // the system's own will do.
        rustix::net::sockopt::set_tcp_congestion(&stream, "reno").ok();
        Ok(stream)
    }
}
