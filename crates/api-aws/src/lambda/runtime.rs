//! Lambda API: PutRuntimeManagementConfig, GetRuntimeManagementConfig.

use functions::model::{FunctionView, RuntimeManagement};
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::{Value, json as value};

use super::{failed, function, json};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

const ARN_PATTERN: &str =
    "arn:(aws[a-zA-Z-]*):lambda:[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}::runtime:.+";

/// 200 with the rule.
pub(super) async fn put(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let wanted = read(&request.body)?;
    let view = request.api.functions.manage_runtime(request.caller, &function, wanted).await;
    Ok(json(StatusCode::OK, &shape(&view.map_err(failed(request))?)))
}

fn read(body: &[u8]) -> Result<RuntimeManagement, Failure> {
    let members = Members::parse(body)?;
    let on = members.text("UpdateRuntimeOn")?;
    let arn = members.text("RuntimeVersionArn")?.filter(|arn| !arn.is_empty());
    let mut violations = Violations::default();
    violations.required("updateRuntimeOn", on.is_some());
    if let Some(on) = &on {
        violations.one_of("updateRuntimeOn", on, &["Auto", "Manual", "FunctionUpdate"]);
    }
    if let Some(arn) = &arn {
        violations.length("runtimeVersionArn", arn, 26, 2048);
        violations.pattern("runtimeVersionArn", arn, is_version(arn), ARN_PATTERN);
    }
    violations.finish()?;
    match (on.as_deref(), arn) {
        (Some("Manual"), Some(arn)) => Ok(RuntimeManagement::Manual(arn)),
        (Some("Manual"), None) => {
            Err(Failure::invalid_parameter("RuntimeVersionArn is required when UpdateRuntimeOn is Manual."))
        }
        (_, Some(_)) => Err(Failure::invalid_parameter(
            "RuntimeVersionArn can be given only when UpdateRuntimeOn is Manual.",
        )),
        (Some("FunctionUpdate"), None) => Ok(RuntimeManagement::FunctionUpdate),
        (_, None) => Ok(RuntimeManagement::Auto),
    }
}

fn is_version(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(7, ':').collect();
    matches!(parts[..], ["arn", "aws", "lambda", region, "", "runtime", version]
        if base::Region::parse(region).is_some() && !version.is_empty())
}

/// The rule.
pub(super) fn get(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let view = request.api.functions.managed_runtime(request.caller, &function).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &shape(&view)))
}

fn shape(view: &FunctionView) -> Value {
    let arn = view.arn.to_string();
    match &view.configuration.runtime_management {
        RuntimeManagement::Auto => value!({ "UpdateRuntimeOn": "Auto", "FunctionArn": arn }),
        RuntimeManagement::FunctionUpdate => {
            value!({ "UpdateRuntimeOn": "FunctionUpdate", "FunctionArn": arn })
        }
        RuntimeManagement::Manual(version) => {
            value!({ "UpdateRuntimeOn": "Manual", "FunctionArn": arn, "RuntimeVersionArn": version })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_for_manual_and_nothing_else() {
        const ARN: &str = "arn:aws:lambda:us-east-1::runtime:0123456789";
        let check = |body: &str, expect: &str| {
            let shown = match read(body.as_bytes()) {
                Ok(found) => format!("{found:?}"),
                Err(failure) => failure.message,
            };
            assert!(shown.contains(expect), "{body}: {shown}");
        };
        check(r#"{"UpdateRuntimeOn":"Auto"}"#, "Auto");
        check(r#"{"UpdateRuntimeOn":"FunctionUpdate"}"#, "FunctionUpdate");
        check(&format!(r#"{{"UpdateRuntimeOn":"Manual","RuntimeVersionArn":"{ARN}"}}"#), "Manual(");
        check(r#"{"UpdateRuntimeOn":"Manual"}"#, "is required");
        check(&format!(r#"{{"UpdateRuntimeOn":"Auto","RuntimeVersionArn":"{ARN}"}}"#), "only when");
        check(r#"{"UpdateRuntimeOn":"Never"}"#, "[Auto, Manual, FunctionUpdate]");
        check("{}", "Value null at 'updateRuntimeOn'");
        check(
            r#"{"UpdateRuntimeOn":"Manual","RuntimeVersionArn":"arn:aws:lambda:us-east-1:1:runtime:x"}"#,
            "'runtimeVersionArn'",
        );
    }
}
