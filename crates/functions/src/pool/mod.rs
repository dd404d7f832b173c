//! Instances of one version, and who gets them.
//!
//! A [`Target`] is what calls of a version get; its [`Pool`] is made by the first call, so that a function
//! nobody calls costs no more than its configuration. A call takes a [`Lease`] on an instance (`Slot`): at
//! once where one is free, else after waiting in line. The line is first in, first out and bounded; whoever
//! is at its head gets whatever becomes free first, whether or not a start was made on his account.
//!
//! There is no global lock: a pool's mutex is held for a few dozen instructions and never over an await.
//! What pools share is in [`Host`]: caps, the line of pools that want room, the reaper.
//!
//! Rooms: `version` lets calls in and serves them, `line` holds its decisions, `supply` has instances come and go,
//! `past` keeps when calls come,
//! `upkeep` is what the shared tick does; `share` (concurrency of functions and accounts), `caps`, `fair` (who
//! gives way), `worth` (who is evicted) and `demand` (how many instances) are rules that need no pool.
//!
//! Absent: instances on other machines.

mod caps;
mod demand;
mod fair;
mod host;
mod lease;
mod line;
mod past;
mod share;
mod start;
mod supply;
mod target;
mod upkeep;
mod version;
mod worth;

pub(crate) use host::{Host, ticker};
pub(crate) use lease::Lease;
pub(crate) use start::FailedStart;
pub(crate) use target::{Plan, Refusal, Stream, Target};
pub(crate) use version::Pool;
