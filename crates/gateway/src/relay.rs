//! A function URL whose function speaks HTTP: the request is passed through as it is.
//!
//! This is the hot path. A body is never touched, headers are changed in place, and nothing is formatted but
//! the request's id and its trace.

use base::RequestId;
use functions::{InFlight, Route};
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::upgrade::OnUpgrade;
use sandbox::Body;

use crate::connection::Connection;
use crate::http::headers::{REQUEST_ID, add_forwarded, asks_for_upgrade, set_trace, strip_hop_by_hop, trace};
use crate::{refusal, tunnel};

/// Passes the request on and the response back.
pub(crate) async fn answer(
    connection: &Connection,
    route: &Route,
    path: Option<String>,
    mut request: Box<Request<Body>>,
) -> Response<Body> {
    let id = RequestId::random();
    let upgrade = asks_for_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut *request));
    let Some(target) = origin_form(request.uri(), path) else {
        return refusal::last_message(StatusCode::BAD_REQUEST, "Bad Request");
    };
    *request.uri_mut() = target;
    *request.version_mut() = Version::HTTP_11;
    strip_hop_by_hop(request.headers_mut(), upgrade.is_some());
    add_forwarded(request.headers_mut(), &connection.origin);
    let functions = &connection.gateway.functions;
    let served = match functions.trace(route, id, trace(request.headers())) {
        Ok(trace) => {
            set_trace(request.headers_mut(), trace);
            functions.serve_http(route, id, &connection.answer_alarm, request).await
        }
        Err(error) => Err(error),
    };
    let mut response = match served {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            upgraded(connection, upgrade, response)
        }
        Ok(mut response) => {
            strip_hop_by_hop(response.headers_mut(), false);
            *response.version_mut() = Version::HTTP_11;
            response
        }
        Err(error) => refusal::of(&error),
    };
    if let Some(id) = id.with_text(|text| HeaderValue::from_str(text).ok()) {
        response.headers_mut().insert(REQUEST_ID.clone(), id);
    }
    response
}

/// The target as a server behind a proxy gets it: path and query only (RFC 9112 §3.2.1).
fn origin_form(uri: &Uri, path: Option<String>) -> Option<Uri> {
    let Some(path) = path else {
        return match (uri.authority(), uri.path_and_query()) {
            (None, Some(_)) => Some(uri.clone()),
            (Some(_), Some(target)) => Some(target.clone().into()),
            (_, None) => Some(Uri::from_static("/")),
        };
    };
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(target).ok().map(Uri::from)
}

/// Joins both sides once both have left HTTP.
fn upgraded(
    connection: &Connection,
    client: Option<OnUpgrade>,
    mut response: Response<Body>,
) -> Response<Body> {
    let instance = response.extensions_mut().remove::<OnUpgrade>();
    let in_flight = response.extensions_mut().remove::<InFlight>();
    let (Some(client), Some(instance)) = (client, instance) else {
        // Nobody asked for it, or there is nothing behind it.
        return refusal::function_failed();
    };
    strip_hop_by_hop(response.headers_mut(), true);
    tokio::spawn(tunnel::join(client, instance, in_flight, connection.gateway.phases.watch()));
    response.map(|_| Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_in_origin_form() {
        for (uri, path, expect) in [
            ("/a/b?c=d", None, "/a/b?c=d"),
            ("http://host:1/a?b", None, "/a?b"),
            ("http://host:1", None, "/"),
            ("*", None, "*"),
            ("/_fn/x/a%20b?c=d", Some("/a%20b"), "/a%20b?c=d"),
            ("/_fn/x", Some("/"), "/"),
            ("/_fn/x//y", Some("//y"), "//y"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let found = origin_form(&uri, path.map(str::to_owned)).unwrap();
            assert_eq!(found.path_and_query().unwrap().as_str(), expect, "{uri}");
            assert!(found.authority().is_none());
        }
    }
}
