//! Who pulls when.
//!
//! A registry may be silent for as long as a pull may take, so nobody waits for what another account waits for: each has pulls of
//! its own, and what two accounts want at the same time both make, of which the store keeps one.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedMutexGuard};

use crate::limits;

/// Bounds pulls, by account and in all.
#[derive(Default)]
pub(crate) struct Turns {
    /// Pulls under way, by account.
    under_way: Mutex<HashMap<String, usize>>,
    over: Notify,
}

/// Leave to pull, as long as this is kept.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    account: String,
}

impl Turns {
    /// Waits for leave. An account that pulls nothing gets it at once.
    pub(crate) async fn take(&self, account: &str) -> Turn<'_> {
        loop {
            let over = self.over.notified();
            if let Some(turn) = self.try_take(account) {
                return turn;
            }
            over.await;
        }
    }

    fn try_take(&self, account: &str) -> Option<Turn<'_>> {
        let mut under_way = self.under_way.lock();
        let all = under_way.values().sum::<usize>();
        let own = under_way.get(account).copied().unwrap_or(0);
        if own > 0 && (own >= limits::PULLS_OF_ONE || all >= limits::PULLS_AT_ONCE) {
            return None;
        }
        under_way.insert(account.to_owned(), own + 1);
        Some(Turn { turns: self, account: account.to_owned() })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut under_way = self.turns.under_way.lock();
        if let Some(own) = under_way.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.account);
            }
        }
        self.turns.over.notify_waiters();
    }
}

/// Has things of one name made one at a time.
#[derive(Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits until nobody makes something of this name.
    pub(crate) async fn lock(&self, name: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock();
            let known = all.get(&name).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                all.retain(|_, lock| lock.strong_count() > 0);
                let lock = Arc::default();
                all.insert(name, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    /// Whether there is nothing yet.
    async fn waits(mut work: Pin<&mut impl Future>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn no_account_waits_for_another() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for account in 0..5 {
            for number in 0..=limits::PULLS_OF_ONE {
                let turn = turns.try_take(&account.to_string());
                let all = held.len();
                let expected = number == 0 || number < limits::PULLS_OF_ONE && all < limits::PULLS_AT_ONCE;
                assert_eq!(turn.is_some(), expected, "{account}, its pull {number}, {all} under way");
                held.extend(turn);
            }
        }
        assert!(turns.try_take("4").is_none(), "it has one, and there are too many");
        let waiting = turns.take("0");
        let mut waiting = std::pin::pin!(waiting);
        assert!(waits(waiting.as_mut()).await);
        held.remove(0);
        assert!(waits(waiting.as_mut()).await, "all others are still too many");
        drop(held);
        waiting.await;
        assert!(turns.under_way.lock().len() <= 1);
    }

    #[tokio::test]
    async fn one_name_is_made_once_at_a_time() {
        let locks = Locks::default();
        let one = locks.lock("a".to_owned()).await;
        drop(locks.lock("b".to_owned()).await);
        let mut again = std::pin::pin!(locks.lock("a".to_owned()));
        assert!(waits(again.as_mut()).await);
        drop(one);
        drop(again.await);
        drop(locks.lock("c".to_owned()).await);
        assert_eq!(locks.0.lock().len(), 1, "what nobody holds is forgotten");
    }
}
