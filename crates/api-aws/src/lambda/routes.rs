//! Lambda's paths: which operation a request asks for.
//!
//! Every operation of the published model (2015-03-31) is listed, so that one that is not built is refused
//! by its name; of two that only their query tells apart, by both.

use percent_encoding::percent_decode_str;

/// The operations that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateFunction,
    GetFunction,
    GetFunctionConfiguration,
    UpdateFunctionCode,
    UpdateFunctionConfiguration,
    ListFunctions,
    ListVersionsByFunction,
    PublishVersion,
    DeleteFunction,
    Invoke,
    InvokeWithResponseStream,
    InvokeAsync,
    PutFunctionEventInvokeConfig,
    UpdateFunctionEventInvokeConfig,
    GetFunctionEventInvokeConfig,
    DeleteFunctionEventInvokeConfig,
    ListFunctionEventInvokeConfigs,
    PutFunctionRecursionConfig,
    GetFunctionRecursionConfig,
    ListFailedEvents,
    GetFailedEvent,
    RedriveFailedEvents,
    DeleteFailedEvents,
    CreateAlias,
    GetAlias,
    UpdateAlias,
    DeleteAlias,
    ListAliases,
    CreateFunctionUrlConfig,
    GetFunctionUrlConfig,
    UpdateFunctionUrlConfig,
    DeleteFunctionUrlConfig,
    ListFunctionUrlConfigs,
    TagResource,
    UntagResource,
    ListTags,
    GetAccountSettings,
    AddPermission,
    GetPolicy,
    RemovePermission,
    GetResourcePolicy,
    PutResourcePolicy,
    DeleteResourcePolicy,
    PutFunctionConcurrency,
    GetFunctionConcurrency,
    DeleteFunctionConcurrency,
    PutProvisionedConcurrencyConfig,
    /// `ListProvisionedConcurrencyConfigs` too: only their query tells them apart.
    GetProvisionedConcurrencyConfig,
    DeleteProvisionedConcurrencyConfig,
    PutRuntimeManagementConfig,
    GetRuntimeManagementConfig,
    /// `GetLayerVersionByArn` too: only their query tells them apart.
    ListLayers,
    PublishLayerVersion,
    ListLayerVersions,
    GetLayerVersion,
    DeleteLayerVersion,
    CreateCodeSigningConfig,
    ListCodeSigningConfigs,
    GetCodeSigningConfig,
    UpdateCodeSigningConfig,
    DeleteCodeSigningConfig,
    ListFunctionsByCodeSigningConfig,
    PutFunctionCodeSigningConfig,
    GetFunctionCodeSigningConfig,
    DeleteFunctionCodeSigningConfig,
    RestoreVersion,
    AddLayerVersionPermission,
    GetLayerVersionPolicy,
    RemoveLayerVersionPermission,
}

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An operation of ours.
    Built(Operation),
    /// An operation of AWS's only.
    Absent(&'static str),
}

/// A matched path and what its `{}` labels held, decoded, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) target: Target,
    pub(crate) labels: Vec<String>,
}

use Operation::*;
use Target::{Absent, Built};

