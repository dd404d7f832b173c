//! The long-poll engine: the Lambda Runtime API (2018-06-01), served to one instance.
//!
//! The client asks for events; a caller's [`LongPoll::invoke`] offers one, a parked `next` takes it, the answer
//! comes back as a POST of its own. A client that takes several at once has as many `next` parked as it likes, one
//! a connection, and answers in any order. What is legal when is [`machine`]'s business; this file moves payloads.
//! The client is not trusted: connections, heads and bodies are bounded, and no error of its making reaches further
//! than its own invocation.
//!
//! An event counts as fetched from the moment its bytes are given to a connection that was open then. Until that
//! moment the end of the process leaves it undelivered, and its caller hears so.
//!
//! Beyond the API, for Virga's own clients: an answer may ask for the next event as its reply ([`wire::NEXT`]).
//!
//! Absent: extensions, telemetry, snapshots.

mod connection;
mod machine;
mod request;
mod streaming;
mod wire;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use base::RequestId;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use self::connection::{Answer, Connection, Failed};
use self::machine::{ConnectionId, Fetch, Lost, Machine, Refusal};
use self::request::{Head, Mode};
use self::wire::{NotAnOperation, Operation, Reply};
use super::output::Output;
use crate::{Event, Exit, Fault, FunctionError, Output as CallOutput, StartError, StreamEnd};

/// Connections that one instance may hold to its Runtime API beside one for each invocation that it may have: a
/// client needs one, clients with a pool a few.
const MAX_CONNECTIONS: usize = 64;

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
    most_connections: usize,
}

struct State {
    machine: Machine<Invocation>,
    started: Option<oneshot::Sender<Result<Begun, StartError>>>,
    gone: Option<Exit>,
}

/// An invocation under way. Its event is kept until it is answered, in case the client lost it.
struct Invocation {
    deadline_unix_ms: i64,
    event: Event,
    reply: Waiting,
}

/// Who waits for what comes of an invocation.
enum Waiting {
    /// Its caller, for the answer.
    Answer(oneshot::Sender<Result<CallOutput, Fault>>),
    /// Who reads the answer, for its end.
    End(oneshot::Sender<StreamEnd>),
}

impl Waiting {
    fn answer(self, outcome: Result<CallOutput, Fault>) {
        if let Self::Answer(reply) = self {
            reply.send(outcome).ok();
        }
    }

    fn fail(self, fault: Fault) {
        match self {
            Self::Answer(reply) => {
                reply.send(Err(fault)).ok();
            }
            Self::End(end) => {
                end.send(Err(fault)).ok();
            }
        }
    }
}

/// What a `next` finds.
enum Look {
    Nothing,
    /// The head of the event is put; this is its JSON.
    Event(Bytes),
    Refused,
}

impl LongPoll {
    /// An API that nobody has called yet, for a client that is given at most `concurrency` events at once.
    /// `answer_bytes` bounds the answers.
    pub(crate) fn new(output: Arc<Output>, answer_bytes: usize, concurrency: u32) -> (Arc<Self>, Started) {
        let (started, on_started) = oneshot::channel();
        let most = usize::try_from(concurrency).unwrap_or(usize::MAX);
        let state = State { machine: Machine::new(most), started: Some(started), gone: None };
        let most_connections = most.saturating_add(MAX_CONNECTIONS);
        let (state, parked) = (Mutex::new(state), Notify::new());
        (Arc::new(Self { state, parked, output, answer_bytes, most_connections }), on_started)
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
            if connections.len() < self.most_connections {
                next_id += 1;
                connections.spawn(self.clone().serve_connection(stream, next_id));
            }
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream, id: ConnectionId) {
        let mut connection = Connection::new(stream, id);
        let Err(error) = self.serve_requests(&mut connection).await else { return };
        tracing::trace!(%error, "a connection to a runtime API broke");
        if let Some(event) = connection.unread_event(&error)
            && self.state.lock().machine.was_reset(event)
        {
            self.parked.notify_one();
        }
    }

    async fn serve_requests(&self, connection: &mut Connection) -> io::Result<()> {
        while let Some(head) = connection.request().await? {
            self.handle(head, connection).await?;
        }
        Ok(())
    }

