//! Lambda API: PutFunctionConcurrency, GetFunctionConcurrency, DeleteFunctionConcurrency,
//! PutProvisionedConcurrencyConfig, GetProvisionedConcurrencyConfig, DeleteProvisionedConcurrencyConfig,
//! ListProvisionedConcurrencyConfigs.

use functions::ProvisionedStatus;
use functions::model::{FunctionRef, ProvisionedView};
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::{Map, Value, json as value};

use super::{failed, function, json, max_items, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

/// 200 with what is reserved.
pub(super) async fn put_reserved(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let calls = read(&request.body, "ReservedConcurrentExecutions", "reservedConcurrentExecutions", 0)?;
    let function = function(request, label)?;
    let reserved = request.api.functions.reserve(request.caller, &function, calls).await;
    Ok(json(StatusCode::OK, &reserved_shape(Some(reserved.map_err(failed(request))?))))
}

/// 200; nothing reserved is an empty object.
pub(super) fn get_reserved(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let reserved = request.api.functions.reserved(request.caller, &function).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &reserved_shape(reserved)))
}

/// 204.
pub(super) async fn delete_reserved(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    request.api.functions.unreserve(request.caller, &function).await.map_err(failed(request))?;
    Ok(no_content())
}

/// 202: instances are made from then on.
pub(super) async fn put_provisioned(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let calls = read(&request.body, "ProvisionedConcurrentExecutions", "provisionedConcurrentExecutions", 1)?;
    let version = version(request, label)?;
    let view = request.api.functions.provision(request.caller, &version, calls).await;
    Ok(json(StatusCode::ACCEPTED, &Value::Object(shape(&view.map_err(failed(request))?))))
}

/// One version's, or with `List=ALL` a page of all.
pub(super) fn get_or_list_provisioned(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    if request.query("List").as_deref() == Some("ALL") {
        return list_provisioned(request, label);
    }
    let version = version(request, label)?;
    let view = request.api.functions.provisioned(request.caller, &version).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &Value::Object(shape(&view))))
}

fn list_provisioned(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let max = max_items(request, 50, limits::FUNCTION_PAGE)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let page = request.api.functions.all_provisioned(request.caller, &function, marker.as_deref(), max);
    let page = page.map_err(failed(request))?;
    let item = |view: &ProvisionedView| {
        let mut item = shape(view);
        item.insert("FunctionArn".to_owned(), value!(view.arn.to_string()));
        Value::Object(item)
    };
    let items: Vec<Value> = page.items.iter().map(item).collect();
    let mut out = value!({ "ProvisionedConcurrencyConfigs": items });
    if let Some(marker) = page.next_marker {
        out["NextMarker"] = marker.into();
    }
    Ok(json(StatusCode::OK, &out))
}

/// 204.
pub(super) async fn delete_provisioned(
    request: &Request<'_>,
    label: &str,
) -> Result<Response<Body>, Failure> {
    let version = version(request, label)?;
    request.api.functions.unprovision(request.caller, &version).await.map_err(failed(request))?;
    Ok(no_content())
}

/// The model requires the qualifier; one inside the name is as good.
fn version(request: &Request<'_>, label: &str) -> Result<FunctionRef, Failure> {
    let function = function(request, label)?;
    let mut violations = Violations::default();
    violations.required("qualifier", function.qualifier.is_some());
    violations.finish()?;
    Ok(function)
}

/// The one member that both requests have.
fn read(body: &[u8], name: &str, member: &str, least: i64) -> Result<u32, Failure> {
    let calls = Members::parse(body)?.integer(name)?;
    let mut violations = Violations::default();
    violations.required(member, calls.is_some());
    violations.range(member, calls.unwrap_or(least), least, i64::from(i32::MAX));
    violations.finish()?;
    // Within the range, which begins at zero.
    Ok(calls.and_then(|calls| u32::try_from(calls).ok()).unwrap_or(0))
}

/// Lambda API: Concurrency.
fn reserved_shape(reserved: Option<u32>) -> Value {
    reserved.map_or_else(|| value!({}), |calls| value!({ "ReservedConcurrentExecutions": calls }))
}

/// Lambda API: GetProvisionedConcurrencyConfigResponse.
fn shape(view: &ProvisionedView) -> Map<String, Value> {
    let mut out = Map::new();
    let mut add = |name: &str, value: Value| out.insert(name.to_owned(), value);
    let provisioned = &view.provisioned;
    add("RequestedProvisionedConcurrentExecutions", value!(provisioned.requested));
    add("AllocatedProvisionedConcurrentExecutions", value!(provisioned.allocated));
    add("AvailableProvisionedConcurrentExecutions", value!(provisioned.available));
    add("Status", value!(status(provisioned.status)));
    if let Some(reason) = &provisioned.reason {
        add("StatusReason", value!(reason));
    }
    add("LastModified", value!(view.modified.to_lambda()));
    out
}

fn status(status: ProvisionedStatus) -> &'static str {
    match status {
        ProvisionedStatus::InProgress => "IN_PROGRESS",
        ProvisionedStatus::Ready => "READY",
        ProvisionedStatus::Failed => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_wanted_and_bounded() {
        let check = |body: &str, expect: Result<u32, &str>| {
            let found = read(body.as_bytes(), "N", "n", 1);
            match (&found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(*found, expect, "{body}"),
                (Err(failure), Err(said)) => assert!(failure.message.contains(said), "{body}: {failure:?}"),
                _ => panic!("{body}: {found:?}"),
            }
        };
        check(r#"{"N":7}"#, Ok(7));
        check("{}", Err("Value null at 'n'"));
        check(r#"{"N":0}"#, Err("greater than or equal to 1"));
        check(r#"{"N":2147483648}"#, Err("less than or equal to 2147483647"));
        check(r#"{"N":"7"}"#, Err("can not be converted to an Integer"));
        assert_eq!(read(br#"{"N":0}"#, "N", "n", 0).ok(), Some(0));
    }
}
