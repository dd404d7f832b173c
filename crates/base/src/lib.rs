//! What every layer may lean on: identifiers, ARNs, the clock, error kinds and sizes.
//!
//! Nothing here does I/O or knows a product noun. The crate is capped at 2,500 lines on purpose: a
//! thing belongs here only when at least two layers that may not see each other need it.

pub mod arn;
pub mod clock;
pub mod error;
pub mod ids;
pub mod layer_arn;

pub use arn::FunctionArn;
pub use clock::{Clock, SystemClock, Timestamp};
pub use error::Kind;
pub use ids::{AccountId, InstanceId, Region, RequestId};
pub use layer_arn::LayerArn;
