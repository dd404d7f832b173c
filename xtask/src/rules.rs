//! layers.toml as a type. Unknown keys fail, so that a misspelt rule is not a rule switched off.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// Workspace crate → workspace crates it may depend on.
    pub(crate) arrows: BTreeMap<String, Vec<String>>,
    /// Outside crate → workspace crates that may depend on it directly.
    pub(crate) only: BTreeMap<String, Vec<String>>,
    /// Outside crate → why it may not be in the graph.
    pub(crate) banned: BTreeMap<String, String>,
    /// What may be linked.
    pub(crate) licences: Licences,
    /// Words of code that belong to some crates only.
    pub(crate) confined: Vec<Confined>,
    /// Lengths.
    pub(crate) budgets: Budgets,
    /// What breaks a rule for now.
    pub(crate) exceptions: Exceptions,
}

/// What may be linked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Licences {
    /// SPDX identifiers, with their `WITH` part where they have one.
    pub(crate) allowed: Vec<String>,
}

/// Words of code that belong to some crates only.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confined {
    /// Names the rule in a report.
    pub(crate) what: String,
    /// Matched at word boundaries, outside comments and strings.
    pub(crate) words: Vec<String>,
    /// Where they may be.
    pub(crate) crates: Vec<String>,
    /// Whether test code is held to it as well.
    #[serde(default)]
    pub(crate) tests_too: bool,
}

/// Lengths in lines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budgets {
    /// Of one source file.
    pub(crate) file_lines: usize,
    /// Of a whole crate.
    pub(crate) crate_lines: BTreeMap<String, usize>,
}

/// What breaks a rule for now.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exceptions {
    /// `path: lints` of each `#![allow(…)]`.
    pub(crate) allow: Vec<String>,
    /// Path → length.
    pub(crate) file_lines: BTreeMap<String, usize>,
}

impl Rules {
    /// Reads the file's text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).context("layers.toml")
    }
}

#[cfg(test)]
mod tests {
    use super::Rules;

    #[test]
    fn the_file_in_the_repository_is_readable() {
        Rules::parse(include_str!("../../layers.toml")).unwrap();
    }

    #[test]
    fn a_misspelt_key_fails() {
        let text = include_str!("../../layers.toml").replace("[banned]", "[baned]");
        assert!(Rules::parse(&text).is_err());
    }
}
