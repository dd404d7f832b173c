//! Functions: what they are, which versions exist, and how a call becomes an instance's answer.
//!
//! [`Functions`] is the service handle. Its operations are the Lambda API's in domain terms (the `api-aws`
//! crate speaks the wire format), plus the data plane that the gateway calls.
//!
//! Rooms: `operations` (one file a subject) changes and reads the `registry`, memory's snapshot of what
//! `tables` keeps; `code` and `package` hold packages, `image` those that are container images, `layers` those that functions share, `signing` says whose packages are taken; `prepare` makes versions callable; `pool` owns instances
//! and who gets them; `invoke` and `http` are the two ways a call goes, `asynchronous` the way of
//! calls nobody waits for; `failure` and `report` say what
//! became of it; `alarm` is a connection's timer. `settings`, `environment` and `validate` are rules without state.
//!
//! Invariants: a mutating call answers once the change is durable and memory shows it; nothing is written to the
//! database when a function is called; every queue and cache has a bound (`limits`, [`Bounds`]).
//!
mod alarm;
mod alias;
mod asynchronous;
mod claims;
mod code;
mod concurrency;
mod domains;
mod environment;
mod error;
mod failure;
mod file_systems;
mod http;
mod image;
mod image_trouble;
mod invoke;
mod layers;
mod limits;
mod logging;
mod objects;
mod operations;
mod outbox;
mod package;
mod permissions;
mod pool;
mod prepare;
mod provisioning;
mod registry;
mod remember;
mod report;
mod service;
mod settings;
mod signing;
mod startup;
mod streaming;
mod tables;
mod validate;
mod vault;
mod version;

pub mod keep_alive;
pub mod model;

pub use crate::http::InFlight;
pub use crate::signing::{
    CodeSigningConfig, CodeSigningConfigChange, CodeSigningConfigView, ProfileVersion, ProfileView,
    PutProfile, Revocation, Signature, Validity, ValidityUnit,
};
pub use alarm::Alarm;
pub use alias::{Alias, AliasView, CreateAlias, UpdateAlias, Weighted};
pub use asynchronous::{Backlog, EVENTS, EventConfig, EventConfigChange, FAILED_EVENTS, FailedEvent, Pace};
pub use concurrency::{Concurrency, OnAlias, Provisioned, ProvisionedStatus, UNRESERVED_AT_LEAST};
pub use domains::Domains;
pub use error::Error;
pub use file_systems::{FileSystemConfig, FileSystems, is_mount_name};
pub use image::{ImageError, ImageProblem, Images, Pulled, Unpacked};
pub use layers::{
    AttachedLayer, LayerFilter, LayerPage, LayerPermission, LayerVersion, LayerView, PolicyView, PublishLayer,
};
pub use logging::{LogLevel, Logging, LoggingChange};
pub use objects::{ObjectError, ObjectRef, Objects, PackageSource};
pub use observe::Calls;
pub use outbox::Outbox;
pub use service::{Bounds, Deps, Functions, Invoke, Outcome, Route, Scaling};
pub use startup::{Startup, Timings};
pub use streaming::Streaming;
pub use tables::MIGRATIONS;
