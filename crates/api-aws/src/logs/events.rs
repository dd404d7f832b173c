//! CloudWatch Logs API: FilterLogEvents, GetLogEvents.
//!
//! A page holds at most 10,000 lines and about 1 MB. GetLogEvents without `startFromHead` answers the
//! last page; going backwards from there page by page is not built (`nextBackwardToken` ends at once).

use std::collections::VecDeque;

use base::{AccountId, Timestamp};
use observe::{Event, LogsError, Query};
use serde_json::{Value, json};

use super::{blocking, group, group_arn, invalid, limit, permit, put};
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

/// Lines asked for at a time: with the longest lines still a bounded amount of memory.
const CHUNK: usize = 64;

/// What was read, and where it ended.
struct Page {
    events: VecDeque<Event>,
    next_token: Option<String>,
    resume: String,
}

/// Lines of all streams of a group, in the order they were written.
pub(super) async fn filter_log_events(
    request: &Request<'_>,
    members: &Members<'_>,
) -> Result<Value, Failure> {
    let group = group(members)?;
    permit(request.caller, "logs:FilterLogEvents", &group_arn(request, &group))?;
    if members.text("filterPattern")?.is_some_and(|pattern| !pattern.trim().is_empty()) {
        return Err(invalid(
            "filterPattern is not supported by this server yet; leave it out and search the result.",
        ));
    }
    let most = limit(members, limits::EVENTS_PAGE)?;
    let query = Query {
        streams: members.texts("logStreamNames")?.unwrap_or_default(),
        stream_prefix: members.text("logStreamNamePrefix")?,
        start: time(members, "startTime")?,
        end: time(members, "endTime")?,
        next_token: members.text("nextToken")?,
        limit: CHUNK,
    };
    if !query.streams.is_empty() && query.stream_prefix.is_some() {
        return Err(invalid("logStreamNames and logStreamNamePrefix cannot both be given."));
    }
    let account = request.caller.account.clone();
    let page = blocking(request, move |logs| forward(logs, &account, &group, query, most)).await?;
    let events: Vec<Value> = page.events.iter().map(filtered_shape).collect();
    let mut out = json!({ "events": events, "searchedLogStreams": [], "virgaResume": page.resume });
    put(&mut out, "nextToken", page.next_token);
    Ok(out)
}

fn filtered_shape(event: &Event) -> Value {
    json!({
        "logStreamName": event.stream,
        "timestamp": event.timestamp.as_millis(),
        "message": event.message,
        "ingestionTime": event.timestamp.as_millis(),
        "eventId": event.id,
    })
}

/// Lines of one stream.
pub(super) async fn get_log_events(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let group = group(members)?;
    permit(request.caller, "logs:GetLogEvents", &group_arn(request, &group))?;
    let stream = members.text("logStreamName")?.ok_or_else(|| invalid("logStreamName must be given."))?;
    let most = limit(members, limits::EVENTS_PAGE)?;
    let from_head = members.boolean("startFromHead")?.unwrap_or(false);
    let token = members.text("nextToken")?;
    if token.as_deref() == Some(BACKWARD) {
        return Ok(json!({ "events": [], "nextForwardToken": FORWARD, "nextBackwardToken": BACKWARD }));
    }
    let position = match &token {
        None => None,
        Some(token) => {
            Some(token.strip_prefix(FORWARD).ok_or_else(|| invalid("The specified nextToken is invalid."))?)
        }
    };
    let query = Query {
        streams: vec![stream.clone()],
        start: time(members, "startTime")?,
        // GetLogEvents leaves the end out, FilterLogEvents includes it.
        end: time(members, "endTime")?.map(|end| Timestamp(end.as_millis() - 1)),
        next_token: position.filter(|position| !position.is_empty()).map(str::to_owned),
        stream_prefix: None,
        limit: CHUNK,
    };
    let first = token.is_none();
    let read = if first && !from_head { tail } else { forward };
    let account = request.caller.account.clone();
    let page = blocking(request, move |logs| {
        let page = read(logs, &account, &group, query, most)?;
        // Looking for the stream reads the whole group: only where nothing else says that it is there.
        let doubtful = first && page.events.is_empty();
        if doubtful && !logs.streams(&account, &group)?.iter().any(|found| found.name == stream) {
            return Err(LogsError::StreamNotFound);
        }
        Ok(page)
    })
    .await?;
    let events: Vec<Value> = page.events.iter().map(plain_shape).collect();
    let forward = format!("{FORWARD}{}", page.resume);
    Ok(json!({ "events": events, "nextForwardToken": forward, "nextBackwardToken": BACKWARD }))
}

/// Marks a token that leads forward; the position follows.
const FORWARD: &str = "f/";
/// The only token that leads backward: to nothing.
const BACKWARD: &str = "b/end";

fn plain_shape(event: &Event) -> Value {
    json!({
        "timestamp": event.timestamp.as_millis(),
        "message": event.message,
        "ingestionTime": event.timestamp.as_millis(),
    })
}

fn time(members: &Members<'_>, name: &str) -> Result<Option<Timestamp>, Failure> {
    let time = members.integer(name)?;
    if time.is_some_and(|time| time < 0) {
        return Err(invalid(format!("{name} must not be negative.")));
    }
    Ok(time.map(Timestamp))
}

/// Reads on until the page is full or the log's end.
fn forward(
    logs: &observe::Logs,
    account: &AccountId,
    group: &str,
    mut query: Query,
    most: usize,
) -> Result<Page, LogsError> {
    let mut page = Page { events: VecDeque::new(), next_token: None, resume: String::new() };
    let mut bytes = 0;
    loop {
        query.limit = CHUNK.min(most - page.events.len());
        let chunk = logs.filter(account, group, &query)?;
        bytes += chunk.events.iter().map(|event| event.message.len()).sum::<usize>();
        page.events.extend(chunk.events);
        page.resume = chunk.resume;
        page.next_token.clone_from(&chunk.next_token);
        if chunk.next_token.is_none() || page.events.len() >= most || bytes >= limits::EVENTS_PAGE_BYTES {
            return Ok(page);
        }
        query.next_token = chunk.next_token;
    }
}

/// Reads to the end and keeps the last page.
fn tail(
    logs: &observe::Logs,
    account: &AccountId,
    group: &str,
    mut query: Query,
    most: usize,
) -> Result<Page, LogsError> {
    let mut page = Page { events: VecDeque::new(), next_token: None, resume: String::new() };
    let mut bytes = 0;
    loop {
        let chunk = logs.filter(account, group, &query)?;
        for event in chunk.events {
            bytes += event.message.len();
            page.events.push_back(event);
            while page.events.len() > most || bytes > limits::EVENTS_PAGE_BYTES && page.events.len() > 1 {
                bytes -= page.events.pop_front().map_or(0, |event| event.message.len());
            }
        }
        page.resume = chunk.resume;
        query.next_token = chunk.next_token;
        if query.next_token.is_none() {
            return Ok(page);
        }
    }
}
