//! The long-poll engine: the Lambda Runtime API (2018-06-01), served to one instance.
//!
//! The client asks for events; a caller's [`LongPoll::invoke`] leaves one in a slot, a parked `next` takes
//! it, the answer comes back as a POST of its own. What is legal when is [`machine`]'s business; this file
//! moves payloads. The client is not trusted: connections, heads and bodies are bounded, and no error of
//! its making reaches further than its own invocation.
//!
//! An event counts as fetched from the moment its bytes are given to a connection that was open then. Until that
//! moment the end of the process leaves it undelivered, and its caller hears so.
//!
//! Absent: extensions, telemetry, snapshots; a streamed response is accepted but answered whole.

mod answer;
mod machine;
mod wire;

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustix::net::RecvFlags;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use base::RequestId;

use self::answer::Answer;
use self::machine::{ConnectionId, Fetch, Machine, Refusal};
use self::wire::{NotAnOperation, Operation, Reply};
use super::output::Output;
use crate::{Event, Exit, Fault, FunctionError, Output as CallOutput, StartError};

/// Connections that one instance may hold to its Runtime API: a client needs one, clients with a pool a few.
const MAX_CONNECTIONS: usize = 64;

/// Bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;

/// Sent once: the client asked for its first event, or why it never will.
pub(crate) type Started = oneshot::Receiver<Result<Begun, StartError>>;

/// What a client says of its start with its first `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Begun {
    /// When it began to load the function's code: nanoseconds of the monotonic clock.
    pub(crate) init_began_ns: Option<u64>,
}

/// One instance's Runtime API.
pub(crate) struct LongPoll {
    state: Mutex<State>,
    parked: Notify,
    output: Arc<Output>,
    answer_bytes: usize,
}

struct State {
    machine: Machine,
    current: Option<Current>,
    started: Option<oneshot::Sender<Result<Begun, StartError>>>,
    gone: Option<Exit>,
}

/// The invocation under way. Its event is kept until it is answered, in case the client lost it.
struct Current {
    id: RequestId,
    deadline_unix_ms: i64,
    event: Event,
    reply: oneshot::Sender<Result<CallOutput, Fault>>,
}

/// A connection that the client made.
struct Connection {
    id: ConnectionId,
    /// The same socket as the one that is served. `None` where it could not be had twice.
    socket: Option<OwnedFd>,
}

impl Connection {
    /// Whether the other end is closed already. The reactor may hear of it only after an event was offered.
    fn has_ended(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        match rustix::net::recv(socket, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, read)) => read == 0,
            Err(error) => error != rustix::io::Errno::WOULDBLOCK && error != rustix::io::Errno::INTR,
        }
    }
}

impl LongPoll {
    /// An API that nobody has called yet. `answer_bytes` bounds the answers.
    pub(crate) fn new(output: Arc<Output>, answer_bytes: usize) -> (Arc<Self>, Started) {
        let (started, on_started) = oneshot::channel();
        let state = State { machine: Machine::new(), current: None, started: Some(started), gone: None };
        let api = Self { state: Mutex::new(state), parked: Notify::new(), output, answer_bytes };
        (Arc::new(api), on_started)
    }

