//! Concurrency of functions and accounts: how many calls may be in flight, those that wait included.
//!
//! An account has so many calls in flight for all its functions. A function with reserved concurrency has its own part,
//! which others cannot take and it cannot exceed; all others draw from the rest. They draw in small batches, so
//! that admitting a call touches a word of its own function only; a function that finds the rest used up takes
//! back what others have drawn and do not use, so the account's limit is exact.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::UNRESERVED_AT_LEAST;

/// Calls drawn from the account at once.
const BATCH: u32 = 8;

/// So many times what is left of an account's limit one function may have at most: alone, eight ninths of it.
const GREED: u32 = 8;

/// Lambda API: TooManyRequestsException, `Reason`.
pub(crate) const RESERVED: &str = "ReservedFunctionConcurrentInvocationLimitExceeded";
/// Lambda API: TooManyRequestsException, `Reason`.
pub(crate) const CONCURRENT: &str = "ConcurrentInvocationLimitExceeded";

/// Instances held, by a function or an account.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(super) instances: AtomicUsize,
    pub(super) bytes: AtomicU64,
}

/// What an account's functions share.
pub(crate) struct Account {
    pub(super) held: Held,
    limit: u32,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// Set apart for functions with reserved concurrency.
    reserved: u32,
    /// Drawn by the others.
    drawn: u32,
    /// Who holds something of that: no more functions than calls may be in flight, however many there are.
    drawers: Vec<Weak<Share>>,
}

impl Ledger {
    /// What may be drawn. What is reserved for functions of many calls an instance may be more than the limit; that
    /// some part is left for the others is not to depend on it.
    fn most(&self, limit: u32) -> u32 {
        limit.saturating_sub(self.reserved).max(limit.min(UNRESERVED_AT_LEAST))
    }

    /// What a function with so many calls in flight may draw now. One that has a multiple of what is left gets no more:
    /// a burst leaves room for a trickle, however many burst (dynamic thresholds, Choudhury and Hahne 1998).
    fn left(&self, most: u32, in_flight: u32) -> u32 {
        let left = most.saturating_sub(self.drawn);
        if in_flight > left.saturating_mul(GREED) { 0 } else { (left / GREED).clamp(left.min(1), BATCH) }
    }

    /// Takes back what was drawn and is not used.
    fn take_back(&mut self) {
        let drawn = &mut self.drawn;
        self.drawers.retain(|drawer| {
            let Some(drawer) = drawer.upgrade() else { return false };
            *drawn = drawn.saturating_sub(drawer.shrink());
            drawer.has_drawn()
        });
    }
}

/// One function's part.
pub(crate) struct Share {
    me: Weak<Share>,
    pub(super) account: Arc<Account>,
    pub(super) held: Held,
    /// Calls that may be in flight above, calls that are below.
    state: AtomicU64,
    reserved: AtomicBool,
    /// Instances of the host that are reserved for it.
    pub(super) claimed: AtomicUsize,
}

fn unpack(state: u64) -> (u32, u32) {
    // The halves.
    ((state >> 32) as u32, state as u32)
}

fn pack(granted: u32, in_flight: u32) -> u64 {
    (u64::from(granted) << 32) | u64::from(in_flight)
}

impl Account {
    pub(super) fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { held: Held::default(), limit, ledger: Mutex::default() })
    }

    /// Takes back what calls that have ended since held of more than there is now.
    pub(super) fn settle(&self) {
        let mut ledger = self.ledger.lock();
        if ledger.drawn > ledger.most(self.limit) {
            ledger.take_back();
        }
    }

    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new_cyclic(|me| Share {
            me: Weak::clone(me),
            account: Arc::clone(self),
            held: Held::default(),
            state: AtomicU64::new(0),
            reserved: AtomicBool::new(false),
            claimed: AtomicUsize::new(0),
        })
    }
}

