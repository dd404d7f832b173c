//! Policy documents: what they say, and what several of them come to for one request.
//!
//! A pure core: no clock, no database, no account of its own. [`Policy::parse`] reads a document once, strictly;
//! [`decide`] asks any number of parsed ones about one [`Question`]. The rules are those of "Policy evaluation
//! logic" and "IAM JSON policy elements reference" in the IAM User Guide: an explicit deny wins, what nothing
//! allows is denied, boundaries and session policies only take away, and another account's principal needs both
//! its own account's permission and the resource's.
//!
//! Absent: organisations' policies (SCP, RCP), access points' policies, `BinaryEquals`.

mod condition;
mod context;
mod decide;
mod document;
mod pattern;
mod principal;
mod values;

pub use context::Context;
pub use decide::{Decision, Grants, Policies, Question, Resource, Source, decide};
pub use document::{Kind, Malformed, Policy};
pub use principal::Who;
