//! What a message is, on its way in, at rest and on its way out.
//!
//! At rest: the head is JSON; the body is the message's attributes (JSON, whose length the head says) and then its text.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::{invalid, missing};
use crate::{Error, Fault, digest, limits};

/// The only attribute that senders may give a meaning to.
pub(crate) const TRACE: &str = "AWSTraceHeader";

/// What is sent.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The text.
    pub body: String,
    /// Seconds until it can be received; the mailbox's own delay where nothing is said.
    pub delay_s: Option<i64>,
    /// What the sender adds.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// What the sender adds for the system.
    pub system: BTreeMap<String, AttributeValue>,
    /// MessageGroupId
    pub group: Option<String>,
    /// MessageDeduplicationId
    pub deduplication: Option<String>,
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeValue {
    /// `String`, `Number` or `Binary`, and what the sender put behind a point.
    #[serde(rename = "t")]
    pub data_type: String,
    /// The value.
    #[serde(rename = "v")]
    pub value: Payload,
}

/// See [`AttributeValue`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub enum Payload {
    /// Of strings and numbers.
    Text(String),
    /// Of the rest.
    Binary(Vec<u8>),
}

#[derive(Serialize, Deserialize)]
enum Stored {
    #[serde(rename = "s")]
    Text(String),
    #[serde(rename = "b")]
    Base64(String),
}

impl From<Payload> for Stored {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text),
            Payload::Binary(bytes) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

impl TryFrom<Stored> for Payload {
    type Error = base64::DecodeError;
    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        match stored {
            Stored::Text(text) => Ok(Self::Text(text)),
            Stored::Base64(text) => STANDARD.decode(text).map(Self::Binary),
        }
    }
}

impl Payload {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The message's id.
    pub id: String,
    /// Of the text.
    pub md5: String,
    /// Of the attributes.
    pub md5_of_attributes: Option<String>,
    /// Of those for the system.
    pub md5_of_system: Option<String>,
    /// Where the mailbox is in order.
    pub sequence: Option<String>,
}

/// A message as it is received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its id.
    pub id: String,
    /// Sealed.
    pub receipt_handle: String,
    /// Its text.
    pub body: String,
    /// Of the text.
    pub md5: String,
    /// Its attributes, those that were asked for.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// Of these.
    pub md5_of_attributes: Option<String>,
    /// What the system says of it, what was asked for.
    pub system: BTreeMap<&'static str, String>,
}

/// What is kept of a message beside its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) id: String,
    /// SenderId
    pub(crate) from: String,
    /// When it was first sent, milliseconds since the Unix epoch.
    pub(crate) at: i64,
    pub(crate) md5: String,
    /// Bytes of the attributes in front of the text.
    #[serde(default, rename = "al", skip_serializing_if = "is_zero")]
    pub(crate) attributes_length: usize,
    #[serde(default, rename = "seq", skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default, rename = "dedup", skip_serializing_if = "Option::is_none")]
    pub(crate) deduplication: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
    /// The mailbox that it is a dead letter of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dead_of: Option<String>,
    /// Whether the body is sealed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) sealed: bool,
}

fn is_zero(length: &usize) -> bool {
    *length == 0
}

impl Head {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| Error::Damaged(format!("a message's head: {error}")))
    }
}

/// Attributes and text in one.
pub(crate) fn pack(attributes: &BTreeMap<String, AttributeValue>, text: String) -> (usize, Vec<u8>) {
    if attributes.is_empty() {
        return (0, text.into_bytes());
    }
    // As above.
    let mut bytes = serde_json::to_vec(attributes).unwrap_or_default();
    let length = bytes.len();
    bytes.extend_from_slice(text.as_bytes());
    (length, bytes)
}

