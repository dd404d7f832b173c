//! Lambda API: GetAccountSettings.

use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::json as value;

use super::{failed, json};
use crate::failure::Failure;
use crate::request::Request;

/// Functions are counted a page at a time, at most so many pages.
const PAGES: usize = 1_000;

/// The limits on packages are Lambda's documented ones; concurrency has no account-wide bound here beyond
/// the host's own, so Lambda's default is shown.
pub(super) fn get_account_settings(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let (count, size) = usage(request)?;
    Ok(json(
        StatusCode::OK,
        &value!({
            "AccountLimit": {
                "TotalCodeSize": 80_530_636_800_u64,
                "CodeSizeUnzipped": 262_144_000,
                "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": 1_000,
                "UnreservedConcurrentExecutions": 1_000,
            },
            "AccountUsage": { "TotalCodeSize": size, "FunctionCount": count },
        }),
    ))
}

fn usage(request: &Request<'_>) -> Result<(usize, u64), Failure> {
    let (mut count, mut size, mut marker) = (0, 0, None::<String>);
    for _ in 0..PAGES {
        let page = request
            .api
            .functions
            .list(request.caller, false, marker.as_deref(), 1_000)
            .map_err(failed(request))?;
        count += page.items.len();
        size += page.items.iter().map(|view| view.configuration.code.size).sum::<u64>();
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    Ok((count, size))
}
