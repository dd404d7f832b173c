//! The part of one queue that memory holds: a bounded window on what is ready, another on what is delayed, and the
//! leases.
//!
//! Messages are in the order of their numbers. Memory has every message without a delay up to `loaded_to`,
//! and every delayed one up to `horizon`; what is beyond is on the disk only, and is loaded when the window runs low. While
//! a load is under way, what arrives is set aside and sorted in with the load: the two are not in one order. A message
//! whose write is under way is *pending*. It comes into memory once, by its arrival or by a load that saw it first.
//!
//! What has come due has room for a window, and what finds none stays where it is: else all retries of a long queue would come
//! into memory with their time.
//!
//! A lease is held in memory alone. Losing it (a crash, time) makes the message ready again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::ready::Ready;

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = i64;

/// A message as the window holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry<C> {
    /// Its number within the queue.
    pub(crate) number: u64,
    /// When it was sent.
    pub(crate) sent: Millis,
    /// Attempts: those that were written down, and where messages are received by their queue's name all that memory knows.
    pub(crate) attempts: u32,
    /// From when on it may be received; 0: at once.
    pub(crate) due: Millis,
    /// When it was first received, as far as memory knows; 0: never.
    pub(crate) first: Millis,
    /// Its group, in a queue that is in order within groups.
    pub(crate) group: Option<Arc<str>>,
    /// What it holds, where memory has it.
    pub(crate) content: C,
}

#[derive(Debug)]
struct Lease<C> {
    token: u64,
    until: Millis,
    entry: Entry<C>,
}

/// Which part of the disk is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Messages without a delay whose numbers are above.
    Ready(u64),
    /// Delayed messages whose time and number are above.
    Delayed(Millis, u64),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Window<C> {
    size: usize,
    /// How little may be left before more is loaded.
    low: usize,
    next_number: u64,
    /// Messages that are being written, and the attempts that are written with them: an arrival that is behind the time
    /// is told from the one that is awaited.
    pending: HashMap<u64, u32>,
    ready: Ready<C>,
    loaded_to: u64,
    /// Whether the disk may have more beyond `loaded_to`.
    behind: bool,
    delayed: BTreeMap<(Millis, u64), Entry<C>>,
    /// Memory has what is delayed up to here; `None`: all of it.
    horizon: Option<(Millis, u64)>,
    /// The last that came due. What is delayed lies behind it, so that nothing in hand is beyond the horizon.
    passed: (Millis, u64),
    leased: HashMap<u64, Lease<C>>,
    ends: BTreeSet<(Millis, u64)>,
    /// The load under way, and what arrived meanwhile.
    loading: Option<(Load, Vec<Entry<C>>)>,
    /// What the load under way finds is of before the queue was emptied.
    stale: bool,
    /// Messages whose delay was seen to end.
    came_due: u64,
    next_token: u64,
}

impl<C> Window<C> {
    /// Of a queue of which nothing is known but the number of its last message on the disk; 0: there is none.
    pub(crate) fn new(size: usize, last: u64) -> Self {
        let has_some = last > 0;
        Self {
            size,
            low: size / 4,
            next_number: last + 1,
            pending: HashMap::new(),
            passed: (0, 0),
            ready: Ready::any(),
            loaded_to: 0,
            behind: has_some,
            delayed: BTreeMap::new(),
            horizon: has_some.then_some((0, 0)),
            leased: HashMap::new(),
            ends: BTreeSet::new(),
            loading: None,
            stale: false,
            came_due: 0,
            next_token: 1,
        }
    }

    /// The same, in order within groups. What is blocked fills it too, so it is kept full: loads bring so many.
    pub(crate) fn in_groups(self, load: usize) -> Self {
        Self { ready: Ready::grouped(), low: self.size.saturating_sub(load), ..self }
    }

