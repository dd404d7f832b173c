//! Lambda API: GetFunction, GetFunctionConfiguration, ListFunctions, DeleteFunction.

use functions::model::FunctionView;
use http::{Response, StatusCode};
use iam::Principal;
use sandbox::Body;
use serde_json::{Map, Value, json as value};

use super::{configuration, failed, function, image, json, max_items, no_content};
use crate::constraint::Violations;
use crate::download;
use crate::failure::Failure;
use crate::limits;
use crate::request::Request;

/// The configuration, a link to the package, the tags, and what is reserved.
pub(super) fn get_function(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let found = request.api.functions.describe(request.caller, &function).map_err(failed(request))?;
    let mut out = Map::new();
    out.insert("Configuration".to_owned(), configuration::shape(&found.view));
    if let Some(code) = &found.view.configuration.image {
        out.insert("Code".to_owned(), image::code_location(code));
    } else if let Some(location) = location(request, &found.view) {
        out.insert("Code".to_owned(), value!({ "RepositoryType": "S3", "Location": location }));
    }
    match found.tags {
        Some(tags) if tags.is_empty() => {}
        Some(tags) => drop(out.insert("Tags".to_owned(), value!(tags))),
        None => drop(out.insert("TagsError".to_owned(), tags_denied())),
    }
    if let Some(reserved) = found.reserved {
        out.insert("Concurrency".to_owned(), value!({ "ReservedConcurrentExecutions": reserved }));
    }
    Ok(json(StatusCode::OK, &Value::Object(out)))
}

/// Lambda API: TagsError.
fn tags_denied() -> Value {
    value!({
        "ErrorCode": "AccessDeniedException",
        "Message": "The caller is not authorized to perform lambda:ListTags on the function.",
    })
}

/// A link works with the rights of the user who asked for it; functions get none.
fn location(request: &Request<'_>, view: &FunctionView) -> Option<String> {
    let Principal::User { name } = &request.caller.principal else { return None };
    let package = download::Package {
        account: request.caller.account.clone(),
        user: name.clone(),
        noun: download::Noun::Function,
        owner: view.arn.account.clone(),
        name: view.arn.name.clone(),
        version: view.configuration.version.clone(),
    };
    Some(download::link(request.api, &package, &request.context.base_url))
}

/// The configuration.
pub(super) fn get_function_configuration(
    request: &Request<'_>,
    label: &str,
) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let view = request.api.functions.get(request.caller, &function).map_err(failed(request))?;
    let mut shape = configuration::shape(&view);
    if asks_for_calls(request.header("x-virga-calls"))? {
        let calls = request.api.functions.calls(request.caller, &function).map_err(failed(request))?;
        shape["virgaCalls"] = value!({ "Ended": calls.ended, "Failed": calls.failed });
    }
    Ok(json(StatusCode::OK, &shape))
}

/// Virga's own request header: `on` has the answer say what became of the version's calls.
fn asks_for_calls(header: Option<&str>) -> Result<bool, Failure> {
    match header {
        None | Some("" | "off") => Ok(false),
        Some("on") => Ok(true),
        Some(_) => Err(Failure::invalid_parameter("X-Virga-Calls is on or off.")),
    }
}

/// A page of configurations.
pub(super) fn list_functions(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let versions = request.query("FunctionVersion");
    if let Some(versions) = &versions {
        let mut violations = Violations::default();
        violations.one_of("functionVersion", versions, &["ALL"]);
        violations.finish()?;
    }
    if request.query("MasterRegion").is_some_and(|region| region != "ALL") {
        return Err(Failure::invalid_parameter("MasterRegion is not supported by this server yet."));
    }
    let max = max_items(request, 10_000, limits::FUNCTION_PAGE)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let page = request
        .api
        .functions
        .list(request.caller, versions.is_some(), marker.as_deref(), max)
        .map_err(failed(request))?;
    Ok(json(StatusCode::OK, &listing("Functions", &page)))
}

/// A page under the name that the operation gives its list.
pub(super) fn listing(member: &str, page: &functions::model::Page<FunctionView>) -> Value {
    let items: Vec<Value> = page.items.iter().map(configuration::shape).collect();
    let mut out = Map::new();
    out.insert(member.to_owned(), items.into());
    if let Some(marker) = &page.next_marker {
        out.insert("NextMarker".to_owned(), value!(marker));
    }
    Value::Object(out)
}

/// 204.
pub(super) async fn delete_function(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    request.api.functions.delete(request.caller, &function).await.map_err(failed(request))?;
    Ok(no_content())
}