/// Method, template, operation. The most called first.
const ROUTES: &[(&str, &str, Target)] = &[
    ("POST", "/2015-03-31/functions/{}/invocations", Built(Invoke)),
    ("GET", "/2015-03-31/functions/{}", Built(GetFunction)),
    ("GET", "/2015-03-31/functions/{}/configuration", Built(GetFunctionConfiguration)),
    ("POST", "/2015-03-31/functions", Built(CreateFunction)),
    ("GET", "/2015-03-31/functions", Built(ListFunctions)),
    ("PUT", "/2015-03-31/functions/{}/code", Built(UpdateFunctionCode)),
    ("PUT", "/2015-03-31/functions/{}/configuration", Built(UpdateFunctionConfiguration)),
    ("GET", "/2015-03-31/functions/{}/versions", Built(ListVersionsByFunction)),
    ("POST", "/2015-03-31/functions/{}/versions", Built(PublishVersion)),
    ("DELETE", "/2015-03-31/functions/{}", Built(DeleteFunction)),
    ("POST", "/2021-10-31/functions/{}/url", Built(CreateFunctionUrlConfig)),
    ("GET", "/2021-10-31/functions/{}/url", Built(GetFunctionUrlConfig)),
    ("PUT", "/2021-10-31/functions/{}/url", Built(UpdateFunctionUrlConfig)),
    ("DELETE", "/2021-10-31/functions/{}/url", Built(DeleteFunctionUrlConfig)),
    ("GET", "/2021-10-31/functions/{}/urls", Built(ListFunctionUrlConfigs)),
    ("POST", "/2017-03-31/tags/{}", Built(TagResource)),
    ("DELETE", "/2017-03-31/tags/{}", Built(UntagResource)),
    ("GET", "/2017-03-31/tags/{}", Built(ListTags)),
    ("GET", "/2016-08-19/account-settings", Built(GetAccountSettings)),
    ("POST", "/2014-11-13/functions/{}/invoke-async", Built(InvokeAsync)),
    ("POST", "/2021-11-15/functions/{}/response-streaming-invocations", Built(InvokeWithResponseStream)),
    ("POST", "/2015-03-31/functions/{}/policy", Built(AddPermission)),
    ("GET", "/2015-03-31/functions/{}/policy", Built(GetPolicy)),
    ("DELETE", "/2015-03-31/functions/{}/policy/{}", Built(RemovePermission)),
    ("POST", "/2015-03-31/functions/{}/aliases", Built(CreateAlias)),
    ("GET", "/2015-03-31/functions/{}/aliases", Built(ListAliases)),
    ("GET", "/2015-03-31/functions/{}/aliases/{}", Built(GetAlias)),
    ("PUT", "/2015-03-31/functions/{}/aliases/{}", Built(UpdateAlias)),
    ("DELETE", "/2015-03-31/functions/{}/aliases/{}", Built(DeleteAlias)),
    ("POST", "/2015-03-31/event-source-mappings", Absent("CreateEventSourceMapping")),
    ("GET", "/2015-03-31/event-source-mappings", Absent("ListEventSourceMappings")),
    ("GET", "/2015-03-31/event-source-mappings/{}", Absent("GetEventSourceMapping")),
    ("PUT", "/2015-03-31/event-source-mappings/{}", Absent("UpdateEventSourceMapping")),
    ("DELETE", "/2015-03-31/event-source-mappings/{}", Absent("DeleteEventSourceMapping")),
    ("PUT", "/2017-10-31/functions/{}/concurrency", Built(PutFunctionConcurrency)),
    ("GET", "/2019-09-30/functions/{}/concurrency", Built(GetFunctionConcurrency)),
    ("DELETE", "/2017-10-31/functions/{}/concurrency", Built(DeleteFunctionConcurrency)),
    ("PUT", "/2019-09-25/functions/{}/event-invoke-config", Built(PutFunctionEventInvokeConfig)),
    ("POST", "/2019-09-25/functions/{}/event-invoke-config", Built(UpdateFunctionEventInvokeConfig)),
    ("GET", "/2019-09-25/functions/{}/event-invoke-config", Built(GetFunctionEventInvokeConfig)),
    ("DELETE", "/2019-09-25/functions/{}/event-invoke-config", Built(DeleteFunctionEventInvokeConfig)),
    ("GET", "/2019-09-25/functions/{}/event-invoke-config/list", Built(ListFunctionEventInvokeConfigs)),
    ("PUT", "/2019-09-30/functions/{}/provisioned-concurrency", Built(PutProvisionedConcurrencyConfig)),
    ("GET", "/2019-09-30/functions/{}/provisioned-concurrency", Built(GetProvisionedConcurrencyConfig)),
    ("DELETE", "/2019-09-30/functions/{}/provisioned-concurrency", Built(DeleteProvisionedConcurrencyConfig)),
    // Virga's own.
    ("GET", "/virga/functions/{}/failed-events", Built(ListFailedEvents)),
    ("GET", "/virga/functions/{}/failed-events/{}", Built(GetFailedEvent)),
    ("POST", "/virga/functions/{}/failed-events/redrive", Built(RedriveFailedEvents)),
    ("DELETE", "/virga/functions/{}/failed-events", Built(DeleteFailedEvents)),
    ("POST", "/virga/functions/{}/restore", Built(RestoreVersion)),
    ("GET", "/2018-10-31/layers", Built(ListLayers)),
    ("POST", "/2018-10-31/layers/{}/versions", Built(PublishLayerVersion)),
    ("GET", "/2018-10-31/layers/{}/versions", Built(ListLayerVersions)),
    ("GET", "/2018-10-31/layers/{}/versions/{}", Built(GetLayerVersion)),
    ("DELETE", "/2018-10-31/layers/{}/versions/{}", Built(DeleteLayerVersion)),
    ("POST", "/2018-10-31/layers/{}/versions/{}/policy", Built(AddLayerVersionPermission)),
    ("GET", "/2018-10-31/layers/{}/versions/{}/policy", Built(GetLayerVersionPolicy)),
    ("DELETE", "/2018-10-31/layers/{}/versions/{}/policy/{}", Built(RemoveLayerVersionPermission)),
    ("POST", "/2020-04-22/code-signing-configs", Built(CreateCodeSigningConfig)),
    ("GET", "/2020-04-22/code-signing-configs", Built(ListCodeSigningConfigs)),
    ("GET", "/2020-04-22/code-signing-configs/{}", Built(GetCodeSigningConfig)),
    ("PUT", "/2020-04-22/code-signing-configs/{}", Built(UpdateCodeSigningConfig)),
    ("DELETE", "/2020-04-22/code-signing-configs/{}", Built(DeleteCodeSigningConfig)),
    ("GET", "/2020-04-22/code-signing-configs/{}/functions", Built(ListFunctionsByCodeSigningConfig)),
    ("PUT", "/2020-06-30/functions/{}/code-signing-config", Built(PutFunctionCodeSigningConfig)),
    ("GET", "/2020-06-30/functions/{}/code-signing-config", Built(GetFunctionCodeSigningConfig)),
    ("DELETE", "/2020-06-30/functions/{}/code-signing-config", Built(DeleteFunctionCodeSigningConfig)),
    ("PUT", "/2021-07-20/functions/{}/runtime-management-config", Built(PutRuntimeManagementConfig)),
    ("GET", "/2021-07-20/functions/{}/runtime-management-config", Built(GetRuntimeManagementConfig)),
    ("PUT", "/2024-08-31/functions/{}/recursion-config", Built(PutFunctionRecursionConfig)),
    ("GET", "/2024-08-31/functions/{}/recursion-config", Built(GetFunctionRecursionConfig)),
    ("PUT", "/2025-11-30/functions/{}/function-scaling-config", Absent("PutFunctionScalingConfig")),
    ("GET", "/2025-11-30/functions/{}/function-scaling-config", Absent("GetFunctionScalingConfig")),
    ("POST", "/2025-11-30/capacity-providers", Absent("CreateCapacityProvider")),
    ("GET", "/2025-11-30/capacity-providers", Absent("ListCapacityProviders")),
    ("GET", "/2025-11-30/capacity-providers/{}", Absent("GetCapacityProvider")),
    ("PUT", "/2025-11-30/capacity-providers/{}", Absent("UpdateCapacityProvider")),
    ("DELETE", "/2025-11-30/capacity-providers/{}", Absent("DeleteCapacityProvider")),
    (
        "GET",
        "/2025-11-30/capacity-providers/{}/function-versions",
        Absent("ListFunctionVersionsByCapacityProvider"),
    ),
    ("GET", "/2025-12-01/functions/{}/durable-executions", Absent("ListDurableExecutionsByFunction")),
    ("GET", "/2025-12-01/durable-executions/{}", Absent("GetDurableExecution")),
    ("DELETE", "/2025-12-01/durable-executions/{}", Absent("DeleteDurableExecution")),
    ("GET", "/2025-12-01/durable-executions/{}/history", Absent("GetDurableExecutionHistory")),
    ("GET", "/2025-12-01/durable-executions/{}/state", Absent("GetDurableExecutionState")),
    ("POST", "/2025-12-01/durable-executions/{}/checkpoint", Absent("CheckpointDurableExecution")),
    ("POST", "/2025-12-01/durable-executions/{}/pause", Absent("PauseDurableExecution")),
    ("POST", "/2025-12-01/durable-executions/{}/resume", Absent("ResumeDurableExecution")),
    ("POST", "/2025-12-01/durable-executions/{}/stop", Absent("StopDurableExecution")),
    (
        "POST",
        "/2025-12-01/durable-execution-callbacks/{}/fail",
        Absent("SendDurableExecutionCallbackFailure"),
    ),
    (
        "POST",
        "/2025-12-01/durable-execution-callbacks/{}/heartbeat",
        Absent("SendDurableExecutionCallbackHeartbeat"),
    ),
    (
        "POST",
        "/2025-12-01/durable-execution-callbacks/{}/succeed",
        Absent("SendDurableExecutionCallbackSuccess"),
    ),
    ("GET", "/2026-07-09/resource-policy/{}", Built(GetResourcePolicy)),
    ("PUT", "/2026-07-09/resource-policy/{}", Built(PutResourcePolicy)),
    ("DELETE", "/2026-07-09/resource-policy/{}", Built(DeleteResourcePolicy)),
];