    /// The number of a message that is going to be written.
    pub(crate) fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.pending.insert(number, 0);
        number
    }

    /// A message that is in nobody's hand is going to be written anew, with another delay and so many attempts.
    pub(crate) fn rewrite(&mut self, number: u64, attempts: u32) {
        self.pending.insert(number, attempts);
    }

    /// A message was not written after all.
    pub(crate) fn not_written(&mut self, number: u64) {
        self.pending.remove(&number);
    }

    /// A message is on the disk, new or with another delay.
    pub(crate) fn arrived(&mut self, entry: Entry<C>) {
        match &mut self.loading {
            Some((_, aside)) => aside.push(entry),
            None => self.place(entry),
        }
    }

    fn place(&mut self, entry: Entry<C>) {
        if self.pending.get(&entry.number) != Some(&entry.attempts) {
            return;
        }
        self.pending.remove(&entry.number);
        if entry.due > 0 { self.place_delayed(entry) } else { self.place_ready(entry) }
    }

    fn place_ready(&mut self, entry: Entry<C>) {
        if entry.number <= self.loaded_to {
            // Committed after a later one: memory has gone past it.
            self.ready.push(entry);
        } else if !self.behind && self.ready.len_new() < self.size {
            self.loaded_to = entry.number;
            self.ready.push(entry);
        } else {
            self.behind = true;
        }
    }

    fn place_delayed(&mut self, entry: Entry<C>) {
        let at = (entry.due, entry.number);
        if self.horizon.is_some_and(|horizon| at > horizon) {
            return;
        }
        if at <= self.passed {
            self.ready.push(entry);
            self.came_due += 1;
            return;
        }
        self.delayed.insert(at, entry);
        if self.delayed.len() > self.size {
            self.delayed.pop_last();
            self.horizon = self.delayed.last_key_value().map(|(at, _)| *at);
        }
    }

    /// What is to be read now, if anything; [`Window::loaded`] must follow.
    pub(crate) fn load(&mut self) -> Option<Load> {
        if self.loading.is_some() {
            return None;
        }
        let load = match self.horizon {
            Some((due, number)) if self.is_low_on_delayed() => Load::Delayed(due, number),
            _ if self.is_low_on_new() => Load::Ready(self.loaded_to),
            _ => return None,
        };
        self.loading = Some((load, Vec::new()));
        Some(load)
    }

    fn is_low_on_new(&self) -> bool {
        self.behind && self.ready.len_new() <= self.low
    }

    fn is_low_on_delayed(&self) -> bool {
        self.horizon.is_some() && self.delayed.len() + self.ready.len_due() <= self.low
    }

    /// What was read, in order, at most `limit`; `None` if it could not be read.
    pub(crate) fn loaded(&mut self, found: Option<Vec<Entry<C>>>, limit: usize) {
        let Some((load, aside)) = self.loading.take() else { return };
        let stale = std::mem::take(&mut self.stale);
        if let Some(found) = found.filter(|_| !stale) {
            let all = found.len() < limit;
            for entry in &found {
                self.pending.remove(&entry.number);
            }
            match load {
                Load::Ready(_) => {
                    self.behind = !all;
                    self.loaded_to = found.last().map_or(self.loaded_to, |last| last.number);
                    found.into_iter().for_each(|entry| self.ready.push(entry));
                }
                Load::Delayed(..) => {
                    let last = found.last().map(|last| (last.due, last.number));
                    self.horizon = if all { None } else { last };
                    self.delayed.extend(found.into_iter().map(|entry| ((entry.due, entry.number), entry)));
                }
            }
        }
        for entry in aside {
            self.place(entry);
        }
    }

    /// Whether there is a message to lease. Others' leases are counted by who asks.
    pub(crate) fn has_ready(&self) -> bool {
        self.ready.has_some()
    }

    /// Leases the next message: its token and what it is.
    pub(crate) fn lease(&mut self, until: Millis) -> Option<(u64, Entry<C>)>
    where
        C: Clone,
    {
        self.lease_next(None, until)
    }

    /// The same for one who holds a message already, and may have what comes next in its group.
    pub(crate) fn lease_next(&mut self, held: Option<&Entry<C>>, until: Millis) -> Option<(u64, Entry<C>)>
    where
        C: Clone,
    {
        let entry = self.ready.take(held)?;
        let token = self.next_token;
        self.next_token += 1;
        self.ends.insert((until, entry.number));
        self.leased.insert(entry.number, Lease { token, until, entry: entry.clone() });
        Some((token, entry))
    }

    /// Ends a lease that is still held: the message is in nobody's hand and not in memory any more.
    pub(crate) fn settle(&mut self, number: u64, token: u64) -> Option<Entry<C>> {
        self.leased.get(&number).filter(|lease| lease.token == token)?;
        let entry = self.end(number)?;
        self.ready.ended(&entry);
        Some(entry)
    }

    fn end(&mut self, number: u64) -> Option<Entry<C>> {
        let lease = self.leased.remove(&number)?;
        self.ends.remove(&(lease.until, number));
        Some(lease.entry)
    }

    /// Gives a message back, to be the next; whether the lease was still held.
    pub(crate) fn release(&mut self, number: u64, token: u64) -> bool {
        let ours = |lease: &Lease<C>| lease.token == token;
        if !self.leased.get(&number).is_some_and(ours) {
            return false;
        }
        let entry = self.end(number);
        entry.into_iter().for_each(|entry| self.ready.put_back(entry, true));
        true
    }

    /// Has a lease last longer; whether it was still held.
    pub(crate) fn extend(&mut self, number: u64, token: u64, until: Millis) -> bool {
        let Some(lease) = self.leased.get_mut(&number).filter(|lease| lease.token == token) else {
            return false;
        };
        self.ends.remove(&(lease.until, number));
        lease.until = until;
        self.ends.insert((until, number));
        true
    }

    /// Makes ready what was delayed until now, as far as there is room, and what was leased until now; how many leases
    /// were lost.
    pub(crate) fn pass(&mut self, now: Millis) -> usize {
        while self.ready.len_due() < self.size {
            let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) else { break };
            self.passed = *first.key();
            self.ready.push(first.remove());
            self.came_due += 1;
        }
        let mut lost = 0;
        while let Some((_, number)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.ends.pop_first();
            if let Some(lease) = self.leased.remove(&number) {
                self.ready.put_back(lease.entry, false);
                lost += 1;
            }
        }
        lost
    }

    /// When [`Window::pass`] has something to do.
    pub(crate) fn next_change(&self) -> Option<Millis> {
        let room = self.ready.len_due() < self.size;
        let due = self.delayed.first_key_value().filter(|_| room).map(|((due, _), _)| *due);
        let end = self.ends.first().map(|(until, _)| *until);
        due.into_iter().chain(end).min()
    }

    /// A message in somebody's hand was received once more, now: how often that was.
    pub(crate) fn count(&mut self, number: u64, now: Millis) -> Option<Entry<C>>
    where
        C: Clone,
    {
        let lease = self.leased.get_mut(&number)?;
        lease.entry.attempts = lease.entry.attempts.saturating_add(1);
        if lease.entry.first == 0 {
            lease.entry.first = now;
        }
        Some(lease.entry.clone())
    }

    /// Takes out a message that is in nobody's hand, if memory has it and it was sent then.
    pub(crate) fn remove_sent(&mut self, number: u64, sent: Millis) -> Option<Entry<C>> {
        let entry = self.ready.remove(number)?;
        if entry.sent == sent {
            return Some(entry);
        }
        self.ready.push(entry);
        None
    }

    /// Takes out a message that is in nobody's hand, if memory has it.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Entry<C>> {
        self.ready.remove(number)
    }

    /// Forgets all messages, those in somebody's hand and those being written among them: the disk has none of them either, or
    /// soon. The number of the last.
    pub(crate) fn clear(&mut self) -> u64 {
        self.ready.clear();
        self.pending.clear();
        self.delayed.clear();
        self.leased.clear();
        self.ends.clear();
        (self.loaded_to, self.behind, self.horizon) = (self.next_number - 1, false, None);
        if let Some((_, aside)) = &mut self.loading {
            aside.clear();
            self.stale = true;
        }
        self.next_number - 1
    }

    /// Whether part of the disk is being read or has to be, before it is known what is ready.
    pub(crate) fn wants_load(&self) -> bool {
        self.loading.is_some() || self.is_low_on_new() || self.is_low_on_delayed()
    }

    /// Whether nothing is being written.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a message is in somebody's hand.
    pub(crate) fn is_leased(&self, number: u64) -> bool {
        self.leased.contains_key(&number)
    }

    /// Messages whose delay was seen to end.
    pub(crate) fn came_due(&self) -> u64 {
        self.came_due
    }

    /// Messages in somebody's hand.
    pub(crate) fn leases(&self) -> usize {
        self.leased.len()
    }

    /// When the oldest message that memory holds was sent.
    pub(crate) fn oldest(&self) -> Option<Millis> {
        let ready = self.ready.oldest();
        let delayed = self.delayed.values().map(|entry| entry.sent).min();
        let leased = self.leased.values().map(|lease| lease.entry.sent).min();
        ready.into_iter().chain(delayed).chain(leased).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    /// What may happen to a queue.
    #[derive(Debug, Clone)]
    enum Step {
        /// A message gets its number.
        Number {
            delay: Millis,
        },
        /// One of those numbered is on the disk, whichever.
        Commit(usize),
        /// One of those on the disk that memory was not told of is told.
        Tell(usize),
        Lease,
        Finish(usize),
        Release(usize),
        Retry {
            which: usize,
            delay: Millis,
        },
        BeginLoad,
        EndLoad,
        Pass(Millis),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let delay = || prop_oneof![3 => Just(0), 1 => 1..50_i64];
        let step = prop_oneof![
            6 => delay().prop_map(|delay| Step::Number { delay }),
            6 => any::<usize>().prop_map(Step::Commit),
            6 => any::<usize>().prop_map(Step::Tell),
            4 => Just(Step::Lease),
            2 => any::<usize>().prop_map(Step::Finish),
            1 => any::<usize>().prop_map(Step::Release),
            1 => (any::<usize>(), 1..50_i64).prop_map(|(which, delay)| Step::Retry { which, delay }),
            2 => Just(Step::BeginLoad),
            2 => Just(Step::EndLoad),
            1 => (1..30_i64).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..300)
    }

    const SIZE: usize = 4;

    /// A disk, a window on it, and who holds leases.
    struct World {
        now: Millis,
        window: Window<()>,
        numbered: Vec<Entry<()>>,
        disk: BTreeMap<u64, Entry<()>>,
        untold: Vec<Entry<()>>,
        held: Vec<(u64, u64)>,
        most_held: usize,
        read: Option<Vec<Entry<()>>>,
    }

    impl World {
        fn new(before: u64) -> Self {
            let entry =
                |number| Entry { number, sent: 0, attempts: 0, due: 0, first: 0, group: None, content: () };
            Self {
                now: 100,
                window: Window::new(SIZE, before),
                numbered: Vec::new(),
                disk: (1..=before).map(|number| (number, entry(number))).collect(),
                untold: Vec::new(),
                held: Vec::new(),
                most_held: 0,
                read: None,
            }
        }

        fn read(&self, load: Load) -> Vec<Entry<()>> {
            let mut rows: Vec<_> = self.disk.values().cloned().collect();
            match load {
                Load::Ready(after) => rows.retain(|row| row.due == 0 && row.number > after),
                Load::Delayed(due, number) => {
                    rows.retain(|row| row.due > 0 && (row.due, row.number) > (due, number));
                    rows.sort_by_key(|row| (row.due, row.number));
                }
            }
            rows.truncate(SIZE);
            rows
        }

        fn take<T>(from: &mut Vec<T>, which: usize) -> Option<T> {
            (!from.is_empty()).then(|| from.swap_remove(which % from.len()))
        }

        fn run(&mut self, step: Step) {
            match step {
                Step::Number { delay } => {
                    let due = if delay > 0 { self.now + delay } else { 0 };
                    let number = self.window.number();
                    self.numbered.push(Entry {
                        number,
                        sent: self.now,
                        attempts: 0,
                        due,
                        first: 0,
                        group: None,
                        content: (),
                    });
                }
                Step::Commit(which) => {
                    if let Some(entry) = Self::take(&mut self.numbered, which) {
                        self.disk.insert(entry.number, entry.clone());
                        self.untold.push(entry);
                    }
                }
                Step::Tell(which) => {
                    let told = Self::take(&mut self.untold, which);
                    told.into_iter().for_each(|entry| self.window.arrived(entry));
                }
                Step::Lease => {
                    if let Some((token, entry)) = self.window.lease(Millis::MAX) {
                        assert!(self.disk.contains_key(&entry.number), "{} is gone", entry.number);
                        assert!(entry.due <= self.now, "{} is not due", entry.number);
                        let twice = self.held.iter().any(|(number, _)| *number == entry.number);
                        assert!(!twice, "{} is in somebody's hand", entry.number);
                        self.held.push((entry.number, token));
                        self.most_held = self.most_held.max(self.held.len());
                    }
                }
                Step::Finish(which) => {
                    if let Some((number, token)) = Self::take(&mut self.held, which) {
                        assert!(self.window.settle(number, token).is_some());
                        self.disk.remove(&number);
                    }
                }
                Step::Release(which) => {
                    if let Some((number, token)) = Self::take(&mut self.held, which) {
                        assert!(self.window.release(number, token));
                    }
                }
                Step::Retry { which, delay } => {
                    if let Some((number, token)) = Self::take(&mut self.held, which) {
                        let mut entry = self.window.settle(number, token).unwrap();
                        entry.due = self.now + delay;
                        entry.attempts += 1;
                        self.window.rewrite(number, entry.attempts);
                        self.disk.insert(number, entry.clone());
                        self.untold.push(entry);
                    }
                }
                Step::BeginLoad => {
                    if self.read.is_none() {
                        self.read = self.window.load().map(|load| self.read(load));
                    }
                }
                Step::EndLoad => {
                    if let Some(found) = self.read.take() {
                        self.window.loaded(Some(found), SIZE);
                    }
                }
                Step::Pass(time) => {
                    self.now += time;
                    assert_eq!(self.window.pass(self.now), 0);
                }
            }
        }

        /// Everything that is on the disk is handed out in the end, once.
        fn drain(&mut self) {
            while !self.numbered.is_empty() {
                self.run(Step::Commit(0));
            }
            let mut seen: HashSet<u64> = self.held.iter().map(|(number, _)| *number).collect();
            assert_eq!(seen.len(), self.held.len());
            self.now += 1_000;
            for _ in 0..10_000 {
                self.run(Step::Tell(0));
                self.window.pass(self.now);
                self.run(Step::BeginLoad);
                self.run(Step::EndLoad);
                let before = self.held.len();
                self.run(Step::Lease);
                if self.held.len() > before {
                    seen.insert(self.held[before].0);
                }
                if seen.len() == self.disk.len() {
                    break;
                }
            }
            assert_eq!(seen, self.disk.keys().copied().collect());
            assert!(self.window.lease(Millis::MAX).is_none());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn nothing_is_lost_and_nothing_is_handed_out_twice(before in 0..20_u64, steps in steps()) {
            let mut world = World::new(before);
            for step in steps {
                world.run(step);
                assert!(world.window.delayed.len() <= 2 * SIZE, "delayed ones are bounded");
                // Those that were in hand or being written when there was no room come on top.
                let back = world.most_held + world.untold.len() + world.numbered.len();
                assert!(world.window.ready.len_due() <= SIZE + back, "so are those that came due");
            }
            world.drain();
        }
    }

    fn entry(number: u64, due: Millis) -> Entry<()> {
        Entry { number, sent: 0, attempts: 0, due, first: 0, group: None, content: () }
    }

    #[test]
    fn memory_is_bounded() {
        let mut window = Window::new(SIZE, 0);
        for _ in 0..1_000_000 {
            let number = window.number();
            window.arrived(entry(number, 0));
        }
        assert_eq!((window.ready.len(), window.behind), (SIZE, true));
        for _ in 0..1_000 {
            let number = window.number();
            window.arrived(entry(number, 10));
        }
        assert_eq!((window.delayed.len(), window.horizon), (SIZE, Some((10, 1_000_004))));
        assert!(window.pending.is_empty());
    }

    #[test]
    fn what_comes_due_unheard_is_bounded_too() {
        let mut window = Window::new(SIZE, 0);
        for time in 1..1_000 {
            let number = window.number();
            window.arrived(entry(number, time));
            window.pass(time);
        }
        assert_eq!((window.ready.len_due(), window.delayed.len()), (SIZE, SIZE));
        assert_eq!(window.next_change(), None, "there is no room: nothing to wake up for");
        assert!(window.load().is_none());
        window.lease(Millis::MAX).unwrap();
        assert_eq!(window.next_change(), Some(5));
        // After a restart, all of them due.
        let mut window = Window::new(SIZE, 1_000);
        for _ in 0..10 {
            let Some(Load::Delayed(due, number)) = window.load() else { break };
            let found = (1..=SIZE as u64).map(|more| entry(number + more, due + more as i64)).collect();
            window.loaded(Some(found), SIZE);
            window.pass(2_000);
        }
        assert_eq!((window.ready.len_due(), window.delayed.len()), (SIZE, 0));
    }

    #[test]
    fn retries_and_what_is_new_take_turns() {
        let mut window = Window::new(SIZE, 0);
        for due in [0, 0, 0, 1, 1, 1] {
            let number = window.number();
            window.arrived(entry(number, due));
        }
        window.pass(1);
        let mut order = Vec::new();
        while let Some((_, entry)) = window.lease(Millis::MAX) {
            order.push(entry.number);
        }
        assert_eq!(order, [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn a_lease_that_is_over_is_lost() {
        let mut window = Window::new(SIZE, 0);
        let number = window.number();
        window.arrived(entry(number, 0));
        let (token, _) = window.lease(50).unwrap();
        assert!(window.extend(1, token, 60));
        assert_eq!((window.next_change(), window.pass(59)), (Some(60), 0));
        assert_eq!(window.pass(60), 1);
        assert!(window.settle(1, token).is_none() && !window.extend(1, token, 70));
        let (again, _) = window.lease(100).unwrap();
        assert!(window.settle(1, token).is_none(), "the old lease is worth nothing");
        assert!(window.settle(1, again).is_some());
    }
}
