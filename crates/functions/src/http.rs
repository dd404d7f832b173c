//! Public HTTP requests, streamed through to an instance that speaks HTTP.
//!
//! The hot path: no allocation but the body's wrapper, no formatting, no look-up, no timer of its own. The `Timeout` covers the
//! whole request as on Cloud Run: until the head, then the body, then an upgraded connection. No START, END
//! and REPORT lines: three writes a request would cost more than the rest of this file.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base::{Clock, RequestId};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use observe::{Ending, LogStream};
use parking_lot::Mutex;
use sandbox::{Body, BoxError, Call, Exit, Fault, Isolation, Output, Payload, Speaks};

use crate::failure::Failure;
use crate::invoke::{Admission, OFFERS, admit};
use crate::model::Configuration;
use crate::pool::{FailedStart, Host, Lease, Stream, Target};
use crate::report::Lines;
use crate::service::Inner;
use crate::{Alarm, Error};

impl Inner {
    pub(crate) async fn serve(
        &self,
        target: Arc<Target>,
        find: impl Fn() -> Result<Arc<Target>, Error>,
        id: RequestId,
        alarm: &Alarm,
        request: Box<::http::Request<Body>>,
    ) -> Result<::http::Response<Body>, Error> {
        let (mut target, mut request) = (target, request);
        let mut offered = 0;
        loop {
            // A body that waits is in its connection, not here.
            let lease = match admit(&self.host, target, 0, &find).await? {
                Admission::Leased(lease) => lease,
                Admission::Failed(start, plan) => {
                    self.host.metrics.meter(&plan.labels()).not_started();
                    return Err(not_started(&self.host, id, &start, &plan.configuration));
                }
            };
            offered += 1;
            match exchange(&self.host, lease, id, alarm, request, offered == OFFERS).await? {
                Exchanged::Answered(response) => return Ok(response),
                Exchanged::NotTaken(again) => (target, request) = (find()?, again),
            }
        }
    }
}

fn not_started(host: &Host, id: RequestId, start: &FailedStart, configuration: &Configuration) -> Error {
    match Failure::start(id, &start.error, host.bounds.init_timeout.as_secs_f64()) {
        Some(failure) => {
            say(&start.log, Lines::of(configuration, &*host.clock).fault(said(&failure)));
            Error::Failed { error_type: failure.error_type, message: failure.message }
        }
        None => Error::Unavailable("The host could not start an instance of the function.".into()),
    }
}

/// What happened, for the function's log.
fn said(failure: &Failure) -> String {
    format!("{} {}", failure.message, failure.error_type)
}

/// Writes a line that is wanted.
fn say(log: &LogStream, line: Option<String>) {
    if let Some(line) = line {
        log.line(&line);
    }
}

/// A request under way: its place on the instance, and when it must be over.
struct UnderWay {
    lease: Lease,
    id: RequestId,
    began: Instant,
    deadline: Instant,
    counted: bool,
}

impl UnderWay {
    fn lines<'a>(&'a self, clock: &'a dyn Clock) -> Lines<'a> {
        Lines::of(&self.lease.pool().plan().configuration, clock)
    }

    fn count(&mut self, ending: Ending) {
        if !std::mem::replace(&mut self.counted, true) {
            self.lease.pool().meter().invoked(ending, self.began.elapsed());
        }
    }

    /// The instance had ended before it got the request: for its log alone, since another one has the call.
    fn not_taken(&mut self, exit: Exit, clock: &dyn Clock) {
        self.lease.retire();
        self.counted = true;
        let exited = Failure::exited(self.id, exit).message;
        say(self.lease.log(), self.lines(clock).not_delivered(&exited));
    }

    /// The time is up: the instance gets no new calls, since nobody knows what it still does for this one.
    fn time_out(&mut self, clock: &dyn Clock) {
        if self.lease.pool().plan().configuration.settings.isolation == Isolation::Process {
            self.lease.retire();
        }
        say(
            self.lease.log(),
            self.lines(clock).timed_out(self.id, self.lease.pool().plan().configuration.timeout_s),
        );
        self.count(Ending::Timeout);
    }
}

