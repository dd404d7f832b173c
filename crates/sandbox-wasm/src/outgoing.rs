//! Requests that a guest sends (`wasi:http/outgoing-handler`) and which headers it may touch.
//!
//! A request goes to an address that the function's egress rules allow, looked up and checked here and not again; one
//! that is refused has a line in the function's log that says why. Only plain `http` goes out; `https` is refused,
//! because this crate has no TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderName, Request, Response, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use sandbox::Egress;
use sandbox::egress::Gate;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use crate::host::Shared;

type Worker = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Exchange = Result<(Response<WasiBody>, Worker), Error>;

/// Bytes that a write to an outgoing body holds at most, and how many writes wait to be read.
const BODY_CHUNK: usize = 64 << 10;
const BODY_CHUNKS: usize = 4;

/// What differs from wasmtime's own way of speaking HTTP for a guest.
pub(crate) struct Hooks(Arc<Shared>);

impl Hooks {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

/// Headers that are the connection's, not the guest's.
fn is_forbidden(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::HOST
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Worker,
    ) -> Box<dyn Future<Output = Exchange> + Send> {
        let refusal = match self.0.spec.egress {
            Egress::None => Some(("outbound network is off for this function", Error::HttpRequestDenied)),
            _ if request.uri().scheme() == Some(&Scheme::HTTPS) => {
                Some(("https is not available to WebAssembly functions", Error::TlsProtocolError))
            }
            _ => None,
        };
        let Some((why, error)) = refusal else {
            return Box::new(exchange(Arc::clone(&self.0), request, options));
        };
        let line = format!("request to {} denied: {why}\n", request.uri());
        self.0.spec.output.write(line.as_bytes());
        Box::new(std::future::ready(Err(error)))
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }
}

/// A connection to the first address of a host that can be connected to, and the place that it takes.
async fn connect(gate: &Gate, host: &str, port: u16) -> Result<(TcpStream, OwnedSemaphorePermit), Error> {
    let Some(place) = gate.place() else { return Err(Error::ConnectionLimitReached) };
    let addresses = gate.look_up(host).await.map_err(|_| Error::HttpRequestDenied)?;
    let mut last = Error::DnsError { rcode: None, info_code: None };
    for address in addresses {
        let destination = SocketAddr::new(address, port);
        if gate.check(destination).await.is_err() {
            last = Error::DestinationIpProhibited;
            continue;
        }
        match TcpStream::connect(destination).await {
            Ok(stream) => return Ok((stream, place)),
            Err(error) => last = Error::Connect(error),
        }
    }
    Err(last)
}

async fn exchange(
    shared: Arc<Shared>,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Exchange {
    let mut request = request;
    let authority = request.uri().authority().ok_or(Error::HttpRequestUriInvalid)?;
    let (host, port) = (authority.host().to_owned(), authority.port_u16().unwrap_or(80));
    let options = options.unwrap_or_default();
    let connecting = connect(&shared.gate, &host, port);
    let (stream, place) = match options.connect_timeout {
        Some(limit) => tokio::time::timeout(limit, connecting).await.map_err(|_| Error::ConnectionTimeout)?,
        None => connecting.await,
    }?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    // The connection has to be driven for the head to arrive, and further for the body.
    let mut connection = Box::pin(connection);
    let mut sending = Box::pin(sender.send_request(request));
    let response = std::future::poll_fn(|cx| {
        let driven = connection.as_mut().poll(cx);
        match (sending.as_mut().poll(cx), driven) {
            (std::task::Poll::Pending, std::task::Poll::Ready(Err(error))) => {
                std::task::Poll::Ready(Err(error))
            }
            (answer, _) => answer,
        }
    });
    let response = match options.first_byte_timeout {
        Some(limit) => {
            tokio::time::timeout(limit, response).await.map_err(|_| Error::ConnectionReadTimeout)?
        }
        None => response.await,
    }?;
    drop(sending);
    let worker = Box::new(async move {
        let ended = connection.await.map_err(Error::from);
        drop(place);
        ended
    });
    Ok((response.map(|body| body.map_err(Error::from).boxed_unsync()), worker))
}
