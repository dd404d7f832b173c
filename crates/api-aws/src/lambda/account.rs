//! Lambda API: GetAccountSettings.

use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::json as value;

use super::{failed, json};
use crate::failure::Failure;
use crate::request::Request;

/// The limits on packages are Lambda's documented ones; what may run at once is the server's own bound.
pub(super) fn get_account_settings(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let settings = request.api.functions.account_settings(request.caller).map_err(failed(request))?;
    Ok(json(
        StatusCode::OK,
        &value!({
            "AccountLimit": {
                "TotalCodeSize": 80_530_636_800_u64,
                "CodeSizeUnzipped": 262_144_000,
                "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": settings.concurrency,
                "UnreservedConcurrentExecutions": settings.unreserved,
            },
            "AccountUsage": { "TotalCodeSize": settings.code_bytes, "FunctionCount": settings.functions },
        }),
    ))
}
