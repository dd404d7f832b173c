//! Who is calling, and what they may do.
//!
//! [`Iam::begin`] reads a request's signature from its head alone, so that a stranger's body is never
//! read; [`Claim::finish`] checks it once the body is there. Both only look into memory.
//!
//! Invariants:
//! - a secret is on disk only sealed, and in no log and no `Debug` output;
//! - secrets and signatures are compared in constant time;
//! - Signature Version 4 exists once, in [`sigv4`], for every service and for our own client.
//!
//! The first account has one user, `admin`, who may do everything in it. Functions and whoever takes a role on have
//! sessions, which may what the role may. Absent for now: more users, groups, quotas.

mod assume;
mod bootstrap;
mod caller;
mod claim;
mod credentials;
pub mod directory;
mod error;
#[cfg(test)]
mod fuzz;
mod keys;
pub mod policy;
mod random;
mod role_session;
mod seal;
mod service;
mod session;
pub mod sigv4;
mod tables;

pub use assume::{AssumeRole, MissingRoles, NotPassed};
pub use bootstrap::Bootstrap;
pub use caller::{Caller, Principal};
pub use claim::{Claim, Stated};
pub use credentials::Credentials;
pub use error::{AuthError, Error};
pub use role_session::RoleSession;
pub use service::Iam;
pub use tables::MIGRATIONS;

/// The role that is there from the beginning, for functions whose owners think of no other.
pub const DEFAULT_ROLE: &str = "virga-function";
