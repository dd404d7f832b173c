//! A mailbox as memory holds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use base::{AccountId, Region};
use queues::QueueName;

use crate::attributes::Settings;
use crate::limits::FIFO;
use crate::{Error, Fault, limits};

/// Whose mailbox, and which.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
}

impl Address {
    /// What `arn:aws:sqs:REGION:ACCOUNT:NAME` names.
    pub fn of_arn(arn: &str, region: &Region) -> Option<Self> {
        let mut parts = arn.split(':');
        let fixed = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let account = AccountId::parse(parts.next()?)?;
        let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let whole = fixed == ["arn", "aws", "sqs", region.as_str()] && parts.next().is_none();
        whole.then_some(Self { account, name })
    }

    pub(crate) fn arn(&self, region: &Region) -> String {
        format!("arn:aws:sqs:{region}:{}:{}", self.account, self.name)
    }

    /// As memory finds it.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.account, self.name)
    }
}

/// What a name says of order.
pub(crate) fn is_ordered(name: &str) -> bool {
    name.ends_with(FIFO)
}

/// Whether a mailbox may be called so.
pub(crate) fn check_name(name: &str, ordered: bool) -> Result<(), Error> {
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let said = match name.strip_suffix(FIFO) {
        Some(stem) if ordered => plain(stem) && name.len() <= limits::NAME,
        _ if ordered => {
            return Err(Fault::InvalidParameterValue.because(
                "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with \
                 .fifo suffix and be 1 to 80 in length.",
            ));
        }
        _ => plain(name) && name.len() <= limits::NAME,
    };
    if said {
        return Ok(());
    }
    Err(Fault::InvalidParameterValue
        .because("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"))
}

/// A mailbox, as it is until its next change.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) address: Address,
    pub(crate) arn: String,
    pub(crate) queue: QueueName,
    /// Seconds since the Unix epoch.
    pub(crate) created_s: i64,
    pub(crate) modified_s: i64,
    pub(crate) settings: Settings,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) live: Arc<Live>,
}

/// What changes without being written down, and is the same for all versions of a mailbox.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// When it was last purged, milliseconds.
    pub(crate) purged: AtomicI64,
    /// Held while messages of a mailbox in order get their places.
    pub(crate) order: tokio::sync::Mutex<()>,
    sequence: AtomicU64,
}

impl Mailbox {
    pub(crate) fn is_ordered(&self) -> bool {
        is_ordered(&self.address.name)
    }

    /// What was sent before is too old, milliseconds.
    pub(crate) fn kept_from(&self, now: i64) -> i64 {
        now - self.settings.retention_s * 1000
    }
}

impl Live {
    /// The next sequence number: 20 digits that grow, after a restart too, since they begin with the time.
    pub(crate) fn next_sequence(&self, now_ms: i64) -> String {
        const FIRST: u64 = 10_000_000_000_000_000_000;
        let floor = u64::try_from(now_ms).unwrap_or_default() << 20;
        let grow = |last: u64| Some(floor.max(last + 1));
        let last = self.sequence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).unwrap_or_default();
        (FIRST + floor.max(last + 1)).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_name_mailboxes_of_this_region() {
        let region = Region::default();
        for (arn, expect) in [
            (format!("arn:aws:sqs:{region}:123456789012:a.fifo"), Some("a.fifo")),
            ("arn:aws:sqs:mars-north-1:123456789012:a".into(), None),
            (format!("arn:aws:sns:{region}:123456789012:a"), None),
            (format!("arn:aws:sqs:{region}:123456789012:"), None),
            (format!("arn:aws:sqs:{region}:123456789012:a:b"), None),
        ] {
            assert_eq!(
                Address::of_arn(&arn, &region).map(|address| address.name).as_deref(),
                expect,
                "{arn}"
            );
        }
    }

    #[test]
    fn names_are_plain() {
        let long = "x".repeat(80);
        for (name, ordered, legal) in [
            ("a-B_9", false, true),
            ("a.b", false, false),
            ("", false, false),
            (&*long, false, true),
            (&*format!("{long}x"), false, false),
            ("a.fifo", true, true),
            ("a.fifo", false, false),
            (".fifo", true, false),
            ("a", true, false),
            (&*format!("{}.fifo", &long[5..]), true, true),
            (&*format!("{}.fifo", &long[4..]), true, false),
        ] {
            assert_eq!(check_name(name, ordered).is_ok(), legal, "{name} {ordered}");
        }
    }

    #[test]
    fn sequence_numbers_grow_within_a_millisecond_and_after_a_restart() {
        let live = Live::default();
        let numbers =
            [1_795_000_000_000, 1_795_000_000_000, 1_794_999_999_999].map(|now| live.next_sequence(now));
        let later = Live::default().next_sequence(1_795_000_000_001);
        assert!(
            numbers[0] < numbers[1] && numbers[1] < numbers[2] && numbers[2] < later,
            "{numbers:?} {later}"
        );
        assert!(later.len() == 20);
    }
}
