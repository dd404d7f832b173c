//! Requests that a guest sends (`wasi:http/outgoing-handler`) and which headers it may touch.
//!
//! A request goes to an address that the function's egress rules allow, looked up and checked here and not again; one
//! that is refused has a line in the function's log that says why. The rules are the same for `https`, whose other
//! side must have a certificate for the name that the guest asked for; it too is told in the log if it has not.
//! Each request has a connection of its own.

use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderName, Request, Response, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use sandbox::Egress;
use sandbox::egress::Place;
use tls::Cause;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, TlsAlertReceivedPayload};
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use crate::host::Shared;
use crate::outside::{Stream, Unreachable};
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
        if self.shared.spec.egress == Egress::None {
            let line =
                format!("request to {} denied: outbound network is off for this function\n", request.uri());
            self.log.write(line.as_bytes());
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        }
        Box::new(exchange(Arc::clone(&self.shared), self.log.clone(), request, options))
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        broken_off(error)
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }
}

fn failed(unreachable: Unreachable) -> Error {
    let errno = match unreachable {
        Unreachable::Denied => return Error::HttpRequestDenied,
        Unreachable::Prohibited => return Error::DestinationIpProhibited,
        Unreachable::NoAddress => return Error::DnsError { rcode: None, info_code: None },
        Unreachable::NoPlace => return Error::ConnectionLimitReached,
        Unreachable::Failed(errno) => errno,
    };
    match Errno::from_raw_os_error(errno) {
        Errno::CONNREFUSED => Error::ConnectionRefused,
        Errno::TIMEDOUT => Error::ConnectionTimeout,
        Errno::NETUNREACH => Error::DestinationIpUnroutable,
        Errno::HOSTUNREACH => Error::DestinationUnavailable,
        _ => Error::Connect(std::io::Error::from_raw_os_error(errno)),
    }
}

/// What a guest is told of a handshake that failed.
fn not_encrypted(cause: Cause) -> Error {
    match cause {
        Cause::Certificate(_) => Error::TlsCertificateError,
        Cause::Refused { alert, name } => {
            Error::TlsAlertReceived { alert_id: Some(alert), alert_message: Some(name) }
        }
        Cause::Protocol(_) => Error::TlsProtocolError,
        Cause::Name => Error::HttpRequestUriInvalid,
        Cause::Connection => Error::ConnectionTerminated,
    }
}

/// What a guest is told of an exchange that came to nothing. It is the guest's affair and no line in the server's log.
fn broken_off(error: &hyper::Error) -> ErrorCode {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match cause.map(Cause::of) {
        Some(Cause::Refused { alert, name }) => ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
            alert_id: Some(alert),
            alert_message: Some(name),
        }),
        Some(Cause::Certificate(_) | Cause::Protocol(_)) => ErrorCode::TlsProtocolError,
        Some(Cause::Name | Cause::Connection) => ErrorCode::ConnectionTerminated,
        None if error.is_incomplete_message() => ErrorCode::HttpResponseIncomplete,
        None if error.is_parse_too_large() => ErrorCode::HttpResponseHeaderSectionSize(None),
        None if error.is_canceled() || error.is_closed() => ErrorCode::ConnectionTerminated,
        None => ErrorCode::HttpProtocolError,
    }
}

/// A connection to where a request goes.
async fn connect(
    shared: &Shared,
    log: &Log,
    authority: &Authority,
    encrypted: bool,
) -> Result<(Box<dyn Stream>, Option<Place>), Error> {
    let host = authority.host();
    let port = authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let (stream, place) = shared.outside.connect(host, port).await.map_err(failed)?.split();
    if !encrypted {
        return Ok((stream, place));
    }
    let tls = shared.outside.tls().await.map_err(|error| {
        tracing::warn!(%error, "a guest's https request cannot be encrypted");
        Error::ConfigurationError
    })?;
    match tls.connect(host, stream).await {
        Ok(stream) => Ok((Box::new(stream), place)),
        Err(error) => {
            log.write(format!("https to {host}:{port} failed: {error}\n").as_bytes());
            Err(not_encrypted(Cause::of(&error)))
        }
    }
}

async fn exchange(
    shared: Arc<Shared>,
    log: Log,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Exchange {
    let mut request = request;
    let authority = request.uri().authority().ok_or(Error::HttpRequestUriInvalid)?;
    let encrypted = request.uri().scheme() == Some(&Scheme::HTTPS);
    let options = options.unwrap_or_default();
    let connecting = connect(&shared, &log, authority, encrypted);
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
        // The body tells the guest; told here as well it would be a line in the server's log.
        let _ = connection.await;
        drop(place);
        Ok(())
    });
    Ok((response.map(|body| body.map_err(Error::from).boxed_unsync()), worker))
}
