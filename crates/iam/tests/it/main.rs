//! What the rest of Virga relies on in `iam`, through its public interface.

mod identity;
mod suite;
mod support;
mod verify;
