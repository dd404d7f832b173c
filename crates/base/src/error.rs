//! The kinds of failure that every crate's error maps to.
//!
//! A crate has one `Error` with a `kind()`. Only the API layers turn a kind into a status code and a
//! dialect's error name, so that a noun never knows which protocol asked.

/// What went wrong, in the terms that decide how a caller is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The thing named does not exist, or the caller may not know that it does.
    NotFound,
    /// The thing exists already, or is in a state that forbids the change.
    Conflict,
    /// The request is malformed or breaks a documented rule.
    Invalid,
    /// The caller is known and may not do this.
    Denied,
    /// Too much at once; the same request may succeed later.
    Throttled,
    /// A documented quota is used up; waiting does not help.
    LimitExceeded,
    /// A part that is needed is not there for now.
    Unavailable,
    /// A defect or a broken host. The log holds the detail, the caller sees none of it.
    Internal,
}
