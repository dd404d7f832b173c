//! An answer that reaches its caller while the client still sends it (`Lambda-Runtime-Function-Response-Mode:
//! streaming`).
//!
//! From its head on the invocation is answered: what breaks off cannot be sent again, since somebody has read of it.
//! Whether the process ended with it is known a little after the connection broke.

use std::io::{self, ErrorKind};

use base::RequestId;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::connection::{Connection, Failed};
use super::request::Head;
use super::wire::Reply;
use super::{Begun, LongPoll, Waiting, refusal, refuse};
use crate::process::instance::EXIT_NEWS;
use crate::{Fault, FunctionError, Output as CallOutput, StreamEnd, Streamed};

impl LongPoll {
    /// Takes an answer piece by piece.
    pub(super) async fn stream(
        &self,
        id: Option<RequestId>,
        mut head: Head,
        connection: &mut Connection,
    ) -> io::Result<()> {
        let taken = self.state.lock().machine.answer(id);
        let id = match taken {
            Ok(id) => id,
            Err(why) => return refuse(&refusal(why), head, connection).await,
        };
        let pieces = self.begin_stream(id, head.content_type.take());
        let read = connection.stream(&mut head, &pieces).await;
        drop(pieces);
        match read {
            Ok(failed) => {
                self.end_stream(
                    id,
                    Ok(failed.map(|Failed { json, error_type }| FunctionError { json, error_type })),
                );
                if head.next {
                    return self.next(connection, Begun::default()).await;
                }
                connection.reply(&Reply::accepted()).await
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                self.end_stream(id, Err(Fault::Truncated));
                connection.give_up();
                let text = "The body is not framed as it says.";
                connection.reply(&Reply::error("400 Bad Request", "InvalidBody", text)).await
            }
            Err(error) => {
                // If the process is gone, that is what its caller hears.
                tokio::time::sleep(EXIT_NEWS).await;
                self.end_stream(id, Err(Fault::Truncated));
                Err(error)
            }
        }
    }

    /// Gives the caller its end of an answer; the other one.
    fn begin_stream(&self, id: RequestId, content_type: Option<String>) -> mpsc::Sender<Bytes> {
        let (pieces, end, streamed) = Streamed::new(content_type);
        let mut state = self.state.lock();
        if let Some(invocation) = state.machine.answering(id) {
            let caller = std::mem::replace(&mut invocation.reply, Waiting::End(end));
            caller.answer(Ok(CallOutput::Stream(streamed)));
        }
        pieces
    }

    /// The invocation is over; whatever it printed is in the log before anyone hears of it.
    fn end_stream(&self, id: RequestId, end: StreamEnd) {
        self.output.drain();
        let invocation = self.state.lock().machine.answered(id);
        if let Some(Waiting::End(waits)) = invocation.map(|invocation| invocation.reply) {
            waits.send(end).ok();
        }
    }
}
