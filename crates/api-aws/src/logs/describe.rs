//! CloudWatch Logs API: DescribeLogGroups, DescribeLogStreams.

use ::logs::{Group, Order, Stream};
use serde_json::{Value, json};

use super::target::{Target, arn};
use super::{failed, invalid, limit, permit, put};
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

/// Groups in the order of their names; the token is the last name of the page before.
pub(super) async fn log_groups(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    permit(request.caller, "logs:DescribeLogGroups", &arn(request, "*"))?;
    let prefix = members.text("logGroupNamePrefix")?;
    let pattern = members.text("logGroupNamePattern")?;
    if prefix.is_some() && pattern.is_some() {
        return Err(invalid("logGroupNamePrefix and logGroupNamePattern are mutually exclusive parameters."));
    }
    let most = limit(members, limits::DESCRIBE_PAGE)?;
    let after = members.text("nextToken")?;
    let (prefix, pattern) = (prefix.unwrap_or_default(), pattern.unwrap_or_default());
    let page = request.api.logs.groups(&request.caller.account, &prefix, &pattern, after, most);
    let page = page.await.map_err(failed(request))?;
    let shapes: Vec<Value> = page.groups.iter().map(|found| group_shape(request, found)).collect();
    let mut out = json!({ "logGroups": shapes });
    put(&mut out, "nextToken", page.next);
    Ok(out)
}

fn group_shape(request: &Request<'_>, group: &Group) -> Value {
    let arn = arn(request, &group.info.name);
    let mut out = json!({
        "logGroupName": group.info.name,
        "creationTime": group.info.created.as_millis(),
        "metricFilterCount": 0,
        "arn": format!("{arn}:*"),
        "storedBytes": group.info.stored_bytes,
        "logGroupClass": "STANDARD",
        "logGroupArn": arn,
    });
    put(&mut out, "retentionInDays", group.retention_days);
    out
}

/// Streams by name, or by their last event; the token is the number of streams shown before.
pub(super) async fn log_streams(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::identified(request, members, "logs:DescribeLogStreams")?;
    let prefix = members.text("logStreamNamePrefix")?;
    let order = match members.text("orderBy")?.as_deref() {
        None | Some("LogStreamName") => Order::Name,
        Some("LastEventTime") if prefix.is_some() => {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        Some("LastEventTime") => Order::LastEvent,
        Some(other) => {
            return Err(invalid(format!(
                "1 validation error detected: Value '{other}' at 'orderBy' failed to satisfy constraint: Member must \
                 satisfy enum value set: [LogStreamName, LastEventTime]"
            )));
        }
    };
    let descending = members.boolean("descending")?.unwrap_or(false);
    let most = limit(members, limits::DESCRIBE_PAGE)?;
    let (prefix, skip) = (prefix.unwrap_or_default(), token(members)?);
    let page = request.api.logs.streams(&target.group, &prefix, order, descending, skip, most);
    let page = page.await.map_err(failed(request))?;
    let shapes: Vec<Value> = page.streams.iter().map(|stream| stream_shape(&target.arn, stream)).collect();
    let mut out = json!({ "logStreams": shapes });
    put(&mut out, "nextToken", page.more.then(|| (skip + most).to_string()));
    Ok(out)
}

fn token(members: &Members<'_>) -> Result<usize, Failure> {
    let token = members.text("nextToken")?;
    token.map_or(Ok(0), |token| token.parse().map_err(|_| invalid("The specified nextToken is invalid.")))
}

fn stream_shape(group_arn: &str, stream: &Stream) -> Value {
    let mut out = json!({
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": format!("{group_arn}:log-stream:{}", stream.name),
        "storedBytes": 0,
    });
    if let Some(events) = &stream.events {
        put(&mut out, "firstEventTimestamp", Some(events.first_event.as_millis()));
        put(&mut out, "lastEventTimestamp", Some(events.last_event.as_millis()));
        put(&mut out, "lastIngestionTime", Some(events.last_ingested.as_millis()));
    }
    out
}
