//! What is to happen with an event next. Pure.

use std::time::Duration;

use super::policy::Policy;

/// Why an event is not tried any more, as destinations are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The function failed as often as it may.
    RetriesExhausted,
    /// It is older than it may get.
    EventAgeExceeded,
    /// The function is in a circle of calls. Virga's own word.
    RecursiveLoop,
    /// The function, or the version, was deleted. Virga's own word.
    FunctionDeleted,
    /// It ran, and what came of it is too large for its destination or its destination is gone. Virga's own word.
    DestinationFailed,
    /// Its message cannot be read. Virga's own word.
    Damaged,
}

impl Condition {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
            Self::RecursiveLoop => "RecursiveLoop",
            Self::FunctionDeleted => "FunctionDeleted",
            Self::DestinationFailed => "DestinationFailed",
            Self::Damaged => "Damaged",
        }
    }
}

/// What becomes of an event whose function failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Retry(Duration),
    GiveUp(Condition),
}

/// Before it runs: whether it may.
pub(crate) fn admit(policy: &Policy, age: Duration, passes: u32) -> Result<(), Condition> {
    if age > policy.max_age {
        return Err(Condition::EventAgeExceeded);
    }
    if passes >= super::lineage::PASSES && !policy.allow_loops {
        return Err(Condition::RecursiveLoop);
    }
    Ok(())
}

/// After the function failed, for the `invokes`-th time. `first` is how long the first retry waits, the others twice that
/// (Lambda: one minute, two minutes). What would be too old by then is not waited for.
pub(crate) fn after_error(policy: &Policy, invokes: u32, age: Duration, first: Duration) -> Next {
    if invokes > policy.retries {
        return Next::GiveUp(Condition::RetriesExhausted);
    }
    let delay = if invokes == 1 { first } else { first * 2 };
    if age + delay > policy.max_age { Next::GiveUp(Condition::EventAgeExceeded) } else { Next::Retry(delay) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn policy(retries: u32, max_age: Duration) -> Policy {
        Policy { retries, max_age, on_success: None, on_failure: None, allow_loops: false }
    }

    #[test]
    fn errors_are_retried_after_one_and_two_minutes() {
        let policy = policy(2, 60 * MINUTE);
        let after = |invokes| after_error(&policy, invokes, Duration::ZERO, MINUTE);
        assert_eq!((after(1), after(2)), (Next::Retry(MINUTE), Next::Retry(2 * MINUTE)));
        assert_eq!(after(3), Next::GiveUp(Condition::RetriesExhausted));
    }

    #[test]
    fn as_many_retries_as_are_allowed_fit_into_six_hours_and_a_bit() {
        let mut age = Duration::ZERO;
        let policy = policy(185, 7 * 60 * MINUTE);
        for invokes in 1..=185 {
            let Next::Retry(delay) = after_error(&policy, invokes, age, MINUTE) else { panic!("{invokes}") };
            age += delay;
        }
        assert_eq!(age, MINUTE * 369);
        assert_eq!(after_error(&policy, 186, age, MINUTE), Next::GiveUp(Condition::RetriesExhausted));
    }

    #[test]
    fn age_ends_it() {
        let policy = policy(2, MINUTE);
        assert_eq!(admit(&policy, MINUTE, 0), Ok(()));
        assert_eq!(admit(&policy, MINUTE + Duration::from_millis(1), 0), Err(Condition::EventAgeExceeded));
        let late = after_error(&policy, 1, Duration::from_secs(1), MINUTE);
        assert_eq!(late, Next::GiveUp(Condition::EventAgeExceeded));
    }

    #[test]
    fn circles_are_cut_unless_they_are_allowed() {
        let mut policy = policy(2, MINUTE);
        assert_eq!(admit(&policy, Duration::ZERO, 15), Ok(()));
        assert_eq!(admit(&policy, Duration::ZERO, 16), Err(Condition::RecursiveLoop));
        policy.allow_loops = true;
        assert_eq!(admit(&policy, Duration::ZERO, 1000), Ok(()));
    }
}
