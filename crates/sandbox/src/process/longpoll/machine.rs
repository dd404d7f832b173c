//! Which call of the Runtime API is legal now. Pure: no I/O, no clock, and payloads are never looked at.
//!
//! Up to as many invocations as the instance may have are under way: offered by the caller, fetched by the client
//! with `next`, answered with `response` or `error`, in any order.
//!
//! An invocation that the client may have lost on the way is handed out again. A client with one at a time lost it
//! if it asks for another over a new connection. A client with several asks whenever it likes; it lost an
//! invocation if the connection that brought it was reset, as a connection is that is closed with something unread.

use std::collections::VecDeque;

use base::RequestId;

/// The life of a runtime client, from the Runtime API's view. `T` is what belongs to an invocation.
#[derive(Debug)]
pub(super) struct Machine<T> {
    phase: Phase,
    /// How many invocations may be under way.
    most: usize,
    /// Wait to be fetched, in the order offered.
    offered: VecDeque<(RequestId, T)>,
    /// The client has them.
    fetched: Vec<Fetched<T>>,
    /// The last invocation that was answered, until another is fetched: a second answer to it is told apart from a
    /// foreign id.
    last: Option<RequestId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client has not asked for its first event.
    Initialising,
    /// It has.
    Ready,
    /// Initialisation failed or the process is gone.
    Over,
}

#[derive(Debug)]
struct Fetched<T> {
    id: RequestId,
    connection: ConnectionId,
    /// Its answer is being received.
    answering: bool,
    payload: T,
}

/// Numbers the connections of one instance.
pub(super) type ConnectionId = u64;

/// What `next` gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetch<'a, T> {
    /// Nothing yet.
    Wait,
    /// An invocation.
    Deliver(RequestId, &'a T),
    /// The client has an invocation and must answer that first.
    Refuse,
}

/// Why an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not the id of an invocation under way.
    WrongId,
    /// Not now.
    Transition,
}

/// An invocation that the end of the process has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost<T> {
    /// The client never fetched it.
    Offered(T),
    /// The client had it.
    Fetched(T),
}

impl<T> Machine<T> {
    /// For a client that is given at most so many invocations at once.
    pub(super) fn new(most: usize) -> Self {
        let (offered, fetched) = (VecDeque::new(), Vec::new());
        Self { phase: Phase::Initialising, most: most.max(1), offered, fetched, last: None }
    }

    /// `next` was called. True the first time: initialisation is done.
    pub(super) fn asked(&mut self) -> bool {
        let first = self.phase == Phase::Initialising;
        if first {
            self.phase = Phase::Ready;
        }
        first
    }

    /// Whether a `next` might get an invocation.
    pub(super) fn has_some(&self) -> bool {
        !self.offered.is_empty() || (self.most == 1 && !self.fetched.is_empty())
    }

