//! What of a queue is ready: in the order in which it came, or in order within groups.
//!
//! Without groups, what was delayed waits apart from what never was, and the two take turns: a backlog of retries does
//! not hold up what is new, nor the other way round.
//!
//! In groups, a group of which something is in somebody's hand is closed to everybody else, and what comes back goes to
//! where it was: the messages of a group are handed out by their numbers, whatever happens between. Groups take turns by
//! the number of their first message.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::window::Entry;

/// See the module.
#[derive(Debug)]
pub(crate) enum Ready<C> {
    /// First in, first out, more or less.
    Any(Lines<C>),
    /// In order within each group.
    Grouped(Groups<C>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lines<C> {
    new: VecDeque<Entry<C>>,
    due: VecDeque<Entry<C>>,
    /// Whose turn it is.
    due_first: bool,
}

impl<C> Lines<C> {
    /// Where a message waits.
    fn of(&mut self, entry: &Entry<C>) -> &mut VecDeque<Entry<C>> {
        if entry.due > 0 { &mut self.due } else { &mut self.new }
    }

    fn take(&mut self) -> Option<Entry<C>> {
        let (first, second) = match self.due_first {
            true => (&mut self.due, &mut self.new),
            false => (&mut self.new, &mut self.due),
        };
        let entry = first.pop_front().or_else(|| second.pop_front())?;
        self.due_first = !self.due_first;
        Some(entry)
    }

    fn remove(&mut self, number: u64) -> Option<Entry<C>> {
        [&mut self.new, &mut self.due].into_iter().find_map(|line| {
            let place = line.iter().position(|entry| entry.number == number)?;
            line.remove(place)
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Groups<C> {
    groups: HashMap<Arc<str>, Group<C>>,
    /// Groups that are open and have something, by the number of what is first.
    open: BTreeSet<(u64, Arc<str>)>,
    len: usize,
}

#[derive(Debug)]
struct Group<C> {
    waiting: BTreeMap<u64, Entry<C>>,
    in_hand: usize,
    /// As what it stands in `open`.
    listed: Option<u64>,
}

/// Messages without a group are one group: such a queue is in order as a whole.
fn name<C>(entry: &Entry<C>) -> Arc<str> {
    entry.group.clone().unwrap_or_default()
}

impl<C> Groups<C> {
    /// Changes a group and what follows from it.
    fn change<T>(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Group<C>) -> T) -> T {
        let new = || Group { waiting: BTreeMap::new(), in_hand: 0, listed: None };
        let group = self.groups.entry(Arc::clone(name)).or_insert_with(new);
        let before = group.waiting.len();
        let answer = change(group);
        self.len = self.len + group.waiting.len() - before;
        let first = group.waiting.first_key_value().map(|(number, _)| *number);
        let wanted = first.filter(|_| group.in_hand == 0);
        if wanted != group.listed {
            if let Some(old) = group.listed {
                self.open.remove(&(old, Arc::clone(name)));
            }
            self.open.extend(wanted.map(|number| (number, Arc::clone(name))));
            group.listed = wanted;
        }
        if group.waiting.is_empty() && group.in_hand == 0 {
            self.groups.remove(name);
        }
        answer
    }

    fn push(&mut self, entry: Entry<C>) {
        let name = name(&entry);
        self.change(&name, |group| drop(group.waiting.insert(entry.number, entry)));
    }

    fn take(&mut self, name: &Arc<str>) -> Option<Entry<C>> {
        self.change(name, |group| {
            let (_, entry) = group.waiting.pop_first()?;
            group.in_hand += 1;
            Some(entry)
        })
    }

    fn remove(&mut self, number: u64) -> Option<Entry<C>> {
        let holds = |group: &Group<C>| group.waiting.contains_key(&number);
        let name = self.groups.iter().find(|(_, group)| holds(group)).map(|(name, _)| Arc::clone(name))?;
        self.change(&name, |group| group.waiting.remove(&number))
    }
}

impl<C> Ready<C> {
    pub(crate) fn any() -> Self {
        Self::Any(Lines { new: VecDeque::new(), due: VecDeque::new(), due_first: false })
    }

    pub(crate) fn grouped() -> Self {
        Self::Grouped(Groups { groups: HashMap::new(), open: BTreeSet::new(), len: 0 })
    }

    /// What waits, whether or not it may be handed out.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Any(lines) => lines.new.len() + lines.due.len(),
            Self::Grouped(groups) => groups.len,
        }
    }

    /// What waits that never was delayed; in groups, everything.
    pub(crate) fn len_new(&self) -> usize {
        match self {
            Self::Any(lines) => lines.new.len(),
            Self::Grouped(groups) => groups.len,
        }
    }

    /// What waits that was delayed; in groups it is not told apart.
    pub(crate) fn len_due(&self) -> usize {
        match self {
            Self::Any(lines) => lines.due.len(),
            Self::Grouped(_) => 0,
        }
    }

    /// Whether there is something to hand out.
    pub(crate) fn has_some(&self) -> bool {
        match self {
            Self::Any(_) => self.len() > 0,
            Self::Grouped(groups) => !groups.open.is_empty(),
        }
    }

    /// A message is ready.
    pub(crate) fn push(&mut self, entry: Entry<C>) {
        match self {
            Self::Any(lines) => lines.of(&entry).push_back(entry),
            Self::Grouped(groups) => groups.push(entry),
        }
    }

    /// What was handed out comes back.
    pub(crate) fn put_back(&mut self, entry: Entry<C>, first: bool) {
        match self {
            Self::Any(lines) if first => lines.of(&entry).push_front(entry),
            Self::Any(lines) => lines.of(&entry).push_back(entry),
            Self::Grouped(groups) => groups.change(&name(&entry), |group| {
                group.in_hand = group.in_hand.saturating_sub(1);
                group.waiting.insert(entry.number, entry);
            }),
        }
    }

    /// What was handed out does not come back.
    pub(crate) fn ended(&mut self, entry: &Entry<C>) {
        if let Self::Grouped(groups) = self {
            groups.change(&name(entry), |group| group.in_hand = group.in_hand.saturating_sub(1));
        }
    }

    /// Hands out the next message. Whoever holds messages of a group may have the next of it; anybody else gets the first of
    /// an open one.
    pub(crate) fn take(&mut self, held: Option<&Entry<C>>) -> Option<Entry<C>> {
        match self {
            Self::Any(lines) => lines.take(),
            Self::Grouped(groups) => held.and_then(|held| groups.take(&name(held))).or_else(|| {
                let (_, name) = groups.open.first().cloned()?;
                groups.take(&name)
            }),
        }
    }

    /// Takes out a message that is in nobody's hand.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Entry<C>> {
        match self {
            Self::Any(lines) => lines.remove(number),
            Self::Grouped(groups) => groups.remove(number),
        }
    }

    /// Forgets everything, leases too.
    pub(crate) fn clear(&mut self) {
        *self = match self {
            Self::Any(_) => Self::any(),
            Self::Grouped(_) => Self::grouped(),
        };
    }

    /// When the oldest was sent.
    pub(crate) fn oldest(&self) -> Option<i64> {
        match self {
            Self::Any(lines) => lines.new.iter().chain(&lines.due).map(|entry| entry.sent).min(),
            Self::Grouped(groups) => {
                groups.groups.values().flat_map(|group| group.waiting.values()).map(|entry| entry.sent).min()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(number: u64, group: &str) -> Entry<()> {
        Entry { number, sent: 0, attempts: 0, due: 0, first: 0, group: Some(group.into()), content: () }
    }

    fn numbers(ready: &mut Ready<()>, most: usize) -> Vec<u64> {
        let mut held: Option<Entry<()>> = None;
        let mut taken = Vec::new();
        while taken.len() < most {
            held = ready.take(held.as_ref());
            let Some(entry) = &held else { break };
            taken.push(entry.number);
        }
        taken
    }

    #[test]
    fn a_group_is_closed_while_something_of_it_is_in_hand() {
        let mut ready = Ready::grouped();
        for (number, group) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "b")] {
            ready.push(entry(number, group));
        }
        assert_eq!(numbers(&mut ready, 2), [1, 3], "as many of one group as fit");
        assert_eq!(numbers(&mut ready, 10), [2, 5], "4 is of a group in hand");
        assert!(!ready.has_some() && ready.len() == 1);
        ready.ended(&entry(3, "a"));
        assert!(!ready.has_some());
        ready.put_back(entry(1, "a"), false);
        assert_eq!(numbers(&mut ready, 10), [1, 4]);
    }

    #[test]
    fn what_is_taken_out_is_gone() {
        let mut ready = Ready::grouped();
        ready.push(entry(1, "a"));
        ready.push(entry(2, "a"));
        assert!(ready.remove(3).is_none());
        assert_eq!(ready.remove(1).map(|entry| entry.number), Some(1));
        assert_eq!(numbers(&mut ready, 10), [2]);
    }

    proptest! {
        #[test]
        fn each_group_is_in_order_whatever_comes_back(steps in prop::collection::vec((0..4_u8, 0..3_u8), 1..200)) {
            let mut ready = Ready::grouped();
            let mut next = 1;
            let mut hands: HashMap<String, Vec<Entry<()>>> = HashMap::new();
            let mut done: HashMap<String, u64> = HashMap::new();
            for (step, which) in steps {
                let name = ["a", "b", "c"][usize::from(which)];
                match step {
                    0 => {
                        ready.push(entry(next, name));
                        next += 1;
                    }
                    1 => if let Some(taken) = ready.take(None) {
                        let name = taken.group.clone().unwrap().to_string();
                        let hand = hands.entry(name.clone()).or_default();
                        prop_assert!(hand.is_empty(), "the group was closed");
                        prop_assert!(done.get(&name).is_none_or(|last| *last < taken.number));
                        hand.push(taken);
                    },
                    // In order, as a consumer has to work through them.
                    2 => if let Some(taken) = hands.get_mut(name).and_then(Vec::pop) {
                        ready.ended(&taken);
                        done.insert(name.to_owned(), taken.number);
                    },
                    _ => if let Some(taken) = hands.get_mut(name).and_then(Vec::pop) {
                        ready.put_back(taken, false);
                    },
                }
            }
        }
    }
}
