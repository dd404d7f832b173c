//! The part of `cargo metadata` that the checks need.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Packages of the workspace and everything that it links on Linux.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    /// All of them.
    pub(crate) packages: Vec<Package>,
    /// Ids of the workspace's own.
    pub(crate) workspace_members: Vec<String>,
}

/// One package.
#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct Package {
    /// Opaque.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// SPDX expression.
    pub(crate) license: Option<String>,
    /// Where its Cargo.toml is.
    pub(crate) manifest_path: String,
    /// What it asks for, of every kind.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a package's dependencies.
#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct Dependency {
    /// The package's name, not what it may be renamed to.
    pub(crate) name: String,
    /// `dev`, `build`, or nothing.
    pub(crate) kind: Option<String>,
}

impl Metadata {
    /// Asks cargo. What other systems than Linux would link is left out: Virga runs on Linux only.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let target = linux_target();
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--filter-platform", &target])
            .current_dir(root)
            .output()
            .context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata's answer")
    }

    /// The workspace's own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Everybody else's.
    pub(crate) fn outside(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| !self.workspace_members.contains(&package.id))
    }
}

/// The target that this machine builds for.
fn linux_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
