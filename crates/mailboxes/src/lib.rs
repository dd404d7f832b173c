//! Mailboxes: message queues of users' own, as SQS has them. A mailbox is a name with attributes, tags and a policy in front
//! of one queue of `queues`, which keeps the messages, their order and their leases.
//!
//! What a message is lives here: body, attributes, their digests, who sent it. The core sees a head (small, JSON, in front
//! of it the group where the mailbox is in order) and a body (message attributes, then the text; sealed where the mailbox
//! asks for encryption at rest).
//!
//! Invariants: an operation looks for the mailbox in memory, and asks whether the caller may before it says whether there is
//! one; a change of a mailbox is on the disk before memory shows it, one change at a time; what [`Mailboxes::send`] has
//! answered is on the disk; a receipt handle is sealed, so that it says nothing and is nobody's invention.
//!
//! A mailbox that is deleted and made again has another queue behind it: its name carries an incarnation, so that nothing of
//! the old one can come back.
//!
//! Absent: keys of users' own (KMS), fair turns between the groups of a mailbox without order.

mod attributes;
mod batch;
mod delete;
mod digest;
mod error;
mod limits;
mod message;
mod model;
mod moves;
mod permissions;
mod receive;
mod redrive;
mod send;
mod service;
mod tables;
mod tags;

pub use batch::Batch;
pub use error::{Error, Fault};
pub use message::{AttributeValue, Outgoing, Payload, Received, Sent};
pub use model::Address;
pub use moves::{MoveTask, StartMove};
pub use receive::Receive;
pub use service::{Deps, Mailboxes, Page, Paging, kinds};
pub use tables::MIGRATIONS;
