//! Bounds of IAM (IAM User Guide: IAM and AWS STS quotas).

/// Characters of a trust policy: the most that AWS raises its quota to.
pub(super) const TRUST_CHARS: usize = 4_096;

/// Characters of all inline policies of a role together, white space apart.
pub(super) const INLINE_CHARS: usize = 10_240;

/// Characters of a managed policy, white space apart.
pub(super) const POLICY_CHARS: usize = 6_144;

/// Managed policies attached to a role.
pub(super) const ATTACHED: usize = 20;

/// Versions of a managed policy.
pub(super) const POLICY_VERSIONS: usize = 5;

/// Roles of an account.
pub(super) const ROLES: usize = 5_000;

/// Customer managed policies of an account.
pub(super) const POLICIES: usize = 5_000;

/// Tags of one thing.
pub(super) const TAGS: usize = 50;
