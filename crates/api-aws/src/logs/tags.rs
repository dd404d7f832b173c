//! CloudWatch Logs API: TagResource, UntagResource, ListTagsForResource, and TagLogGroup, UntagLogGroup,
//! ListTagsLogGroup, which came before them.

use serde_json::{Value, json};

use super::{Target, failed, missing, nothing, required};
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

pub(super) async fn tag_resource(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = resource(request, members, "logs:TagResource")?;
    tag(request, members, &target).await
}

pub(super) async fn untag_resource(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = resource(request, members, "logs:UntagResource")?;
    untag(request, members, &target, "tagKeys").await
}

pub(super) async fn list_for_resource(
    request: &Request<'_>,
    members: &Members<'_>,
) -> Result<Value, Failure> {
    let target = resource(request, members, "logs:ListTagsForResource")?;
    list(request, &target).await
}

pub(super) async fn tag_group(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:TagLogGroup")?;
    tag(request, members, &target).await
}

pub(super) async fn untag_group(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:UntagLogGroup")?;
    untag(request, members, &target, "tags").await
}

pub(super) async fn list_of_group(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:ListTagsLogGroup")?;
    list(request, &target).await
}

fn resource(request: &Request<'_>, members: &Members<'_>, action: &str) -> Result<Target, Failure> {
    Target::of_arn(request, &required(members, "resourceArn")?, action)
}

async fn tag(request: &Request<'_>, members: &Members<'_>, target: &Target) -> Result<Value, Failure> {
    let tags = members.map("tags")?.ok_or_else(|| missing("tags"))?;
    request.api.logs.tag(&target.group, tags).await.map_err(failed(request))?;
    Ok(nothing())
}

async fn untag(
    request: &Request<'_>,
    members: &Members<'_>,
    target: &Target,
    member: &str,
) -> Result<Value, Failure> {
    let keys = members.texts(member)?.ok_or_else(|| missing(member))?;
    request.api.logs.untag(&target.group, &keys).await.map_err(failed(request))?;
    Ok(nothing())
}

async fn list(request: &Request<'_>, target: &Target) -> Result<Value, Failure> {
    let tags = request.api.logs.tags(&target.group).await.map_err(failed(request))?;
    Ok(json!({ "tags": tags }))
}
