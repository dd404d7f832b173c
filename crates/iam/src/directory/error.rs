//! Why a change of roles or policies was refused, by IAM's own names.

use base::Kind;

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("{0}")]
    NoSuchEntity(String),
    /// It is there already.
    #[error("{0}")]
    AlreadyExists(String),
    /// Something else still needs it.
    #[error("{0}")]
    DeleteConflict(String),
    /// A document is none.
    #[error("{0}")]
    MalformedPolicyDocument(String),
    /// A value breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// A quota is used up.
    #[error("{0}")]
    LimitExceeded(String),
    /// The caller may not.
    #[error("{0}")]
    Denied(String),
    /// A defect or a broken host.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSuchEntity(_) => Kind::NotFound,
            Self::AlreadyExists(_) | Self::DeleteConflict(_) => Kind::Conflict,
            Self::MalformedPolicyDocument(_) | Self::Invalid(_) => Kind::Invalid,
            Self::LimitExceeded(_) => Kind::LimitExceeded,
            Self::Denied(_) => Kind::Denied,
            Self::Internal(_) => Kind::Internal,
        }
    }

    pub(super) fn no_role(name: &str) -> Self {
        Self::NoSuchEntity(format!("The role with name {name} cannot be found."))
    }

    pub(super) fn no_policy(arn: &str) -> Self {
        Self::NoSuchEntity(format!("Policy {arn} does not exist or is not attachable."))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}
