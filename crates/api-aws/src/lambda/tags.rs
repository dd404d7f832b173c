//! Lambda API: TagResource, UntagResource, ListTags; and the shape of tags wherever they come.

use std::collections::BTreeMap;

use base::FunctionArn;
use functions::model::FunctionRef;
use http::{Response, StatusCode};
use sandbox::Body;

use super::{failed, json, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

const PATTERN: &str = "([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)";

/// 204.
pub(super) async fn tag_resource(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = resource(request, label)?;
    let tags = Members::parse(&request.body)?.map("Tags")?;
    let mut violations = Violations::default();
    violations.required("tags", tags.is_some());
    let tags = tags.unwrap_or_default();
    check(&tags, &mut violations);
    violations.finish()?;
    request.api.functions.tag(request.caller, &function, tags).await.map_err(failed(request))?;
    Ok(no_content())
}

/// 204; keys that the function does not have are no error.
pub(super) async fn untag_resource(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = resource(request, label)?;
    let keys: Vec<String> = request.queries("tagKeys").collect();
    let mut violations = Violations::default();
    violations.required("tagKeys", !keys.is_empty());
    violations.finish()?;
    request.api.functions.untag(request.caller, &function, &keys).await.map_err(failed(request))?;
    Ok(no_content())
}

/// All tags of a function.
pub(super) fn list_tags(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = resource(request, label)?;
    let tags = request.api.functions.tags(request.caller, &function).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &serde_json::json!({ "Tags": tags })))
}

/// The function that an ARN names. Versions have no tags of their own.
fn resource(request: &Request<'_>, label: &str) -> Result<FunctionRef, Failure> {
    let arn = FunctionArn::parse(label).ok_or_else(|| {
        Failure::invalid_parameter(format!(
            "Tags are supported on functions only, by their ARN; '{}' is none.",
            &label[..label.floor_char_boundary(200)]
        ))
    })?;
    if arn.qualifier.is_some() {
        return Err(Failure::invalid_parameter(
            "Tags on aliases and versions are not supported. Please specify a function's ARN.",
        ));
    }
    if arn.region != request.api.region {
        let message = format!(
            "Functions from '{}' are not reachable in this region ('{}')",
            arn.region, request.api.region
        );
        return Err(Failure::new("ResourceNotFoundException", StatusCode::NOT_FOUND, message));
    }
    Ok(FunctionRef { account: arn.account, name: arn.name, qualifier: None })
}

/// Lambda API: TagKey, TagValue. What a `virga:` tag may say is not decided here.
pub(super) fn check(tags: &BTreeMap<String, String>, violations: &mut Violations) {
    for (key, value) in tags {
        violations.length("tags", key, 1, 128);
        violations.pattern("tags", key, is_legal(key), PATTERN);
        violations.length("tags", value, 0, 256);
        violations.pattern("tags", value, is_legal(value), PATTERN);
    }
}

fn is_legal(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_alphanumeric() || c.is_whitespace() && !c.is_control() || "_.:/=+-@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_an_alphabet() {
        for (key, value, fine) in [
            ("virga:contract", "http", true),
            ("équipe", "a b/c=d+e-f@g", true),
            ("k", "", true),
            ("", "v", false),
            ("k", "a,b", false),
            ("k*", "v", false),
            ("k", "a\nb", false),
        ] {
            let mut violations = Violations::default();
            check(&BTreeMap::from([(key.to_owned(), value.to_owned())]), &mut violations);
            assert_eq!(violations.message().is_none(), fine, "{key} {value}");
        }
    }
}
