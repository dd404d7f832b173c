//! One connection: hyper's HTTP/1 with bounds, until it ends, is upgraded, or the server does.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use functions::Alarm;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sandbox::Body;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::gateway::{Inner, Place};
use crate::http::framing;
use crate::http::headers::Origin;
use crate::http::stream::{Linger, Stream};
use crate::http::timer::HeadTimer;
use crate::phase::{Phase, Phases, reached};
use crate::{limits, refusal, router};

/// What its requests have in common.
pub(crate) struct Connection {
    pub(crate) gateway: Arc<Inner>,
    /// The client's address.
    pub(crate) peer: IpAddr,
    /// The same as headers say it.
    pub(crate) origin: Origin,
    /// Whether URLs by path exist here.
    pub(crate) paths: bool,
    /// Ends answers that take too long.
    pub(crate) answer_alarm: Alarm,
    linger: Linger,
}

/// Serves until the connection ends.
pub(crate) async fn serve(gateway: Arc<Inner>, socket: TcpStream, place: Place, paths: bool) {
    // Small answers must not wait for the client's acknowledgement of earlier ones.
    let _ = socket.set_nodelay(true);
    let linger = Linger::new(AtomicBool::new(false));
    let local = socket.local_addr().map_or(0, |local| local.port());
    let peer = socket
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer: SocketAddr| peer.ip().to_canonical());
    let place = Arc::new(place);
    let stream = Stream::new(socket, Arc::clone(&place), Arc::clone(&linger));
    let mut phases = gateway.phases.watch();
    let head_timer = HeadTimer::default();
    let builder = builder(&gateway, head_timer.clone());
    let origin = origin(peer, local);
    let answer_alarm = Alarm::default();
    let connection = Arc::new(Connection { gateway, peer, origin, paths, answer_alarm, linger });
    let shared = Arc::clone(&connection);
    let service = service_fn(move |request| handle(Arc::clone(&shared), request));
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let outcome = match until_draining(&connection.gateway.phases, served.as_mut(), &mut phases).await {
        Some(outcome) => outcome,
        None => {
            // A client between two requests gets an answer to its next one, and it is the last.
            if !(head_timer.is_waiting() && place.step_aside(&connection.gateway.aside)) {
                served.as_mut().graceful_shutdown();
            }
            tokio::select! {
                biased;
                outcome = served.as_mut() => outcome,
                () = reached(&mut phases, Phase::Closed) => return,
            }
        }
    };
    if let Err(error) = outcome {
        // Malformed heads have been answered with 400 or 431 by now, and the rest of them is unread.
        connection.linger.store(true, Ordering::Relaxed);
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Runs a future until the server drains. Of that the task is told once it has asked: it does not ask again each time
/// that it runs, which takes a lock that all connections share.
async fn until_draining<F: Future>(
    phases: &Phases,
    mut served: Pin<&mut F>,
    changes: &mut watch::Receiver<Phase>,
) -> Option<F::Output> {
    let mut draining = pin!(reached(changes, Phase::Draining));
    let mut asked = false;
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = served.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if std::mem::replace(&mut asked, true) && !phases.is_draining() {
            return Poll::Pending;
        }
        draining.as_mut().poll(cx).map(|()| None)
    })
    .await
}

fn builder(gateway: &Inner, head_timer: HeadTimer) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(head_timer)
        .header_read_timeout(gateway.settings.header_timeout)
        .max_header_size(limits::HEAD)
        .max_buf_size(limits::BUFFER);
    builder
}

fn origin(peer: IpAddr, port: u16) -> Origin {
    Origin {
        // An address's text is always a legal value.
        address: HeaderValue::try_from(peer.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
        port: HeaderValue::from(port),
    }
}

async fn handle(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if !request.body().is_end_stream() {
        connection.linger.store(true, Ordering::Relaxed);
    }
    if connection.gateway.phases.is_draining() {
        return Ok(refusal::stopping());
    }
    let objection = framing::objection(request.method(), request.uri(), request.version(), request.headers());
    if let Some(objection) = objection {
        return Ok(refusal::last_message(StatusCode::BAD_REQUEST, objection));
    }
    // Boxed once: it goes through many hands.
    Ok(router::answer(&connection, Box::new(request.map(Body::Incoming))).await)
}
