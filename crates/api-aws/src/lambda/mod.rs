//! Lambda (REST-JSON, 2015-03-31): paths to operations, one file an operation or closely related group.
//!
//! Shapes only. What a name means, who may, and what happens is the `functions` crate's.

mod account;
mod aliases;
mod code_signing;
mod concurrency;
mod configuration;
mod create;
mod errors;
mod event_config;
mod failed_events;
mod file_systems;
mod get;
mod image;
mod invoke;
mod layer_permissions;
mod layers;
mod name;
mod permissions;
mod restore;
mod routes;
mod runtime;
mod stream;
mod tags;
mod unbuilt;
mod update;
mod url;
mod versions;

use functions::model::FunctionRef;
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::Value;

use crate::body::ReadError;
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::limits;
use crate::protocol;
use crate::request::Request;
pub(crate) use errors::failure;
use routes::{Match, Operation, Target};

/// A path that was understood.
pub(crate) struct Plan {
    operation: Operation,
    labels: Vec<String>,
}

/// Finds the operation, before anything is read.
pub(crate) fn plan(method: &http::Method, path: &str) -> Result<Plan, Failure> {
    match routes::find(method.as_str(), path) {
        Some(Match { target: Target::Built(operation), labels }) => Ok(Plan { operation, labels }),
        Some(Match { target: Target::Absent(name), .. }) => Err(not_built(name)),
        None => Err(Failure::new(
            "UnknownOperationException",
            StatusCode::NOT_FOUND,
            format!("Lambda has no operation at {method} {path}"),
        )),
    }
}

/// 501 is not retried by SDKs, and they show code and message.
fn not_built(operation: &str) -> Failure {
    Failure::new(
        "NotImplementedException",
        StatusCode::NOT_IMPLEMENTED,
        format!("The Lambda operation {operation} is not built in this server yet."),
    )
}

impl Plan {
    /// Bytes of the body that this operation takes.
    pub(crate) fn body_limit(&self) -> usize {
        match self.operation {
            Operation::Invoke | Operation::InvokeWithResponseStream => limits::EVENT,
            Operation::CreateFunction | Operation::UpdateFunctionCode | Operation::PublishLayerVersion => {
                limits::UPLOAD
            }
            Operation::InvokeAsync => limits::QUEUED_EVENT,
            _ => limits::OTHER,
        }
    }

    /// The name of a body's failure.
    pub(crate) fn unread(&self, error: ReadError) -> Failure {
        let calls = matches!(
            self.operation,
            Operation::Invoke | Operation::InvokeAsync | Operation::InvokeWithResponseStream
        );
        errors::unread(error, !calls)
    }

    /// Runs it.
    pub(crate) async fn run(self, request: &Request<'_>) -> Result<Response<Body>, Failure> {
        let label = self.labels.first().map_or("", String::as_str);
        let second = self.labels.get(1).map_or("", String::as_str);
        match self.operation {
            Operation::Invoke => invoke::invoke(request, label).await,
            Operation::InvokeWithResponseStream => stream::invoke(request, label).await,
            Operation::InvokeAsync => invoke::invoke_async(request, label).await,
            Operation::PutFunctionEventInvokeConfig => event_config::put(request, label, false).await,
            Operation::UpdateFunctionEventInvokeConfig => event_config::put(request, label, true).await,
            Operation::GetFunctionEventInvokeConfig => event_config::get(request, label),
            Operation::DeleteFunctionEventInvokeConfig => event_config::delete(request, label).await,
            Operation::ListFunctionEventInvokeConfigs => event_config::list(request, label),
            Operation::PutFunctionRecursionConfig => event_config::put_recursion(request, label).await,
            Operation::GetFunctionRecursionConfig => event_config::get_recursion(request, label),
            Operation::ListFailedEvents => failed_events::list(request, label).await,
            Operation::GetFailedEvent => {
                let id = self.labels.get(1).map_or("", String::as_str);
                failed_events::get(request, label, id).await
            }
            Operation::RedriveFailedEvents => failed_events::redrive(request, label).await,
            Operation::DeleteFailedEvents => failed_events::delete(request, label).await,
            Operation::CreateFunction => create::create_function(request).await,
            Operation::GetFunction => get::get_function(request, label),
            Operation::GetFunctionConfiguration => get::get_function_configuration(request, label),
            Operation::ListFunctions => get::list_functions(request),
            Operation::DeleteFunction => get::delete_function(request, label).await,
            Operation::UpdateFunctionCode => update::update_function_code(request, label).await,
            Operation::UpdateFunctionConfiguration => {
                update::update_function_configuration(request, label).await
            }
            Operation::ListVersionsByFunction => versions::list_versions_by_function(request, label),
            Operation::PublishVersion => versions::publish_version(request, label).await,
            Operation::CreateAlias => aliases::create(request, label).await,
            Operation::GetAlias => aliases::get(request, label, second),
            Operation::UpdateAlias => aliases::update(request, label, second).await,
            Operation::DeleteAlias => aliases::delete(request, label, second).await,
            Operation::ListAliases => aliases::list(request, label),
            Operation::CreateFunctionUrlConfig => url::create(request, label).await,
            Operation::GetFunctionUrlConfig => url::get(request, label),
            Operation::UpdateFunctionUrlConfig => url::update(request, label).await,
            Operation::DeleteFunctionUrlConfig => url::delete(request, label).await,
            Operation::ListFunctionUrlConfigs => url::list(request, label),
            Operation::TagResource => tags::tag_resource(request, label).await,
            Operation::UntagResource => tags::untag_resource(request, label).await,
            Operation::ListTags => tags::list_tags(request, label),
            Operation::AddPermission => permissions::add(request, label).await,
            Operation::GetPolicy => permissions::get(request, label),
            Operation::RemovePermission => {
                let statement_id = self.labels.get(1).map_or("", String::as_str);
                permissions::remove(request, label, statement_id).await
            }
            Operation::GetResourcePolicy => permissions::get_resource(request, label),
            Operation::PutResourcePolicy => permissions::put_resource(request, label).await,
            Operation::DeleteResourcePolicy => permissions::delete_resource(request, label).await,
            Operation::PutRuntimeManagementConfig => runtime::put(request, label).await,
            Operation::GetRuntimeManagementConfig => runtime::get(request, label),
            Operation::ListLayers => layers::list_or_get_by_arn(request),
            Operation::PublishLayerVersion => layers::publish(request, label).await,
            Operation::ListLayerVersions => layers::versions(request, label),
            Operation::GetLayerVersion => layers::get(request, &self.labels),
            Operation::DeleteLayerVersion => layers::delete(request, &self.labels).await,
            Operation::AddLayerVersionPermission => layer_permissions::add(request, &self.labels).await,
            Operation::GetLayerVersionPolicy => layer_permissions::get(request, &self.labels),
            Operation::RemoveLayerVersionPermission => layer_permissions::remove(request, &self.labels).await,
            Operation::CreateCodeSigningConfig => code_signing::create(request).await,
            Operation::GetCodeSigningConfig => code_signing::get(request, label),
            Operation::UpdateCodeSigningConfig => code_signing::update(request, label).await,
            Operation::DeleteCodeSigningConfig => code_signing::delete(request, label).await,
            Operation::ListCodeSigningConfigs => code_signing::list(request),
            Operation::ListFunctionsByCodeSigningConfig => code_signing::functions(request, label),
            Operation::PutFunctionCodeSigningConfig => code_signing::put_of_function(request, label).await,
            Operation::GetFunctionCodeSigningConfig => code_signing::get_of_function(request, label),
            Operation::DeleteFunctionCodeSigningConfig => {
                code_signing::delete_of_function(request, label).await
            }
            Operation::RestoreVersion => restore::restore_version(request, label).await,
            Operation::GetAccountSettings => account::get_account_settings(request),
            Operation::PutFunctionConcurrency => concurrency::put_reserved(request, label).await,
            Operation::GetFunctionConcurrency => concurrency::get_reserved(request, label),
            Operation::DeleteFunctionConcurrency => concurrency::delete_reserved(request, label).await,
            Operation::PutProvisionedConcurrencyConfig => concurrency::put_provisioned(request, label).await,
            Operation::GetProvisionedConcurrencyConfig => {
                concurrency::get_or_list_provisioned(request, label)
            }
            Operation::DeleteProvisionedConcurrencyConfig => {
                concurrency::delete_provisioned(request, label).await
            }
        }
    }
}

