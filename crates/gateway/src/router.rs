//! From a request to who answers it.

use std::net::IpAddr;
use std::sync::Arc;

use api_aws::Context;
use functions::{Functions, Route};
use http::header::HOST;
use http::{Request, Response};
use sandbox::{Body, Speaks};

use crate::access::{self, Admitted};
use crate::connection::Connection;
use crate::destination::{Destination, destination};
use crate::{cors, function, refusal, relay};

/// A function to call, and the path that it sees, where that is not the request's own.
struct Call {
    route: Arc<Route>,
    path: Option<String>,
}

/// Finds who answers, and answers.
pub(crate) async fn answer(connection: &Connection, request: Box<Request<Body>>) -> Response<Body> {
    let found = {
        let host = host(&request);
        let region = connection.gateway.settings.region.as_str();
        let functions = &connection.gateway.functions;
        let whole = |route| Call { route, path: None };
        match destination(host, request.uri().path(), region, connection.paths) {
            Destination::Api => functions.route_by_domain(host).map(|route| Some(whole(route))),
            Destination::Nobody => Some(None),
            Destination::UrlId(id) => Some(functions.route_by_id(&id).map(whole)),
            // What a path means at its owner's host is the owner's business.
            Destination::UrlPath { name, rest } => {
                Some(functions.route_by_domain(host).map(whole).or_else(|| by_path(functions, name, rest)))
            }
        }
    };
    match found {
        // Boxed, as below: what a request to a web server never runs must not make its own future large.
        None => Box::pin(api(connection, request)).await,
        Some(None) => refusal::nobody(),
        Some(Some(call)) => call_function(connection, call, request).await,
    }
}

fn by_path(functions: &Functions, name: &str, rest: &str) -> Option<Call> {
    functions.route_by_name(name).map(|route| Call { route, path: Some(rest.to_owned()) })
}

/// The authority that the client asked: the target's own goes before the header (RFC 9112 §3.2.2).
pub(crate) fn host<B>(request: &Request<B>) -> &str {
    match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

async fn api(connection: &Connection, request: Box<Request<Body>>) -> Response<Body> {
    let base_url = match host(&request) {
        "" => {
            let host = match connection.peer {
                IpAddr::V4(_) => "127.0.0.1",
                IpAddr::V6(_) => "[::1]",
            };
            format!("http://{host}:{}", connection.origin.port.to_str().unwrap_or_default())
        }
        host => format!("http://{host}"),
    };
    let (head, body) = request.into_parts();
    let context = Context { base_url, address: connection.peer, paths: connection.paths };
    connection.gateway.api.handle(head, body, context).await
}

async fn call_function(connection: &Connection, call: Call, request: Box<Request<Body>>) -> Response<Body> {
    let Call { route, path } = call;
    let policy = cors::Policy::of(route.url.cors.as_ref(), request.headers());
    if let Some(policy) = &policy
        && let Some(response) = policy.preflight(request.method(), request.headers())
    {
        return response;
    }
    let mut response = match access::admit(connection, &route, request).await {
        Err(refused) => refused,
        Ok(Admitted { request, signer }) => match route.speaks {
            Speaks::Http => relay::answer(connection, &route, path, request).await,
            Speaks::Events => {
                Box::pin(function::answer(connection, &route, path, request, signer.as_ref())).await
            }
        },
    };
    if let Some(policy) = policy {
        policy.apply(response.headers_mut());
    }
    response
}
