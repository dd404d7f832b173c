//! A call with an event: from the look-up to the outcome.
//!
//! Until a call has an instance it belongs to its caller: who hangs up leaves the line. From the hand-over on it runs
//! to its end, report included, whether or not anybody still listens, as on Lambda.
//!
//! An instance that was idle may turn out to have ended before it took the call. Nothing has run then, so the call
//! gets another instance and keeps what is left of its time; it never does once its event may have been read.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use base::RequestId;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use observe::Ending;
use sandbox::{Body, Call, Event, Exit, Fault, FunctionError, Instance, Isolation, Output, Payload, Speaks};

use crate::asynchronous::lineage;
use crate::failure::Failure;
use crate::pool::{FailedStart, Host, Lease, Plan, Refusal, Target};
use crate::report::{Lines, Report, Status};
use crate::service::{Inner, Outcome};
use crate::startup::{Startup, Timings};
use crate::streaming::{self, Sink};
use crate::{Error, limits};

/// What is called with.
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) event: Event,
    pub(crate) tail: bool,
    pub(crate) trace: bool,
    /// Whether somebody waits for the answer: of an event that was queued nobody does.
    pub(crate) waited_for: bool,
    /// Where the answer goes piece by piece, if the caller takes it so.
    pub(crate) sink: Option<Sink>,
}

/// How often a call follows a version's target to its successor. More changes than that during one call's
/// admission are a caller's own doing.
const FOLLOWED: usize = 5;

/// How many instances are offered a call. Several that were idle may have been killed at once; a program that
/// ends whenever it has asked for an event would go on for ever.
pub(crate) const OFFERS: usize = 5;

/// How long the answer to a call that timed out waits for its instance to be gone: mostly that takes milliseconds, and
/// then all that it printed comes before its report.
const LAST_WORDS: Duration = Duration::from_millis(400);

/// Either a place on an instance, or a start that failed for this call.
pub(crate) enum Admission {
    Leased(Lease),
    Failed(FailedStart, Arc<Plan>),
}

/// Finds a place on an instance of what `find` gives, again if that is replaced meanwhile. `bytes` is what the call
/// holds in memory.
pub(crate) async fn admit(
    host: &Arc<Host>,
    mut target: Arc<Target>,
    bytes: usize,
    find: impl Fn() -> Result<Arc<Target>, Error>,
) -> Result<Admission, Error> {
    for _ in 0..FOLLOWED {
        match target.acquire(host, bytes).await {
            Ok(lease) => return Ok(Admission::Leased(lease)),
            Err(Refusal::Failed(failure)) => {
                return Ok(Admission::Failed(failure, Arc::clone(target.plan())));
            }
            Err(Refusal::Error(error)) => return Err(error),
            Err(Refusal::Retired) => target = find()?,
        }
    }
    Err(Error::Unavailable("The function keeps changing.".into()))
}

impl Inner {
    /// Runs an event through a version, or through what `find` gives once that is replaced.
    pub(crate) async fn run(
        self: &Arc<Self>,
        request: Request,
        target: Arc<Target>,
        find: impl Fn() -> Result<Arc<Target>, Error>,
    ) -> Result<Outcome, Error> {
        let mut offer = Offer { request, waited: Duration::ZERO, spent: Duration::ZERO, left: OFFERS };
        let mut target = Some(target);
        loop {
            let host = Arc::clone(&self.host);
            let began = offer.request.trace.then(Instant::now);
            let target = target.take().map_or_else(&find, Ok)?;
            let lease = match admit(&host, target, offer.request.event.json.len(), &find).await? {
                Admission::Leased(lease) => lease,
                Admission::Failed(failure, plan) => {
                    offer.waited += began.map(|began| began.elapsed()).unwrap_or_default();
                    return failed_start(&host, failure, &plan, &offer);
                }
            };
            offer.waited += began.map(|began| began.elapsed()).unwrap_or_default();
            match ToItsEnd::new(Run { host, lease, offer }.execute()).await? {
                Ran::Over(outcome) => return Ok(outcome),
                Ran::NotDelivered(again) => offer = again,
            }
        }
    }
}

/// A call's course once it has its instance. It runs where its caller waits: a task of its own from the beginning
/// would be scheduled, and wake its caller, for every call. Given up by the caller, it goes on in one.
struct ToItsEnd(Option<Course>);

type Course = BoxFuture<'static, Result<Ran, Error>>;

impl ToItsEnd {
    fn new(course: impl Future<Output = Result<Ran, Error>> + Send + 'static) -> Self {
        // What panics ends this call, not the connection that it came by.
        let course = AssertUnwindSafe(course).catch_unwind();
        Self(Some(Box::pin(
            course.map(|ran| ran.unwrap_or_else(|_| Err(Error::internal("a call panicked")))),
        )))
    }
}

