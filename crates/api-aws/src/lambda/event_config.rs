//! Lambda API: PutFunctionEventInvokeConfig, UpdateFunctionEventInvokeConfig, GetFunctionEventInvokeConfig,
//! DeleteFunctionEventInvokeConfig, ListFunctionEventInvokeConfigs, PutFunctionRecursionConfig,
//! GetFunctionRecursionConfig.

use base::FunctionArn;
use functions::{EventConfig, EventConfigChange};
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::{Value, json as value};

use super::{failed, function, json, latest, max_items, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

const DESTINATION_PATTERN: &str = "$|kafka://([^.]([a-zA-Z0-9\\-_.]{0,248}))|arn:(aws[a-zA-Z0-9-]*):\
([a-zA-Z0-9\\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1})?:(\\d{12})?:(.*)";

/// 200 with the configuration; `keep`: members that are not given stay as they are.
pub(super) async fn put(request: &Request<'_>, label: &str, keep: bool) -> Result<Response<Body>, Failure> {
    let change = change(&Members::parse(&request.body)?)?;
    let function = function(request, label)?;
    let configured = request.api.functions.configure_events(request.caller, &function, change, keep).await;
    let (arn, config) = configured.map_err(failed(request))?;
    Ok(json(StatusCode::OK, &shape(&arn, &config)))
}

/// 200 with the configuration.
pub(super) fn get(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let (arn, config) =
        request.api.functions.event_config(request.caller, &function).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &shape(&arn, &config)))
}

/// 204.
pub(super) async fn delete(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    request.api.functions.forget_event_config(request.caller, &function).await.map_err(failed(request))?;
    Ok(no_content())
}

/// A page of all versions' and aliases'.
pub(super) fn list(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let max = max_items(request, 50, limits::FUNCTION_PAGE)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let page = request.api.functions.event_configs(request.caller, &function, marker.as_deref(), max);
    let page = page.map_err(failed(request))?;
    let items: Vec<Value> = page.items.iter().map(|(arn, config)| shape(arn, config)).collect();
    let mut out = value!({ "FunctionEventInvokeConfigs": items });
    if let Some(marker) = page.next_marker {
        out["NextMarker"] = marker.into();
    }
    Ok(json(StatusCode::OK, &out))
}

/// 200 with what was put.
pub(super) async fn put_recursion(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let loops = Members::parse(&request.body)?.text("RecursiveLoop")?;
    let mut violations = Violations::default();
    violations.required("recursiveLoop", loops.is_some());
    let loops = loops.unwrap_or_default();
    if !loops.is_empty() {
        violations.one_of("recursiveLoop", &loops, &["Allow", "Terminate"]);
    }
    violations.finish()?;
    let (function, allow) = (latest(request, label)?, loops == "Allow");
    request.api.functions.allow_recursion(request.caller, &function, allow).await.map_err(failed(request))?;
    Ok(json(StatusCode::OK, &recursion_shape(allow)))
}

/// 200.
pub(super) fn get_recursion(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let allow = request.api.functions.recursion(request.caller, &function).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &recursion_shape(allow)))
}

fn recursion_shape(allow: bool) -> Value {
    value!({ "RecursiveLoop": if allow { "Allow" } else { "Terminate" } })
}

fn change(members: &Members<'_>) -> Result<EventConfigChange, Failure> {
    let mut violations = Violations::default();
    let retries = members.integer("MaximumRetryAttempts")?;
    violations.range("maximumRetryAttempts", retries.unwrap_or(0), 0, 2);
    let age = members.integer("MaximumEventAgeInSeconds")?;
    violations.range("maximumEventAgeInSeconds", age.unwrap_or(60), 60, 21_600);
    let config = members.object("DestinationConfig")?;
    let mut destination = |member: &str| -> Result<Option<String>, Failure> {
        let Some(place) = config.as_ref().map(|config| config.object(member)).transpose()?.flatten() else {
            return Ok(None);
        };
        // A place that names no destination removes the one that there was.
        let arn = place.text("Destination")?.unwrap_or_default();
        let path = format!("destinationConfig.{}{}.destination", member[..1].to_lowercase(), &member[1..]);
        violations.length(&path, &arn, 0, 350);
        violations.pattern(&path, &arn, is_destination(&arn), DESTINATION_PATTERN);
        Ok(Some(arn))
    };
    let (on_success, on_failure) = (destination("OnSuccess")?, destination("OnFailure")?);
    violations.finish()?;
    // Within the ranges.
    let small = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    Ok(EventConfigChange { retries: small(retries), max_age_s: small(age), on_success, on_failure })
}

fn is_destination(arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    arn.is_empty()
        || arn.starts_with("kafka://")
        || parts.next() == Some("arn")
            && parts.next().is_some_and(|partition| partition.starts_with("aws"))
            && parts.next().is_some_and(|service| !service.is_empty())
            && parts.next().is_some()
            && parts
                .next()
                .is_some_and(|account| account.is_empty() || base::AccountId::parse(account).is_some())
            && parts.next().is_some()
}

/// Lambda API: FunctionEventInvokeConfig.
fn shape(arn: &FunctionArn, config: &EventConfig) -> Value {
    let place = |destination: &Option<String>| {
        destination.as_ref().map_or_else(|| value!({}), |arn| value!({ "Destination": arn }))
    };
    let mut out = value!({
        "LastModified": config.modified.as_millis() as f64 / 1000.0,
        "FunctionArn": arn.to_string(),
        "DestinationConfig": { "OnSuccess": place(&config.on_success), "OnFailure": place(&config.on_failure) },
    });
    if let Some(retries) = config.retries {
        out["MaximumRetryAttempts"] = retries.into();
    }
    if let Some(age) = config.max_age_s {
        out["MaximumEventAgeInSeconds"] = age.into();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: &str) {
        let shown = match change(&Members::parse(body.as_bytes()).unwrap()) {
            Ok(change) => format!("{change:?}"),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.contains(expect), "{body}: {shown}");
    }

    #[test]
    fn constraints_are_the_models() {
        check(r#"{"MaximumRetryAttempts":2}"#, "retries: Some(2)");
        check(
            r#"{"MaximumRetryAttempts":3}"#,
            "ValidationException: 1 validation error detected: Value '3' at 'maximumRetryAttempts'",
        );
        check(r#"{"MaximumRetryAttempts":-1}"#, "'maximumRetryAttempts'");
        check(r#"{"MaximumEventAgeInSeconds":60}"#, "max_age_s: Some(60)");
        check(r#"{"MaximumEventAgeInSeconds":59}"#, "'maximumEventAgeInSeconds'");
        check(r#"{"MaximumEventAgeInSeconds":21600}"#, "max_age_s: Some(21600)");
        check(r#"{"MaximumEventAgeInSeconds":21601}"#, "'maximumEventAgeInSeconds'");
        check(
            r#"{"DestinationConfig":{"OnFailure":{"Destination":"q"}}}"#,
            "'destinationConfig.onFailure.destination'",
        );
        check(r#"{"DestinationConfig":{"OnFailure":{"Destination":""}}}"#, "on_failure: Some(\"\")");
        check(r#"{"DestinationConfig":{"OnSuccess":{}}}"#, "on_success: Some(\"\"), on_failure: None");
        let long = "x".repeat(351);
        check(
            &format!(r#"{{"DestinationConfig":{{"OnFailure":{{"Destination":"{long}"}}}}}}"#),
            "less than or equal to 350",
        );
        check("{}", "retries: None, max_age_s: None, on_success: None, on_failure: None");
    }
}
