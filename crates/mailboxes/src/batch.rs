//! Batches: up to ten entries with ids of their own, each of which succeeds or fails for itself.

use std::collections::HashSet;

use crate::error::Fault;
use crate::{Error, limits};

/// What became of a batch.
#[derive(Debug)]
pub struct Batch<T> {
    /// By the entry's id.
    pub successful: Vec<(String, T)>,
    /// By the entry's id; refusals only.
    pub failed: Vec<(String, Fault, String)>,
}

impl<T> Batch<T> {
    /// Sorts outcomes. What is no refusal fails the whole, whose client tries again.
    pub(crate) fn of(outcomes: impl IntoIterator<Item = (String, Result<T, Error>)>) -> Result<Self, Error> {
        let mut batch = Self { successful: Vec::new(), failed: Vec::new() };
        for (id, outcome) in outcomes {
            match outcome {
                Ok(value) => batch.successful.push((id, value)),
                Err(Error::Refused(fault, message)) => batch.failed.push((id, fault, message)),
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }
}

/// Whether entries can be a batch; `entry` is what SQS calls one.
pub(crate) fn check<'a>(ids: impl ExactSizeIterator<Item = &'a str>, entry: &str) -> Result<(), Error> {
    let count = ids.len();
    if count == 0 {
        return Err(
            Fault::EmptyBatchRequest.because(format!("There should be at least one {entry} in the request."))
        );
    }
    if count > limits::BATCH {
        return Err(Fault::TooManyEntriesInBatchRequest
            .because(format!("Maximum number of entries per request are 10. You have sent {count}.")));
    }
    let mut seen = HashSet::new();
    for id in ids {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if id.is_empty() || id.len() > limits::ENTRY_ID || !id.bytes().all(plain) {
            return Err(Fault::InvalidBatchEntryId.because(
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 \
                 letters long.",
            ));
        }
        if !seen.insert(id) {
            return Err(Fault::BatchEntryIdsNotDistinct.because(format!("Id {id} repeated.")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_and_distinct_and_ten_at_most() {
        let many: Vec<String> = (0..11).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let long = "x".repeat(81);
        for (ids, expect) in [
            (&["a", "b-_9"][..], None),
            (&[], Some(Fault::EmptyBatchRequest)),
            (&many, Some(Fault::TooManyEntriesInBatchRequest)),
            (&many[..10], None),
            (&["a", "a"], Some(Fault::BatchEntryIdsNotDistinct)),
            (&["a b"], Some(Fault::InvalidBatchEntryId)),
            (&[""], Some(Fault::InvalidBatchEntryId)),
            (&[&*long], Some(Fault::InvalidBatchEntryId)),
        ] {
            let fault = match check(ids.iter().copied(), "Entry") {
                Err(Error::Refused(fault, _)) => Some(fault),
                _ => None,
            };
            assert_eq!(fault, expect, "{ids:?}");
        }
    }
}