impl Future for ToItsEnd {
    type Output = Result<Ran, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(course) = &mut self.0 else { return Poll::Pending };
        let ran = ready!(course.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(ran)
    }
}

impl Drop for ToItsEnd {
    fn drop(&mut self) {
        // Without a runtime the server has ended, and with it every call.
        if let (Some(course), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(course);
        }
    }
}

/// A call that no code has seen.
struct Offer {
    request: Request,
    /// How long it waited for places on instances; measured for a trace only.
    waited: Duration,
    /// How long instances had it that ended before they took it. The function's time-out covers that; waiting
    /// for another instance has its own bounds.
    spent: Duration,
    /// How many instances it may still be offered.
    left: usize,
}

/// What came of one offer.
enum Ran {
    Over(Outcome),
    NotDelivered(Offer),
}

/// The outcome of a call whose instance did not come up.
fn failed_start(host: &Host, start: FailedStart, plan: &Plan, offer: &Offer) -> Result<Outcome, Error> {
    let request = &offer.request;
    host.metrics.meter(&plan.labels()).not_started();
    let startup = Startup::unknown(start.init);
    let timeout_s = host.bounds.init_timeout.as_secs_f64();
    let failure = Failure::start(request.id, &start.error, timeout_s)
        .ok_or_else(|| Error::Unavailable("The host could not start an instance of the function.".into()))?;
    let log = &start.log;
    let report = Report {
        id: request.id,
        duration: Duration::ZERO,
        init: Some(startup),
        configuration: &plan.configuration,
        peak_bytes: 0,
        status: Status::Error(&failure.error_type),
    };
    let lines = Lines::of(&plan.configuration, &*host.clock);
    let happened = lines.fault(format!("{} {}", failure.message, failure.error_type));
    let said = [lines.start(request.id), happened, lines.end(&report), lines.report(&report)];
    log.lines(said.iter().flatten().map(String::as_str));
    Ok(Outcome {
        executed_version: plan.configuration.version.clone(),
        result: Err(failure.into_function_error()),
        content_type: None,
        log_tail: request.tail.then(|| log.tail().into()),
        timings: offer.timings(Some(startup), Duration::ZERO),
    })
}

impl Offer {
    /// What the call was made of, where that was asked for.
    fn timings(&self, startup: Option<Startup>, call: Duration) -> Option<Timings> {
        self.request.trace.then_some(Timings { wait: self.waited, startup, call })
    }
}

/// A call that has its instance.
struct Run {
    host: Arc<Host>,
    lease: Lease,
    offer: Offer,
}

/// The instance had ended before it took the call.
struct NotTaken(Exit);

/// How a call ended.
pub(crate) enum End {
    /// The kind of content is known of an answer that was streamed.
    Answer {
        bytes: Bytes,
        content_type: Option<String>,
    },
    Reported(FunctionError),
    Failed(Failure),
    TimedOut(Failure),
}

impl Run {
    fn id(&self) -> RequestId {
        self.offer.request.id
    }

    async fn execute(mut self) -> Result<Ran, Error> {
        let plan = Arc::clone(self.lease.pool().plan());
        let (id, log) = (self.id(), self.lease.log());
        // A call without a tail need not pay for one.
        if self.offer.request.tail {
            log.begin_tail();
        }
        if let Some(start) = Lines::of(&plan.configuration, &*self.host.clock).start(id) {
            log.line(&start);
        }
        let init = self.lease.take_init();
        let began = Instant::now();
        let end = self.hand_over(&plan, began).await;
        let duration = self.offer.spent + began.elapsed();
        let end = match end? {
            Ok(end) => end,
            Err(NotTaken(exit)) => return Ok(Ran::NotDelivered(self.offer_again(exit, duration))),
        };
        if plan.prepared.speaks == Speaks::Http {
            self.lease.instance().collect_output();
        }
        let log = self.lease.log();
        let lines = Lines::of(&plan.configuration, &*self.host.clock);
        let report = self.report(&plan, &end, duration, init);
        let said = [self.what_happened(&end, &lines), lines.end(&report), lines.report(&report)];
        log.lines(said.iter().flatten().map(String::as_str));
        self.count(&end, duration, init);
        let timings = self.offer.timings(init, duration);
        let log_tail = self.offer.request.tail.then(|| log.end_tail().into());
        let mut content_type = None;
        let result = match end {
            End::Answer { bytes, content_type: kind } => {
                content_type = kind;
                Ok(bytes)
            }
            End::Reported(error) => Err(error),
            End::Failed(failure) | End::TimedOut(failure) => Err(failure.into_function_error()),
        };
        let executed_version = plan.configuration.version.clone();
        let outcome = Outcome { executed_version, result, content_type, log_tail, timings };
        if let Some(sink) = self.offer.request.sink.take() {
            sink.end(&outcome);
        }
        Ok(Ran::Over(outcome))
    }

