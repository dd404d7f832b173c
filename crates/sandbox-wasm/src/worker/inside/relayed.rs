//! What passes between a guest and its call's line: printed bytes on their way out, the request's body on its way in.
//!
//! Both are filled and emptied in the task of the call, so nothing here waits for another thread.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use sandbox::BoxError;

/// Bytes that may wait to be sent before a guest that prints is made to wait.
const ROOM: usize = 128 << 10;

/// What a guest has printed and the line has not taken.
#[derive(Default)]
pub(crate) struct Relayed(Mutex<Printed>);

#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    waiting: Option<Waker>,
}

impl Relayed {
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.0.lock().bytes.extend_from_slice(bytes);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.0.lock().bytes.len() < ROOM
    }

    /// Resolves when there is room.
    pub(crate) async fn room(&self) {
        poll_fn(|cx| {
            let mut printed = self.0.lock();
            if printed.bytes.len() < ROOM {
                return Poll::Ready(());
            }
            printed.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Everything that waits.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let mut printed = self.0.lock();
        if printed.bytes.is_empty() {
            return None;
        }
        if let Some(waiting) = printed.waiting.take() {
            waiting.wake();
        }
        Some(std::mem::take(&mut printed.bytes))
    }
}

/// A request's body as it arrives.
#[derive(Default)]
pub(super) struct Upload(Mutex<Arrived>);

#[derive(Default)]
struct Arrived {
    pieces: VecDeque<Bytes>,
    end: Option<Result<(), String>>,
    /// Bytes that the guest has taken since the server was last told.
    taken: usize,
    waiting: Option<Waker>,
}

impl Upload {
    pub(super) fn push(&self, piece: Bytes) {
        let mut arrived = self.0.lock();
        arrived.pieces.push_back(piece);
        arrived.wake();
    }

    /// The end, or why it breaks off.
    pub(super) fn end(&self, how: Result<(), String>) {
        let mut arrived = self.0.lock();
        arrived.end = Some(how);
        arrived.wake();
    }

    /// What the server may be told to have been read, once it is worth telling.
    pub(super) fn credit(&self, least: usize) -> Option<u32> {
        let mut arrived = self.0.lock();
        if arrived.taken < least || arrived.end.is_some() {
            return None;
        }
        u32::try_from(std::mem::take(&mut arrived.taken)).ok()
    }
}

impl Arrived {
    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

/// The body that the guest is given.
pub(super) struct Received(pub(super) Arc<Upload>);

impl HttpBody for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut arrived = self.0.0.lock();
        if let Some(piece) = arrived.pieces.pop_front() {
            arrived.taken += piece.len();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &arrived.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(why)) => Poll::Ready(Some(Err(why.clone().into()))),
            None => {
                arrived.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
