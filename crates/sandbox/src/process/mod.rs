//! The process back end: ordinary programs in namespaces, under cgroups and seccomp.
//!
//! Two halves. The *jail* half starts a program in a sandbox and hands out the ends that reach it: its
//! output, listening sockets made inside its network namespace, connections into it, its exit. The *engine*
//! half speaks with the program over those ends: long-poll (the Lambda Runtime API) or port (a web server). An
//! *errand* is a program that nobody speaks with: it is run to its end.

mod activity;
mod ahead;
mod attach;
mod backend;
mod clients;
mod compiled;
mod egress;
mod entry;
mod environment;
mod errand;
mod image_entry;
mod imaging;
mod instance;
pub mod interpreters;
pub mod jail;
mod longpoll;
mod output;
mod port;
mod route;
mod templates;
#[cfg(test)]
mod testing;
mod turns;

pub use attach::FromInside;
pub use backend::{ProcessBackend, Settings};
pub use errand::{Ended, Errand, Errands};
pub use jail::{SHARED_OWNER, image_files, image_users};
