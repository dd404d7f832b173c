//! The gateway with the real services behind it, on a loopback socket; only the sandbox is a fake.

#![cfg(test)]

mod api;
mod fake;
mod hostile;
mod lifecycle;
mod urls;
mod world;
