//! Log groups as CloudWatch Logs has them: what they are called, how long their events are kept, who may subscribe to
//! them, and filter patterns.
//!
//! Events lie in the files of `observe`, and a group is there exactly when its folder is. What is said *about* groups is
//! in the database: retention, tags, streams that were made or deleted by request, subscriptions. Functions write their
//! lines to `observe` without coming by here.
//!
//! Invariants: changes of groups and streams are made one at a time; what [`Logs::put_events`] has accepted is with the
//! kernel, so that a crash of this process loses none of it; files are read off the async threads, a few at a time, each
//! reader with a bounded amount of memory.
//!
//! Absent: metric filters, Insights queries, anomaly detection, export.

mod error;
mod events;
mod groups;
mod limits;
mod names;
pub mod pattern;
mod put;
mod retention;
mod service;
mod streams;
mod subscriptions;
mod tables;
mod tags;
mod tail;

pub use error::Error;
pub use events::{Direction, Page, Search};
pub use groups::{Group, GroupsPage};
pub use observe::Event;
pub use pattern::Pattern;
pub use put::{NewEvent, Rejected};
pub use retention::ALLOWED_DAYS;
pub use service::{GroupName, Logs};
pub use streams::{Order, Stream, StreamsPage};
pub use subscriptions::{Deliver, Delivery, NewSubscription, Subscription, Undelivered};
pub use tables::MIGRATIONS;
pub use tail::{Tail, Wanted};
