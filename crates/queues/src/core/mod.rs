//! What a queue is in memory, as pure transitions: no I/O, no clock, no lock.

pub(crate) mod ready;
pub(crate) mod turns;
pub(crate) mod window;
