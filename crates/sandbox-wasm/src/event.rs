//! Calls of a WASI command: the event on stdin, the answer on stdout.

use std::pin::pin;

use sandbox::{Event, Exit, Fault, Output};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::host::Guest;
use crate::instance::{WasmInstance, judged};
use crate::share::held;
use crate::stdio::{Answer, Log};

impl WasmInstance {
    pub(crate) async fn event(
        &self,
        command: &CommandPre<Guest>,
        event: Event,
        log: Log,
    ) -> Result<Output, Fault> {
        let limit = self.shared.spec.limits.answer_bytes;
        let answer = Answer::new(limit);
        let _lease = self.lease().await?;
        let mut store = self.store(Guest::command(self.shared.clone(), log, event.json, answer.clone()));
        let ended = {
            let guest = pin!(async {
                let command = command.instantiate_async(&mut store).await?;
                command.wasi_cli_run().call_run(&mut store).await
            });
            held(self.shared.share.clone(), guest).await
        };
        let ended = match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(())) => Err(Fault::Exited(Exit::Code(1))),
            Err(_) if answer.is_over() => Err(Fault::AnswerTooLarge { size: limit.saturating_add(1), limit }),
            Err(error) => judged(&error, &store),
        };
        // The rest of what it printed goes to the log with its store, before the answer is given.
        drop(store);
        ended.map(|()| Output::Event(answer.take()))
    }
}