    /// Runs one invocation. The caller has no more of them under way than were agreed. Given up before the client
    /// fetched it, it is not handed out any more.
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
            let invocation = Invocation { deadline_unix_ms, event, reply: Waiting::Answer(reply) };
            if state.machine.offer(id, invocation).is_err() {
                return Err(Fault::BadAnswer("the runtime client is busy with earlier events".to_owned()));
            }
        }
        self.parked.notify_one();
        let offer = Offer(self, id);
        let outcome = outcome.await;
        std::mem::forget(offer);
        outcome.unwrap_or(Err(Fault::Exited(Exit::Stopped)))
    }

    /// The process is gone: whoever waits for it learns so.
    pub(crate) fn gone(&self, exit: Exit) {
        let mut state = self.state.lock();
        state.gone = Some(exit);
        if let Some(started) = state.started.take() {
            started.send(Err(StartError::Exited(exit))).ok();
        }
        for lost in state.machine.gone() {
            let (invocation, fault) = match lost {
                Lost::Offered(invocation) => (invocation, Fault::NotDelivered(exit)),
                Lost::Fetched(invocation) => (invocation, Fault::Exited(exit)),
            };
            invocation.reply.fail(fault);
        }
    }

    async fn handle(&self, mut head: Head, connection: &mut Connection) -> io::Result<()> {
        match head.operation {
            Ok(Operation::Next) => {
                connection.skip(&mut head).await?;
                self.next(connection, Begun { init_began_ns: head.init_began }).await
            }
            Ok(Operation::Response(_)) if head.mode == Mode::Unknown => {
                let text = "The response mode is neither buffered nor streaming.";
                let reply = Reply::error("400 Bad Request", "Runtime.InvalidResponseModeHeader", text);
                refuse(&reply, head, connection).await
            }
            Ok(Operation::Response(id)) if head.mode == Mode::Streaming => {
                self.stream(id, head, connection).await
            }
            Ok(Operation::Response(id)) => self.answer(id, head, connection, Self::result).await,
            Ok(Operation::Error(id)) => self.answer(id, head, connection, Self::function_error).await,
            Ok(Operation::InitError) => self.init_error(head, connection).await,
            Err(NotAnOperation::Path) => {
                let reply = Reply::error("404 Not Found", "NotFound", "The Runtime API has no such path.");
                refuse(&reply, head, connection).await
            }
            Err(NotAnOperation::Method) => {
                let text = "This path of the Runtime API takes another method.";
                refuse(&Reply::error("405 Method Not Allowed", "MethodNotAllowed", text), head, connection)
                    .await
            }
        }
    }

    async fn next(&self, connection: &mut Connection, begun: Begun) -> io::Result<()> {
        loop {
            // Registered before the look, so that an event offered in between is not missed; a `next` whose
            // client hangs up drops it, which passes a wake-up on.
            let offered = self.parked.notified();
            match self.look(connection, begun) {
                Look::Event(json) => return connection.send_event(json).await,
                Look::Refused => return connection.reply(&refusal(Refusal::Transition)).await,
                Look::Nothing => {}
            }
            tokio::select! {
                biased;
                () = offered => {}
                ended = connection.ended() => return Err(ended),
            }
        }
    }

    fn look(&self, connection: &mut Connection, begun: Begun) -> Look {
        let mut state = self.state.lock();
        if state.machine.asked() {
            // What initialisation printed is in the log before anyone hears that it is done.
            self.output.drain();
            if let Some(started) = state.started.take() {
                started.send(Ok(begun)).ok();
            }
        }
        if state.machine.has_some() && connection.has_ended() {
            // The answer reaches nobody; the wake-up may be another connection's.
            self.parked.notify_one();
            return Look::Refused;
        }
        match state.machine.fetch(connection.id) {
            Fetch::Deliver(id, Invocation { deadline_unix_ms, event, .. }) => {
                connection.put_event(id, |head| wire::event_head(head, id, *deadline_unix_ms, event));
                Look::Event(event.json.clone())
            }
            Fetch::Refuse => Look::Refused,
            Fetch::Wait => Look::Nothing,
        }
    }

    /// Takes an answer of either kind; `make` says what it means to the caller.
    async fn answer(
        &self,
        id: Option<RequestId>,
        mut head: Head,
        connection: &mut Connection,
        make: fn(Option<String>, Bytes, Option<Failed>) -> CallOutput,
    ) -> io::Result<()> {
        let taken = self.state.lock().machine.answer(id);
        let id = match taken {
            Ok(id) => id,
            Err(why) => return refuse(&refusal(why), head, connection).await,
        };
        // Until the body is here the client may break off, or this future be dropped with its connection.
        let guard = BrokeOff(self, id);
        let read = match connection.body(&mut head, self.answer_bytes).await {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                drop(guard);
                connection.give_up();
                let reply =
                    Reply::error("400 Bad Request", "InvalidBody", "The body is not framed as it says.");
                return connection.reply(&reply).await;
            }
            other => other?,
        };
        std::mem::forget(guard);
        let limit = self.answer_bytes;
        let (outcome, refused) = match read {
            Answer::Whole(bytes, failed) => (Ok(make(head.error_type, bytes, failed)), None),
            Answer::TooLarge(size) => (Err(Fault::AnswerTooLarge { size, limit }), Some(too_large(limit))),
        };
        self.output.drain();
        let invocation = self.state.lock().machine.answered(id);
        if let Some(invocation) = invocation {
            invocation.reply.answer(outcome);
        }
        match refused {
            Some(reply) => connection.reply(&reply).await,
            None if head.next => self.next(connection, Begun::default()).await,
            None => connection.reply(&Reply::accepted()).await,
        }
    }

    fn result(_: Option<String>, json: Bytes, failed: Option<Failed>) -> CallOutput {
        match failed {
            None => CallOutput::Event(json),
            Some(Failed { json, error_type }) => {
                CallOutput::FunctionError(FunctionError { json, error_type })
            }
        }
    }

    fn function_error(error_type: Option<String>, json: Bytes, _: Option<Failed>) -> CallOutput {
        CallOutput::FunctionError(FunctionError { json, error_type })
    }

    async fn init_error(&self, mut head: Head, connection: &mut Connection) -> io::Result<()> {
        if !self.state.lock().machine.init_failed() {
            return refuse(&refusal(Refusal::Transition), head, connection).await;
        }
        let read = connection.body(&mut head, self.answer_bytes).await;
        self.output.drain();
        if let Some(started) = self.state.lock().started.take() {
            let json = match &read {
                Ok(Answer::Whole(bytes, _)) => bytes.clone(),
                Ok(Answer::TooLarge(_)) | Err(_) => Bytes::new(),
            };
            started.send(Err(StartError::Init { json, error_type: head.error_type })).ok();
        }
        read?;
        connection.reply(&Reply::accepted()).await
    }
}

/// An event that its caller waits for; dropped, the caller has given it up.
struct Offer<'a>(&'a LongPoll, RequestId);

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        self.0.state.lock().machine.withdraw(self.1);
    }
}

/// Puts the machine back when an answer does not arrive whole.
struct BrokeOff<'a>(&'a LongPoll, RequestId);

impl Drop for BrokeOff<'_> {
    fn drop(&mut self) {
        self.0.state.lock().machine.broke_off(self.1);
    }
}

/// Answers a request whose body is of no interest.
async fn refuse(reply: &Reply, mut head: Head, connection: &mut Connection) -> io::Result<()> {
    connection.skip(&mut head).await?;
    connection.reply(reply).await
}

fn refusal(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::WrongId => Reply::error("400 Bad Request", "InvalidRequestID", "Invalid request ID"),
        Refusal::Transition => Reply::error(
            "403 Forbidden",
            "InvalidStateTransition",
            "The runtime client may not make this call now.",
        ),
    }
}

fn too_large(limit: usize) -> Reply {
    Reply::error(
        "413 Payload Too Large",
        "RequestEntityTooLarge",
        &format!("Exceeded maximum allowed payload size ({limit} bytes)."),
    )
}

#[cfg(test)]
mod tests;
