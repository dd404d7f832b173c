//! RestoreVersion, Virga's own: `$LATEST` becomes what a published version is.

use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::json as value;

use super::{configuration, failed, json, latest};
use crate::failure::Failure;
use crate::request::Request;

/// 200 with the configuration and from where to where it went back. `Version` is the one before where it is not given.
pub(super) async fn restore_version(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let given = |name: &str| request.query(name).filter(|text| !text.is_empty());
    let (number, revision) = (given("Version"), given("RevisionId"));
    let restored = request.api.functions.restore(request.caller, &function, number, revision).await;
    let restored = restored.map_err(failed(request))?;
    let mut shape = configuration::shape(&restored.view);
    shape["virgaRestored"] = value!({ "From": restored.from, "To": restored.to });
    Ok(json(StatusCode::OK, &shape))
}