    /// What a `next` on this connection gets at this moment.
    pub(super) fn fetch(&mut self, connection: ConnectionId) -> Fetch<'_, T> {
        if self.phase == Phase::Over {
            return Fetch::Refuse;
        }
        if let Some((id, payload)) = self.offered.pop_front() {
            self.last = None;
            self.fetched.push(Fetched { id, connection, answering: false, payload });
            return self.fetched.last().map_or(Fetch::Wait, |call| Fetch::Deliver(call.id, &call.payload));
        }
        match self.fetched.last_mut() {
            Some(call) if self.most == 1 && !call.answering && call.connection != connection => {
                call.connection = connection;
                Fetch::Deliver(call.id, &call.payload)
            }
            Some(_) if self.most == 1 => Fetch::Refuse,
            Some(_) | None => Fetch::Wait,
        }
    }

    /// The connection that brought an invocation was reset before the client said anything more on it. True if there
    /// is something to fetch again.
    pub(super) fn was_reset(&mut self, id: RequestId) -> bool {
        let lost = self.fetched.iter().position(|call| call.id == id && !call.answering);
        let Some(index) = lost.filter(|_| self.most > 1) else { return false };
        let Fetched { id, payload, .. } = self.fetched.remove(index);
        self.offered.push_front((id, payload));
        true
    }

    /// Offers an invocation; gives it back while there are as many as may be, or the client is not there.
    pub(super) fn offer(&mut self, id: RequestId, payload: T) -> Result<(), T> {
        if self.phase != Phase::Ready || self.offered.len() + self.fetched.len() >= self.most {
            return Err(payload);
        }
        self.offered.push_back((id, payload));
        Ok(())
    }

    /// The caller gave an invocation up: the client does not get it any more, unless it has it.
    pub(super) fn withdraw(&mut self, id: RequestId) {
        self.offered.retain(|(offered, _)| *offered != id);
    }

    /// The head of an answer or error for `id` has arrived.
    pub(super) fn answer(&mut self, id: Option<RequestId>) -> Result<RequestId, Refusal> {
        let id = id.ok_or(Refusal::WrongId)?;
        let last = self.last;
        match self.fetched(id) {
            Some(call) if call.answering => Err(Refusal::Transition),
            Some(call) => {
                call.answering = true;
                Ok(id)
            }
            None if last == Some(id) => Err(Refusal::Transition),
            None => Err(Refusal::WrongId),
        }
    }

    /// What belongs to an invocation whose answer is being received.
    pub(super) fn answering(&mut self, id: RequestId) -> Option<&mut T> {
        self.fetched(id).filter(|call| call.answering).map(|call| &mut call.payload)
    }

    /// The answer has arrived whole (or was refused for its size): the invocation is over.
    pub(super) fn answered(&mut self, id: RequestId) -> Option<T> {
        let index = self.fetched.iter().position(|call| call.id == id && call.answering)?;
        self.last = Some(id);
        Some(self.fetched.swap_remove(index).payload)
    }

    /// The answer broke off: the client may send it again.
    pub(super) fn broke_off(&mut self, id: RequestId) {
        if let Some(call) = self.fetched(id) {
            call.answering = false;
        }
    }

    /// The client reports that initialisation failed; true where that can still be.
    pub(super) fn init_failed(&mut self) -> bool {
        let possible = self.phase == Phase::Initialising;
        if possible {
            self.phase = Phase::Over;
        }
        possible
    }

    /// The process is gone, with all that was under way.
    pub(super) fn gone(&mut self) -> Vec<Lost<T>> {
        self.phase = Phase::Over;
        self.last = None;
        let offered = self.offered.drain(..).map(|(_, payload)| Lost::Offered(payload));
        let fetched = self.fetched.drain(..).map(|call| Lost::Fetched(call.payload));
        offered.chain(fetched).collect()
    }

    fn fetched(&mut self, id: RequestId) -> Option<&mut Fetched<T>> {
        self.fetched.iter_mut().find(|call| call.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(most: usize) -> Machine<()> {
        let mut machine = Machine::new(most);
        assert!(machine.asked());
        machine
    }

    fn offered(machine: &mut Machine<()>) -> RequestId {
        let id = RequestId::random();
        assert_eq!(machine.offer(id, ()), Ok(()));
        id
    }

    fn running() -> (Machine<()>, RequestId) {
        let mut machine = idle(1);
        let id = offered(&mut machine);
        assert_eq!(machine.fetch(1), Fetch::Deliver(id, &()));
        (machine, id)
    }

    #[test]
    fn the_ordinary_round() {
        let mut machine = Machine::new(1);
        for _ in 0..2 {
            machine.asked();
            assert_eq!(machine.fetch(1), Fetch::Wait);
            let id = offered(&mut machine);
            assert_eq!(machine.fetch(1), Fetch::Deliver(id, &()));
            assert_eq!(machine.answer(Some(id)), Ok(id));
            assert_eq!(machine.answered(id), Some(()));
        }
    }

    #[test]
    fn only_the_first_next_ends_initialisation() {
        let mut machine = Machine::new(1);
        let id = RequestId::random();
        assert_eq!(machine.offer(id, ()), Err(()), "nothing is offered before the first next");
        assert!(machine.asked());
        assert!(!machine.asked());
    }

    #[test]
    fn next_while_running() {
        let (mut machine, id) = running();
        assert_eq!(machine.fetch(1), Fetch::Refuse, "the same connection got it");
        assert_eq!(machine.fetch(2), Fetch::Deliver(id, &()), "a new connection may have lost it");
        assert_eq!(machine.fetch(2), Fetch::Refuse);
        assert_eq!(machine.answer(Some(id)), Ok(id));
        assert_eq!(machine.fetch(3), Fetch::Refuse, "its answer is on the way");
    }

    #[test]
    fn one_invocation_at_a_time() {
        let (mut machine, _) = running();
        assert_eq!(machine.offer(RequestId::random(), ()), Err(()));
    }

    #[test]
    fn several_at_a_time_are_answered_in_any_order() {
        let mut machine = idle(3);
        let ids: Vec<_> = (0..3).map(|_| offered(&mut machine)).collect();
        assert_eq!(machine.offer(RequestId::random(), ()), Err(()), "no more than were agreed");
        assert_eq!(machine.fetch(1), Fetch::Deliver(ids[0], &()));
        assert_eq!(machine.fetch(1), Fetch::Deliver(ids[1], &()), "one connection may fetch several");
        assert_eq!(machine.fetch(2), Fetch::Deliver(ids[2], &()));
        assert_eq!(machine.fetch(3), Fetch::Wait, "what is under way is not handed out again");
        for id in [ids[1], ids[2], ids[0]] {
            assert_eq!(machine.answer(Some(id)), Ok(id));
        }
        assert_eq!(machine.answered(ids[2]), Some(()));
        let next = offered(&mut machine);
        assert_eq!(machine.fetch(3), Fetch::Deliver(next, &()));
        assert_eq!(machine.answered(ids[0]), Some(()));
        assert_eq!(machine.answered(ids[1]), Some(()));
    }

    #[test]
    fn of_several_what_was_lost_with_its_connection_is_handed_out_again() {
        let mut machine = idle(3);
        let ids: Vec<_> = (0..3).map(|_| offered(&mut machine)).collect();
        for id in &ids[..2] {
            assert_eq!(machine.fetch(1), Fetch::Deliver(*id, &()));
        }
        assert!(!machine.was_reset(ids[2]), "it was not fetched");
        assert!(machine.was_reset(ids[0]));
        assert_eq!(machine.answer(Some(ids[0])), Err(Refusal::WrongId));
        assert_eq!(machine.fetch(3), Fetch::Deliver(ids[0], &()), "before those that came later");
        assert_eq!(machine.answer(Some(ids[1])), Ok(ids[1]));
        assert!(!machine.was_reset(ids[1]), "its answer is on the way");
        let (mut alone, id) = running();
        assert!(!alone.was_reset(id), "asking again tells that");
    }

    #[test]
    fn what_is_given_up_is_not_handed_out() {
        let mut machine = idle(2);
        let (first, second) = (offered(&mut machine), offered(&mut machine));
        machine.withdraw(first);
        assert_eq!(machine.fetch(1), Fetch::Deliver(second, &()));
        machine.withdraw(second);
        assert_eq!(machine.answer(Some(second)), Ok(second), "the client has it and may answer");
    }

    #[test]
    fn answers_that_do_not_fit() {
        let (mut machine, id) = running();
        assert_eq!(machine.answer(None), Err(Refusal::WrongId));
        assert_eq!(machine.answer(Some(RequestId::random())), Err(Refusal::WrongId));
        assert_eq!(machine.answered(id), None, "nothing was answered");
        assert_eq!(machine.answer(Some(id)), Ok(id));
        assert_eq!(machine.answer(Some(id)), Err(Refusal::Transition), "twice at once");
        machine.answered(id);
        assert_eq!(machine.answer(Some(id)), Err(Refusal::Transition), "twice, or an error after a response");
        let other = offered(&mut machine);
        assert_eq!(machine.fetch(1), Fetch::Deliver(other, &()));
        assert_eq!(machine.answer(Some(id)), Err(Refusal::WrongId), "an old id");
    }

    #[test]
    fn not_before_it_was_fetched() {
        let mut machine = idle(1);
        let id = offered(&mut machine);
        assert_eq!(machine.answer(Some(id)), Err(Refusal::WrongId));
    }

    #[test]
    fn an_answer_that_broke_off_can_be_sent_again() {
        let (mut machine, id) = running();
        assert_eq!(machine.answer(Some(id)), Ok(id));
        machine.broke_off(id);
        assert_eq!(machine.answer(Some(id)), Ok(id));
        machine.answered(id);
        machine.broke_off(id);
        offered(&mut machine);
    }

    #[test]
    fn initialisation_fails_once_and_only_before_next() {
        let mut machine: Machine<()> = Machine::new(1);
        assert!(machine.init_failed());
        assert!(!machine.init_failed());
        assert_eq!(machine.fetch(1), Fetch::Refuse);
        assert!(!idle(1).init_failed());
    }

    #[test]
    fn the_end_tells_what_was_never_fetched() {
        assert_eq!(idle(1).gone(), []);
        let mut machine = idle(3);
        for _ in 0..3 {
            offered(&mut machine);
        }
        let Fetch::Deliver(answered, ()) = machine.fetch(1) else { panic!() };
        assert_eq!(machine.answer(Some(answered)), Ok(answered));
        machine.fetch(1);
        assert_eq!(machine.gone(), [Lost::Offered(()), Lost::Fetched(()), Lost::Fetched(())]);
        assert_eq!(machine.gone(), []);
    }

    #[test]
    fn nothing_goes_on_after_the_end() {
        let (mut machine, id) = running();
        assert_eq!(machine.gone(), [Lost::Fetched(())]);
        assert_eq!(machine.offer(RequestId::random(), ()), Err(()));
        assert_eq!(machine.answer(Some(id)), Err(Refusal::WrongId));
        assert_eq!(machine.fetch(2), Fetch::Refuse);
    }
}
