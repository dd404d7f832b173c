//! Connections to registries: TLS, but where plain HTTP is allowed. Those that answered are kept for a while.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::body::Arriving;
use super::pool::{Place, Pool};
use super::{Outgoing, Progress, nothing};
use crate::{Error, limits};

/// Makes connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: tls::Client,
    plain: Arc<[String]>,
    pool: Arc<Pool>,
}

impl Connector {
    /// Reads the certificates that registries are vouched for by: the host's, and those in `more`.
    pub(crate) fn new(plain: &[String], more: Option<&Path>) -> Result<Self, Error> {
        let client = || {
            let mut roots = tls::Roots::default();
            roots.add_hosts()?;
            more.map_or(Ok(()), |path| roots.add_file(path))?;
            tls::Client::new(&roots)
        };
        let tls = client().map_err(Error::host("setting TLS up"))?;
        Ok(Self { tls, plain: plain.into(), pool: Arc::default() })
    }

    /// Whether the operator says that a registry has no TLS.
    pub(crate) fn is_named_plain(&self, authority: &str) -> bool {
        self.plain.iter().any(|plain| plain == authority)
    }

    /// Whether a registry may be spoken to without TLS.
    pub(crate) fn may_be_plain(&self, authority: &str) -> bool {
        is_loopback(authority) || self.is_named_plain(authority)
    }

    /// Sends one request over a connection of its own. As long as its `Progress` grows, its body is on its way.
    pub(super) async fn send(
        &self,
        uri: &Uri,
        request: Request<Outgoing>,
    ) -> Result<Response<Arriving>, Error> {
        let place = self.place(uri)?;
        let mut sender = self.connect(uri, &place).await?;
        let answer = exchange(&mut sender, request).await.map_err(|failure| failure.of(&place))?;
        Ok(answer.map(Arriving::once))
    }

    /// Sends a request that has no body and changes nothing, over a connection that is there, if one is.
    pub(super) async fn get(&self, uri: &Uri, request: Request<()>) -> Result<Response<Arriving>, Error> {
        let place = self.place(uri)?;
        if let Some(mut sender) = self.pool.take(&place).await {
            match exchange(&mut sender, request.clone().map(|()| nothing())).await {
                Ok(answer) => return Ok(self.kept(answer, place, sender)),
                // It was closed meanwhile, which says nothing of the registry.
                Err(Failure::Broken(_)) => self.pool.forget(&place),
                Err(failure) => {
                    self.pool.forget(&place);
                    return Err(failure.of(&place));
                }
            }
        }
        let mut sender = self.connect(uri, &place).await?;
        let answer = exchange(&mut sender, request.map(|()| nothing())).await;
        Ok(self.kept(answer.map_err(|failure| failure.of(&place))?, place, sender))
    }

    fn kept(
        &self,
        answer: Response<Incoming>,
        place: Place,
        sender: SendRequest<Outgoing>,
    ) -> Response<Arriving> {
        answer.map(|body| Arriving::kept(body, &self.pool, place, sender))
    }

    /// Who an address means, if it may be spoken to.
    fn place(&self, uri: &Uri) -> Result<Place, Error> {
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        // `127.0.0.1:80@elsewhere` is not on this machine, though it begins so.
        if authority.contains('@') {
            return Err(Error::Invalid("a registry sends us to an address with a user in it".to_owned()));
        }
        let encrypted = uri.scheme_str() == Some("https");
        if !encrypted && !self.may_be_plain(authority) {
            return Err(Error::Denied(format!(
                "{authority} would be spoken to without encryption, which the server's settings do not allow"
            )));
        }
        Ok(Place { encrypted, authority: authority.to_owned() })
    }

    async fn connect(&self, uri: &Uri, place: &Place) -> Result<SendRequest<Outgoing>, Error> {
        let Place { encrypted, authority } = place;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if *encrypted { 443 } else { 80 });
        let stream = within(limits::CONNECT, TcpStream::connect((host, port))).await;
        let stream = stream.map_err(|error| unreachable(authority, &error))?;
        // The request would wait until the handshake's end is acknowledged; no more is lost than that.
        let _ = stream.set_nodelay(true);
        if !encrypted {
            return greet(TokioIo::new(stream), place).await;
        }
        let stream = within(limits::CONNECT, self.tls.connect(host, stream)).await;
        let stream = stream.map_err(|error| match tls::Cause::of(&error) {
            tls::Cause::Name => Error::Reference(format!("{host} is not a host's name")),
            _ => unreachable(authority, &error),
        })?;
        greet(TokioIo::new(stream), place).await
    }
}

/// Why there is no answer.
enum Failure {
    /// The connection ended, or what came is no HTTP.
    Broken(hyper::Error),
    /// Nothing came.
    Silence,
}

impl Failure {
    fn of(self, place: &Place) -> Error {
        let authority = &place.authority;
        Error::Unreachable(match self {
            Self::Broken(error) => format!("{authority}: {}", root_cause(&error)),
            Self::Silence => format!("{authority} does not answer"),
        })
    }
}

async fn greet(
    stream: impl Read + Write + Unpin + Send + 'static,
    place: &Place,
) -> Result<SendRequest<Outgoing>, Error> {
    let greeted = hyper::client::conn::http1::handshake(stream).await;
    let (sender, connection) = greeted.map_err(|error| Failure::Broken(error).of(place))?;
    // Ends with the connection: when nobody has the sender any more, or the other end hangs up.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = root_cause(&error), "a connection to a registry broke off");
        }
    });
    Ok(sender)
}

async fn exchange(
    sender: &mut SendRequest<Outgoing>,
    request: Request<Outgoing>,
) -> Result<Response<Incoming>, Failure> {
    let progress = request.extensions().get::<Progress>().cloned().unwrap_or_default();
    let mut answer = std::pin::pin!(sender.send_request(request));
    loop {
        let before = progress.bytes();
        match tokio::time::timeout(limits::SILENCE, &mut answer).await {
            Ok(answered) => return answered.map_err(Failure::Broken),
            Err(_) if progress.bytes() > before => {}
            Err(_) => return Err(Failure::Silence),
        }
    }
}

async fn within<T>(time: std::time::Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn unreachable(authority: &str, error: &io::Error) -> Error {
    Error::Unreachable(format!("{authority} cannot be reached: {}", root_cause(error)))
}

/// The innermost error, which says most.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// By name or address; a name that somebody else resolves to loopback is none of these.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn encryption_is_the_rule() {
        let connector = Connector::new(&["r.example:5000".to_owned()], None).unwrap();
        for plain in
            ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000", "r.example:5000"]
        {
            assert!(connector.may_be_plain(plain), "{plain}");
        }
        for encrypted in
            ["r.example", "r.example:443", "localhost.example", "10.0.0.1:5000", "127.0.0.1.example"]
        {
            assert!(!connector.may_be_plain(encrypted), "{encrypted}");
        }
    }

    #[tokio::test]
    async fn an_address_is_not_what_it_begins_with() {
        let connector = Connector::new(&[], None).unwrap();
        // The part before the @ is a user; what is connected to follows it, and nothing is there.
        for address in
            ["http://127.0.0.1:80@[::2]:1/x", "http://localhost:1@[::2]:1/x", "https://a@[::2]:1/x"]
        {
            let nothing = http_body_util::Empty::new().map_err(|never| match never {});
            let request = Request::get("/x").body(nothing.boxed_unsync()).unwrap();
            let sent = connector.send(&address.parse().unwrap(), request).await;
            let error = sent.err().expect("it is refused");
            assert!(matches!(error, Error::Invalid(_)), "{address}: {error}");
        }
    }
}
