//! An event's answer that comes in pieces, while the code still makes it.
//!
//! Few pieces are under way: who does not read holds up who writes, down to the code's own socket.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{Exit, Fault, FunctionError};

/// Pieces that wait for their reader. Each is at most what was read of a socket at once.
const PIECES: usize = 4;

/// How a streamed answer ended: whole, with the code's own error after what came before it, or with a fault.
pub type StreamEnd = Result<Option<FunctionError>, Fault>;

/// An answer that is being made.
#[derive(Debug)]
pub struct Streamed {
    /// What the code says that its answer is.
    pub content_type: Option<String>,
    pieces: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<StreamEnd>,
}

impl Streamed {
    /// An answer, and where its pieces and its end come from. The pieces' end is that of the sender; the code's log is
    /// to be whole before the answer's end is told.
    pub fn new(content_type: Option<String>) -> (mpsc::Sender<Bytes>, oneshot::Sender<StreamEnd>, Self) {
        let (pieces_in, pieces) = mpsc::channel(PIECES);
        let (end_in, end) = oneshot::channel();
        (pieces_in, end_in, Self { content_type, pieces, end })
    }

    /// The next piece; none once there are no more.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }

    /// How it ended. Asked before the last piece was taken, the rest of them is lost.
    pub async fn end(self) -> StreamEnd {
        drop(self.pieces);
        self.end.await.unwrap_or(Err(Fault::Exited(Exit::Stopped)))
    }
}
