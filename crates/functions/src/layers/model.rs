//! The nouns of layers.

use std::sync::Arc;

use base::{LayerArn, Timestamp};
use serde::{Deserialize, Serialize};

use super::policy::Policy;
use crate::model::CodeRef;
use crate::objects::PackageSource;
use crate::signing::Signature;

/// A version of a layer. It never changes, but for who may use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// Free text.
    pub description: String,
    /// Free text: an identifier, a URL, or the licence itself.
    pub license: String,
    /// Runtimes that it says it is for. Told, and filtered by; nothing is refused for them, as in Lambda.
    pub runtimes: Vec<String>,
    /// Architectures that it says it is for.
    pub architectures: Vec<String>,
    /// When it was published.
    pub created: Timestamp,
    /// Its package.
    pub code: CodeRef,
    /// Bytes of its files, unpacked.
    pub unpacked_bytes: u64,
    /// Whose signature it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Which other accounts may use it.
    #[serde(default, skip_serializing_if = "Policy::is_empty")]
    pub(super) policy: Policy,
}

/// A version with its ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerView {
    /// Versioned.
    pub arn: LayerArn,
    /// What it is.
    pub version: Arc<LayerVersion>,
}

/// A layer version as a function has it: all that the function needs of it, whatever becomes of the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedLayer {
    /// Its ARN, versioned.
    pub arn: String,
    /// Its package.
    pub code: CodeRef,
    /// Bytes of its files, unpacked.
    pub unpacked_bytes: u64,
    /// Whose signature it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// Arguments of PublishLayerVersion, checked for shape by the API layer.
#[derive(Debug, Clone)]
pub struct PublishLayer {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Free text.
    pub license: String,
    /// What it says it is for.
    pub runtimes: Vec<String>,
    /// What it says it is for.
    pub architectures: Vec<String>,
    /// The package.
    pub content: PackageSource,
}

/// What a listing of layers leaves out: versions that do not say they are for these.
#[derive(Debug, Clone, Default)]
pub struct LayerFilter {
    /// A runtime.
    pub runtime: Option<String>,
    /// An architecture.
    pub architecture: Option<String>,
}

impl LayerFilter {
    /// Whether a version is listed.
    pub(super) fn takes(&self, version: &LayerVersion) -> bool {
        let among = |wanted: &Option<String>, said: &[String]| {
            wanted.as_ref().is_none_or(|wanted| said.contains(wanted))
        };
        among(&self.runtime, &version.runtimes) && among(&self.architecture, &version.architectures)
    }
}

/// Where a page begins and how much it may hold.
#[derive(Debug, Clone, Default)]
pub struct LayerPage {
    /// From the page before.
    pub marker: Option<String>,
    /// Items at most.
    pub max_items: usize,
}

/// Arguments of AddLayerVersionPermission, checked for shape by the API layer.
#[derive(Debug, Clone)]
pub struct LayerPermission {
    /// Names the statement.
    pub statement: String,
    /// `lambda:GetLayerVersion`.
    pub action: String,
    /// An account, the ARN of its root, or `*`.
    pub principal: String,
    /// An organization, with `*` alone.
    pub organization: Option<String>,
    /// The change is made only if this is the current revision.
    pub revision_id: Option<String>,
}
