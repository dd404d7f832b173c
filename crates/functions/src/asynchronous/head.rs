//! What goes beside an event's payload in its message.

use base::{RequestId, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::envelope::{Envelope, Unreadable};
use crate::Error;

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The request's id, the same at every try.
    pub(crate) id: String,
    /// The version or alias that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) qualifier: Option<String>,
    /// When it was accepted: its age counts from there.
    pub(crate) accepted: Timestamp,
    /// The trace, its lineage ending with this function.
    pub(crate) trace: String,
    /// How often this function is in the lineage.
    pub(crate) passes: u32,
    /// Decoded `X-Amz-Client-Context`, as it was kept before there was sealing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
    /// The same, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed_context: Option<String>,
}

/// What sets a sealed client context apart.
pub(crate) const CONTEXT: &str = "context";

/// What sets a sealed answer apart.
pub(crate) const RESPONSE: &str = "response";

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedHead {
    /// What it was.
    pub(crate) head: Head,
    /// Why it was given up.
    pub(crate) condition: String,
    /// How often the function ran.
    pub(crate) invokes: u32,
    /// The function's answer at its last try, cut off where it is long, as it was kept before there was sealing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<String>,
    /// The same, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed_response: Option<String>,
    /// What else there is to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Head {
    /// The id as ids are; a new one in place of what is none.
    pub(crate) fn request_id(&self) -> RequestId {
        RequestId::parse(&self.id).unwrap_or_else(RequestId::random)
    }

    /// What is known of an event whose head cannot be read.
    pub(crate) fn unknown(sent_ms: i64) -> Self {
        Self {
            id: RequestId::random().to_string(),
            qualifier: None,
            accepted: Timestamp(sent_ms),
            trace: String::new(),
            passes: 0,
            context: None,
            sealed_context: None,
        }
    }

    /// The client context.
    pub(crate) fn open_context(&self, envelope: &Envelope<'_>) -> Result<Option<String>, Unreadable> {
        match &self.sealed_context {
            Some(sealed) => envelope.open_member(CONTEXT, sealed).map(Some),
            None => Ok(self.context.clone()),
        }
    }
}

impl FailedHead {
    /// The function's answer.
    pub(crate) fn open_response(&self, envelope: &Envelope<'_>) -> Result<Option<String>, Unreadable> {
        match &self.sealed_response {
            Some(sealed) => envelope.open_member(RESPONSE, sealed).map(Some),
            None => Ok(self.response.clone()),
        }
    }
}

pub(crate) fn write(head: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(head).map(Bytes::from).map_err(Error::internal)
}

pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(Error::internal)
}
