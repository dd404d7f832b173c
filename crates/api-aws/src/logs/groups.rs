//! CloudWatch Logs API: CreateLogGroup, DeleteLogGroup, PutRetentionPolicy, DeleteRetentionPolicy, CreateLogStream,
//! DeleteLogStream.

use serde_json::Value;

use super::{Target, failed, invalid, missing, nothing, required};
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

pub(super) async fn create(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:CreateLogGroup")?;
    if members.text("kmsKeyId")?.is_some() {
        return Err(invalid("kmsKeyId is not supported by this server yet."));
    }
    match members.text("logGroupClass")?.as_deref() {
        None | Some("STANDARD") => {}
        Some(other) => {
            return Err(invalid(format!("logGroupClass {other} is not supported by this server yet.")));
        }
    }
    let tags = members.map("tags")?.unwrap_or_default();
    request.api.logs.create_group(&target.group, tags).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn delete(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:DeleteLogGroup")?;
    request.api.logs.delete_group(&target.group).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn put_retention(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:PutRetentionPolicy")?;
    let days = members.integer("retentionInDays")?.ok_or_else(|| missing("retentionInDays"))?;
    request.api.logs.set_retention(&target.group, Some(days)).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn delete_retention(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:DeleteRetentionPolicy")?;
    request.api.logs.set_retention(&target.group, None).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn create_stream(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:CreateLogStream")?;
    let stream = required(members, "logStreamName")?;
    request.api.logs.create_stream(&target.group, &stream).await.map_err(failed(request))?;
    Ok(nothing())
}

pub(super) async fn delete_stream(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:DeleteLogStream")?;
    let stream = required(members, "logStreamName")?;
    request.api.logs.delete_stream(&target.group, &stream).await.map_err(failed(request))?;
    Ok(nothing())
}
