//! Whose turn it is: round robin over tenants, and over each tenant's queues in its own turn.
//!
//! Who is listed has something to hand out. One message a turn: a tenant with a million messages in a thousand queues
//! and one with a single message get every other turn. Nothing here grows with the number of messages.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Tenants and their queues that have something to hand out.
#[derive(Debug)]
pub(crate) struct Turns<T, Q> {
    order: VecDeque<T>,
    queues: HashMap<T, VecDeque<Q>>,
}

impl<T, Q> Default for Turns<T, Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash, Q> Turns<T, Q> {
    /// Lists a queue behind the others of its tenant. It must not be listed already.
    pub(crate) fn list(&mut self, tenant: &T, queue: Q) {
        match self.queues.get_mut(tenant) {
            Some(queues) => queues.push_back(queue),
            None => {
                self.order.push_back(tenant.clone());
                self.queues.insert(tenant.clone(), VecDeque::from([queue]));
            }
        }
    }

    /// The queue whose turn it is; it is not listed any more, and its tenant is behind the others.
    pub(crate) fn next(&mut self) -> Option<Q> {
        let tenant = self.order.pop_front()?;
        let queues = self.queues.get_mut(&tenant)?;
        let queue = queues.pop_front();
        if queues.is_empty() {
            self.queues.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn tenants_take_turns_whatever_they_have() {
        let mut turns = Turns::default();
        for queue in 0..3 {
            turns.list(&"large", queue);
        }
        turns.list(&"small", 9);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let queue = turns.next().unwrap();
            seen.push(queue);
            turns.list(if queue == 9 { &"small" } else { &"large" }, queue);
        }
        assert_eq!(seen, [0, 9, 1, 9, 2, 9]);
    }

    #[test]
    fn who_has_nothing_is_gone() {
        let mut turns = Turns::default();
        turns.list(&"a", 1);
        assert_eq!((turns.next(), turns.next()), (Some(1), None));
        assert!(turns.queues.is_empty() && turns.order.is_empty());
    }
}
