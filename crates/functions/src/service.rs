//! The service handle.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, FunctionArn, Region, RequestId};
use bytes::Bytes;
use iam::Caller;
use sandbox::{Backend, Body, Contract, FunctionError, Speaks};

use crate::model::*;
use crate::Error;

/// What the service is built from.
pub struct Deps {
    /// Truth.
    pub store: store::Store,
    /// Packages as uploaded.
    pub blobs: store::Blobs,
    /// Unpacked packages, one folder a digest; everything in it can be made again from the blobs.
    pub code_dir: PathBuf,
    /// Function logs.
    pub logs: observe::Logs,
    /// Function metrics.
    pub metrics: Arc<observe::FunctionMetrics>,
    /// Credentials for instances.
    pub iam: iam::Iam,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Where functions live.
    pub region: Region,
    /// One of each isolation at most.
    pub backends: Vec<Arc<dyn Backend>>,
    /// The host's protection.
    pub bounds: Bounds,
}

/// Bounds that protect the host, and defaults.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Instances of all functions together.
    pub max_instances: usize,
    /// Bytes: the sum of all instances' memory limits.
    pub max_memory_bytes: u64,
    /// Calls that may wait for an instance, per function.
    pub max_queue: usize,
    /// How long a call may wait for an instance.
    pub queue_timeout: Duration,
    /// How long initialisation may take.
    pub init_timeout: Duration,
    /// Whether `virga:egress=host` is allowed.
    pub allow_host_egress: bool,
    /// `virga:idle-timeout` where the tag is absent.
    pub idle_timeout: Duration,
}

/// A synchronous call with an event.
#[derive(Debug, Clone)]
pub struct Invoke {
    /// The id that the answer, the logs and the context carry.
    pub id: RequestId,
    /// What is called.
    pub function: FunctionRef,
    /// JSON (empty means `{}`); checked here.
    pub payload: Bytes,
    /// Decoded `X-Amz-Client-Context`.
    pub client_context: Option<String>,
    /// `X-Amzn-Trace-Id` of the request, if any.
    pub trace_id: Option<String>,
    /// Whether to collect the last 4 KiB of the log.
    pub tail: bool,
}

/// What came of a call that reached the function.
#[derive(Debug)]
pub struct Outcome {
    /// The version that ran.
    pub executed_version: String,
    /// The answer or the function's error.
    pub result: Result<Bytes, FunctionError>,
    /// The last 4 KiB of the log, where asked for.
    pub log_tail: Option<Bytes>,
}

/// A function URL's target, found without locks or database.
#[derive(Clone)]
pub struct Route {
    /// The function behind the URL.
    pub function: FunctionArn,
    /// The URL's configuration.
    pub url: Arc<UrlConfig>,
    /// What the function exchanges: whether the gateway passes the request on or makes an event of it.
    pub speaks: Speaks,
    /// How it is called.
    pub contract: Contract,
}

/// Keeps an upgraded connection counted as a call in flight until the last clone is dropped.
#[derive(Clone)]
pub struct InFlight {
    _guard: Arc<()>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Functions {
    _inner: Arc<()>,
}

impl Functions {
    /// Reads everything into memory, finishes what a crash interrupted (a `Pending` function becomes
    /// `Active` or `Failed`), and removes unpacked code that nothing refers to. Background tasks run on
    /// the current tokio runtime until `shutdown`.
    pub async fn open(_deps: Deps) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Lambda API: CreateFunction. Answers once the function is durable (`Pending`, reason `Creating`).
    pub async fn create(&self, _caller: &Caller, _args: CreateFunction) -> Result<FunctionView, Error> {
        unimplemented!()
    }

    /// Lambda API: GetFunctionConfiguration.
    pub fn get(&self, _caller: &Caller, _function: &FunctionRef) -> Result<FunctionView, Error> {
        unimplemented!()
    }

    /// The package of a version, as it was uploaded.
    pub async fn package(&self, _caller: &Caller, _function: &FunctionRef) -> Result<Bytes, Error> {
        unimplemented!()
    }

    /// Lambda API: ListFunctions, `$LATEST` of each; with `all_versions`, every version.
    pub fn list(
        &self,
        _caller: &Caller,
        _all_versions: bool,
        _marker: Option<&str>,
        _max_items: usize,
    ) -> Result<Page<FunctionView>, Error> {
        unimplemented!()
    }