/// The operation at a method and path. Older clients end the path of listings with a slash.
pub(crate) fn find(method: &str, path: &str) -> Option<Match> {
    let path = path.strip_suffix('/').unwrap_or(path);
    ROUTES.iter().filter(|(candidate, _, _)| *candidate == method).find_map(|(_, template, target)| {
        let labels = capture(template, path)?;
        // A label that is not UTF-8 names nothing.
        let decoded = |label| percent_decode_str(label).decode_utf8().ok().map(|label| label.into_owned());
        let labels = labels.into_iter().map(decoded).collect::<Option<_>>()?;
        Some(Match { target: *target, labels })
    })
}

/// What each `{}` stands for, if the path is of this shape.
fn capture<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut labels = Vec::new();
    let mut pieces = path.split('/');
    for expected in template.split('/') {
        let piece = pieces.next()?;
        match expected {
            "{}" if piece.is_empty() => return None,
            "{}" => labels.push(piece),
            _ if piece != expected => return None,
            _ => {}
        }
    }
    pieces.next().is_none().then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_operations() {
        for (method, path, expect) in [
            ("POST", "/2015-03-31/functions/hello/invocations", Some((Built(Invoke), vec!["hello"]))),
            (
                "POST",
                "/2015-03-31/functions/hello%3A%24LATEST/invocations",
                Some((Built(Invoke), vec!["hello:$LATEST"])),
            ),
            ("POST", "/2015-03-31/functions", Some((Built(CreateFunction), vec![]))),
            ("GET", "/2015-03-31/functions/", Some((Built(ListFunctions), vec![]))),
            ("GET", "/2015-03-31/functions/hello", Some((Built(GetFunction), vec!["hello"]))),
            (
                "GET",
                "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ahello",
                Some((Built(ListTags), vec!["arn:aws:lambda:us-east-1:123456789012:function:hello"])),
            ),
            ("GET", "/2018-10-31/layers/x/versions/3", Some((Built(GetLayerVersion), vec!["x", "3"]))),
            ("PATCH", "/2015-03-31/functions/hello", None),
            ("GET", "/2015-03-31/functions/a/b", None),
            ("GET", "/2015-03-31/functions/%ff", None),
            ("POST", "/2015-03-31/functions//invocations", None),
            ("GET", "/", None),
        ] {
            let found = find(method, path);
            let found = found.map(|found| (found.target, found.labels));
            let expect = expect
                .map(|(target, labels)| (target, labels.into_iter().map(str::to_owned).collect::<Vec<_>>()));
            assert_eq!(found, expect, "{method} {path}");
        }
    }

    #[test]
    fn the_documents_name_every_operation() {
        let text = include_str!("../../../../docs/lambda-api.md");
        let (built, absent) = text.split_once("Absent, and refused by name").unwrap();
        let names = |text: &str, name: &str| {
            text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name)
        };
        for (_, _, target) in ROUTES {
            match target {
                Built(operation) => assert!(names(built, &format!("{operation:?}")), "{operation:?}"),
                Absent(either) => {
                    either.split(" or ").for_each(|name| assert!(names(absent, name), "{name}"))
                }
            }
        }
    }

    #[test]
    fn no_route_hides_another() {
        for (method, template, target) in ROUTES {
            let path = template.replace("{}", "x");
            assert_eq!(find(method, &path).map(|found| found.target), Some(*target), "{method} {template}");
        }
    }
}