/// A JSON answer.
fn json(status: StatusCode, body: &Value) -> Response<Body> {
    protocol::answer(status, "application/json", body.to_string())
}

/// 204.
fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The function and version that a path and its `Qualifier` name.
fn function(request: &Request<'_>, label: &str) -> Result<FunctionRef, Failure> {
    let qualifier = request.query("Qualifier");
    name::function(label, qualifier.as_deref(), &request.caller.account, &request.api.region)
}

/// The function that a path names, for operations that change `$LATEST`.
fn latest(request: &Request<'_>, label: &str) -> Result<FunctionRef, Failure> {
    name::unqualified(label, &request.caller.account, &request.api.region)
}

fn failed(request: &Request<'_>) -> impl Fn(functions::Error) -> Failure {
    let id = request.id;
    move |error| errors::failure(&error, id)
}

/// `MaxItems` of a listing; AWS gives fewer than are asked for where its own page is smaller.
fn max_items(request: &Request<'_>, most: i64, page: usize) -> Result<usize, Failure> {
    let Some(text) = request.query("MaxItems") else { return Ok(page) };
    let value: i64 = text
        .parse()
        .map_err(|_| Failure::serialization("STRING_VALUE can not be converted to an Integer (MaxItems)"))?;
    let mut violations = Violations::default();
    violations.range("maxItems", value, 1, most);
    violations.finish()?;
    Ok(usize::try_from(value).map_or(page, |value| value.min(page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_is_refused_by_its_name() {
        let refused = plan(&http::Method::GET, "/2025-11-30/capacity-providers").map(|_| ()).unwrap_err();
        assert_eq!((&*refused.code, refused.status.as_u16()), ("NotImplementedException", 501));
        assert!(refused.message.contains("ListCapacityProviders"));
        let unknown = plan(&http::Method::GET, "/nonsense").map(|_| ()).unwrap_err();
        assert_eq!((&*unknown.code, unknown.status.as_u16()), ("UnknownOperationException", 404));
    }

    #[test]
    fn each_operation_bounds_its_body() {
        for (method, path, limit) in [
            (http::Method::POST, "/2015-03-31/functions/x/invocations", 6_291_556),
            (http::Method::POST, "/2021-11-15/functions/x/response-streaming-invocations", 6_291_556),
            (http::Method::POST, "/2015-03-31/functions", limits::UPLOAD),
            (http::Method::PUT, "/2015-03-31/functions/x/code", limits::UPLOAD),
            (http::Method::PUT, "/2015-03-31/functions/x/configuration", limits::OTHER),
        ] {
            assert_eq!(plan(&method, path).map(|plan| plan.body_limit()), Ok(limit), "{path}");
        }
    }
}