impl Share {
    /// Admits a call, or says why not with Lambda's reason.
    pub(super) fn take(&self) -> Result<(), &'static str> {
        loop {
            let state = self.state.load(Ordering::Relaxed);
            let (granted, in_flight) = unpack(state);
            if in_flight < granted {
                let more = pack(granted, in_flight + 1);
                let swap =
                    self.state.compare_exchange_weak(state, more, Ordering::Relaxed, Ordering::Relaxed);
                if swap.is_ok() {
                    return Ok(());
                }
            } else if self.reserved.load(Ordering::Relaxed) {
                return Err(RESERVED);
            } else {
                self.draw()?;
            }
        }
    }

    /// Whether it has a part of its own.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Whether it holds fewer instances than are reserved for it.
    pub(super) fn is_owed(&self) -> bool {
        self.held.instances.load(Ordering::Relaxed) < self.claimed.load(Ordering::Relaxed)
    }

    /// An admitted call is over.
    pub(super) fn give_back(&self) {
        self.state.fetch_sub(1, Ordering::Relaxed);
    }

    /// Draws from what the account has not set apart.
    fn draw(&self) -> Result<(), &'static str> {
        let mut ledger = self.account.ledger.lock();
        if self.reserved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (granted, in_flight) = unpack(self.state.load(Ordering::Relaxed));
        if in_flight < granted {
            return Ok(());
        }
        let most = ledger.most(self.account.limit);
        if ledger.left(most, in_flight) == 0 {
            ledger.take_back();
        }
        let left = ledger.left(most, in_flight);
        if left == 0 {
            return Err(CONCURRENT);
        }
        ledger.drawn += left;
        if granted == 0 {
            ledger.drawers.push(Weak::clone(&self.me));
        }
        self.state.fetch_add(u64::from(left) << 32, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it holds something of what functions without a part of their own share. Under the account's lock.
    fn has_drawn(&self) -> bool {
        !self.is_reserved() && unpack(self.state.load(Ordering::Relaxed)).0 > 0
    }

    /// Gives up what it has drawn and does not use. Under the account's lock.
    fn shrink(&self) -> u32 {
        if self.reserved.load(Ordering::Relaxed) {
            return 0;
        }
        let less = |state| {
            let (granted, in_flight) = unpack(state);
            Some(pack(granted.min(in_flight), in_flight))
        };
        // It always gives something, so both are the same.
        let before = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let (granted, in_flight) = unpack(before.unwrap_or_else(|state| state));
        granted.saturating_sub(in_flight)
    }

    /// Sets a part of the account's limit apart for this function alone, or no longer.
    pub(super) fn reserve(&self, reserved: Option<u32>) {
        let mut ledger = self.account.ledger.lock();
        ledger.drawers.retain(|drawer| !Weak::ptr_eq(drawer, &self.me));
        let was = self.reserved.swap(reserved.is_some(), Ordering::Relaxed);
        let set = |granted: Option<u32>| {
            let change = |state| {
                let (_, in_flight) = unpack(state);
                Some(pack(granted.unwrap_or(in_flight), in_flight))
            };
            unpack(
                self.state
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
                    .unwrap_or_else(|state| state),
            )
        };
        let (granted, in_flight) = set(reserved);
        if was {
            ledger.reserved = ledger.reserved.saturating_sub(granted);
        } else {
            ledger.drawn = ledger.drawn.saturating_sub(granted);
        }
        match reserved {
            Some(reserved) => ledger.reserved += reserved,
            None => {
                ledger.drawn += in_flight;
                if in_flight > 0 {
                    ledger.drawers.push(Weak::clone(&self.me));
                }
            }
        }
        // What the others have drawn and do not use may be more than is left for them now.
        ledger.take_back();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let (granted, _) = unpack(*self.state.get_mut());
        let mut ledger = self.account.ledger.lock();
        let part = if *self.reserved.get_mut() { &mut ledger.reserved } else { &mut ledger.drawn };
        *part = part.saturating_sub(granted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(limit: u32) -> Arc<Account> {
        Account::new(limit)
    }

    fn taken(share: &Share) -> u32 {
        let mut count = 0;
        while share.take().is_ok() {
            count += 1;
        }
        count
    }

    #[test]
    fn the_accounts_limit_is_exact_whoever_draws() {
        let account = account(20);
        let (a, b) = (account.share(), account.share());
        a.take().unwrap();
        assert_eq!(taken(&b), 17, "what the other drew and does not use is taken back, and some is left");
        assert_eq!((taken(&a), b.take()), (2, Err(CONCURRENT)));
        b.give_back();
        assert_eq!((a.take(), a.take()), (Ok(()), Err(CONCURRENT)));
        (0..4).for_each(|_| a.give_back());
        assert_eq!(taken(&b), 2);
    }

    #[test]
    fn what_is_reserved_is_a_guarantee_and_a_cap() {
        let account = account(120);
        let (own, other) = (account.share(), account.share());
        own.reserve(Some(5));
        assert_eq!(taken(&other), 103);
        assert_eq!((taken(&own), own.take()), (5, Err(RESERVED)));
        own.reserve(Some(0));
        own.give_back();
        assert_eq!(own.take(), Err(RESERVED), "every call is refused");
        (0..4).for_each(|_| own.give_back());
        own.reserve(None);
        (0..103).for_each(|_| other.give_back());
        assert_eq!(taken(&own), 107);
        other.reserve(Some(1000));
        (0..107).for_each(|_| own.give_back());
        account.settle();
        assert_eq!(taken(&own), 89, "a hundred are left");
        drop(own);
    }

    #[test]
    fn a_refusal_looks_at_those_who_hold_something_only() {
        let account = account(100);
        let all: Vec<_> = (0..1000).map(|_| account.share()).collect();
        for share in &all {
            share.take().unwrap();
            share.give_back();
        }
        let busy = account.share();
        assert_eq!(taken(&busy), 89);
        let drawers = || account.ledger.lock().drawers.len();
        assert_eq!(drawers(), 1, "who holds nothing is not looked at again");
        busy.reserve(Some(5));
        assert_eq!(drawers(), 0);
        busy.reserve(None);
        assert_eq!(drawers(), 1, "its calls are still in flight");
        (0..89).for_each(|_| busy.give_back());
        all[7].take().unwrap();
        all[7].take().unwrap();
        assert_eq!(drawers(), 2, "once, however often it draws");
        assert_eq!(taken(&all[8]), 88);
        assert_eq!((drawers(), account.ledger.lock().drawn), (2, 90));
    }

    #[test]
    fn what_goes_gives_back() {
        let account = account(10);
        let gone = account.share();
        gone.take().unwrap();
        gone.give_back();
        drop(gone);
        let reserved = account.share();
        reserved.reserve(Some(4));
        reserved.take().unwrap();
        reserved.give_back();
        drop(reserved);
        assert_eq!(taken(&account.share()), 9);
    }
}
