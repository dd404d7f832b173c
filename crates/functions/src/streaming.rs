//! Answers that reach their callers while the function still makes them.
//!
//! The call itself is an ordinary one (`invoke`): it holds its place until the answer has ended, its report is written
//! after that, and it goes on without a caller who has hung up, as on Lambda. What it has of its caller is a [`Sink`];
//! what the caller has is a [`Streaming`]. Between them are a few pieces: a caller who reads slowly holds the function
//! up, and its time-out ends both.

use base::RequestId;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use sandbox::{Body, Fault, Streamed};
use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;
use crate::invoke::End;
use crate::service::Outcome;
use crate::{Error, limits};

/// Pieces that wait for the caller; as many wait in the sandbox.
const PIECES: usize = 4;

/// What is known of an answer before its first byte.
#[derive(Debug)]
struct Head {
    executed_version: String,
    content_type: Option<String>,
}

/// Where a call's answer goes piece by piece.
pub(crate) struct Sink {
    /// Taken when the answer begins.
    head: Option<oneshot::Sender<Head>>,
    /// Taken when it has ended, or nobody reads on.
    pieces: Option<mpsc::Sender<Bytes>>,
    end: oneshot::Sender<Outcome>,
}

impl Sink {
    fn begin(&mut self, executed_version: &str, content_type: Option<String>) {
        if let Some(head) = self.head.take() {
            head.send(Head { executed_version: executed_version.to_owned(), content_type }).ok();
        }
    }

    async fn take(&mut self, piece: Bytes) {
        if let Some(pieces) = &self.pieces
            && pieces.send(piece).await.is_err()
        {
            self.pieces = None;
        }
    }

    /// The call is over, its log and report are written.
    pub(crate) fn end(mut self, outcome: &Outcome) {
        self.pieces = None;
        // An answer that never began is told as a whole.
        if self.head.is_none() {
            self.end.send(outcome.clone()).ok();
        }
    }
}

/// A call whose answer comes piece by piece. Dropped, the call goes on without a listener.
#[derive(Debug)]
pub struct Streaming {
    /// The version that runs.
    pub executed_version: String,
    /// What the function says that its answer is; `None` also where it answered as a whole.
    pub content_type: Option<String>,
    pieces: mpsc::Receiver<Bytes>,
    end: Ending,
}

/// Where the outcome comes from.
#[derive(Debug)]
enum Ending {
    /// The function answered, or failed, as a whole; what of it was not taken yet.
    Whole(Box<Outcome>),
    Later(oneshot::Receiver<Outcome>),
}

impl Streaming {
    /// Whether the answer comes as a whole: it is not what the function streamed.
    pub fn whole(&self) -> Option<&Outcome> {
        match &self.end {
            Ending::Whole(outcome) => Some(outcome),
            Ending::Later(_) => None,
        }
    }

    /// The next piece; none once there are no more, whatever the outcome.
    pub async fn next(&mut self) -> Option<Bytes> {
        match &mut self.end {
            Ending::Whole(outcome) => {
                let bytes = outcome.result.as_mut().ok().filter(|bytes| !bytes.is_empty());
                bytes.map(std::mem::take)
            }
            Ending::Later(_) => self.pieces.recv().await,
        }
    }

    /// What came of the call: after the last piece, its `result` holds nothing or the error that ended the answer.
    pub async fn end(self) -> Result<Outcome, Error> {
        drop(self.pieces);
        match self.end {
            Ending::Whole(outcome) => Ok(*outcome),
            Ending::Later(end) => end.await.map_err(|_| Error::Unavailable("The answer broke off.".into())),
        }
    }
}

