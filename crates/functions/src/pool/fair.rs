//! Who gives way to whom when the host is full: max-min fairness between accounts, then between functions.
//!
//! A share is the larger part of what the host has, of instances or of memory. Who holds more gives an instance to who
//! waits and holds less, as long as that leaves the giver with no less than the taker gets. With more functions
//! than instances that is never so; then who has nothing takes turns with the others (the host's tick sees to it).

/// What an account or function holds, as a part of the host, and what one more or less instance is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// The account's part.
    pub(super) account: f64,
    /// The function's part.
    pub(super) function: f64,
    /// One instance's part.
    pub(super) instance: f64,
}

/// Parts are sums of fractions.
const SLACK: f64 = 1e-9;

impl Standing {
    fn part(&self, same_account: bool) -> f64 {
        if same_account { self.function } else { self.account }
    }

    /// Whether it should stop an instance so that `taker` can start one.
    pub(super) fn gives_to(&self, taker: &Self, same_account: bool) -> bool {
        let left = self.part(same_account) - self.instance;
        left + SLACK >= taker.part(same_account) + taker.instance
    }

    /// Whether it holds less.
    pub(super) fn is_poorer(&self, other: &Self, same_account: bool) -> bool {
        self.part(same_account) + SLACK < other.part(same_account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(account: f64, function: f64) -> Standing {
        Standing { account, function, instance: 0.1 }
    }

    #[test]
    fn a_transfer_must_make_things_more_equal() {
        assert!(standing(1.0, 1.0).gives_to(&standing(1.0, 0.0), true));
        assert!(standing(1.0, 0.6).gives_to(&standing(1.0, 0.4), true), "to equal shares");
        assert!(!standing(1.0, 0.5).gives_to(&standing(1.0, 0.5), true));
        assert!(!standing(1.0, 0.1).gives_to(&standing(1.0, 0.0), true), "that would only swap them");
    }

    #[test]
    fn accounts_come_first() {
        // Many small functions of one account hold all; another account's waits.
        assert!(standing(1.0, 0.2).gives_to(&standing(0.1, 0.1), false));
        assert!(!standing(0.5, 0.5).gives_to(&standing(0.5, 0.0), false));
    }
}
