//! Roles and managed policies: what they are, in memory and on disk.
//!
//! Memory answers every question. A change is made under one lock, in a task that ends whether or not its caller waits:
//! the database first, then memory. Rows are JSON documents with key columns.
//!
//! Absent: groups, further users and their keys, instance profiles, service-linked roles.

mod aws_managed;
mod document;
mod error;
mod limits;
mod names;
mod policies;
mod roles;
mod state;
mod users;

pub use document::Document;
pub use error::Error;
pub use policies::{ManagedPolicy, NewPolicy, PolicyVersion};
pub use roles::{NewRole, Role, RoleChange};
pub use users::User;

pub(crate) use roles::default_role;
pub(crate) use state::Directory;
pub(crate) use users::user_id;
