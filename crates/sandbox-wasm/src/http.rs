//! Calls of a `wasi:http/incoming-handler`.
//!
//! Most handlers have ended when their head is looked at for the first time: then the response is plain
//! bytes. A handler that goes on after the head is run by whoever reads the body.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderValue, Request, Response, header};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use sandbox::{Body, Fault, Output};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::{Error, WasiHttpView};

use crate::host::Guest;
use crate::instance::{Lease, WasmInstance, judged};
use crate::program::{Entry, Program};
use crate::share::held;
use crate::stdio::Log;
use crate::stream::{Running, Slot, Streaming, whole};

type Head = Result<Response<HyperOutgoingBody>, ErrorCode>;
type Handles = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);

impl WasmInstance {
    pub(crate) async fn http(&self, request: Request<Body>, log: Log) -> Result<Output, Fault> {
        let lease = self.lease().await?;
        let mut store = self.store(Guest::new(self.shared.clone(), log));
        let (sender, mut head) = oneshot::channel();
        let handles = hand_over(&mut store, request, sender)
            .map_err(|error| Fault::BadAnswer(format!("the request cannot be handed over: {error:#}")))?;
        let mut running: Option<Running> = Some(run(lease, self.program.clone(), store, handles).boxed());
        std::future::poll_fn(|cx| {
            let Some(guest) = &mut running else { return Poll::Pending };
            let progress = guest.as_mut().poll(cx);
            match (head.try_recv().ok(), progress) {
                (None, Poll::Pending) => Poll::Pending,
                (None, Poll::Ready(ended)) => Poll::Ready(Err(unanswered(ended))),
                (Some(Err(code)), _) => {
                    Poll::Ready(Err(Fault::BadAnswer(format!("the handler answered with an error: {code}"))))
                }
                (Some(Ok(response)), Poll::Ready(ended)) => Poll::Ready(Ok(finished(response, ended, cx))),
                (Some(Ok(response)), Poll::Pending) => {
                    Poll::Ready(running.take().map(|guest| self.streaming(response, guest)).ok_or_else(gone))
                }
            }
        })
        .await
    }

    fn streaming(&self, response: Response<HyperOutgoingBody>, guest: Running) -> Output {
        let slot = Slot::new(guest);
        self.life.watch(Arc::downgrade(&slot));
        Output::Http(response.map(|body| Body::boxed(Streaming::new(slot, body))))
    }
}

fn gone() -> Fault {
    Fault::BadAnswer("the guest is gone".into())
}

async fn run(
    lease: Lease,
    program: Arc<Program>,
    store: Store<Guest>,
    handles: Handles,
) -> Result<(), Fault> {
    // Dropped last: the store gives its place back first.
    let _lease = lease;
    let mut store = store;
    let (request, outparam) = handles;
    let Entry::Http(proxy) = &program.entry else { return Err(gone()) };
    let share = store.data().share();
    let ended = {
        let guest = pin!(async {
            let proxy = proxy.instantiate_async(&mut store).await?;
            proxy.wasi_http_incoming_handler().call_handle(&mut store, request, outparam).await
        });
        held(share, guest).await
    };
    ended.or_else(|error| judged(&error, &store))
}

fn hand_over(
    store: &mut Store<Guest>,
    mut request: Request<Body>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<Handles> {
    // wasi:http wants an authority; events that are handed over as requests have none.
    let named = request.headers().get(header::HOST).is_some_and(|host| host.to_str().is_ok());
    if request.uri().authority().is_none() && !named {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    let request = request.map(|body| body.map_err(|error| Error::InternalError(Some(error.to_string()))));
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    Ok((request, http.new_response_outparam(head)?))
}

fn unanswered(ended: Result<(), Fault>) -> Fault {
    match ended {
        Ok(()) => Fault::BadAnswer("the handler returned without setting a response".into()),
        Err(fault) => fault,
    }
}

fn finished(response: Response<HyperOutgoingBody>, ended: Result<(), Fault>, cx: &mut Context<'_>) -> Output {
    Output::Http(response.map(|body| match ended {
        Ok(()) => whole(body, cx),
        Err(fault) => Body::boxed(Streaming::failed(fault, body)),
    }))
}
