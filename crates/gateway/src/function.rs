//! A function URL whose function takes events.

use api_aws::body::{self, ReadError};
use base::RequestId;
use functions::model::InvokeMode;
use functions::{Outcome, Route};
use http::header::HeaderValue;
use http::{Request, Response, StatusCode};
use sandbox::Body;

use crate::access::Signer;
use crate::connection::Connection;
use crate::event::{answer as from_event, request as to_event, streamed};
use crate::http::headers::{REQUEST_ID, add_forwarded, add_port, set_trace, strip_hop_by_hop, trace};
use crate::{limits, refusal, router};

/// Request to event, event to answer, answer to response.
pub(crate) async fn answer(
    connection: &Connection,
    route: &Route,
    path: Option<String>,
    request: Box<Request<Body>>,
    signer: Option<&Signer>,
) -> Response<Body> {
    let id = RequestId::random();
    let mut response = match event(connection, route, path, request, id, signer).await {
        Ok((event, trace)) => call(connection, route, id, event, trace).await,
        Err(refused) => refused,
    };
    set_request_id(&mut response, id);
    response
}

/// Names the call, for logs and for whoever asks about it.
pub(crate) fn set_request_id(response: &mut Response<Body>, id: RequestId) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(REQUEST_ID.clone(), id);
    }
}

async fn event(
    connection: &Connection,
    route: &Route,
    path: Option<String>,
    mut request: Box<Request<Body>>,
    id: RequestId,
    signer: Option<&Signer>,
) -> Result<(bytes::Bytes, String), Response<Body>> {
    let gateway = &connection.gateway;
    strip_hop_by_hop(request.headers_mut(), false);
    add_forwarded(request.headers_mut(), &connection.origin);
    add_port(request.headers_mut(), &connection.origin);
    let domain = match router::host(&request).rsplit_once(':') {
        Some((domain, port)) if port.bytes().all(|b| b.is_ascii_digit()) => domain.to_owned(),
        _ => router::host(&request).to_owned(),
    };
    let (mut head, body) = request.into_parts();
    let body = body::read(body, limits::EVENT_BODY, gateway.settings.patience);
    let body = body.await.map_err(unread)?;
    let trace = gateway.functions.trace(route, id, trace(&head.headers));
    let trace = trace.map_err(|error| refusal::of(&error))?;
    set_trace(&mut head.headers, trace.clone());
    let circumstances = to_event::Circumstances {
        url_id: &route.url.id,
        domain: &domain,
        path: path.as_deref().unwrap_or_else(|| head.uri.path()),
        source_ip: &connection.peer.to_string(),
        id,
        time: gateway.clock.now(),
        signer,
    };
    Ok((to_event::event(&head, &body, &circumstances), trace))
}

pub(crate) fn unread(error: ReadError) -> Response<Body> {
    match error {
        ReadError::TooLarge(_) => {
            refusal::last_message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
        }
        ReadError::TimedOut => refusal::last_message(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
        ReadError::Broken => refusal::last_message(StatusCode::BAD_REQUEST, "Bad Request"),
    }
}

async fn call(
    connection: &Connection,
    route: &Route,
    id: RequestId,
    event: bytes::Bytes,
    trace: String,
) -> Response<Body> {
    let functions = &connection.gateway.functions;
    let made = match route.url.mode {
        InvokeMode::Buffered => match functions.serve_event(route, id, event, trace).await {
            Ok(outcome) => whole(&outcome),
            Err(error) => return refusal::of(&error),
        },
        InvokeMode::ResponseStream => match functions.serve_event_streaming(route, id, event, trace).await {
            Ok(streaming) => match streaming.whole() {
                Some(outcome) => whole(outcome),
                None => streamed::response(streaming).await,
            },
            Err(error) => return refusal::of(&error),
        },
    };
    made.unwrap_or_else(|reason| {
        tracing::info!(function = %route.function, request_id = %id, reason, "an answer is no response");
        refusal::function_failed()
    })
}

/// The response to an answer that is here.
fn whole(outcome: &Outcome) -> Result<Response<Body>, &'static str> {
    match &outcome.result {
        Err(error) => Ok(from_event::failed(error)),
        Ok(answer) => streamed::whole(outcome.content_type.as_deref(), answer)
            .unwrap_or_else(|| from_event::response(answer)),
    }
}