    /// Says in the log of the instance that ended what became of it and of the call.
    fn offer_again(self, exit: Exit, spent: Duration) -> Offer {
        let (id, log) = (self.id(), self.lease.log());
        let plan = self.lease.pool().plan();
        let lines = Lines::of(&plan.configuration, &*self.host.clock);
        let why = lines.not_delivered(&Failure::exited(id, exit).message);
        let report = Report {
            id,
            duration: spent,
            init: None,
            configuration: &plan.configuration,
            peak_bytes: 0,
            status: Status::Error("Runtime.ExitError"),
        };
        log.lines([why, lines.end(&report)].iter().flatten().map(String::as_str));
        if self.offer.request.tail {
            log.end_tail();
        }
        Offer { spent, left: self.offer.left - 1, ..self.offer }
    }

    async fn hand_over(&mut self, plan: &Plan, began: Instant) -> Result<Result<End, NotTaken>, Error> {
        let timeout_s = plan.configuration.timeout_of(self.offer.request.waited_for);
        let timeout = Duration::from_secs(timeout_s.into());
        let left = timeout.saturating_sub(self.offer.spent);
        let deadline = began + left;
        let call = Call {
            id: self.id(),
            deadline,
            // At most a day.
            deadline_unix_ms: self.host.clock.now().as_millis() + left.as_millis() as i64,
            payload: payload(plan.prepared.speaks, &self.offer.request.event)?,
        };
        let mut sink = self.offer.request.sink.take();
        let answered = answered(self.lease.instance(), call, &plan.configuration.version, sink.as_mut());
        let answered = tokio::time::timeout_at(deadline.into(), answered).await;
        self.offer.request.sink = sink;
        let id = self.id();
        match answered {
            Ok(Ok(end)) => Ok(Ok(end)),
            Ok(Err(Fault::Exited(Exit::Stopped) | Fault::NotDelivered(Exit::Stopped)))
                if self.host.is_stopping() =>
            {
                Err(Error::Unavailable("The server is stopping.".into()))
            }
            Ok(Err(Fault::NotDelivered(exit))) if self.offer.left > 1 => {
                self.lease.retire();
                Ok(Err(NotTaken(exit)))
            }
            Ok(Err(fault)) => {
                self.after(&fault);
                Ok(Ok(End::Failed(Failure::fault(id, &fault))))
            }
            Err(_) => {
                self.stop_after_timeout(plan).await;
                Ok(Ok(End::TimedOut(Failure::timed_out(id, timeout_s))))
            }
        }
    }

    /// Whether the next call may have the same instance.
    fn after(&self, fault: &Fault) {
        match fault {
            Fault::Exited(_) | Fault::NotDelivered(_) | Fault::BadAnswer(_) | Fault::Truncated => {
                self.lease.retire();
            }
            // The instance lives, and a WebAssembly guest was one call's own.
            Fault::AnswerTooLarge { .. } | Fault::Trap(_) => {}
        }
    }

    async fn stop_after_timeout(&self, plan: &Plan) {
        match (plan.configuration.settings.isolation, plan.one_at_a_time()) {
            (Isolation::Wasm | Isolation::Static, _) => {}
            // The code of a lone event is in an unknown state.
            (Isolation::Process, true) => self.kill().await,
            (Isolation::Process, false)
                if plan.prepared.speaks == Speaks::Events && !self.lease.is_shared() =>
            {
                self.kill().await;
            }
            // Others run on the instance: it ends with the last of them.
            (Isolation::Process, false) => self.lease.retire(),
        }
    }

    /// Kills the instance. It keeps its room on the host until nothing of it is left; the caller waits for that no longer
    /// than it has to.
    async fn kill(&self) {
        if tokio::time::timeout(LAST_WORDS, self.lease.kill()).await.is_err() {
            self.lease.instance().collect_output();
        }
    }

    /// What the platform has to say about a call that went wrong.
    fn what_happened(&self, end: &End, lines: &Lines<'_>) -> Option<String> {
        match end {
            End::Answer { .. } | End::Reported(_) => None,
            End::Failed(failure) => lines.fault(format!("{} {}", failure.message, failure.error_type)),
            End::TimedOut(_) => {
                let configuration = &self.lease.pool().plan().configuration;
                let timeout_s = configuration.timeout_of(self.offer.request.waited_for);
                lines.timed_out(self.id(), timeout_s)
            }
        }
    }

