//! CloudWatch Logs API: StartLiveTail, an answer that does not end: events of the groups as they come, once a second.
//!
//! Clients put `streaming-` before the host's name unless told not to; signatures are checked for whatever name was
//! asked for.

use std::sync::Arc;
use std::time::Duration;

use ::logs::{Event, GroupName, Tail, Wanted};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use sandbox::{Body, BoxError};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::read::pattern;
use super::{Target, failed, invalid, missing};
use crate::eventstream::{self, MEDIA_TYPE};
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

/// How often events are sent, and how long a session may last (CloudWatch Logs API: StartLiveTail).
const EVERY: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3 * 60 * 60);

/// How a session ends that its client does not end (CloudWatch Logs API: StartLiveTailResponseStream).
const STREAMING: &str = "SessionStreamingException";
const TIMEOUT: &str = "SessionTimeoutException";

pub(super) async fn start(request: &Request<'_>, members: &Members<'_>) -> Result<Response<Body>, Failure> {
    let identifiers = members.texts("logGroupIdentifiers")?.ok_or_else(|| missing("logGroupIdentifiers"))?;
    if !(1..=limits::TAIL_GROUPS).contains(&identifiers.len()) {
        return Err(invalid(format!(
            "logGroupIdentifiers must have between 1 and {} groups.",
            limits::TAIL_GROUPS
        )));
    }
    let targets = identifiers.iter().map(|arn| Target::of_arn(request, arn, "logs:StartLiveTail"));
    let targets: Vec<Target> = targets.collect::<Result<_, _>>()?;
    let wanted = Wanted {
        streams: members.texts("logStreamNames")?.unwrap_or_default(),
        prefixes: members.texts("logStreamNamePrefixes")?.unwrap_or_default(),
        pattern: pattern(members, "logEventFilterPattern")?.map(Arc::new),
    };
    let narrowed = !wanted.streams.is_empty() || !wanted.prefixes.is_empty();
    if narrowed && targets.len() > 1 {
        return Err(invalid("Log streams can be named for a single log group only."));
    }
    if !wanted.streams.is_empty() && !wanted.prefixes.is_empty() {
        return Err(invalid("logStreamNames and logStreamNamePrefixes are mutually exclusive parameters."));
    }
    let began = began(request, &identifiers, &wanted, members.text("logEventFilterPattern")?);
    let groups: Vec<GroupName> = targets.iter().map(|target| target.group.clone()).collect();
    let tail = request.api.logs.tail(groups, wanted).await.map_err(failed(request))?;
    let arns = targets.into_iter().map(|target| (target.group, target.arn)).collect();
    Ok(answer(Session::new(tail, arns, began)))
}

/// What comes first: the protocol's own beginning, then the session's.
fn began(request: &Request<'_>, identifiers: &[String], wanted: &Wanted, pattern: Option<String>) -> Bytes {
    let start = json!({
        "requestId": request.id.to_string(),
        "sessionId": base::RequestId::random().to_string(),
        "logGroupIdentifiers": identifiers,
        "logStreamNames": wanted.streams,
        "logStreamNamePrefixes": wanted.prefixes,
        "logEventFilterPattern": pattern.unwrap_or_default(),
    });
    let mut bytes = BytesMut::from(&*event("initial-response", &json!({})));
    bytes.extend_from_slice(&event("sessionStart", &start));
    bytes.freeze()
}

fn event(name: &str, payload: &Value) -> Bytes {
    eventstream::event(name, "application/json", payload.to_string().as_bytes())
}

fn answer(session: Session) -> Response<Body> {
    let events = stream::unfold(session, |mut session| async move {
        let bytes = session.step().await?;
        Some((Ok::<_, BoxError>(Frame::data(bytes)), session))
    });
    let mut response = Response::new(Body::boxed(StreamBody::new(events)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// A session under way; its client ends it by going away. Ended otherwise, it says why.
struct Session {
    tail: Tail,
    arns: Vec<(GroupName, String)>,
    began: Option<Bytes>,
    ticks: Interval,
    until: Instant,
    stopped: BoxFuture<'static, ()>,
    /// Nothing follows.
    over: bool,
}

impl Session {
    fn new(tail: Tail, arns: Vec<(GroupName, String)>, began: Bytes) -> Self {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopped = tail.stopped().boxed();
        let until = Instant::now() + LONGEST;
        Self { tail, arns, began: Some(began), ticks, until, stopped, over: false }
    }

    /// The next bytes; `None` at the end.
    async fn step(&mut self) -> Option<Bytes> {
        if let Some(began) = self.began.take() {
            return Some(began);
        }
        if self.over {
            return None;
        }
        let tick = tokio::select! {
            biased;
            () = &mut self.stopped => return self.end(STREAMING, "The server is stopping."),
            tick = self.ticks.tick() => tick,
        };
        if tick >= self.until {
            return self.end(TIMEOUT, "The session has timed out.");
        }
        match self.tail.next().await {
            Ok(found) => Some(self.update(&found)),
            Err(error) => {
                tracing::error!(%error, "a live tail ends");
                self.end(STREAMING, "The log groups cannot be read.")
            }
        }
    }

    fn end(&mut self, exception: &str, text: &str) -> Option<Bytes> {
        self.over = true;
        Some(eventstream::exception(exception, text))
    }

    fn update(&self, found: &[(GroupName, Event)]) -> Bytes {
        let results: Vec<Value> = found.iter().map(|(group, event)| self.result(group, event)).collect();
        event("sessionUpdate", &json!({ "sessionMetadata": { "sampled": false }, "sessionResults": results }))
    }

    fn result(&self, group: &GroupName, event: &Event) -> Value {
        let arn = self.arns.iter().find(|(name, _)| name == group).map(|(_, arn)| arn.as_str());
        json!({
            "logStreamName": event.stream,
            "logGroupIdentifier": arn,
            "message": event.message,
            "timestamp": event.timestamp.as_millis(),
            "ingestionTime": event.ingested.as_millis(),
        })
    }
}
