//! A response whose guest is still at work: reading the body runs the guest.
//!
//! Guest and body are polled by whoever reads, so no task is spawned and dropping the body ends the guest.
//! A guest that has finished its body is not waited for.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use sandbox::{Body, BoxError, Fault};
use tokio::task::coop::unconstrained;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

const UNFINISHED: &str = "the guest did not finish its body";

/// A guest at work, to its end.
pub(crate) type Running = BoxFuture<'static, Result<(), Fault>>;

/// Holds a guest so that its reader runs it and its instance can end it.
pub(crate) struct Slot(Mutex<State>);

enum State {
    Running(Running),
    Ended,
    Failed(Fault),
    Stopped,
}

impl Slot {
    pub(crate) fn new(running: Running) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Running(running))))
    }

    /// Ends the guest. It is at work for a tick at most before this gets its turn.
    pub(crate) fn stop(&self) {
        let mut state = self.0.lock();
        if matches!(*state, State::Running(_)) {
            *state = State::Stopped;
        }
    }

    fn run(&self, cx: &mut Context<'_>) {
        let mut state = self.0.lock();
        let State::Running(running) = &mut *state else { return };
        match running.as_mut().poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => *state = State::Ended,
            Poll::Ready(Err(fault)) => *state = State::Failed(fault),
        }
    }

    /// Why a body that has ended has not ended well.
    fn failure(&self) -> Option<BoxError> {
        match &*self.0.lock() {
            State::Running(_) | State::Ended => None,
            State::Failed(Fault::Trap(text)) => Some(format!("the guest trapped: {text}").into()),
            State::Failed(fault) => Some(format!("the guest failed: {fault:?}").into()),
            State::Stopped => Some("the instance was stopped".into()),
        }
    }
}

/// The body of a guest that is at work or has failed.
pub(crate) struct Streaming {
    slot: Arc<Slot>,
    body: HyperOutgoingBody,
}

impl Streaming {
    pub(crate) fn new(slot: Arc<Slot>, body: HyperOutgoingBody) -> Self {
        Self { slot, body }
    }

    /// Of a guest that failed after it had sent the head.
    pub(crate) fn failed(fault: Fault, body: HyperOutgoingBody) -> Self {
        Self { slot: Arc::new(Slot(Mutex::new(State::Failed(fault)))), body }
    }
}

impl HttpBody for Streaming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.slot.run(cx);
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(self.slot.failure().unwrap_or_else(|| error.into()))))
            }
            Poll::Ready(None) => Poll::Ready(self.slot.failure().map(Err)),
        }
    }
}

/// The body of a guest that has ended well: what it wrote is all there, mostly in one piece.
pub(crate) fn whole(mut body: HyperOutgoingBody, cx: &mut Context<'_>) -> Body {
    // The body is a tokio channel, which feigns to be empty when the task has used up its budget.
    let mut gathering = pin!(unconstrained(std::future::poll_fn(|cx| Poll::Ready(gather(&mut body, cx)))));
    match gathering.as_mut().poll(cx) {
        Poll::Ready(body) => body,
        Poll::Pending => broken(Bytes::new(), BytesMut::new(), UNFINISHED.into()),
    }
}

fn gather(body: &mut HyperOutgoingBody, cx: &mut Context<'_>) -> Body {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    loop {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(None) => return joined(first, more, None),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if first.is_empty() => first = data,
                Ok(data) => more.extend_from_slice(&data),
                Err(frame) => return joined(first, more, frame.into_trailers().ok()),
            },
            Poll::Ready(Some(Err(error))) => return broken(first, more, error.to_string()),
            Poll::Pending => return broken(first, more, UNFINISHED.into()),
        }
    }
}

fn join(first: Bytes, more: BytesMut) -> Bytes {
    if more.is_empty() {
        return first;
    }
    let mut all = BytesMut::with_capacity(first.len() + more.len());
    all.extend_from_slice(&first);
    all.extend_from_slice(&more);
    all.freeze()
}

fn joined(first: Bytes, more: BytesMut, trailers: Option<HeaderMap>) -> Body {
    let bytes = join(first, more);
    match trailers {
        None => bytes.into(),
        Some(trailers) => Body::boxed(Full::new(bytes).with_trailers(std::future::ready(Some(Ok(trailers))))),
    }
}

fn broken(first: Bytes, more: BytesMut, why: String) -> Body {
    let frames = [Ok(Frame::data(join(first, more))), Err(BoxError::from(why))];
    Body::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
}
