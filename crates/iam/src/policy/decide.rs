//! What several policies come to for one request.

use base::AccountId;

use super::document::Statement;
use super::principal::Named;
use super::{Context, Policy, Who};

/// One request, as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who is asking.
    pub who: &'a Who,
    /// `lambda:InvokeFunction`
    pub action: &'a str,
    /// An ARN, or `*` where the action is on none.
    pub resource: &'a str,
    /// Whose the resource is.
    pub owner: &'a AccountId,
    /// What else is known.
    pub context: &'a Context,
}

/// What an identity brings along.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grants<'a> {
    /// Its own policies and those attached to it.
    pub identity: &'a [&'a Policy],
    /// Its permissions boundary: the most that its policies can give.
    pub boundary: Option<&'a Policy>,
    /// Its session's policy: the most that this session has of it.
    pub session: Option<&'a Policy>,
}

/// A resource's own policy.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// What its statements call the resource, which may be more general than what was asked for.
    pub name: &'a str,
    /// Whether nothing goes without it, as with a role's trust policy: then an identity's own policies do not
    /// suffice within an account either.
    pub required: bool,
}

/// All that has a say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policies<'a> {
    /// What the identity brings along.
    pub grants: Grants<'a>,
    /// What the resource says.
    pub resource: Option<Resource<'a>>,
}

/// Which kind of policy a statement stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Of the identity.
    Identity,
    /// Of the resource.
    Resource,
    /// The permissions boundary.
    Boundary,
    /// The session's.
    Session,
}

/// What they come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allowed,
    /// A statement denies it.
    Denied(Source),
    /// Nothing of this kind allows it.
    NotAllowed(Source),
}

impl Decision {
    /// Whether it may be done.
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

/// Decides. IAM User Guide: "Policy evaluation logic".
pub fn decide(question: &Question<'_>, policies: &Policies<'_>) -> Decision {
    let Policies { grants, resource } = policies;
    if let Some(source) = denied(question, policies) {
        return Decision::Denied(source);
    }
    let named = resource.map_or(Named::No, |resource| named(question, &resource));
    let cap = cap(question, grants);
    // Outside of accounts there are no identity policies.
    let Some(account) = question.who.account() else {
        return if named == Named::No { Decision::NotAllowed(Source::Resource) } else { Decision::Allowed };
    };
    let identity = grants.identity.iter().any(|policy| allows(policy, question));
    let required = resource.is_some_and(|resource| resource.required);
    if account != question.owner || required {
        if named == Named::No {
            return Decision::NotAllowed(Source::Resource);
        }
        let by_account = account != question.owner || named == Named::ByAccount;
        if by_account && !identity {
            return Decision::NotAllowed(Source::Identity);
        }
        return cap.map_or(Decision::Allowed, Decision::NotAllowed);
    }
    if named == Named::Itself {
        return Decision::Allowed;
    }
    if !identity && named != Named::ByRole {
        return Decision::NotAllowed(Source::Identity);
    }
    cap.map_or(Decision::Allowed, Decision::NotAllowed)
}

/// Where it is denied, if anywhere.
fn denied(question: &Question<'_>, policies: &Policies<'_>) -> Option<Source> {
    let Grants { identity, boundary, session } = policies.grants;
    let own = |policy: &Policy| denies(policy, question.resource, question);
    if identity.iter().any(|policy| own(policy)) {
        return Some(Source::Identity);
    }
    if policies.resource.is_some_and(|resource| denies(resource.policy, resource.name, question)) {
        return Some(Source::Resource);
    }
    if boundary.is_some_and(own) {
        return Some(Source::Boundary);
    }
    session.is_some_and(own).then_some(Source::Session)
}

fn denies(policy: &Policy, resource: &str, question: &Question<'_>) -> bool {
    let speaks = |one: &Statement| {
        !one.allow
            && one.names(question.who) != Named::No
            && one.covers(question.action, resource, question.context)
    };
    policy.statements.iter().any(speaks)
}

fn allows(policy: &Policy, question: &Question<'_>) -> bool {
    let mut allowing = policy.statements.iter().filter(|one| one.allow);
    allowing.any(|one| one.covers(question.action, question.resource, question.context))
}

/// How closely the resource's policy lets the asker in.
fn named(question: &Question<'_>, resource: &Resource<'_>) -> Named {
    let allowing = resource.policy.statements.iter().filter(|one| one.allow);
    let covering = allowing.filter(|one| one.covers(question.action, resource.name, question.context));
    covering.map(|one| one.names(question.who)).max().unwrap_or(Named::No)
}

/// What takes away what the identity's policies give, if anything does.
fn cap(question: &Question<'_>, grants: &Grants<'_>) -> Option<Source> {
    let lacks = |policy: &Policy| !allows(policy, question);
    if grants.boundary.is_some_and(lacks) {
        return Some(Source::Boundary);
    }
    grants.session.is_some_and(lacks).then_some(Source::Session)
}