impl Drop for UnderWay {
    /// An answer that was not waited for, or not read to its end, was the caller's to give up.
    fn drop(&mut self) {
        self.count(Ending::Success);
    }
}

/// What came of handing a request to an instance.
enum Exchanged {
    Answered(::http::Response<Body>),
    /// It had ended and saw nothing of the request.
    NotTaken(Box<::http::Request<Body>>),
}

/// `last`: the request goes to no other instance.
async fn exchange(
    host: &Arc<Host>,
    lease: Lease,
    id: RequestId,
    alarm: &Alarm,
    request: Box<::http::Request<Body>>,
    last: bool,
) -> Result<Exchanged, Error> {
    let plan = lease.pool().plan();
    if plan.prepared.speaks != Speaks::Http {
        // It was replaced between the gateway's look-up and here.
        return Err(Error::Unavailable("The function has just changed; try again.".into()));
    }
    let timeout_s = plan.configuration.timeout_s;
    let began = Instant::now();
    let deadline = began + Duration::from_secs(timeout_s.into());
    let deadline_unix_ms = host.clock.now().as_millis() + i64::from(timeout_s) * 1000;
    let call = Call { id, deadline, deadline_unix_ms, payload: Payload::Http(request) };
    // Before the call, so that one whose caller hangs up is counted too.
    let mut under_way = UnderWay { lease, id, began, deadline, counted: false };
    let answer = under_way.lease.instance().invoke(call);
    let answered = alarm.bound(deadline, answer).await;
    match answered {
        Some(Ok(Output::Http(response))) => Ok(Exchanged::Answered(pass_on(host, under_way, response))),
        Some(Ok(Output::NotTaken(_, exit))) if last || host.is_stopping() => {
            Err(failed(host, &mut under_way, &Fault::NotDelivered(exit)))
        }
        Some(Ok(Output::NotTaken(request, exit))) => {
            under_way.not_taken(exit, &*host.clock);
            Ok(Exchanged::NotTaken(request))
        }
        Some(Ok(Output::Event(_) | Output::Stream(_) | Output::FunctionError(_))) => {
            under_way.count(Ending::Error);
            Err(Error::internal("an instance that speaks HTTP answered with an event"))
        }
        Some(Err(fault)) => Err(failed(host, &mut under_way, &fault)),
        None => {
            under_way.time_out(&*host.clock);
            Err(Error::TimedOut(Failure::timed_out(id, timeout_s).message))
        }
    }
}

fn failed(host: &Host, under_way: &mut UnderWay, fault: &Fault) -> Error {
    if matches!(fault, Fault::Exited(Exit::Stopped) | Fault::NotDelivered(Exit::Stopped))
        && host.is_stopping()
    {
        return Error::Unavailable("The server is stopping.".into());
    }
    if matches!(fault, Fault::Exited(_) | Fault::NotDelivered(_) | Fault::BadAnswer(_)) {
        under_way.lease.retire();
    }
    under_way.count(Ending::Error);
    let failure = Failure::fault(under_way.id, fault);
    say(under_way.lease.log(), under_way.lines(&*host.clock).fault(said(&failure)));
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
    if response.status().is_server_error() {
        under_way.lease.pool().meter().server_error();
    }
    if response.body().is_end_stream() || matches!(response.body(), Body::Full(_)) {
        under_way.count(Ending::Success);
        return response;
    }
    let host = Arc::clone(host);
    let watched = |body| Watched { body, place: Place::Own(under_way), timer: None, failing: None, host };
    response.map(|body| Body::boxed(watched(body)))
}

/// A request under way that more than one party may end.
struct Shared {
    under_way: Mutex<Option<UnderWay>>,
    host: Arc<Host>,
}

