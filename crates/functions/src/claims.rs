//! What the functions of each account use and claim: how many there are, and how much of the server's concurrency
//! they have for themselves.
//!
//! Counted as Lambda counts, in calls at once. A provisioned instance counts as one, as many as it may take: Lambda's
//! take one. A part of the account's limit stays for functions that reserve nothing.

use std::collections::HashMap;

use base::AccountId;
use parking_lot::Mutex;

use crate::Error;
use crate::concurrency::UNRESERVED_AT_LEAST;
use crate::version::Function;

/// What a function, or all of an account's, use and claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Functions.
    pub(crate) functions: u64,
    /// Bytes of packages, of every version: one that is published counts again, as on Lambda. Images do not.
    pub(crate) code_bytes: u64,
    /// Calls at once claimed by reserving.
    pub(crate) reserved: u64,
    /// Calls at once claimed by reserving, or by provisioning without having reserved.
    pub(crate) taken: u64,
}

impl Claim {
    /// The sum once a part of it, `old`, has become `new`.
    fn with(self, old: Self, new: Self) -> Self {
        let with = |sum: u64, old: u64, new: u64| (sum + new).saturating_sub(old);
        Self {
            functions: with(self.functions, old.functions, new.functions),
            code_bytes: with(self.code_bytes, old.code_bytes, new.code_bytes),
            reserved: with(self.reserved, old.reserved, new.reserved),
            taken: with(self.taken, old.taken, new.taken),
        }
    }
}

/// The sums.
#[derive(Default)]
pub(crate) struct Claims {
    by_account: Mutex<HashMap<AccountId, Claim>>,
}

impl Claims {
    pub(crate) fn of(&self, account: &AccountId) -> Claim {
        self.by_account.lock().get(account).copied().unwrap_or_default()
    }

    /// A function was replaced, made or removed.
    pub(crate) fn change(&self, account: &AccountId, old: Claim, new: Claim) {
        if old == new {
            return;
        }
        let mut all = self.by_account.lock();
        let sum = all.entry(account.clone()).or_default();
        *sum = sum.with(old, new);
        if *sum == Claim::default() {
            all.remove(account);
        }
    }
}

impl Function {
    /// What it claims.
    pub(crate) fn claim(&self) -> Claim {
        let reserved = self.concurrency.reserved.map(u64::from);
        let provisioned = || u64::from(self.concurrency.provisioned_in_all());
        Claim {
            functions: 1,
            code_bytes: self.code_bytes(),
            reserved: reserved.unwrap_or(0),
            taken: reserved.unwrap_or_else(provisioned),
        }
    }

    fn code_bytes(&self) -> u64 {
        let configurations = self.versions().map(|version| &version.configuration);
        let packages = configurations.filter(|configuration| configuration.image.is_none());
        packages.map(|configuration| configuration.code.size).sum()
    }
}

/// Whether an account may keep so many bytes of packages. Functions that change at the same moment do not wait for
/// each other here: together they may go beyond it, by a package each.
pub(crate) fn check_storage(before: u64, after: u64, limit: u64) -> Result<(), Error> {
    // Who has more than a limit that was lowered may still make it less.
    if after > limit && after > before {
        return Err(Error::CodeStorageExceeded(format!(
            "Code storage limit exceeded: the packages of all versions would take {after} of {limit} bytes."
        )));
    }
    Ok(())
}

/// What stays for functions that reserve nothing. A smaller limit than twice as many keeps half of it.
pub(crate) fn kept_free(limit: u64) -> u64 {
    u64::from(UNRESERVED_AT_LEAST).min(limit / 2)
}

/// Whether a function may reserve so much, by the sum of all claims once it had.
pub(crate) fn check_reserved(function: &Function, taken: u64, limit: u64) -> Result<(), Error> {
    let reserved = function.concurrency.reserved.unwrap_or(0);
    let provisioned = function.concurrency.provisioned_in_all();
    if reserved < provisioned {
        return Err(Error::Invalid(format!(
            "ReservedConcurrentExecutions  {reserved} should not be lower than function's total provisioned concurrency \
             [{provisioned}]."
        )));
    }
    // What does not reserve needs nothing of the rest.
    if function.claim().reserved > 0 && limit.saturating_sub(taken) < kept_free(limit) {
        return Err(Error::Invalid(format!(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below \
             its minimum value of [{}].",
            kept_free(limit)
        )));
    }
    Ok(())
}

/// Whether a function may have so much kept ready, by the sums of all claims before and once it had.
pub(crate) fn check_provisioned(
    function: &Function,
    before: u64,
    taken: u64,
    limit: u64,
) -> Result<(), Error> {
    if let Some(reserved) = function.concurrency.reserved {
        return if function.concurrency.provisioned_in_all() <= reserved {
            Ok(())
        } else {
            Err(Error::Invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
                    .into(),
            ))
        };
    }
    if taken > limit {
        return Err(Error::Invalid(format!(
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{}].",
            limit.saturating_sub(before)
        )));
    }
    if limit - taken < kept_free(limit) {
        return Err(Error::Invalid(format!(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its \
             minimum value of [{}].",
            kept_free(limit)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_follow_the_functions() {
        let claims = Claims::default();
        let account = AccountId::parse("123456789012").unwrap();
        let claim = |reserved, taken| Claim { reserved, taken, ..Claim::default() };
        claims.change(&account, Claim::default(), claim(5, 5));
        claims.change(&account, Claim::default(), claim(0, 3));
        assert_eq!(claims.of(&account), claim(5, 8));
        claims.change(&account, claim(5, 5), claim(2, 2));
        assert_eq!(claims.of(&account), claim(2, 5));
        claims.change(&account, claim(2, 2), Claim::default());
        claims.change(&account, claim(0, 3), Claim::default());
        assert!(claims.by_account.lock().is_empty());
    }

    #[test]
    fn packages_fit_up_to_the_last_byte() {
        for (before, after, fits) in [(0, 100, true), (0, 101, false), (200, 150, true), (150, 151, false)] {
            assert_eq!(check_storage(before, after, 100).is_ok(), fits, "{before} {after}");
        }
    }

    #[test]
    fn a_part_stays_free() {
        for (limit, free) in [(1000, 100), (200, 100), (150, 75), (3, 1), (1, 0), (0, 0)] {
            assert_eq!(kept_free(limit), free, "{limit}");
        }
    }
}
