//! CloudWatch Logs API: FilterLogEvents, GetLogEvents.
//!
//! A page holds at most 10,000 events and about 1 MB. GetLogEvents' tokens name a place between events and a direction;
//! where there is nothing more in a token's direction, the answer has the same token again, which is how clients know.

use std::sync::Arc;

use ::logs::{Direction, Event, Page, Pattern, Search};
use base::Timestamp;
use serde_json::{Value, json};

use super::{Target, failed, invalid, limit, put, required};
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

/// Events of all streams of a group.
pub(super) async fn filter_log_events(
    request: &Request<'_>,
    members: &Members<'_>,
) -> Result<Value, Failure> {
    let target = Target::identified(request, members, "logs:FilterLogEvents")?;
    let search = Search {
        streams: streams(members)?,
        stream_prefix: members.text("logStreamNamePrefix")?,
        start: time(members, "startTime")?,
        end: time(members, "endTime")?,
        pattern: pattern(members, "filterPattern")?.map(Arc::new),
        token: members.text("nextToken")?,
        most: limit(members, limits::EVENTS_PAGE)?,
    };
    if !search.streams.is_empty() && search.stream_prefix.is_some() {
        return Err(invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters."));
    }
    let page = request.api.logs.search(&target.group, search).await.map_err(failed(request))?;
    let events: Vec<Value> = page.events.iter().map(filtered_shape).collect();
    let mut out = json!({ "events": events, "searchedLogStreams": [], "virgaResume": page.end });
    put(&mut out, "nextToken", page.next);
    Ok(out)
}

fn streams(members: &Members<'_>) -> Result<Vec<String>, Failure> {
    let streams = members.texts("logStreamNames")?;
    let most = limits::STREAM_NAMES;
    match &streams {
        Some(names) if names.is_empty() || names.len() > most => {
            Err(invalid(format!("logStreamNames must have between 1 and {most} names.")))
        }
        _ => Ok(streams.unwrap_or_default()),
    }
}

/// The filter pattern in a member.
pub(super) fn pattern(members: &Members<'_>, name: &str) -> Result<Option<Pattern>, Failure> {
    let Some(text) = members.text(name)? else { return Ok(None) };
    Pattern::parse(&text).map(Some).map_err(|error| invalid(error.to_string()))
}

fn filtered_shape(event: &Event) -> Value {
    json!({
        "logStreamName": event.stream,
        "timestamp": event.timestamp.as_millis(),
        "message": event.message,
        "ingestionTime": event.ingested.as_millis(),
        // As long as AWS's.
        "eventId": format!("{:0>56}", event.id),
    })
}

/// Events of one stream.
pub(super) async fn get_log_events(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::identified(request, members, "logs:GetLogEvents")?;
    let stream = required(members, "logStreamName")?;
    let from_head = members.boolean("startFromHead")?.unwrap_or(false);
    let given = members.text("nextToken")?;
    let (direction, place) = match given.as_deref() {
        None if from_head => (Direction::Forward, None),
        None => (Direction::Backward, None),
        Some(token) => {
            let (direction, place) =
                read_token(token).ok_or_else(|| invalid("The specified nextToken is invalid."))?;
            (direction, Some(place))
        }
    };
    let search = Search {
        start: time(members, "startTime")?,
        // GetLogEvents leaves the end out, FilterLogEvents includes it.
        end: time(members, "endTime")?.map(|end| Timestamp(end.as_millis() - 1)),
        token: place,
        most: limit(members, limits::EVENTS_PAGE)?,
        ..Search::default()
    };
    let page = request.api.logs.read_stream(&target.group, &stream, direction, search).await;
    let page = page.map_err(failed(request))?;
    let events: Vec<Value> = page.events.iter().map(plain_shape).collect();
    let (forward, backward) = tokens(&page, direction, given);
    Ok(json!({ "events": events, "nextForwardToken": forward, "nextBackwardToken": backward }))
}

/// The tokens that lead on from a page and back from it.
fn tokens(page: &Page, direction: Direction, given: Option<String>) -> (String, String) {
    let mut tokens =
        (write_token(Direction::Forward, &page.end), write_token(Direction::Backward, &page.start));
    // Other streams of the group may have grown, or lie before; this one has nothing more that way.
    if let (Some(given), true, None) = (given, page.events.is_empty(), &page.next) {
        match direction {
            Direction::Forward => tokens.0 = given,
            Direction::Backward => tokens.1 = given,
        }
    }
    tokens
}

/// `f/` or `b/`, 56 digits, `/s`: the form that AWS's have.
fn write_token(direction: Direction, place: &str) -> String {
    let letter = if direction == Direction::Forward { 'f' } else { 'b' };
    format!("{letter}/{:0>56}/s", place.trim_start_matches('p'))
}

fn read_token(token: &str) -> Option<(Direction, String)> {
    let (letter, rest) = token.split_once('/')?;
    let direction = match letter {
        "f" => Direction::Forward,
        "b" => Direction::Backward,
        _ => return None,
    };
    let digits = rest.strip_suffix("/s").filter(|digits| digits.len() == 56 && digits.is_ascii())?;
    let (zeros, place) = digits.split_at_checked(36)?;
    zeros.bytes().all(|byte| byte == b'0').then(|| (direction, format!("p{place}")))
}

fn plain_shape(event: &Event) -> Value {
    json!({
        "timestamp": event.timestamp.as_millis(),
        "message": event.message,
        "ingestionTime": event.ingested.as_millis(),
    })
}

fn time(members: &Members<'_>, name: &str) -> Result<Option<Timestamp>, Failure> {
    let time = members.integer(name)?;
    if let Some(time) = time.filter(|time| *time < 0) {
        return Err(invalid(format!(
            "1 validation error detected: Value '{time}' at '{name}' failed to satisfy constraint: Member must have \
             value greater than or equal to 0"
        )));
    }
    Ok(time.map(Timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_there_and_back() {
        let place = "p00000000010000000123";
        for direction in [Direction::Forward, Direction::Backward] {
            let token = write_token(direction, place);
            assert_eq!(token.len(), 60);
            assert_eq!(read_token(&token), Some((direction, place.to_owned())));
        }
        for bad in [
            "",
            "f/",
            "x/1/s",
            "f/1/s",
            &format!("f/{}/s", "1".repeat(56)),
            &format!("f/{}é/s", "0".repeat(54)),
        ] {
            assert_eq!(read_token(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_end_is_the_same_token_again() {
        let page = |next: Option<&str>| Page {
            events: Vec::new(),
            next: next.map(str::to_owned),
            start: "p1".to_owned(),
            end: "p2".to_owned(),
        };
        let given = Some("given".to_owned());
        assert_eq!(tokens(&page(None), Direction::Forward, given.clone()).0, "given");
        assert_eq!(tokens(&page(None), Direction::Backward, given.clone()).1, "given");
        let on = tokens(&page(Some("p3")), Direction::Forward, given);
        assert_eq!(on, (write_token(Direction::Forward, "p2"), write_token(Direction::Backward, "p1")));
    }
}
