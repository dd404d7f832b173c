//! A policy document as it was given, and what it says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::policy::{Kind, Policy};

/// The text, for who asks for it; the policy, for decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Row", into = "Row")]
pub struct Document {
    text: String,
    trust: bool,
    policy: Arc<Policy>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    text: String,
    #[serde(default)]
    trust: bool,
}

impl TryFrom<Row> for Document {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self, Error> {
        Self::new(row.text, row.trust)
    }
}

impl From<Document> for Row {
    fn from(document: Document) -> Self {
        Self { text: document.text, trust: document.trust }
    }
}

impl Document {
    fn new(text: String, trust: bool) -> Result<Self, Error> {
        let kind = if trust { Kind::Trust } else { Kind::Identity };
        let policy = Policy::parse(&text, kind);
        let policy = policy.map_err(|problem| Error::MalformedPolicyDocument(problem.to_string()))?;
        Ok(Self { text, trust, policy: Arc::new(policy) })
    }

    /// A policy of an identity.
    pub(crate) fn identity(text: impl Into<String>) -> Result<Self, Error> {
        Self::new(text.into(), false)
    }

    /// Who may take a role on.
    pub(crate) fn trust(text: impl Into<String>) -> Result<Self, Error> {
        Self::new(text.into(), true)
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Characters that count: white space does not.
    pub(super) fn length(&self) -> usize {
        self.text.chars().filter(|c| !c.is_whitespace()).count()
    }
}
