//! A mailbox's attributes: what may be set, what it means, what is shown (SQS API: SetQueueAttributes).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base::Region;
use iam::policy::{Kind, Policy};
use serde_json::Value;

use crate::model::{Address, is_ordered};
use crate::{Error, Fault, limits};

/// Attributes as they are given and kept: those that were said.
pub(crate) type Given = BTreeMap<String, String>;

/// What they mean.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) given: Given,
    pub(crate) visibility_s: i64,
    pub(crate) max_bytes: usize,
    pub(crate) retention_s: i64,
    pub(crate) delay_s: i64,
    pub(crate) wait_s: i64,
    pub(crate) redrive: Option<Redrive>,
    pub(crate) allow: Option<RedriveAllow>,
    pub(crate) policy: Option<Policy>,
    /// Whether a text is its own deduplication id.
    pub(crate) by_content: bool,
    /// Whether deduplication is within a group.
    pub(crate) by_group: bool,
    /// Whether bodies are sealed at rest.
    pub(crate) sealed: bool,
}

/// Where messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redrive {
    pub(crate) target: Address,
    pub(crate) most: u32,
}

/// Whose dead letters a mailbox takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RedriveAllow {
    All,
    Nobody,
    Of(Vec<Address>),
}

/// Attributes that are told and cannot be set.
const TOLD: &[&str] = &[
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

/// Attributes that can be set.
const SET: &[&str] = &[
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "DelaySeconds",
    "FifoQueue",
    "FifoThroughputLimit",
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "Policy",
    "ReceiveMessageWaitTimeSeconds",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
];

/// Those that only mailboxes in order have.
const ORDERED: &[&str] =
    &["ContentBasedDeduplication", "DeduplicationScope", "FifoQueue", "FifoThroughputLimit"];

/// Whether there is such an attribute to ask for.
pub(crate) fn is_known(name: &str) -> bool {
    name == "All" || TOLD.contains(&name) || SET.contains(&name)
}

pub(crate) fn unknown(name: &str) -> Error {
    let name = &name[..name.floor_char_boundary(100)];
    Fault::InvalidAttributeName.because(format!("Unknown Attribute {name}."))
}

fn bad(name: &str) -> Error {
    Fault::InvalidAttributeValue.because(format!("Invalid value for the parameter {name}."))
}

fn bad_since(name: &str, reason: &str) -> Error {
    Fault::InvalidAttributeValue.because(format!("Value for parameter {name} is invalid. Reason: {reason}"))
}

impl Settings {
    /// Reads what was given for a mailbox of this name.
    pub(crate) fn read(address: &Address, region: &Region, given: Given) -> Result<Self, Error> {
        let ordered = is_ordered(&address.name);
        if let Some(name) = given.keys().find(|name| !SET.contains(&name.as_str())) {
            return Err(unknown(name));
        }
        if !ordered && let Some(name) = given.keys().find(|name| ORDERED.contains(&name.as_str())) {
            return Err(unknown(name));
        }
        let number = |name: &str, range: RangeInclusive<i64>, default: i64| match given.get(name) {
            None => Ok(default),
            Some(text) => text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| bad(name)),
        };
        let boolean = |name: &str| match given.get(name).map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(bad(name)),
        };
        let one_of = |name: &str, values: [&str; 2]| match given.get(name).map(String::as_str) {
            None => Ok(false),
            Some(text) if text == values[0] => Ok(false),
            Some(text) if text == values[1] => Ok(true),
            Some(_) => Err(bad(name)),
        };
        if ordered && !boolean("FifoQueue")? {
            return Err(bad("FifoQueue"));
        }
        if given.contains_key("KmsMasterKeyId") {
            return Err(bad_since(
                "KmsMasterKeyId",
                "This server has no keys of users' own. SqsManagedSseEnabled seals messages at rest with the server's.",
            ));
        }
        number("KmsDataKeyReusePeriodSeconds", 60..=86_400, 300)?;
        let by_group = one_of("DeduplicationScope", ["queue", "messageGroup"])?;
        if one_of("FifoThroughputLimit", ["perQueue", "perMessageGroupId"])? && !by_group {
            return Err(bad_since(
                "FifoThroughputLimit",
                "It can be perMessageGroupId only where DeduplicationScope is messageGroup.",
            ));
        }
        let max =
            number("MaximumMessageSize", 1024..=limits::MESSAGE_BYTES as i64, limits::MESSAGE_BYTES as i64)?;
        Ok(Self {
            visibility_s: number("VisibilityTimeout", limits::VISIBILITY_S, 30)?,
            max_bytes: usize::try_from(max).unwrap_or(limits::MESSAGE_BYTES),
            retention_s: number("MessageRetentionPeriod", limits::RETENTION_S, 345_600)?,
            delay_s: number("DelaySeconds", limits::DELAY_S, 0)?,
            wait_s: number("ReceiveMessageWaitTimeSeconds", limits::WAIT_S, 0)?,
            redrive: given.get("RedrivePolicy").map(|text| redrive(text, region)).transpose()?,
            allow: given.get("RedriveAllowPolicy").map(|text| redrive_allow(text, region)).transpose()?,
            policy: given.get("Policy").map(|text| policy(text)).transpose()?,
            by_content: boolean("ContentBasedDeduplication")?,
            by_group,
            sealed: boolean("SqsManagedSseEnabled")?,
            given,
        })
    }

    /// What can be set, as it is shown: what was said, and what holds where nothing was.
    pub(crate) fn shown(&self, ordered: bool) -> Given {
        let numbers = [
            ("VisibilityTimeout", self.visibility_s),
            ("MaximumMessageSize", self.max_bytes as i64),
            ("MessageRetentionPeriod", self.retention_s),
            ("DelaySeconds", self.delay_s),
            ("ReceiveMessageWaitTimeSeconds", self.wait_s),
        ];
        let mut shown: Given =
            numbers.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
        shown.insert("SqsManagedSseEnabled".into(), self.sealed.to_string());
        if ordered {
            for (name, value) in [
                ("FifoQueue", "true"),
                ("ContentBasedDeduplication", if self.by_content { "true" } else { "false" }),
                ("DeduplicationScope", "queue"),
                ("FifoThroughputLimit", "perQueue"),
            ] {
                shown.insert(name.into(), value.into());
            }
        }
        let said = self.given.iter().filter(|(name, _)| {
            !shown.contains_key(*name) || name.ends_with("Scope") || name.ends_with("Limit")
        });
        let said: Vec<_> = said.map(|(name, value)| (name.clone(), value.clone())).collect();
        shown.extend(said);
        shown
    }
}