    /// Serves the API's connections. Never returns; dropping the future closes them.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut next_id: ConnectionId = 0;
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection to a runtime API was not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            if connections.len() < MAX_CONNECTIONS {
                next_id += 1;
                connections.spawn(self.clone().serve_connection(stream, next_id));
            }
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream, id: ConnectionId) {
        // A small message must not wait for the acknowledgement of the one before it.
        stream.set_nodelay(true).ok();
        let connection = Connection { id, socket: stream.as_fd().try_clone_to_owned().ok() };
        let service = service_fn(|request| {
            let (api, connection) = (&self, &connection);
            async move { Ok::<_, Infallible>(api.handle(request, connection).await) }
        });
        // Shell clients look for the headers with the case that the documentation has.
        let served = http1::Builder::new()
            .title_case_headers(true)
            .auto_date_header(false)
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::trace!(%error, "a connection to a runtime API broke");
        }
    }

    /// Runs one invocation. The caller sends the next one only when this one is over.
    pub(crate) async fn invoke(
        &self,
        id: RequestId,
        deadline_unix_ms: i64,
        event: Event,
    ) -> Result<CallOutput, Fault> {
        let (reply, outcome) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if let Some(exit) = state.gone {
                return Err(Fault::NotDelivered(exit));
            }
            if !state.machine.offer(id) {
                return Err(Fault::BadAnswer("the runtime client is busy with an earlier event".to_owned()));
            }
            state.current = Some(Current { id, deadline_unix_ms, event, reply });
        }
        self.parked.notify_one();
        outcome.await.unwrap_or(Err(Fault::Exited(Exit::Stopped)))
    }

    /// The process is gone: whoever waits for it learns so.
    pub(crate) fn gone(&self, exit: Exit) {
        let mut state = self.state.lock();
        state.gone = Some(exit);
        let fault = if state.machine.gone() { Fault::NotDelivered(exit) } else { Fault::Exited(exit) };
        if let Some(started) = state.started.take() {
            started.send(Err(StartError::Exited(exit))).ok();
        }
        if let Some(current) = state.current.take() {
            current.reply.send(Err(fault)).ok();
        }
    }

    async fn handle(&self, request: Request<Incoming>, connection: &Connection) -> Reply {
        match wire::operation(request.method(), request.uri().path()) {
            Ok(Operation::Next) => self.next(connection, wire::begun(request.headers())).await,
            Ok(Operation::Response(id)) => self.answer(id, request, Self::result).await,
            Ok(Operation::Error(id)) => self.answer(id, request, Self::function_error).await,
            Ok(Operation::InitError) => self.init_error(request).await,
            Err(NotAnOperation::Path) => {
                wire::error(StatusCode::NOT_FOUND, "NotFound", "The Runtime API has no such path.")
            }
            Err(NotAnOperation::Method) => wire::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "This path of the Runtime API takes another method.",
            ),
        }
    }

    async fn next(&self, connection: &Connection, begun: Begun) -> Reply {
        loop {
            // Registered before the look, so that an event offered in between is not missed; a `next` whose
            // client hangs up is dropped here and passes its wake-up on.
            let offered = self.parked.notified();
            if let Some(reply) = self.look(connection, begun) {
                return reply;
            }
            offered.await;
        }
    }

    fn look(&self, connection: &Connection, begun: Begun) -> Option<Reply> {
        let mut state = self.state.lock();
        if state.machine.asked() {
            // What initialisation printed is in the log before anyone hears that it is done.
            self.output.drain();
            if let Some(started) = state.started.take() {
                started.send(Ok(begun)).ok();
            }
        }
        if state.current.is_some() && connection.has_ended() {
            // The answer reaches nobody; the wake-up may be another connection's.
            self.parked.notify_one();
            return Some(refused(Refusal::Transition));
        }
        match (state.machine.fetch(connection.id), &state.current) {
            (Fetch::Deliver, Some(current)) => {
                Some(wire::event(current.id, current.deadline_unix_ms, &current.event))
            }
            (Fetch::Refuse, _) => Some(refused(Refusal::Transition)),
            (Fetch::Wait | Fetch::Deliver, _) => None,
        }
    }

    /// Takes an answer of either kind; `make` says what it means to the caller.
    async fn answer(
        &self,
        id: Option<RequestId>,
        request: Request<Incoming>,
        make: fn(&HeaderMap, Bytes, Option<HeaderMap>) -> CallOutput,
    ) -> Reply {
        if let Err(refusal) = self.state.lock().machine.answer(id) {
            return refused(refusal);
        }
        // Until the body is here the client may break off, or this future be dropped with its connection.
        let guard = BrokeOff(self);
        let (head, body) = request.into_parts();
        let Ok(read) = answer::read(body, self.answer_bytes).await else {
            return wire::error(StatusCode::BAD_REQUEST, "InvalidBody", "The body broke off.");
        };
        std::mem::forget(guard);
        let (outcome, reply) = match read {
            Answer::Whole(bytes, trailers) => (Ok(make(&head.headers, bytes, trailers)), wire::accepted()),
            Answer::TooLarge(size) => {
                let limit = self.answer_bytes;
                (Err(Fault::AnswerTooLarge { size, limit }), too_large(limit))
            }
        };
        self.output.drain();
        let current = {
            let mut state = self.state.lock();
            state.machine.answered();
            state.current.take()
        };
        if let Some(current) = current {
            current.reply.send(outcome).ok();
        }
        reply
    }

    fn result(_: &HeaderMap, json: Bytes, trailers: Option<HeaderMap>) -> CallOutput {
        let failed = trailers.as_ref().filter(|trailers| trailers.contains_key(wire::ERROR_TYPE));
        let Some(trailers) = failed else { return CallOutput::Event(json) };
        let body = trailers.get(wire::ERROR_BODY).map_or(&b""[..], |value| value.as_bytes());
        let decoded = base64::engine::general_purpose::STANDARD.decode(body);
        let json = decoded.map_or_else(|_| Bytes::copy_from_slice(body), Bytes::from);
        CallOutput::FunctionError(FunctionError { json, error_type: error_type(trailers) })
    }

    fn function_error(headers: &HeaderMap, json: Bytes, _: Option<HeaderMap>) -> CallOutput {
        CallOutput::FunctionError(FunctionError { json, error_type: error_type(headers) })
    }

    async fn init_error(&self, request: Request<Incoming>) -> Reply {
        if !self.state.lock().machine.init_failed() {
            return refused(Refusal::Transition);
        }
        let (head, body) = request.into_parts();
        let json = match answer::read(body, self.answer_bytes).await {
            Ok(Answer::Whole(bytes, _)) => bytes,
            Ok(Answer::TooLarge(_)) | Err(_) => Bytes::new(),
        };
        self.output.drain();
        if let Some(started) = self.state.lock().started.take() {
            started.send(Err(StartError::Init { json, error_type: error_type(&head.headers) })).ok();
        }
        wire::accepted()
    }
}

/// Puts the machine back when an answer does not arrive whole.
struct BrokeOff<'a>(&'a LongPoll);

impl Drop for BrokeOff<'_> {
    fn drop(&mut self) {
        self.0.state.lock().machine.broke_off();
    }
}

fn error_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(wire::ERROR_TYPE)?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::WrongId => wire::error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID"),
        Refusal::Transition => wire::error(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "The runtime client may not make this call now.",
        ),
    }
}

fn too_large(limit: usize) -> Reply {
    wire::error(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestEntityTooLarge",
        &format!("Exceeded maximum allowed payload size ({limit} bytes)."),
    )
}

#[cfg(test)]
mod tests;