/// Runs a call until its answer begins, or it is over without one that streams.
pub(crate) async fn stream<F>(run: impl FnOnce(Sink) -> F) -> Result<Streaming, Error>
where
    F: Future<Output = Result<Outcome, Error>>,
{
    let (head, mut on_head) = oneshot::channel();
    let (pieces_in, pieces) = mpsc::channel(PIECES);
    let (end_in, end) = oneshot::channel();
    let mut running = Box::pin(run(Sink { head: Some(head), pieces: Some(pieces_in), end: end_in }));
    let outcome = tokio::select! {
        biased;
        Ok(head) = &mut on_head => return Ok(begun(head, pieces, end)),
        outcome = &mut running => outcome,
    };
    match on_head.try_recv() {
        Ok(head) => Ok(begun(head, pieces, end)),
        Err(_) => outcome.map(|outcome| Streaming {
            executed_version: outcome.executed_version.clone(),
            content_type: None,
            pieces,
            end: Ending::Whole(Box::new(outcome)),
        }),
    }
}

/// The call goes on by itself: given up by its caller, it becomes a task.
fn begun(head: Head, pieces: mpsc::Receiver<Bytes>, end: oneshot::Receiver<Outcome>) -> Streaming {
    let Head { executed_version, content_type } = head;
    Streaming { executed_version, content_type, pieces, end: Ending::Later(end) }
}

/// Where an answer in pieces goes: to who waits for them, or together.
struct Taking<'a> {
    sink: Option<&'a mut Sink>,
    content_type: Option<String>,
    together: BytesMut,
    size: usize,
    limit: usize,
}

impl<'a> Taking<'a> {
    fn begin(mut sink: Option<&'a mut Sink>, version: &str, content_type: Option<String>) -> Self {
        let limit = if sink.is_some() { limits::STREAM_BYTES } else { limits::PAYLOAD_BYTES };
        if let Some(sink) = &mut sink {
            sink.begin(version, content_type.clone());
        }
        Self { sink, content_type, together: BytesMut::new(), size: 0, limit }
    }

    fn is_over(&self) -> bool {
        self.size > self.limit
    }

    /// What is over the limit goes nowhere.
    async fn take(&mut self, piece: Bytes) {
        // A body's frame may be empty; a piece that is would be taken for the end.
        if piece.is_empty() {
            return;
        }
        self.size = self.size.saturating_add(piece.len());
        if self.is_over() {
            self.together = BytesMut::new();
            return;
        }
        match &mut self.sink {
            Some(sink) => sink.take(piece).await,
            None => self.together.extend_from_slice(&piece),
        }
    }

    fn answer(self) -> End {
        match self.is_over() {
            true => End::Failed(Failure::too_large(self.limit)),
            false => End::Answer { bytes: self.together.freeze(), content_type: self.content_type },
        }
    }
}

/// Takes an event's answer to its end. What nobody wants is taken too: the code is to get to its end.
pub(crate) async fn pieces(
    mut streamed: Streamed,
    version: &str,
    sink: Option<&mut Sink>,
) -> Result<End, Fault> {
    let mut taking = Taking::begin(sink, version, streamed.content_type.take());
    while let Some(piece) = streamed.next().await {
        taking.take(piece).await;
    }
    Ok(match streamed.end().await? {
        Some(error) => End::Reported(error),
        None => taking.answer(),
    })
}

/// Takes a web server's, or a component's, answer to an event: the body of a success is the result.
pub(crate) async fn body(
    id: RequestId,
    response: ::http::Response<Body>,
    version: &str,
    sink: Option<&mut Sink>,
) -> End {
    let (head, mut body) = response.into_parts();
    let succeeds = head.status.is_success();
    let kind = head.headers.get(::http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let mut taking = Taking::begin(sink.filter(|_| succeeds), version, kind.map(str::to_owned));
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(piece)) => taking.take(piece).await,
            Ok(Err(_trailers)) => {}
            Err(error) => {
                let fault = Fault::BadAnswer(format!("the answer broke off: {error}"));
                return End::Failed(Failure::fault(id, &fault));
            }
        }
        if taking.is_over() {
            break;
        }
    }
    match taking.answer() {
        End::Answer { bytes, .. } if !succeeds => {
            End::Failed(Failure::status(id, head.status.as_u16(), &bytes))
        }
        end => end,
    }
}