/// What is given, without what is empty: that takes an attribute away. Values that are JSON are checked where they are read.
pub(crate) fn merge(before: &Given, given: &Given) -> Given {
    let mut merged = before.clone();
    for (name, value) in given {
        match value.is_empty() {
            true => drop(merged.remove(name)),
            false => drop(merged.insert(name.clone(), value.clone())),
        }
    }
    merged
}

fn object(name: &str, text: &str) -> Result<serde_json::Map<String, Value>, Error> {
    serde_json::from_str(text).map_err(|_| bad(name))
}

fn redrive(text: &str, region: &Region) -> Result<Redrive, Error> {
    const NAME: &str = "RedrivePolicy";
    let object = object(NAME, text)?;
    if let Some(key) =
        object.keys().find(|key| !matches!(key.as_str(), "deadLetterTargetArn" | "maxReceiveCount"))
    {
        let key = &key[..key.floor_char_boundary(100)];
        return Err(bad_since(NAME, &format!("The redrive policy contains an unknown key: {key}.")));
    }
    let arn = object.get("deadLetterTargetArn").and_then(Value::as_str);
    let arn = arn.ok_or_else(|| {
        bad_since(NAME, "Redrive policy does not contain mandatory attribute: deadLetterTargetArn.")
    })?;
    let target = Address::of_arn(arn, region)
        .ok_or_else(|| bad_since(NAME, "Invalid value for deadLetterTargetArn."))?;
    let most = match object.get("maxReceiveCount") {
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => {
            return Err(bad_since(
                NAME,
                "Redrive policy does not contain mandatory attribute: maxReceiveCount.",
            ));
        }
    };
    let most =
        most.filter(|most| limits::MAX_RECEIVES.contains(most)).and_then(|most| u32::try_from(most).ok());
    let most = most.ok_or_else(|| {
        bad_since(NAME, "Invalid value for maxReceiveCount: must be an integer between 1 and 1000.")
    })?;
    Ok(Redrive { target, most })
}

fn redrive_allow(text: &str, region: &Region) -> Result<RedriveAllow, Error> {
    const NAME: &str = "RedriveAllowPolicy";
    let object = object(NAME, text)?;
    let sources = object.get("sourceQueueArns");
    let read = |sources: &Value| {
        let arns = sources.as_array()?.iter();
        arns.map(|arn| Address::of_arn(arn.as_str()?, region)).collect::<Option<Vec<_>>>()
    };
    match (object.get("redrivePermission").and_then(Value::as_str), sources) {
        (Some("allowAll"), None) => Ok(RedriveAllow::All),
        (Some("denyAll"), None) => Ok(RedriveAllow::Nobody),
        (Some("byQueue"), Some(sources)) => {
            let sources = read(sources).filter(|all| (1..=limits::ALLOWED_SOURCES).contains(&all.len()));
            sources.map(RedriveAllow::Of).ok_or_else(|| bad(NAME))
        }
        _ => Err(bad(NAME)),
    }
}

