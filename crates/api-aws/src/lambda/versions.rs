//! Lambda API: ListVersionsByFunction, PublishVersion.

use functions::model::PublishVersion;
use http::{Response, StatusCode};
use sandbox::Body;

use super::{configuration, failed, get, json, latest, max_items, unbuilt};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

/// A page of versions, `$LATEST` first.
pub(super) fn list_versions_by_function(
    request: &Request<'_>,
    label: &str,
) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let max = max_items(request, 10_000, limits::FUNCTION_PAGE)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let page = request
        .api
        .functions
        .versions(request.caller, &function, marker.as_deref(), max)
        .map_err(failed(request))?;
    Ok(json(StatusCode::OK, &get::listing("Versions", &page)))
}

/// 201 with the version's configuration.
pub(super) async fn publish_version(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let args = read(&request.body)?;
    let published = request.api.functions.publish(request.caller, &function, args).await;
    Ok(json(StatusCode::CREATED, &configuration::shape(&published.map_err(failed(request))?)))
}

fn read(body: &[u8]) -> Result<PublishVersion, Failure> {
    let members = Members::parse(body)?;
    unbuilt::refuse(&members)?;
    let description = members.text("Description")?;
    let mut violations = Violations::default();
    violations.length("description", description.as_deref().unwrap_or_default(), 0, 256);
    violations.finish()?;
    Ok(PublishVersion {
        code_sha256: members.condition("CodeSha256")?,
        description,
        revision_id: members.condition("RevisionId")?,
    })
}