    fn report<'a>(
        &self,
        plan: &'a Plan,
        end: &'a End,
        duration: Duration,
        init: Option<Startup>,
    ) -> Report<'a> {
        let peak_bytes = self.lease.instance().peak_memory();
        self.lease.pool().meter().memory(peak_bytes);
        let status = match end {
            End::Answer { .. } | End::Reported(_) => Status::Ran,
            End::Failed(failure) => Status::Error(&failure.error_type),
            End::TimedOut(_) => Status::Timeout,
        };
        Report { id: self.id(), duration, init, configuration: &plan.configuration, peak_bytes, status }
    }

    fn count(&self, end: &End, duration: Duration, init: Option<Startup>) {
        let ending = match end {
            End::Answer { .. } => Ending::Success,
            End::Reported(_) | End::Failed(_) => Ending::Error,
            End::TimedOut(_) => Ending::Timeout,
        };
        let meter = self.lease.pool().meter();
        meter.invoked(ending, duration);
        if let Some(startup) = init {
            startup.count_first_call(meter, duration);
        }
    }
}

/// An event as the instance takes it: web servers and HTTP components get it as POST `/events`.
fn payload(speaks: Speaks, event: &Event) -> Result<Payload, Error> {
    match speaks {
        Speaks::Events => Ok(Payload::Event(event.clone())),
        Speaks::Http => {
            let request = ::http::Request::post("/events")
                .header(::http::header::HOST, "localhost")
                .header(::http::header::CONTENT_TYPE, "application/json")
                .header("x-amzn-trace-id", &event.trace_id)
                .body(Body::from(event.json.clone()));
            Ok(Payload::Http(Box::new(request.map_err(Error::internal)?)))
        }
    }
}

/// Has the instance run the call, and takes its answer to the end.
async fn answered(
    instance: &Arc<dyn Instance>,
    call: Call,
    version: &str,
    sink: Option<&mut Sink>,
) -> Result<End, Fault> {
    let id = call.id;
    match instance.invoke(call).await? {
        Output::Event(bytes) => Ok(End::Answer { bytes, content_type: None }),
        Output::Stream(streamed) => streaming::pieces(streamed, version, sink).await,
        Output::FunctionError(error) => Ok(End::Reported(error)),
        Output::Http(response) => Ok(streaming::body(id, response, version, sink).await),
        Output::NotTaken(_, exit) => Err(Fault::NotDelivered(exit)),
    }
}

/// Checks an event: size, then JSON. Nothing at all is `{}`.
pub(crate) fn check_event(json: Bytes) -> Result<Bytes, Error> {
    if json.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    if json.len() > limits::PAYLOAD_BYTES {
        return Err(Error::PayloadTooLarge(format!(
            "Request must be smaller than {} bytes for the InvokeFunction operation",
            limits::PAYLOAD_BYTES
        )));
    }
    let malformed =
        |error: &dyn Display| Error::InvalidJson(format!("Could not parse request body into json: {error}"));
    // Ignored strings are not looked into by the parser, and JSON is UTF-8 (RFC 8259 §8.1).
    let text = std::str::from_utf8(&json).map_err(|error| malformed(&error))?;
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(json),
        Err(error) => Err(malformed(&error)),
    }
}

/// The event with what goes beside it.
pub(crate) fn event(
    json: Bytes,
    invoked_arn: String,
    trace_id: String,
    client_context: Option<String>,
) -> Event {
    Event { json, invoked_arn, trace_id, client_context, cognito_identity: None }
}

/// A request's trace, or a new one.
pub(crate) fn trace(given: Option<String>, sampled: bool) -> String {
    given.filter(|trace| trace.len() <= lineage::TRACE_BYTES).unwrap_or_else(|| new_trace(sampled))
}

/// A trace that nobody before us has begun (X-Ray: tracing header).
fn new_trace(sampled: bool) -> String {
    let sampled = if sampled { ";Sampled=1" } else { ";Sampled=0" };
    RequestId::random().with_text(|random| {
        // The five groups of a UUID: 8, 4, 4, 4 and 12 digits.
        let mut groups = random.split('-');
        let mut next = || groups.next().unwrap_or_default();
        ["Root=1-", next(), "-", next(), next(), next(), next(), sampled].concat()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_of_a_bounded_size() {
        assert_eq!(check_event(Bytes::new()).unwrap(), "{}");
        assert_eq!(check_event(Bytes::from_static(b"[1, 2]")).unwrap(), "[1, 2]");
        for bad in [&b"{"[..], b"nothing", b"{} {}", b"{'a':1}", b"\"\xff\""] {
            let error = check_event(Bytes::from_static(bad)).unwrap_err().to_string();
            assert!(error.starts_with("Could not parse request body into json: "), "{error}");
        }
        let at_limit = format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES - 2));
        assert!(check_event(at_limit.clone().into()).is_ok());
        assert!(matches!(check_event(format!("{at_limit} ").into()), Err(Error::PayloadTooLarge(_))));
    }
}
