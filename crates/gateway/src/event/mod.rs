//! HTTP to events and back, in Lambda's payload format 2.0: pure functions.

pub(crate) mod answer;
#[cfg(test)]
mod fuzz;
pub(crate) mod request;
pub(crate) mod streamed;
