//! What the host gives for isolating processes: the report that `virga doctor` shows.
//!
//! Found by doing it once at start, not by guessing from versions.

use serde::{Deserialize, Serialize};

/// How one means of isolation or limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Held by other means, or not at all; the detail says what follows.
    Degraded,
    /// A wall behind others that is not there, or lower than it could be; every limit holds.
    Weaker,
    /// Not there, and nothing runs without it.
    Missing,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// What was found and what follows from it.
    pub detail: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// In the order of importance.
    pub checks: Vec<Check>,
    /// Whether each jail has a user of its own on the host. What is in folders that jails may write to then has to belong
    /// to [`super::SHARED_OWNER`], else to whoever runs the server.
    pub separate_users: bool,
}

impl HostReport {
    /// Adds a line.
    pub(super) fn add(&mut self, name: &str, status: Status, detail: impl Into<String>) {
        self.checks.push(Check { name: name.to_owned(), status, detail: detail.into() });
    }

    /// Whether processes can be run at all: nothing is [`Status::Missing`].
    pub fn usable(&self) -> bool {
        self.with(Status::Missing).next().is_none()
    }

    /// Whether every limit is enforced.
    pub fn complete(&self) -> bool {
        self.usable() && self.with(Status::Degraded).next().is_none()
    }

    /// The lines that stand so.
    pub fn with(&self, status: Status) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.status == status)
    }
}
