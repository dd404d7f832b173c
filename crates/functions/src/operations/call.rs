//! Invoke, and what comes in by function URLs.

use std::sync::Arc;

use base::RequestId;
use bytes::Bytes;
use iam::Caller;
use sandbox::Body;

use crate::invoke::{self, Request};
use crate::model::FunctionRef;
use crate::service::{Functions, Invoke, Outcome, Route};
use crate::streaming::{self, Sink, Streaming};
use crate::{Alarm, Error};

impl Functions {
    /// Lambda API: Invoke, `DryRun`: everything but the call.
    pub fn check_invoke(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        self.inner.permit(caller, "InvokeFunction", function)?;
        self.inner.target(function, RequestId::random()).map(|_| ())
    }

    /// Lambda API: Invoke, `RequestResponse`.
    pub async fn invoke(&self, caller: &Caller, call: Invoke) -> Result<Outcome, Error> {
        self.run(caller, call, None).await
    }

    /// Lambda API: InvokeWithResponseStream, `RequestResponse`. Returns when the answer begins; what goes wrong
    /// later is told by its end.
    pub async fn invoke_streaming(&self, caller: &Caller, call: Invoke) -> Result<Streaming, Error> {
        streaming::stream(|sink| self.run(caller, call, Some(sink))).await
    }

    async fn run(&self, caller: &Caller, call: Invoke, sink: Option<Sink>) -> Result<Outcome, Error> {
        let Invoke { id, function, payload, client_context, trace_id, tail, trace } = call;
        let arn = self.inner.arn(&function).to_string();
        self.inner.permit(caller, "InvokeFunction", &function)?;
        let find = || self.inner.target(&function, id);
        let target = find()?;
        let json = invoke::check_event(payload)?;
        let sampled = target.plan().configuration.traced;
        let passed = self.inner.pass(trace_id, &function.account, &function.name, sampled)?;
        let event = invoke::event(json, arn, passed, client_context);
        self.inner.run(Request { id, event, tail, trace, waited_for: true, sink }, target, find).await
    }

    /// The trace that a public request carries on, `given` or new, with one pass more of the function; or the refusal of a
    /// request that has come round too often.
    pub fn trace(&self, route: &Route, id: RequestId, given: Option<String>) -> Result<String, Error> {
        let find = || self.inner.target(&behind(route), id).ok();
        let target = route.target.as_ref().map(Arc::clone).or_else(find);
        let sampled = target.is_some_and(|target| target.plan().configuration.traced);
        self.inner.pass(given, &route.function.account, &route.function.name, sampled)
    }

    /// A public request to a function that speaks HTTP. The response's body streams; the instance counts
    /// the call as in flight until the body has ended. On 101 the extensions hold the instance's
    /// `hyper::upgrade::OnUpgrade` and an [`InFlight`](crate::InFlight), which the gateway drops when the
    /// connection ends. `alarm` is the connection's own.
    pub async fn serve_http(
        &self,
        route: &Route,
        id: RequestId,
        alarm: &Alarm,
        request: Box<::http::Request<Body>>,
    ) -> Result<::http::Response<Body>, Error> {
        let find = || self.inner.target(&behind(route), id);
        let target = route.target.as_ref().map_or_else(find, |target| Ok(Arc::clone(target)))?;
        self.inner.serve(target, find, id, alarm, request).await
    }

    /// A public request to a function that speaks events, already made an event; `trace`: what [`Functions::trace`] gave.
    pub async fn serve_event(
        &self,
        route: &Route,
        id: RequestId,
        json: Bytes,
        trace: String,
    ) -> Result<Outcome, Error> {
        self.run_route(route, id, json, trace, None).await
    }

    /// As `serve_event`, for a URL that streams.
    pub async fn serve_event_streaming(
        &self,
        route: &Route,
        id: RequestId,
        json: Bytes,
        trace: String,
    ) -> Result<Streaming, Error> {
        streaming::stream(|sink| self.run_route(route, id, json, trace, Some(sink))).await
    }

    async fn run_route(
        &self,
        route: &Route,
        id: RequestId,
        json: Bytes,
        trace: String,
        sink: Option<Sink>,
    ) -> Result<Outcome, Error> {
        let json = invoke::check_event(json)?;
        let find = || self.inner.target(&behind(route), id);
        let target = route.target.as_ref().map_or_else(find, |target| Ok(Arc::clone(target)))?;
        let event = invoke::event(json, route.function.to_string(), trace, None);
        let request = Request { id, event, tail: false, trace: false, waited_for: true, sink };
        self.inner.run(request, target, find).await
    }
}

fn behind(route: &Route) -> FunctionRef {
    FunctionRef {
        account: route.function.account.clone(),
        name: route.function.name.clone(),
        qualifier: route.function.qualifier.clone(),
    }
}
