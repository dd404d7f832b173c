//! CloudWatch Logs API: DescribeLogGroups, DescribeLogStreams.

use observe::{GroupInfo, StreamInfo};
use serde_json::{Value, json};

use super::{blocking, group, group_arn, invalid, limit, permit, put};
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

/// Groups in the order of their names; the token is the last name of the page before.
pub(super) async fn log_groups(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    permit(request.caller, "logs:DescribeLogGroups", &group_arn(request, ""))?;
    let prefix = members.text("logGroupNamePrefix")?;
    let pattern = members.text("logGroupNamePattern")?;
    if prefix.is_some() && pattern.is_some() {
        return Err(invalid("logGroupNamePrefix and logGroupNamePattern cannot both be given."));
    }
    let most = limit(members, limits::DESCRIBE_PAGE)?;
    let after = members.text("nextToken")?;
    let account = request.caller.account.clone();
    let mut groups =
        blocking(request, move |logs| logs.groups(&account, prefix.as_deref().unwrap_or_default())).await?;
    groups.retain(|found| {
        pattern.as_ref().is_none_or(|pattern| found.name.contains(pattern.as_str()))
            && after.as_ref().is_none_or(|after| found.name > *after)
    });
    let (page, token) = cut(groups, most, |group| group.name.clone());
    let shapes: Vec<Value> = page.iter().map(|found| group_shape(request, found)).collect();
    let mut out = json!({ "logGroups": shapes });
    put(&mut out, "nextToken", token);
    Ok(out)
}

fn group_shape(request: &Request<'_>, group: &GroupInfo) -> Value {
    let arn = group_arn(request, &group.name);
    json!({
        "logGroupName": group.name,
        "creationTime": group.created.as_millis(),
        "metricFilterCount": 0,
        "arn": format!("{arn}:*"),
        "storedBytes": group.stored_bytes,
        "logGroupClass": "STANDARD",
        "logGroupArn": arn,
    })
}

/// Streams by name, or by their last line; the token is the number of streams shown before.
pub(super) async fn log_streams(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let group = group(members)?;
    let arn = group_arn(request, &group);
    permit(request.caller, "logs:DescribeLogStreams", &arn)?;
    let prefix = members.text("logStreamNamePrefix")?;
    let by_time = match members.text("orderBy")?.as_deref() {
        None | Some("LogStreamName") => false,
        Some("LastEventTime") if prefix.is_some() => {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        Some("LastEventTime") => true,
        Some(_) => return Err(invalid("orderBy must be LogStreamName or LastEventTime.")),
    };
    let descending = members.boolean("descending")?.unwrap_or(false);
    let most = limit(members, limits::DESCRIBE_PAGE)?;
    let skip = token(members)?;
    let account = request.caller.account.clone();
    let mut streams = blocking(request, move |logs| logs.streams(&account, &group)).await?;
    streams.retain(|stream| prefix.as_ref().is_none_or(|prefix| stream.name.starts_with(prefix.as_str())));
    arrange(&mut streams, by_time, descending);
    let rest = streams.split_off(skip.min(streams.len()));
    let (page, more) = cut(rest, most, |_| (skip + most).to_string());
    let shapes: Vec<Value> = page.iter().map(|stream| stream_shape(&arn, stream)).collect();
    let mut out = json!({ "logStreams": shapes });
    put(&mut out, "nextToken", more);
    Ok(out)
}

fn token(members: &Members<'_>) -> Result<usize, Failure> {
    let token = members.text("nextToken")?;
    token.map_or(Ok(0), |token| token.parse().map_err(|_| invalid("The specified nextToken is invalid.")))
}

fn arrange(streams: &mut [StreamInfo], by_time: bool, descending: bool) {
    if by_time {
        streams.sort_by(|a, b| a.last_event.cmp(&b.last_event).then_with(|| a.name.cmp(&b.name)));
    } else {
        streams.sort_by(|a, b| a.name.cmp(&b.name));
    }
    if descending {
        streams.reverse();
    }
}

fn stream_shape(group_arn: &str, stream: &StreamInfo) -> Value {
    json!({
        "logStreamName": stream.name,
        "creationTime": stream.first_event.as_millis(),
        "firstEventTimestamp": stream.first_event.as_millis(),
        "lastEventTimestamp": stream.last_event.as_millis(),
        "lastIngestionTime": stream.last_event.as_millis(),
        "arn": format!("{group_arn}:log-stream:{}", stream.name),
        "storedBytes": 0,
    })
}

/// The first `most` items, and a token when there are more.
fn cut<T>(mut items: Vec<T>, most: usize, token: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
    let more = items.len() > most;
    items.truncate(most);
    let token = items.last().filter(|_| more).map(token);
    (items, token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Timestamp;

    fn stream(name: &str, last: i64) -> StreamInfo {
        StreamInfo { name: name.into(), first_event: Timestamp(0), last_event: Timestamp(last) }
    }

    #[test]
    fn streams_are_ordered_as_asked() {
        for (by_time, descending, expect) in [
            (false, false, ["a", "b", "c"]),
            (false, true, ["c", "b", "a"]),
            (true, false, ["b", "c", "a"]),
            (true, true, ["a", "c", "b"]),
        ] {
            let mut streams = vec![stream("a", 30), stream("c", 20), stream("b", 10)];
            arrange(&mut streams, by_time, descending);
            let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
            assert_eq!(names, expect);
        }
    }

    #[test]
    fn a_page_has_a_token_only_when_there_is_more() {
        assert_eq!(cut(vec![1, 2, 3], 2, i32::to_string), (vec![1, 2], Some("2".to_owned())));
        assert_eq!(cut(vec![1, 2], 2, i32::to_string), (vec![1, 2], None));
        assert_eq!(cut(Vec::<i32>::new(), 2, i32::to_string), (vec![], None));
    }
}
