//! The one durable queue: every asynchronous hand-over is a message on it.
//!
//! A queue has a kind (who consumes it), an account and a name; it comes about with its first message. [`Queues::send`]
//! answers once a message is on the disk; a [`Draft`] is written in the caller's own transaction, so that it is there
//! exactly if the change that caused it is. A [`Consumer`] receives messages of all queues of a kind, by turns: one
//! tenant's million messages never hold up another's one. What it received is leased to it; it finishes, retries later,
//! gives back, or moves to another queue, a dead letter, in one transaction with whatever else has to be sent.
//!
//! Other queues are received from by name ([`Queues::receive`]), first in, first out or in order within groups, and what was
//! received is held by receipt. A message may be sent once only within some time ([`Once`]).
//!
//! Promises: what was acknowledged is received at least once, or found in the queue that it was moved to, whenever the
//! server is killed. Receiving writes nothing: leases are in memory, and a message whose lease was lost is received again.
//! Sending and finishing are synced, many of them at once.
//!
//! Rooms: `core` is what a queue is in memory, pure; `tables` what it is on the disk; `writing` the one task through which
//! all changes go; `draft`, `posting`, `consumer`, `named`, `delivery`, `browse` what others do with queues; `state` what
//! they share.
//!
//! Bounds: memory knows a window of each queue and keeps a bounded number of bytes of contents; the rest is read when the
//! window runs low. Nobody polls: who waits is woken by a message, or when one becomes due.
//!
//! Absent for now: consumers in other processes.

mod browse;
mod consumer;
mod content;
mod core;
mod delivery;
mod draft;
mod error;
mod limits;
mod named;
mod posting;
mod service;
mod state;
mod tables;
mod writing;

pub use browse::{Found, Mark};
pub use consumer::Consumer;
pub use delivery::Delivery;
pub use draft::{Draft, Row};
pub use error::Error;
pub use limits::{BODY_BYTES, HEAD_BYTES};
pub use named::{Ask, ByName, Counts, Finished, Receipt, in_group, of_group};
pub use posting::{Once, Posted};
pub use service::{Deps, Message, QueueName, Queues, Stats};
pub use tables::MIGRATIONS;