impl Stream for Shared {
    fn is_under_way(&self, now: Instant) -> bool {
        let mut held = self.under_way.lock();
        let over = held.as_ref().is_some_and(|under_way| now >= under_way.deadline);
        let ended = if over { held.take() } else { None };
        let left = held.is_some();
        drop(held);
        if let Some(mut under_way) = ended {
            under_way.time_out(&*self.host.clock);
        }
        left
    }
}

/// Who holds a streaming answer's place on its instance.
enum Place {
    /// The body alone: most end with their first frame.
    Own(UnderWay),
    /// The body and the reaper.
    Shared(Arc<Shared>),
    /// Nobody any more.
    Ended,
}

/// A response's body that holds its call's place until it has ended.
struct Watched {
    body: Body,
    place: Place,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// What the body broke off with, until it is said.
    failing: Option<BoxError>,
    host: Arc<Host>,
}

impl Watched {
    fn ended(&mut self, ending: Ending) {
        if let Some(mut under_way) = self.take() {
            under_way.count(ending);
        }
    }

    fn take(&mut self) -> Option<UnderWay> {
        match std::mem::replace(&mut self.place, Place::Ended) {
            Place::Own(under_way) => Some(under_way),
            Place::Shared(shared) => shared.under_way.lock().take(),
            Place::Ended => None,
        }
    }

    /// From its first frame on, a body that has more may be left unread for ever.
    fn share(&mut self) {
        if !matches!(self.place, Place::Own(_)) {
            return;
        }
        if let Some(under_way) = self.take() {
            let pool = Arc::clone(under_way.lease.pool());
            let shared =
                Arc::new(Shared { under_way: Mutex::new(Some(under_way)), host: Arc::clone(&self.host) });
            let weak = Arc::downgrade(&shared);
            pool.look_after(weak);
            self.place = Place::Shared(shared);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.place {
            Place::Own(under_way) => Some(under_way.deadline),
            Place::Shared(shared) => shared.under_way.lock().as_ref().map(|under_way| under_way.deadline),
            Place::Ended => None,
        }
    }

    /// Whether the reaper ended the request.
    fn is_lost(&self) -> bool {
        matches!(&self.place, Place::Shared(shared) if shared.under_way.lock().is_none())
    }

    /// Whether the time is up. The timer is made by the first poll that has to wait: most bodies never do.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let Some(deadline) = self.deadline() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        std::task::ready!(timer.as_mut().poll(cx));
        if let Some(mut under_way) = self.take() {
            under_way.time_out(&*self.host.clock);
        }
        Poll::Ready(self.broken())
    }

    fn broken(&mut self) -> BoxError {
        // The instance's side must not wait for a reader that is not coming back.
        self.body = Body::empty();
        self.place = Place::Ended;
        "the function's time-out was over before the answer".into()
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
        if let Some(error) = this.failing.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if this.is_lost() {
            return Poll::Ready(Some(Err(this.broken())));
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if this.body.is_end_stream() {
                    this.ended(Ending::Success);
                } else {
                    this.share();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.ended(Ending::Error);
                // Who sends the answer sends what it has while it waits, and drops that on an error: the caller is to
                // see as much of the answer as there was, so the error comes a moment later.
                this.failing = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
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
    shared: Arc<Shared>,
    timer: tokio::task::AbortHandle,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.timer.abort();
        let under_way = self.shared.under_way.lock().take();
        drop(under_way);
    }
}

/// Upgraded connections are few and long: each may have a task that ends it when its time is up.
fn upgraded(host: &Arc<Host>, under_way: UnderWay) -> InFlight {
    let deadline = under_way.deadline;
    let shared = Arc::new(Shared { under_way: Mutex::new(Some(under_way)), host: Arc::clone(host) });
    let timed = Arc::clone(&shared);
    let timer = tokio::spawn(async move {
        tokio::time::sleep_until(deadline.into()).await;
        timed.is_under_way(Instant::now());
    });
    InFlight { _held: Arc::new(Held { shared, timer: timer.abort_handle() }) }
}
