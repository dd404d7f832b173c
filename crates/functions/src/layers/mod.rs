//! Layers: packages that functions share, shown to them at `/opt` (Lambda: Managing Lambda dependencies with layers).
//!
//! A layer is a name with numbered versions; a version never changes, and its number is never given again. What a
//! function has of a layer version is in its own configuration ([`AttachedLayer`]): a version that is deleted goes on
//! working for the functions that have it. The packages are in the same content-addressed store as functions' own
//! (`code`), where the same bytes are kept once; a function with several layers sees them as one tree, which is merged
//! once for all functions with the same layers in the same order (`tree`).
//!
//! `shelf` is memory's snapshot of what `tables` keeps; `policy` says which other accounts may use a version; `attach`
//! makes a function's list of ARNs what it has; the operations are in `operations` and `permissions`.

mod attach;
mod model;
mod operations;
mod permissions;
mod policy;
mod shelf;
pub(crate) mod tables;
pub(crate) mod tree;

pub(crate) use attach::check;
pub use model::{
    AttachedLayer, LayerFilter, LayerPage, LayerPermission, LayerVersion, LayerView, PublishLayer,
};
pub use policy::PolicyView;
pub(crate) use shelf::Shelf;

use base::LayerArn;

use crate::Error;

/// What Lambda says of a layer version that is not there.
fn not_found() -> Error {
    Error::NotFound("The resource you requested does not exist.".into())
}

/// The number that an operation on one version is about.
fn number(arn: &LayerArn) -> Result<u64, Error> {
    arn.version.ok_or_else(|| Error::Invalid(format!("{arn} does not name a version of a layer.")))
}
