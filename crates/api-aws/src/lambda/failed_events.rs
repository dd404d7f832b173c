//! Failed events, Virga's own operations: ListFailedEvents, GetFailedEvent, RedriveFailedEvents, DeleteFailedEvents.
//!
//! They are the Lambda service's in protocol, signature and names, at paths that AWS does not use.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use functions::FailedEvent;
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::{Value, json as value};

use super::{failed, json, latest, max_items};
use crate::failure::Failure;
use crate::limits;
use crate::request::Request;

/// A page, oldest first.
pub(super) async fn list(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let max = max_items(request, 1000, limits::FAILED_EVENTS_PAGE)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let page = request.api.functions.failed_events(request.caller, &function, marker.as_deref(), max).await;
    let page = page.map_err(failed(request))?;
    let mut out = value!({ "FailedEvents": page.items.iter().map(shape).collect::<Vec<_>>() });
    if let Some(marker) = page.next_marker {
        out["NextMarker"] = marker.into();
    }
    Ok(json(StatusCode::OK, &out))
}

/// One with its payload, in base64.
pub(super) async fn get(request: &Request<'_>, label: &str, id: &str) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let found = request.api.functions.failed_event(request.caller, &function, id).await;
    let (event, payload) = found.map_err(failed(request))?;
    let mut out = shape(&event);
    out["Payload"] = STANDARD.encode(payload).into();
    Ok(json(StatusCode::OK, &out))
}

/// How many were put on the queue again: the one with the id in the query, or all.
pub(super) async fn redrive(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let (function, id) = (latest(request, label)?, request.query("Id"));
    let count = request.api.functions.redrive_failed(request.caller, &function, id.as_deref()).await;
    Ok(json(StatusCode::OK, &value!({ "Redriven": count.map_err(failed(request))? })))
}

/// How many were removed: the one with the id in the query, or all.
pub(super) async fn delete(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let (function, id) = (latest(request, label)?, request.query("Id"));
    let count = request.api.functions.drop_failed(request.caller, &function, id.as_deref()).await;
    Ok(json(StatusCode::OK, &value!({ "Deleted": count.map_err(failed(request))? })))
}

fn shape(event: &FailedEvent) -> Value {
    let mut out = value!({
        "Id": event.id,
        "RequestId": event.request_id,
        "Condition": event.condition,
        "ApproximateInvokeCount": event.invokes,
        "AcceptedTime": event.accepted.to_rfc3339(),
        "FailedTime": event.failed.to_rfc3339(),
    });
    for (member, text) in
        [("Qualifier", &event.qualifier), ("Response", &event.response), ("Reason", &event.reason)]
    {
        if let Some(text) = text {
            out[member] = text.as_str().into();
        }
    }
    out
}