/// What [`pack`] made one.
pub(crate) fn unpack(
    length: usize,
    bytes: &[u8],
) -> Result<(BTreeMap<String, AttributeValue>, String), Error> {
    let damaged = |what: &str| Error::Damaged(format!("a message's {what}"));
    let (attributes, text) = bytes.split_at_checked(length).ok_or_else(|| damaged("length"))?;
    let attributes = match length {
        0 => BTreeMap::new(),
        _ => serde_json::from_slice(attributes).map_err(|_| damaged("attributes"))?,
    };
    Ok((attributes, String::from_utf8(text.to_vec()).map_err(|_| damaged("text"))?))
}

impl Outgoing {
    /// Bytes that count against the limits (SQS: the text, and each attribute's name, type and value).
    pub(crate) fn bytes(&self) -> usize {
        let size = |(name, value): (&String, &AttributeValue)| {
            name.len() + value.data_type.len() + value.value.bytes().len()
        };
        self.body.len() + self.attributes.iter().map(size).sum::<usize>()
    }

    /// Whether it can be a message at all.
    pub(crate) fn check(&self, most_bytes: usize) -> Result<(), Error> {
        if self.body.is_empty() {
            return Err(missing("MessageBody"));
        }
        check_text(&self.body)?;
        if self.attributes.len() > limits::ATTRIBUTES {
            return Err(Fault::InvalidParameterValue.because(format!(
                "Number of message attributes [{}] exceeds the allowed maximum [{}].",
                self.attributes.len(),
                limits::ATTRIBUTES
            )));
        }
        self.attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))?;
        for (name, value) in &self.system {
            if name != TRACE || value.data_type != "String" {
                return Err(invalid(
                    name,
                    "MessageSystemAttributeName",
                    "The only one that may be sent is AWSTraceHeader, a String.",
                ));
            }
            check_attribute(name, value).or_else(|error| if name == TRACE { Ok(()) } else { Err(error) })?;
        }
        if self.bytes() > most_bytes {
            return Err(Fault::InvalidParameterValue.because(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {most_bytes} bytes."
            )));
        }
        for (id, parameter) in
            [(&self.group, "MessageGroupId"), (&self.deduplication, "MessageDeduplicationId")]
        {
            id.as_deref().map_or(Ok(()), |id| check_id(id, parameter))?;
        }
        Ok(())
    }

    pub(crate) fn trace(&self) -> Option<String> {
        match &self.system.get(TRACE)?.value {
            Payload::Text(text) => Some(text.clone()),
            Payload::Binary(_) => None,
        }
    }

    pub(crate) fn digests(&self) -> (String, Option<String>, Option<String>) {
        let md5 = digest::md5(self.body.as_bytes());
        (md5, digest::of_attributes(&self.attributes), digest::of_attributes(&self.system))
    }
}

/// XML 1.0's characters, as SQS has them.
fn check_text(text: &str) -> Result<(), Error> {
    let legal =
        |c: char| !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}');
    if text.chars().all(legal) {
        return Ok(());
    }
    Err(Fault::InvalidMessageContents.because(
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | \
         #x10000 to #x10FFFF.",
    ))
}

