//! Requests that a guest sends (`wasi:http/outgoing-handler`) and which headers it may touch.
//!
//! A request goes to an address that the function's egress rules allow, looked up and checked here and not again; one
//! that is refused has a line in the function's log that says why. Only plain `http` goes out; `https` is refused,
//! because this crate has no TLS.

use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderName, Request, Response, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use sandbox::Egress;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use crate::host::Shared;
use crate::outside::Unreachable;
use crate::stdio::Log;

type Worker = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Exchange = Result<(Response<WasiBody>, Worker), Error>;

/// Bytes that a write to an outgoing body holds at most, and how many writes wait to be read.
const BODY_CHUNK: usize = 64 << 10;
const BODY_CHUNKS: usize = 4;

/// What differs from wasmtime's own way of speaking HTTP for a guest.
pub(crate) struct Hooks {
    shared: Arc<Shared>,
    log: Log,
}

impl Hooks {
    pub(crate) fn new(shared: Arc<Shared>, log: Log) -> Self {
        Self { shared, log }
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
        let refusal = match self.shared.spec.egress {
            Egress::None => Some(("outbound network is off for this function", Error::HttpRequestDenied)),
            _ if request.uri().scheme() == Some(&Scheme::HTTPS) => {
                Some(("https is not available to WebAssembly functions", Error::TlsProtocolError))
            }
            _ => None,
        };
        let Some((why, error)) = refusal else {
            return Box::new(exchange(Arc::clone(&self.shared), request, options));
        };
        let line = format!("request to {} denied: {why}\n", request.uri());
        self.log.write(line.as_bytes());
        Box::new(std::future::ready(Err(error)))
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }
}

fn failed(unreachable: Unreachable) -> Error {
    match unreachable {
        Unreachable::Denied => Error::HttpRequestDenied,
        Unreachable::Prohibited => Error::DestinationIpProhibited,
        Unreachable::NoAddress => Error::DnsError { rcode: None, info_code: None },
        Unreachable::NoPlace => Error::ConnectionLimitReached,
        Unreachable::Failed(errno) => Error::Connect(std::io::Error::from_raw_os_error(errno)),
    }
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
    let connecting = async { shared.outside.connect(&host, port).await.map_err(failed) };
    let connected = match options.connect_timeout {
        Some(limit) => tokio::time::timeout(limit, connecting).await.map_err(|_| Error::ConnectionTimeout)?,
        None => connecting.await,
    }?;
    let (stream, place) = connected.split();
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
