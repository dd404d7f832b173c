//! Which call of the Runtime API is legal now. Pure: no I/O, no clock, no payloads.
//!
//! One invocation is under way at a time: offered by the caller, fetched by the client with `next`,
//! answered with `response` or `error`. An invocation that was fetched over a connection which has since
//! been replaced by another is handed out again: the client may have lost it on the way.

use base::RequestId;

/// The life of a runtime client, from the Runtime API's view.
#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    /// The last invocation that was answered: a second answer to it is told apart from a foreign id.
    last: Option<RequestId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client has not asked for its first event.
    Initialising,
    /// Nothing to hand out.
    Idle,
    /// An invocation waits to be fetched.
    Offered(RequestId),
    /// The client has it, over this connection.
    Running(RequestId, ConnectionId),
    /// Its answer is being received.
    Answering(RequestId, ConnectionId),
    /// Initialisation failed or the process is gone.
    Over,
}

/// Numbers the connections of one instance.
pub(super) type ConnectionId = u64;

/// What `next` gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// Nothing yet.
    Wait,
    /// The current invocation.
    Deliver,
    /// The client has an invocation and must answer that first.
    Refuse,
}

/// Why an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not the id of the current invocation.
    WrongId,
    /// Not now.
    Transition,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Initialising, last: None }
    }

    /// `next` was called. True the first time: initialisation is done.
    pub(super) fn asked(&mut self) -> bool {
        let first = self.phase == Phase::Initialising;
        if first {
            self.phase = Phase::Idle;
        }
        first
    }

    /// What a `next` on this connection gets at this moment.
    pub(super) fn fetch(&mut self, connection: ConnectionId) -> Fetch {
        match self.phase {
            Phase::Initialising | Phase::Idle => Fetch::Wait,
            Phase::Offered(id) => {
                self.phase = Phase::Running(id, connection);
                Fetch::Deliver
            }
            Phase::Running(id, holder) if holder != connection => {
                self.phase = Phase::Running(id, connection);
                Fetch::Deliver
            }
            Phase::Running(..) | Phase::Answering(..) | Phase::Over => Fetch::Refuse,
        }
    }

    /// Offers an invocation; false while another is under way or the client is not there.
    pub(super) fn offer(&mut self, id: RequestId) -> bool {
        let free = self.phase == Phase::Idle;
        if free {
            self.phase = Phase::Offered(id);
        }
        free
    }

    /// The head of an answer or error for `id` has arrived.
    pub(super) fn answer(&mut self, id: Option<RequestId>) -> Result<(), Refusal> {
        let id = id.ok_or(Refusal::WrongId)?;
        match self.phase {
            Phase::Running(current, connection) if current == id => {
                self.phase = Phase::Answering(current, connection);
                Ok(())
            }
            Phase::Answering(current, _) if current == id => Err(Refusal::Transition),
            Phase::Offered(_) | Phase::Idle if self.last == Some(id) => Err(Refusal::Transition),
            _ => Err(Refusal::WrongId),
        }
    }

    /// The answer has arrived whole (or was refused for its size): the invocation is over.
    pub(super) fn answered(&mut self) {
        if let Phase::Answering(id, _) = self.phase {
            self.last = Some(id);
            self.phase = Phase::Idle;
        }
    }

    /// The answer broke off: the client may send it again.
    pub(super) fn broke_off(&mut self) {
        if let Phase::Answering(id, connection) = self.phase {
            self.phase = Phase::Running(id, connection);
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

    /// The process is gone. True where an invocation was offered that it never fetched.
    pub(super) fn gone(&mut self) -> bool {
        matches!(std::mem::replace(&mut self.phase, Phase::Over), Phase::Offered(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Machine {
        let mut machine = Machine::new();
        assert!(machine.asked());
        machine
    }

    fn running() -> (Machine, RequestId) {
        let (mut machine, id) = (idle(), RequestId::random());
        assert!(machine.offer(id));
        assert_eq!(machine.fetch(1), Fetch::Deliver);
        (machine, id)
    }

    #[test]
    fn the_ordinary_round() {
        let mut machine = Machine::new();
        for _ in 0..2 {
            machine.asked();
            assert_eq!(machine.fetch(1), Fetch::Wait);
            let id = RequestId::random();
            assert!(machine.offer(id));
            assert_eq!(machine.fetch(1), Fetch::Deliver);
            assert_eq!(machine.answer(Some(id)), Ok(()));
            machine.answered();
        }
    }

    #[test]
    fn only_the_first_next_ends_initialisation() {
        let mut machine = Machine::new();
        assert!(!machine.offer(RequestId::random()), "nothing is offered before the first next");
        assert!(machine.asked());
        assert!(!machine.asked());
    }

    #[test]
    fn next_while_running() {
        let (mut machine, id) = running();
        assert_eq!(machine.fetch(1), Fetch::Refuse, "the same connection got it");
        assert_eq!(machine.fetch(2), Fetch::Deliver, "a new connection may have lost it");
        assert_eq!(machine.fetch(2), Fetch::Refuse);
        assert_eq!(machine.answer(Some(id)), Ok(()));
        assert_eq!(machine.fetch(3), Fetch::Refuse, "its answer is on the way");
    }

    #[test]
    fn one_invocation_at_a_time() {
        let (mut machine, _) = running();
        assert!(!machine.offer(RequestId::random()));
    }

    #[test]
    fn answers_that_do_not_fit() {
        let (mut machine, id) = running();
        assert_eq!(machine.answer(None), Err(Refusal::WrongId));
        assert_eq!(machine.answer(Some(RequestId::random())), Err(Refusal::WrongId));
        assert_eq!(machine.answer(Some(id)), Ok(()));
        assert_eq!(machine.answer(Some(id)), Err(Refusal::Transition), "twice at once");
        machine.answered();
        assert_eq!(machine.answer(Some(id)), Err(Refusal::Transition), "twice, or an error after a response");
        assert!(machine.offer(RequestId::random()));
        assert_eq!(machine.fetch(1), Fetch::Deliver);
        assert_eq!(machine.answer(Some(id)), Err(Refusal::WrongId), "an old id");
    }

    #[test]
    fn not_before_it_was_fetched() {
        let (mut machine, id) = (idle(), RequestId::random());
        assert!(machine.offer(id));
        assert_eq!(machine.answer(Some(id)), Err(Refusal::WrongId));
    }

    #[test]
    fn an_answer_that_broke_off_can_be_sent_again() {
        let (mut machine, id) = running();
        assert_eq!(machine.answer(Some(id)), Ok(()));
        machine.broke_off();
        assert_eq!(machine.answer(Some(id)), Ok(()));
        machine.answered();
        machine.broke_off();
        assert!(machine.offer(RequestId::random()), "breaking off after the end changes nothing");
    }

    #[test]
    fn initialisation_fails_once_and_only_before_next() {
        let mut machine = Machine::new();
        assert!(machine.init_failed());
        assert!(!machine.init_failed());
        assert_eq!(machine.fetch(1), Fetch::Refuse);
        assert!(!idle().init_failed());
    }

    #[test]
    fn the_end_tells_what_was_never_fetched() {
        let (mut machine, id) = (idle(), RequestId::random());
        assert!(!machine.gone(), "nothing was offered");
        let mut offered = idle();
        assert!(offered.offer(id));
        assert!(offered.gone());
        assert!(!offered.gone());
        let (mut machine, id) = running();
        assert_eq!(machine.answer(Some(id)), Ok(()));
        assert!(!machine.gone());
    }

    #[test]
    fn nothing_goes_on_after_the_end() {
        let (mut machine, id) = running();
        assert!(!machine.gone(), "it was fetched");
        assert!(!machine.offer(RequestId::random()));
        assert_eq!(machine.answer(Some(id)), Err(Refusal::WrongId));
        assert_eq!(machine.fetch(2), Fetch::Refuse);
    }
}
