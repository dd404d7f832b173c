//! CloudWatch Logs API: PutLogEvents.

use ::logs::{NewEvent, Rejected};
use base::Timestamp;
use serde_json::{Value, json};

use super::{Target, failed, missing, put, required};
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

/// Sequence tokens have no meaning any more (CloudWatch Logs API: PutLogEvents); older clients want one.
const SEQUENCE_TOKEN: &str = "49039859575424234245348575423452345675643452345678901234";

/// What can be written is, and the answer says which events could not.
pub(super) async fn log_events(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:PutLogEvents")?;
    let stream = required(members, "logStreamName")?;
    let events = members.objects("logEvents")?.ok_or_else(|| missing("logEvents"))?;
    let events = events.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let rejected =
        request.api.logs.put_events(&target.group, &stream, events).await.map_err(failed(request))?;
    let mut out = json!({ "nextSequenceToken": SEQUENCE_TOKEN });
    put(&mut out, "rejectedLogEventsInfo", rejected.is_any().then(|| rejected_shape(rejected)));
    Ok(out)
}

fn event(members: &Members<'_>) -> Result<NewEvent, Failure> {
    let timestamp = members.integer("timestamp")?.ok_or_else(|| missing("logEvents.member.timestamp"))?;
    let message = members.text("message")?.ok_or_else(|| missing("logEvents.member.message"))?;
    Ok(NewEvent { timestamp: Timestamp(timestamp), message })
}

fn rejected_shape(rejected: Rejected) -> Value {
    let mut out = json!({});
    put(&mut out, "tooNewLogEventStartIndex", rejected.too_new_from);
    put(&mut out, "tooOldLogEventEndIndex", rejected.too_old_until);
    put(&mut out, "expiredLogEventEndIndex", rejected.expired_until);
    out
}
