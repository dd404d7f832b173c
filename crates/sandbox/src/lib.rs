//! Where user code runs.
//!
//! A [`Backend`] turns a [`Spec`] into an [`Instance`]; an instance takes a [`Call`] and gives an
//! [`Output`] or a [`Fault`]. Nothing about queues, versions, retries or who may call crosses this seam:
//! that is the `functions` crate's. What crosses is data in, data out.
//!
//! The process back end lives here ([`process`]), and what needs no sandbox because no code runs ([`SiteBackend`]);
//! WebAssembly is the `sandbox-wasm` crate.

mod body;
mod call;
pub mod egress;
mod error;
mod phases;
mod site;
mod spec;
mod streamed;

pub mod process;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use body::{Body, BoxError};
pub use call::{Call, Event, Exit, Fault, FunctionError, Output, Payload};
pub use egress::Egress;
pub use error::{Error, StartError};
pub use phases::{Origin, Phases, Resident};
pub use site::SiteBackend;
pub use spec::{
    Artifact, Contract, Count, FileSystem, Image, Isolation, Limits, LogSink, NO_TEMPLATE, Prepared, Runtime,
    Speaks, Spec,
};
pub use streamed::{StreamEnd, Streamed};

/// One way of isolating user code.
pub trait Backend: Send + Sync + 'static {
    /// Which isolation this is.
    fn isolation(&self) -> Isolation;

    /// Checks that the artifact can run here and does the work that is done once a version: compile,
    /// look for the entry point, resolve the interpreter. Idempotent; the result is cached on disk where
    /// it costs more than a few milliseconds. An [`Error`] of kind `Invalid` is the user's to mend.
    fn prepare<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<Prepared, Error>>;

    /// Starts an instance and returns once it can take a call: the runtime client has asked for its first
    /// event, the web server's port answers, the guest is compiled. Dropping the future before it is done
    /// leaves nothing running.
    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>>;

    /// Removes what [`Backend::prepare`] keeps on disk for the package with this digest: no version has it any
    /// more, and none of it is being prepared. May block on the disk. Called again where a crash may have come
    /// between; a digest that is not known is none of its business.
    fn forget(&self, digest: &str) {
        let _ = digest;
    }

    /// No further instance of this revision will be started: what is kept for it goes. Does not block.
    fn retire(&self, revision: &str) {
        let _ = revision;
    }

    /// Once, before anything is started: these are all the revisions that there are, and what an earlier server has kept on
    /// disk of others goes. May block on the disk.
    fn keep_only(&self, revisions: &HashSet<String>) {
        let _ = revisions;
    }

    /// What is kept in memory so that starts are fast.
    fn residents(&self) -> Vec<Resident> {
        Vec::new()
    }

    /// Memory is short: gives up at least this many bytes of what [`Backend::residents`] lists, or all of it.
    /// Returns what was given up. Does not block.
    fn shrink(&self, bytes: u64) -> u64 {
        let _ = bytes;
        0
    }
}

/// A started instance. Dropping the last handle stops it.
pub trait Instance: Send + Sync + 'static {
    /// Runs one call. How many may be under way at once is the caller's to respect: [`Spec::concurrency`] for a
    /// process that speaks events, any number for a web server or a WebAssembly component.
    ///
    /// After [`Fault::NotDelivered`] and [`Output::NotTaken`] the same call may go to another instance; after any other
    /// fault it may have run, in part or whole.
    ///
    /// Dropping the future gives the call up. A process that speaks events is then in an unknown state and
    /// must be stopped, or given no further calls where others are under way on it; the others stay usable.
    fn invoke(&self, call: Call) -> BoxFuture<'_, Result<Output, Fault>>;

    /// Resolves when the instance is gone by itself or stopped; at once if it already is.
    fn exited(&self) -> BoxFuture<'_, Exit>;

    /// Hands what the instance has printed so far to its log. For a call whose answer carries the log: a web
    /// server's output may otherwise reach the log a little after its answer.
    fn collect_output(&self) {}

    /// Suspends an instance without a call: it uses no processor time until the next one, which resumes it. Takes
    /// microseconds. Does nothing while a call is under way, or where there is nothing to suspend. An answer that
    /// still streams, or an upgraded connection, is the caller's to know of: the call itself is over.
    fn freeze(&self) {}

    /// What its start was made of.
    fn phases(&self) -> Phases {
        Phases::default()
    }

    /// Bytes: the most memory the instance has held so far, its `/tmp` included.
    fn peak_memory(&self) -> u64;

    /// Stops the instance and everything it started, at once. Returns when nothing of it is left.
    fn stop(&self) -> BoxFuture<'_, ()>;
}
