//! What events hold, on its way to and from the queue: sealed, since it is as secret as what functions are called with.
//!
//! What is sealed opens only for the same event of the same function. Messages of before there was sealing are read as
//! they are; they go with what becomes of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use iam::Iam;

use crate::registry::Key;

/// Ends what is sealed. No JSON text ends so, and that is all that was ever kept unsealed.
const SEALED: u8 = 1;

/// Seals and opens what one event holds.
pub(crate) struct Envelope<'a> {
    iam: &'a Iam,
    /// Neither names nor ids have a slash.
    context: String,
}

/// It was sealed for another event or with another key, or is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl<'a> Envelope<'a> {
    /// For the event with this id.
    pub(crate) fn new(iam: &'a Iam, (account, function): &Key, id: &str) -> Self {
        Self { iam, context: [account.as_str(), "/", function, "/", id].concat() }
    }

    /// Seals a payload.
    pub(crate) fn seal(&self, payload: &[u8]) -> Bytes {
        let mut sealed = self.iam.seal_event(&self.context, payload);
        sealed.push(SEALED);
        sealed.into()
    }

    /// Opens it.
    pub(crate) fn open(&self, kept: Bytes) -> Result<Bytes, Unreadable> {
        match kept.split_last() {
            Some((&SEALED, sealed)) => {
                self.iam.open_event(&self.context, sealed).map(Bytes::from).ok_or(Unreadable)
            }
            _ => Ok(kept),
        }
    }

    /// Seals a member of a head; `what` sets it apart from the others.
    pub(crate) fn seal_member(&self, what: &str, text: &str) -> String {
        STANDARD.encode(self.iam.seal_event(&self.of(what), text.as_bytes()))
    }

    /// Opens it.
    pub(crate) fn open_member(&self, what: &str, sealed: &str) -> Result<String, Unreadable> {
        let opened = STANDARD.decode(sealed).ok();
        let opened = opened.and_then(|sealed| self.iam.open_event(&self.of(what), &sealed));
        opened.and_then(|text| String::from_utf8(text).ok()).ok_or(Unreadable)
    }

    fn of(&self, what: &str) -> String {
        [&self.context, "/", what].concat()
    }
}
