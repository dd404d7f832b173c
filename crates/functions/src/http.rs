//! Public HTTP requests, streamed through to an instance that speaks HTTP.
//!
//! The hot path: no allocation but the body's wrapper, no formatting, no look-up. The `Timeout` covers the
//! whole request as on Cloud Run: until the head, then the body, then an upgraded connection. No START, END
//! and REPORT lines: three writes a request would cost more than the rest of this file.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base::RequestId;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use observe::Ending;
use parking_lot::Mutex;
use sandbox::{Body, BoxError, Call, Exit, Fault, Isolation, Output, Payload};

use crate::Error;
use crate::failure::Failure;
use crate::invoke::{Admission, admit};
use crate::pool::{FailedStart, Host, Lease, Target};
use crate::report;
use crate::service::Inner;

impl Inner {
    pub(crate) async fn serve(
        &self,
        target: Arc<Target>,
        find: impl Fn() -> Result<Arc<Target>, Error>,
        id: RequestId,
        request: ::http::Request<Body>,
    ) -> Result<::http::Response<Body>, Error> {
        match admit(&self.host, target, find).await? {
            Admission::Leased(lease) => exchange(&self.host, lease, id, request).await,
            Admission::Failed(start, _) => Err(not_started(&self.host, id, &start)),
        }
    }
}

fn not_started(host: &Host, id: RequestId, start: &FailedStart) -> Error {
    match Failure::start(id, &start.error, host.bounds.init_timeout.as_secs_f64()) {
        Some(failure) => {
            start.log.line(&format!("{} {}", failure.message, failure.error_type));
            Error::Failed { error_type: failure.error_type, message: failure.message }
        }
        None => Error::Unavailable("The host could not start an instance of the function.".into()),
    }
}

/// A request under way: its place on the instance, and when it must be over.
struct UnderWay {
    lease: Lease,
    id: RequestId,
    began: Instant,
    deadline: Instant,
    timeout_s: u32,
    counted: bool,
}

impl UnderWay {
    fn count(&mut self, ending: Ending) {
        if !std::mem::replace(&mut self.counted, true) {
            self.lease.pool().meter().invoked(ending, self.began.elapsed());
        }
    }

    /// The time is up: the instance gets no new calls, since nobody knows what it still does for this one.
    fn time_out(&mut self, now: base::Timestamp) {
        if self.lease.pool().plan().configuration.settings.isolation == Isolation::Process {
            self.lease.retire();
        }
        self.lease.log().line(&report::timed_out(self.id, now, self.timeout_s));
        self.count(Ending::Timeout);
    }
}

impl Drop for UnderWay {
    /// A body that was not read to its end was the caller's to give up.
    fn drop(&mut self) {
        self.count(Ending::Success);
    }
}

async fn exchange(
    host: &Arc<Host>,
    lease: Lease,
    id: RequestId,
    request: ::http::Request<Body>,
) -> Result<::http::Response<Body>, Error> {
    let timeout_s = lease.pool().plan().configuration.timeout_s;
    let began = Instant::now();
    let deadline = began + Duration::from_secs(timeout_s.into());
    let deadline_unix_ms = host.clock.now().as_millis() + i64::from(timeout_s) * 1000;
    let call = Call { id, deadline, deadline_unix_ms, payload: Payload::Http(request) };
    let answered = tokio::time::timeout_at(deadline.into(), lease.instance().invoke(call)).await;
    let mut under_way = UnderWay { lease, id, began, deadline, timeout_s, counted: false };
    match answered {
        Ok(Ok(Output::Http(response))) => Ok(pass_on(host, under_way, response)),
        Ok(Ok(Output::Event(_) | Output::FunctionError(_))) => {
            under_way.count(Ending::Error);
            Err(Error::internal("an instance that speaks HTTP answered with an event"))
        }
        Ok(Err(fault)) => Err(failed(host, &mut under_way, &fault)),
        Err(_) => {
            under_way.time_out(host.clock.now());
            Err(Error::TimedOut(Failure::timed_out(id, timeout_s).message))
        }
    }
}

fn failed(host: &Host, under_way: &mut UnderWay, fault: &Fault) -> Error {
    if matches!(fault, Fault::Exited(Exit::Stopped)) && host.is_stopping() {
        return Error::Unavailable("The server is stopping.".into());
    }
    if matches!(fault, Fault::Exited(_) | Fault::BadAnswer(_)) {
        under_way.lease.retire();
    }
    under_way.count(Ending::Error);
    let failure = Failure::fault(under_way.id, fault);
    under_way.lease.log().line(&format!("{} {}", failure.message, failure.error_type));
    Error::Failed { error_type: failure.error_type, message: failure.message }
}

fn pass_on(
    host: &Arc<Host>,
    mut under_way: UnderWay,
    mut response: ::http::Response<Body>,
) -> ::http::Response<Body> {
    if response.status() == ::http::StatusCode::SWITCHING_PROTOCOLS {
        let in_flight = upgraded(host, under_way);
        response.extensions_mut().insert(in_flight);
        return response;
    }
    if response.body().is_end_stream() || matches!(response.body(), Body::Full(_)) {
        under_way.count(Ending::Success);
        return response;
    }
    let host = Arc::clone(host);
    response.map(|body| Body::boxed(Watched { body, under_way: Some(under_way), timer: None, host }))
}

/// A response's body that holds its call's place until it has ended.
struct Watched {
    body: Body,
    under_way: Option<UnderWay>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    host: Arc<Host>,
}

impl Watched {
    fn ended(&mut self, ending: Ending) {
        if let Some(mut under_way) = self.under_way.take() {
            under_way.count(ending);
        }
    }

    /// Whether the time is up. The timer is made by the first poll that has to wait: most bodies never do.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let Some(under_way) = &mut self.under_way else { return Poll::Pending };
        let deadline = under_way.deadline.into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        std::task::ready!(timer.as_mut().poll(cx));
        under_way.time_out(self.host.clock.now());
        let message = Failure::timed_out(under_way.id, under_way.timeout_s).message;
        self.under_way = None;
        // The instance's side must not wait for a reader that is not coming back.
        self.body = Body::empty();
        Poll::Ready(message.into())
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if this.body.is_end_stream() {
                    this.ended(Ending::Success);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.ended(Ending::Error);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.ended(Ending::Success);
                Poll::Ready(None)
            }
            Poll::Pending => this.poll_deadline(cx).map(|error| Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Keeps an upgraded connection counted as a call in flight until the last clone is dropped, or its time is up.
#[derive(Clone)]
pub struct InFlight {
    _held: Arc<Held>,
}

struct Held {
    under_way: Arc<Mutex<Option<UnderWay>>>,
    timer: tokio::task::AbortHandle,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.timer.abort();
        self.under_way.lock().take();
    }
}

/// Upgraded connections are few and long: each may have a task that ends it when its time is up.
fn upgraded(host: &Arc<Host>, under_way: UnderWay) -> InFlight {
    let deadline = under_way.deadline;
    let shared = Arc::new(Mutex::new(Some(under_way)));
    let (host, timed) = (Arc::clone(host), Arc::clone(&shared));
    let timer = tokio::spawn(async move {
        tokio::time::sleep_until(deadline.into()).await;
        let under_way = timed.lock().take();
        if let Some(mut under_way) = under_way {
            under_way.time_out(host.clock.now());
        }
    });
    InFlight { _held: Arc::new(Held { under_way: shared, timer: timer.abort_handle() }) }
}
