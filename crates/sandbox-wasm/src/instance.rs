//! An instance: a program with a function's environment and limits. Every call gets a guest of its own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sandbox::{Call, Exit, Fault, Instance, Output, Payload};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use crate::engine::Host;
use crate::fault::{Ending, ending};
use crate::host::{Guest, Shared};
use crate::life::Life;
use crate::program::{Entry, Program};
use crate::stdio::Log;
use crate::ticker::Ticking;

/// Bytes that a guest may hand over with one call of the host, which copies them: far more than any stream
/// takes at once.
const MAX_ARGUMENTS: usize = 4 << 20;

pub(crate) struct WasmInstance {
    pub(crate) host: Arc<Host>,
    pub(crate) program: Arc<Program>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) life: Life,
}

/// What a guest holds of the host while it runs. It is to be dropped after the guest's store: only then is
/// the place in the pool free.
pub(crate) struct Lease {
    _ticking: Ticking,
    _places: OwnedSemaphorePermit,
}

impl WasmInstance {
    pub(crate) fn new(host: Arc<Host>, program: Arc<Program>, shared: Shared) -> Self {
        Self { host, program, shared: Arc::new(shared), life: Life::default() }
    }

    /// Waits for a place in the pool.
    pub(crate) async fn lease(&self) -> Result<Lease, Fault> {
        let places = self.host.places.clone();
        // The semaphore is never closed; were it, the call would end like one of a stopped instance.
        let places =
            places.acquire_many_owned(self.program.weight).await.map_err(|_| Fault::Exited(Exit::Stopped))?;
        Ok(Lease { _ticking: self.host.ticker.enter(), _places: places })
    }

    pub(crate) fn store(&self, guest: Guest) -> Store<Guest> {
        let mut store = Store::new(&self.host.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(MAX_ARGUMENTS);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }

    /// One call, whose guest prints to `log`.
    pub(crate) async fn run(&self, payload: Payload, log: Log) -> Result<Output, Fault> {
        let _active = self.life.enter();
        if self.life.is_over() {
            return Err(Fault::Exited(Exit::Stopped));
        }
        let mut over = pin!(self.life.over());
        let mut call = pin!(self.call(payload, log));
        std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => over.as_mut().poll(cx).map(|()| Err(Fault::Exited(Exit::Stopped))),
        })
        .await
    }

    async fn call(&self, payload: Payload, log: Log) -> Result<Output, Fault> {
        match (&self.program.entry, payload) {
            (Entry::Http(_), Payload::Http(request)) => self.http(*request, log).await,
            (Entry::Command(command), Payload::Event(event)) => self.event(command, event, log).await,
            (Entry::Http(_), Payload::Event(_)) => {
                Err(Fault::BadAnswer("the component speaks HTTP and was given an event".into()))
            }
            (Entry::Command(_), Payload::Http(_)) => {
                Err(Fault::BadAnswer("the command speaks events and was given a request".into()))
            }
        }
    }
}

/// How a call that returned with an error has ended.
pub(crate) fn judged(error: &wasmtime::Error, store: &Store<Guest>) -> Result<(), Fault> {
    match ending(error, &store.data().memory) {
        Ending::Exited => Ok(()),
        Ending::Fault(fault) => Err(fault),
    }
}

impl Instance for WasmInstance {
    fn invoke(&self, call: Call) -> BoxFuture<'_, Result<Output, Fault>> {
        self.run(call.payload, Log::Here(self.shared.spec.output.clone())).boxed()
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        self.life.over().map(|()| Exit::Stopped).boxed()
    }

    fn peak_memory(&self) -> u64 {
        self.shared.peak_memory.load(Ordering::Relaxed)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async {
            self.life.end();
            self.life.quiet().await;
        }
        .boxed()
    }
}

impl Drop for WasmInstance {
    fn drop(&mut self) {
        self.life.end();
    }
}
