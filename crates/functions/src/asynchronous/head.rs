//! What goes beside an event's payload in its message.

use base::{RequestId, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
    /// Decoded `X-Amz-Client-Context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedHead {
    /// What it was.
    pub(crate) head: Head,
    /// Why it was given up.
    pub(crate) condition: String,
    /// How often the function ran.
    pub(crate) invokes: u32,
    /// The function's answer at its last try, cut off where it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<String>,
    /// What else there is to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Head {
    /// The id as ids are; a new one in place of what is none.
    pub(crate) fn request_id(&self) -> RequestId {
        RequestId::parse(&self.id).unwrap_or_else(RequestId::random)
    }
}

pub(crate) fn write(head: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(head).map(Bytes::from).map_err(Error::internal)
}

pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(Error::internal)
}
