//! What a function's owner says about its asynchronous invokes, and the rules for that.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{FunctionArn, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::LATEST;
use crate::settings::ASYNC_RETRIES;
use crate::version::Function;
use crate::{Error, limits};

/// What a function keeps about its asynchronous invokes. A part of its document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Events {
    /// Differs from that of a function that had the name before.
    pub(crate) life: String,
    /// By qualifier, `$LATEST` among them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) configs: BTreeMap<String, EventConfig>,
    /// Lambda's `RecursiveLoop`: whether circles are let run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_loops: bool,
}

/// Lambda API: FunctionEventInvokeConfig.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventConfig {
    /// `MaximumRetryAttempts`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// `MaximumEventAgeInSeconds`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u32>,
    /// `OnSuccess`: an ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    /// `OnFailure`: an ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// When it was last changed.
    pub modified: Timestamp,
}

/// What a request changes of it: `None` leaves a member as it is, an empty destination removes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventConfigChange {
    /// `MaximumRetryAttempts`
    pub retries: Option<u32>,
    /// `MaximumEventAgeInSeconds`
    pub max_age_s: Option<u32>,
    /// `OnSuccess`
    pub on_success: Option<String>,
    /// `OnFailure`
    pub on_failure: Option<String>,
}

impl EventConfigChange {
    /// The configuration with the change.
    pub(crate) fn apply(self, to: EventConfig, now: Timestamp) -> EventConfig {
        let destination = |new: Option<String>, old: Option<String>| match new {
            Some(arn) => Some(arn).filter(|arn| !arn.is_empty()),
            None => old,
        };
        EventConfig {
            retries: self.retries.or(to.retries),
            max_age_s: self.max_age_s.or(to.max_age_s),
            on_success: destination(self.on_success, to.on_success),
            on_failure: destination(self.on_failure, to.on_failure),
            modified: now,
        }
    }
}

/// What holds for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Tries after the first.
    pub(crate) retries: u32,
    pub(crate) max_age: Duration,
    pub(crate) on_success: Option<String>,
    pub(crate) on_failure: Option<String>,
    pub(crate) allow_loops: bool,
}

impl Policy {
    /// Of a function's version or alias.
    pub(crate) fn of(function: &Function, qualifier: Option<&str>) -> Self {
        let config = function.events.configs.get(qualifier.unwrap_or(LATEST));
        let tagged = function.tags.get(ASYNC_RETRIES).and_then(|text| text.parse().ok());
        let retries = tagged.or(config.and_then(|config| config.retries));
        let max_age_s = config.and_then(|config| config.max_age_s).unwrap_or(limits::EVENT_AGE_S);
        Self {
            retries: retries.unwrap_or(limits::EVENT_RETRIES),
            max_age: Duration::from_secs(max_age_s.into()),
            on_success: config.and_then(|config| config.on_success.clone()),
            on_failure: config.and_then(|config| config.on_failure.clone()),
            allow_loops: function.events.allow_loops,
        }
    }
}

/// Where a record goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Function(FunctionArn),
    /// A message queue, by its ARN.
    Queue(String),
}

/// What a destination names, if it can be one of `of`.
pub(crate) fn check_destination(arn: &str, of: &FunctionArn) -> Result<Destination, Error> {
    let mut parts = arn.split(':').skip(2);
    let service = parts.next().unwrap_or_default();
    if service == "sqs" && parts.next() == Some(of.region.as_str()) {
        return Ok(Destination::Queue(arn.to_owned()));
    }
    if service != "lambda" {
        let name = match service {
            "sqs" => {
                return Err(Error::Invalid(format!(
                    "The destination {arn} cannot be used: it is not in the function's region."
                )));
            }
            "sns" => "SNS",
            "events" => "EventBridge",
            "s3" => "S3",
            _ => return Err(Error::Invalid(format!("The destination ARN {arn} is invalid."))),
        };
        return Err(Error::Invalid(format!(
            "The destination {arn} cannot be used: {name} is not built in this server yet. Use the ARN of a function or of an SQS queue."
        )));
    }
    let invalid = || Error::Invalid(format!("The destination ARN {arn} is invalid."));
    let destination = FunctionArn::parse(arn).ok_or_else(invalid)?;
    if destination.account != of.account || destination.region != of.region {
        return Err(Error::Invalid(format!(
            "The destination {arn} cannot be used: it is not in the function's account and region."
        )));
    }
    Ok(Destination::Function(destination))
}

/// What there is to be seen of a function's events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Whose.
    pub account: String,
    /// The function's name.
    pub function: String,
    /// Events that wait or run.
    pub queued: u64,
    /// Those that run or wait for an instance.
    pub running: u64,
    /// Milliseconds since the oldest that is known was accepted.
    pub oldest_ms: u64,
    /// Events in the list of failed ones.
    pub failed_kept: u64,
    /// Events accepted since the start.
    pub accepted: u64,
    /// Tries after a function's error since the start.
    pub retries: u64,
    /// Refusals for want of capacity since the start.
    pub throttles: u64,
    /// Events given up since the start.
    pub failed: u64,
    /// Failed events removed by an operator or for their age since the start.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_functions_and_queues_for_now() {
        let of = FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:f").unwrap();
        let check = |arn: &str| check_destination(arn, &of).map_err(|error| error.to_string());
        let there = "arn:aws:lambda:us-east-1:123456789012:function:g:live";
        assert_eq!(check(there), Ok(Destination::Function(FunctionArn::parse(there).unwrap())));
        let queue = "arn:aws:sqs:us-east-1:123456789012:q";
        assert_eq!(check(queue), Ok(Destination::Queue(queue.to_owned())));
        for (arn, said) in [
            ("arn:aws:sqs:eu-west-1:123456789012:q", "not in the function's region"),
            ("arn:aws:sns:us-east-1:123456789012:t", "SNS is not built"),
            ("arn:aws:events:us-east-1:123456789012:event-bus/b", "EventBridge is not built"),
            ("arn:aws:s3:::bucket", "S3 is not built"),
            ("kafka://topic", "is invalid"),
            ("arn:aws:lambda:us-east-1:123456789012:layer:x", "is invalid"),
            ("arn:aws:lambda:us-east-1:999999999999:function:g", "not in the function's account"),
            ("arn:aws:lambda:eu-west-1:123456789012:function:g", "not in the function's account and region"),
        ] {
            assert!(check(arn).unwrap_err().contains(said), "{arn}");
        }
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let before = EventConfig { retries: Some(1), on_failure: Some("a".into()), ..EventConfig::default() };
        let change = EventConfigChange { max_age_s: Some(60), ..EventConfigChange::default() };
        let after = change.apply(before.clone(), Timestamp(7));
        assert_eq!(after, EventConfig { max_age_s: Some(60), modified: Timestamp(7), ..before.clone() });
        let none = EventConfigChange { on_failure: Some(String::new()), ..EventConfigChange::default() };
        assert_eq!(none.apply(before, Timestamp(7)).on_failure, None);
    }
}
