//! Functions: what they are, which versions exist, and how a call becomes an instance's answer.
//!
//! [`Functions`] is the service handle. Its operations are the Lambda API's in domain terms (the `api-aws`
//! crate speaks the wire format), plus the data plane that the gateway calls.

mod error;
mod service;

pub mod model;

pub use error::Error;
pub use service::{Bounds, Deps, Functions, InFlight, Invoke, Outcome, Route};
