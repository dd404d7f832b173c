//! The gateway with the real services behind it, on a loopback socket; only the sandbox is a fake.

#![cfg(test)]

mod api;
mod domains;
mod fake;
mod hostile;
mod lifecycle;
mod streams;
mod urls;
mod world;