fn check_attribute(name: &str, value: &AttributeValue) -> Result<(), Error> {
    let refuse = |why: &str| {
        let name = &name[..name.floor_char_boundary(100)];
        Err(Fault::InvalidParameterValue.because(format!("The message attribute '{name}' {why}")))
    };
    let lower = name.to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > limits::ATTRIBUTE_NAME || !name.chars().all(plain) {
        return refuse("must have a name of 1 to 256 letters, digits, underscores, hyphens and periods.");
    }
    if lower.starts_with("aws.")
        || lower.starts_with("amazon.")
        || name.starts_with('.')
        || name.ends_with('.')
        || name.contains("..")
    {
        return refuse(
            "must not begin with AWS. or Amazon., nor begin or end with a period, nor have two in a row.",
        );
    }
    let (kind, _) = value.data_type.split_once('.').unwrap_or((&value.data_type, ""));
    if value.data_type.len() > limits::ATTRIBUTE_NAME {
        return refuse("has a type that is too long.");
    }
    match (kind, &value.value) {
        (_, payload) if payload.bytes().is_empty() => {
            refuse("must contain a non-empty message attribute value of its type.")
        }
        ("String", Payload::Text(text)) => check_text(text),
        ("Number", Payload::Text(text)) if is_number(text) => Ok(()),
        ("Number", Payload::Text(_)) => refuse("must have a value that is a number."),
        ("Binary", Payload::Binary(_)) => Ok(()),
        ("String" | "Number" | "Binary", _) => refuse("has a value of another type than it says."),
        _ => refuse(
            "has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.",
        ),
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
        && !text.contains(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E'))
}

fn check_id(id: &str, parameter: &str) -> Result<(), Error> {
    let legal = !id.is_empty() && id.len() <= limits::FIFO_ID && id.bytes().all(|b| b.is_ascii_graphic());
    if legal {
        return Ok(());
    }
    let shown = &id[..id.floor_char_boundary(200)];
    let reason =
        format!("{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length.");
    Err(invalid(shown, parameter, &reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str, data_type: &str) -> AttributeValue {
        AttributeValue { data_type: data_type.into(), value: Payload::Text(value.into()) }
    }

    fn outgoing(body: &str) -> Outgoing {
        Outgoing { body: body.into(), ..Outgoing::default() }
    }

    fn check(message: &Outgoing, expect: Option<Fault>) {
        let fault = match message.check(100) {
            Err(Error::Refused(fault, _)) => Some(fault),
            _ => None,
        };
        assert_eq!(fault, expect, "{message:?}");
    }

    #[test]
    fn bodies_have_their_characters_and_their_length() {
        check(&outgoing("tab\tand\u{10ffff}"), None);
        check(&outgoing(""), Some(Fault::MissingParameter));
        check(&outgoing("\u{1}"), Some(Fault::InvalidMessageContents));
        check(&outgoing("\u{ffff}"), Some(Fault::InvalidMessageContents));
        check(&outgoing(&"x".repeat(100)), None);
        check(&outgoing(&"x".repeat(101)), Some(Fault::InvalidParameterValue));
        let mut with = outgoing(&"x".repeat(90));
        with.attributes.insert("abc".into(), text("1234", "Number"));
        check(&with, Some(Fault::InvalidParameterValue));
    }

    #[test]
    fn attributes_have_names_and_types() {
        let refused = Some(Fault::InvalidParameterValue);
        for (name, value, expect) in [
            ("a", text("x", "String"), None),
            ("a.b-c_d", text("1.5e3", "Number.float"), None),
            ("a", text("x", "Number"), refused),
            ("a", text("inf", "Number"), refused),
            ("a", text("x", "Strings"), refused),
            ("a", text("", "String"), refused),
            ("a", text("x", "Binary"), refused),
            ("AWS.x", text("x", "String"), refused),
            ("a..b", text("x", "String"), refused),
            ("ä", text("x", "String"), refused),
        ] {
            check(&Outgoing { attributes: [(name.into(), value)].into(), ..outgoing("b") }, expect);
        }
        let many = (0..11).map(|i| (format!("a{i}"), text("x", "String"))).collect();
        check(&Outgoing { attributes: many, ..outgoing("b") }, refused);
        check(&Outgoing { system: [("Other".into(), text("x", "String"))].into(), ..outgoing("b") }, refused);
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let binary = AttributeValue { data_type: "Binary".into(), value: Payload::Binary(vec![0, 255]) };
        let attributes: BTreeMap<_, _> =
            [("a".to_owned(), text("ä", "String")), ("b".to_owned(), binary)].into();
        let (length, bytes) = pack(&attributes, "text".into());
        assert_eq!(unpack(length, &bytes).unwrap(), (attributes, "text".into()));
        assert!(unpack(bytes.len() + 1, &bytes).is_err());
    }
}
