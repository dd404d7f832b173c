//! Lambda API: GetAccountSettings.

use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::json as value;

use super::{failed, json};
use crate::failure::Failure;
use crate::request::Request;

/// The limits of one package are Lambda's documented ones; what an account may keep and run is the server's own bound.
pub(super) fn get_account_settings(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let settings = request.api.functions.account_settings(request.caller).map_err(failed(request))?;
    Ok(json(
        StatusCode::OK,
        &value!({
            "AccountLimit": {
                "TotalCodeSize": settings.code_bytes_limit,
                "CodeSizeUnzipped": settings.unzipped_limit,
                "CodeSizeZipped": settings.zipped_limit,
                "ConcurrentExecutions": settings.concurrency,
                "UnreservedConcurrentExecutions": settings.unreserved,
            },
            "AccountUsage": { "TotalCodeSize": settings.code_bytes, "FunctionCount": settings.functions },
        }),
    ))
}
