//! What an owner asks of a function's concurrency (Lambda: reserved and provisioned concurrency).
//!
//! A [`Concurrency`] is part of a function and is stored with it. It is put into force by `Host::apply`, which the
//! service calls for every change of a function and for every function when it opens; what has become of
//! provisioned instances is answered by `Target::provisioned`.
//!
//! Reserved concurrency counts calls in flight, those that wait included, of all versions together: a guarantee,
//! since the account's other functions share what is not reserved, and a cap. Provisioned instances are a
//! version's: kept ready, replaced when they end, neither reaped nor evicted.

use std::collections::BTreeMap;

use base::Timestamp;
use serde::{Deserialize, Serialize};

/// Calls in flight that must remain unreserved in an account (Lambda API: PutFunctionConcurrency).
pub const UNRESERVED_AT_LEAST: u32 = 100;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Concurrency {
    /// Calls in flight of the whole function, never exceeded and never taken by others; 0 refuses every call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u32>,
    /// Instances to keep ready, by version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub provisioned: BTreeMap<u64, u32>,
    /// When each of these was asked for last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub provisioned_at: BTreeMap<u64, Timestamp>,
    /// Instances to keep ready of whatever an alias leads to, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_alias: BTreeMap<String, OnAlias>,
}

/// What is asked of an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnAlias {
    /// Instances to keep ready.
    pub instances: u32,
    /// When they were asked for last.
    pub modified: Timestamp,
}

/// What is asked of a function's concurrency once it is known which versions its aliases lead to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Calls in flight of the whole function.
    pub(crate) reserved: Option<u32>,
    /// Instances to keep ready, by version.
    pub(crate) provisioned: BTreeMap<u64, u32>,
}

impl Concurrency {
    /// Asks for so many instances of a version.
    pub(crate) fn provision(&mut self, version: u64, instances: u32, now: Timestamp) {
        self.provisioned.insert(version, instances);
        self.provisioned_at.insert(version, now);
    }

    /// Asks for none any more; also when the version is deleted.
    pub(crate) fn unprovision(&mut self, version: u64) {
        self.provisioned.remove(&version);
        self.provisioned_at.remove(&version);
    }

    /// Instances to keep ready, of all versions and aliases.
    pub(crate) fn provisioned_in_all(&self) -> u32 {
        let aliases = self.by_alias.values().map(|alias| &alias.instances);
        self.provisioned.values().chain(aliases).fold(0, |sum, instances| sum.saturating_add(*instances))
    }
}

/// How far a version's provisioned instances have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionedStatus {
    /// As many as were asked for are up.
    Ready,
    /// Some are still to come.
    InProgress,
    /// The last start failed, or there is no room; it is tried again.
    Failed,
}

/// What has become of a version's provisioned instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// Asked for.
    pub requested: u32,
    /// Up or being started, at most what was asked for.
    pub allocated: u32,
    /// Up, at most what was asked for.
    pub available: u32,
    /// How far that is.
    pub status: ProvisionedStatus,
    /// Why it is not further, for people.
    pub reason: Option<String>,
}
