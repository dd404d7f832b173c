//! The public front: one port for function URLs and for every AWS-style API.
//!
//! A request is routed in this order: a function URL's host (`ID.lambda-url.REGION.localhost`), a function
//! URL's path (`/_fn/NAME/…`, on loopback listeners only), the APIs. A function that speaks HTTP gets the
//! request passed through, streams and upgrades included (`relay`); one that takes events gets it as Lambda's
//! payload 2.0 (`function`, `event`).
//!
//! Invariants: every connection holds a place from accept to close, upgraded or lingering ones too; a head, a
//! body that is held whole, and every buffer are bounded in bytes and in time; nothing on this path takes a
//! lock that is held for longer than a map look-up, or touches the database.
//!
//! Absent: TLS, HTTP/2 (a connection that begins with its preface is closed), custom domains, AWS_IAM
//! on function URLs, compression, caching.

mod access;
mod connection;
mod cors;
mod destination;
mod event;
mod function;
mod gateway;
mod http;
mod limits;
mod phase;
mod refusal;
mod relay;
mod router;
mod settings;
mod tunnel;

pub use gateway::Gateway;
pub use settings::Settings;
