//! The part of `cargo metadata` that the checks need.

use std::collections::BTreeSet;
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
    /// Asks cargo. What other systems than Linux would link is left out: Virga runs on Linux only. So is what the lock
    /// file names for a feature that nobody has switched on, as it does where a dependency is both optional and weak:
    /// `cargo tree` knows what is linked, `cargo metadata` does not.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let target = linux_target();
        let metadata = cargo(root, &["metadata", "--format-version", "1", "--filter-platform", &target])?;
        let mut metadata: Self = serde_json::from_slice(&metadata).context("cargo metadata's answer")?;
        let tree = ["tree", "--workspace", "--target", &target, "--prefix", "none", "--format", "{p}"];
        let linked = linked(&String::from_utf8_lossy(&cargo(root, &tree)?));
        metadata.packages.retain(|package| linked.contains(&(package.name.clone(), package.version.clone())));
        Ok(metadata)
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

fn cargo(root: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(root).output();
    let output = output.with_context(|| format!("cannot run cargo {}", arguments[0]))?;
    if !output.status.success() {
        bail!("cargo {} failed: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// Names and versions out of the lines of `cargo tree`: `name v1.2.3 (where it is from)`.
fn linked(tree: &str) -> BTreeSet<(String, String)> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned()))
    };
    tree.lines().filter_map(of_line).collect()
}

/// The target that this machine builds for.
fn linux_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked() {
        let tree =
            "images v0.1.0 (/src/crates/images)\nrustls v0.23.46\nring-ish v1.0.0 (proc-macro) (*)\n\n";
        let found = linked(tree);
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert!(found.contains(&pair("rustls", "0.23.46")) && found.contains(&pair("ring-ish", "1.0.0")));
        assert_eq!(found.len(), 3);
    }
}