fn policy(text: &str) -> Result<Policy, Error> {
    if text.len() > limits::POLICY_BYTES {
        return Err(bad_since("Policy", "It is longer than 8192 bytes."));
    }
    Policy::parse(text, Kind::Resource).map_err(|problem| bad_since("Policy", &problem.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "123456789012";

    fn read(name: &str, given: &[(&str, &str)]) -> Result<Settings, Error> {
        let address = Address { account: base::AccountId::parse(ACCOUNT).unwrap(), name: name.into() };
        let given = given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Settings::read(&address, &Region::default(), given)
    }

    fn check(name: &str, attribute: &str, value: &str, expect: Option<Fault>) {
        let fifo: &[(&str, &str)] = if name.ends_with(".fifo") { &[("FifoQueue", "true")] } else { &[] };
        let given: Vec<_> = fifo.iter().copied().chain([(attribute, value)]).collect();
        let fault = match read(name, &given) {
            Err(Error::Refused(fault, _)) => Some(fault),
            _ => None,
        };
        assert_eq!(fault, expect, "{attribute} = {value}");
    }

    #[test]
    fn values_are_checked() {
        let value = Some(Fault::InvalidAttributeValue);
        let name = Some(Fault::InvalidAttributeName);
        let dead = format!(r#""deadLetterTargetArn":"arn:aws:sqs:us-east-1:{ACCOUNT}:d""#);
        for (attribute, text, expect) in [
            ("VisibilityTimeout", "0", None),
            ("VisibilityTimeout", "43201", value),
            ("VisibilityTimeout", "x", value),
            ("DelaySeconds", "901", value),
            ("MessageRetentionPeriod", "59", value),
            ("MaximumMessageSize", "1048576", None),
            ("MaximumMessageSize", "1048577", value),
            ("ReceiveMessageWaitTimeSeconds", "21", value),
            ("SqsManagedSseEnabled", "true", None),
            ("KmsMasterKeyId", "alias/aws/sqs", value),
            ("QueueArn", "x", name),
            ("Nonsense", "x", name),
            ("ContentBasedDeduplication", "true", name),
            ("RedrivePolicy", &format!(r#"{{{dead},"maxReceiveCount":"3"}}"#), None),
            ("RedrivePolicy", &format!(r#"{{{dead},"maxReceiveCount":1001}}"#), value),
            ("RedrivePolicy", &format!("{{{dead}}}"), value),
            ("RedrivePolicy", r#"{"deadLetterTargetArn":"x","maxReceiveCount":3}"#, value),
            ("RedriveAllowPolicy", r#"{"redrivePermission":"denyAll"}"#, None),
            ("RedriveAllowPolicy", r#"{"redrivePermission":"byQueue"}"#, value),
            ("Policy", "{}", value),
        ] {
            check("q", attribute, text, expect);
        }
        check("q.fifo", "ContentBasedDeduplication", "true", None);
        check("q.fifo", "FifoThroughputLimit", "perMessageGroupId", value);
        check("q.fifo", "DeduplicationScope", "messageGroup", None);
        assert!(read("q.fifo", &[]).is_err(), "FifoQueue has to be said");
    }

    #[test]
    fn what_is_shown_is_what_holds() {
        let shown = read("q", &[("VisibilityTimeout", "5")]).unwrap().shown(false);
        assert_eq!(shown["VisibilityTimeout"], "5");
        assert_eq!(shown["MessageRetentionPeriod"], "345600");
        assert!(!shown.contains_key("FifoQueue") && !shown.contains_key("RedrivePolicy"));
        let ordered = [("FifoQueue", "true"), ("DeduplicationScope", "messageGroup")];
        let shown = read("q.fifo", &ordered).unwrap().shown(true);
        assert_eq!((&*shown["FifoQueue"], &*shown["DeduplicationScope"]), ("true", "messageGroup"));
        assert_eq!(shown["FifoThroughputLimit"], "perQueue");
    }

    #[test]
    fn what_is_empty_is_taken_away() {
        let before = Given::from([("Policy".into(), "x".into()), ("DelaySeconds".into(), "1".into())]);
        let given = Given::from([("Policy".into(), String::new()), ("VisibilityTimeout".into(), "2".into())]);
        let merged = merge(&before, &given);
        assert_eq!(merged.keys().collect::<Vec<_>>(), ["DelaySeconds", "VisibilityTimeout"]);
    }
}