    /// Lambda API: ListVersionsByFunction, `$LATEST` first.
    pub fn versions(
        &self,
        _caller: &Caller,
        _function: &FunctionRef,
        _marker: Option<&str>,
        _max_items: usize,
    ) -> Result<Page<FunctionView>, Error> {
        unimplemented!()
    }

    /// Lambda API: UpdateFunctionCode.
    pub async fn update_code(
        &self,
        _caller: &Caller,
        _function: &FunctionRef,
        _args: UpdateCode,
    ) -> Result<FunctionView, Error> {
        unimplemented!()
    }

    /// Lambda API: UpdateFunctionConfiguration.
    pub async fn update_configuration(
        &self,
        _caller: &Caller,
        _function: &FunctionRef,
        _args: UpdateConfiguration,
    ) -> Result<FunctionView, Error> {
        unimplemented!()
    }

    /// Lambda API: PublishVersion; unchanged code and configuration answer the version published last.
    pub async fn publish(
        &self,
        _caller: &Caller,
        _function: &FunctionRef,
        _args: PublishVersion,
    ) -> Result<FunctionView, Error> {
        unimplemented!()
    }

    /// Lambda API: DeleteFunction; a qualifier deletes that version only.
    pub async fn delete(&self, _caller: &Caller, _function: &FunctionRef) -> Result<(), Error> {
        unimplemented!()
    }

    /// Lambda API: TagResource.
    pub async fn tag(
        &self,
        _caller: &Caller,
        _function: &FunctionRef,
        _tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    /// Lambda API: UntagResource.
    pub async fn untag(&self, _caller: &Caller, _function: &FunctionRef, _keys: &[String]) -> Result<(), Error> {
        unimplemented!()
    }

    /// Lambda API: ListTags.
    pub fn tags(&self, _caller: &Caller, _function: &FunctionRef) -> Result<BTreeMap<String, String>, Error> {
        unimplemented!()
    }

    /// Lambda API: CreateFunctionUrlConfig.
    pub async fn create_url(
        &self,
        _caller: &Caller,
        _function: &FunctionRef,
        _auth: UrlAuth,
        _cors: Option<Cors>,
    ) -> Result<UrlView, Error> {
        unimplemented!()
    }

    /// Lambda API: UpdateFunctionUrlConfig; `None` leaves a member as it is.
    pub async fn update_url(
        &self,
        _caller: &Caller,
        _function: &FunctionRef,
        _auth: Option<UrlAuth>,
        _cors: Option<Cors>,
    ) -> Result<UrlView, Error> {
        unimplemented!()
    }

    /// Lambda API: GetFunctionUrlConfig.
    pub fn url(&self, _caller: &Caller, _function: &FunctionRef) -> Result<UrlView, Error> {
        unimplemented!()
    }

    /// Lambda API: DeleteFunctionUrlConfig.
    pub async fn delete_url(&self, _caller: &Caller, _function: &FunctionRef) -> Result<(), Error> {
        unimplemented!()
    }

    /// Lambda API: Invoke, `DryRun`: everything but the call.
    pub fn check_invoke(&self, _caller: &Caller, _function: &FunctionRef) -> Result<(), Error> {
        unimplemented!()
    }

    /// Lambda API: Invoke, `RequestResponse`.
    pub async fn invoke(&self, _caller: &Caller, _call: Invoke) -> Result<Outcome, Error> {
        unimplemented!()
    }

    /// The target of `ID.lambda-url.…`.
    pub fn route_by_id(&self, _id: &str) -> Option<Route> {
        unimplemented!()
    }

    /// The target of `/_fn/NAME/…`: a function of the first account with a URL configuration.
    pub fn route_by_name(&self, _name: &str) -> Option<Route> {
        unimplemented!()
    }

    /// A public request to a function that speaks HTTP. The response's body streams; the instance counts
    /// the call as in flight until the body has ended. On 101 the extensions hold the instance's
    /// `hyper::upgrade::OnUpgrade` and an [`InFlight`], which the gateway drops when the connection ends.
    pub async fn serve_http(
        &self,
        _route: &Route,
        _id: RequestId,
        _request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Error> {
        unimplemented!()
    }

    /// A public request to a function that speaks events, already made an event.
    pub async fn serve_event(&self, _route: &Route, _id: RequestId, _json: Bytes) -> Result<Outcome, Error> {
        unimplemented!()
    }

    /// Refuses new calls, waits for those under way at most `grace`, stops every instance.
    pub async fn shutdown(&self, _grace: Duration) {
        unimplemented!()
    }
}
