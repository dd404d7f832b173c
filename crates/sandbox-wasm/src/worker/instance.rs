//! An instance in a worker, as the server has it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sandbox::egress::{Gate, Network};
use sandbox::{Body, Call, Error, Exit, Fault, Instance, Origin, Output, Payload, Phases, Spec, StartError};

use super::backend::Place;
use super::control::{Start, ToWorker};
use super::exchange::{Broke, Exchange, Streamed};
use super::head::{self, Told};
use super::line::{FRAME, Kind, Line};
use super::process::{Code, Refused};
use crate::life::Life;

/// An instance of a worker.
pub(super) struct Placed {
    spec: Arc<Spec>,
    number: u64,
    /// Its code stays loaded.
    _code: Arc<Code>,
    place: Place,
    life: Life,
    peak: Arc<AtomicU64>,
    phases: Phases,
}

impl Placed {
    /// Has the worker make it.
    pub(super) async fn start(
        spec: Arc<Spec>,
        place: Place,
        code: Arc<Code>,
        network: Arc<Network>,
    ) -> Result<Self, StartError> {
        let number = place.worker.number();
        let gate = Gate::new(spec.egress.clone(), network, spec.output.clone());
        place.worker.set_gate(number, Some(Arc::new(gate)));
        let start = Start {
            program: code.number,
            dir: code.dir(),
            handler: spec.artifact.handler.clone(),
            env: spec.env.clone(),
            memory_bytes: spec.limits.memory_bytes,
            cpu_hundredths: spec.limits.cpu_hundredths,
            answer_bytes: spec.limits.answer_bytes,
            shut: spec.egress == sandbox::Egress::None,
        };
        let phases = Phases { origin: Origin::Cold, sandbox: place.took, ..Phases::default() };
        // From here on dropping it takes it out of the worker.
        let placed =
            Self { spec, number, _code: code, place, life: Life::default(), peak: Arc::default(), phases };
        let asked = placed.place.worker.ask(|ask| ToWorker::Start { ask, instance: number, start }, None);
        match asked.await {
            Ok(()) => Ok(placed),
            Err(Refused::Said(text)) => Err(Error::Invalid(text).into()),
            Err(Refused::Gone) => {
                Err(StartError::Exited(placed.place.worker.ending().await.unwrap_or(Exit::Stopped)))
            }
        }
    }

    async fn call(&self, payload: Payload) -> Result<Output, Fault> {
        if self.life.is_over() {
            return Err(Fault::Exited(Exit::Stopped));
        }
        let Some(line) = self.line().await else {
            let request = if let Payload::Http(request) = payload { Some(request) } else { None };
            return not_delivered(request, self.end().await);
        };
        let mut exchange = Exchange::new(self.place.worker.clone(), line, self.spec.output.clone());
        exchange.begin(self.number, payload);
        if poll_fn(|cx| Poll::Ready(exchange.poll_sent(cx))).await.is_err() {
            return not_delivered(exchange.take_back(), self.end().await);
        }
        match poll_fn(|cx| exchange.poll_frame(cx)).await {
            Ok((kind, bytes)) => self.outcome(exchange, kind, bytes),
            Err(Broke { unread }) => match self.place.worker.ending().await {
                Some(exit) if unread => not_delivered(exchange.take_back(), exit),
                Some(exit) => Err(Fault::Exited(exit)),
                None => Err(nonsense()),
            },
        }
    }

    /// A line to the worker; `None`: it takes no more calls.
    async fn line(&self) -> Option<Line> {
        let worker = &self.place.worker;
        if worker.is_over() {
            return None;
        }
        let mut line = match worker.idle_line() {
            Some(line) => line,
            None => worker.new_line().await.ok()?,
        };
        line.limit = self.spec.limits.answer_bytes.saturating_add(64).max(FRAME);
        Some(line)
    }

    /// How the worker ended, which is known to be over.
    async fn end(&self) -> Exit {
        self.place.worker.ending().await.unwrap_or(Exit::Stopped)
    }

    fn outcome(&self, mut exchange: Exchange, kind: Kind, mut bytes: Bytes) -> Result<Output, Fault> {
        match kind {
            Kind::Head => {
                let (_, response) = head::take_response(bytes).ok_or_else(nonsense)?;
                let (parts, _) = response.into_parts();
                let body = Streamed { exchange: Some(exchange), peak: self.peak.clone() };
                Ok(Output::Http(http::Response::from_parts(parts, Body::boxed(body))))
            }
            Kind::Response => {
                let (peak, response) = head::take_response(bytes).ok_or_else(nonsense)?;
                self.last(&mut exchange, peak);
                Ok(Output::Http(response.map(Body::from)))
            }
            Kind::Answer => {
                let peak = head::take_peak(&mut bytes);
                self.last(&mut exchange, peak);
                let limit = self.spec.limits.answer_bytes;
                if bytes.len() > limit {
                    return Err(Fault::AnswerTooLarge { size: bytes.len(), limit });
                }
                Ok(Output::Event(bytes))
            }
            Kind::Fault => {
                let peak = head::take_peak(&mut bytes);
                self.last(&mut exchange, peak);
                let told: Told = serde_json::from_slice(&bytes).map_err(|_| nonsense())?;
                Err(told.into())
            }
            _ => Err(nonsense()),
        }
    }

    fn last(&self, exchange: &mut Exchange, peak: u64) {
        self.peak.fetch_max(peak, Ordering::Relaxed);
        exchange.finish();
    }
}

/// No guest has seen the call: it is another instance's.
fn not_delivered(request: Option<Box<http::Request<Body>>>, exit: Exit) -> Result<Output, Fault> {
    match request {
        Some(request) => Ok(Output::NotTaken(request, exit)),
        None => Err(Fault::NotDelivered(exit)),
    }
}

fn nonsense() -> Fault {
    Fault::BadAnswer("the worker process of the function's tenant broke the call off".into())
}

impl Instance for Placed {
    fn invoke(&self, call: Call) -> BoxFuture<'_, Result<Output, Fault>> {
        self.call(call.payload).boxed()
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        async {
            tokio::select! {
                biased;
                () = self.life.over() => Exit::Stopped,
                exit = self.place.worker.exited() => exit,
            }
        }
        .boxed()
    }

    fn phases(&self) -> Phases {
        self.phases
    }

    fn peak_memory(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async {
            self.life.end();
            // Gone is as good as stopped.
            let stop = |ask| ToWorker::Stop { ask, instance: self.number };
            let _ = self.place.worker.ask(stop, None).await;
        }
        .boxed()
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.life.end();
        let worker = self.place.worker.clone();
        worker.set_gate(self.number, None);
        let instance = self.number;
        if worker.tell(&ToWorker::Stop { ask: 0, instance }) || worker.is_over() {
            return;
        }
        // No room just now.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { worker.ask(|ask| ToWorker::Stop { ask, instance }, None).await });
        }
    }
}
