//! Somebody in a role: which role, under which name, and what the role may as the request arrives.

use std::sync::Arc;

use base::{FunctionArn, Timestamp};

use crate::directory::{Directory, Role};
use crate::policy::{Grants, Policy};

/// A session of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSession {
    /// The role's name.
    pub role: String,
    /// The role's ARN.
    pub role_arn: String,
    /// The role's unique id; its name where there is no such role.
    pub role_id: String,
    /// The session's name: a function's own, or what whoever took the role on said.
    pub name: String,
    /// The function and version, of a function's own session.
    pub function: Option<FunctionArn>,
    identity: Vec<Arc<Policy>>,
    boundary: Option<Arc<Policy>>,
    session: Option<Arc<Policy>>,
    /// When the request arrived.
    pub(crate) at: Option<Timestamp>,
}

impl RoleSession {
    /// A session that may nothing yet.
    pub(crate) fn new(role: &Role, name: &str) -> Self {
        Self {
            role: role.name.clone(),
            role_arn: role.arn(),
            role_id: role.id.clone(),
            name: name.to_owned(),
            function: None,
            identity: Vec::new(),
            boundary: None,
            session: None,
            at: None,
        }
    }

    /// A function's own session in a role that may not be there: it may nothing.
    pub fn of_function(function: FunctionArn, role: &str) -> Self {
        Self {
            role: role.to_owned(),
            role_arn: format!("arn:aws:iam::{}:role/{role}", function.account),
            role_id: role.to_owned(),
            name: function.name.clone(),
            function: Some(function),
            identity: Vec::new(),
            boundary: None,
            session: None,
            at: None,
        }
    }

    /// Gives it what the role may now, at most what `session` allows.
    pub(crate) fn grant(&mut self, role: &Role, directory: &Directory, session: Option<Arc<Policy>>) {
        (self.identity, self.boundary) = directory.grants(role);
        self.session = session;
        (self.role_arn, self.role_id) = (role.arn(), role.id.clone());
    }

    /// Asks with what it brings along.
    pub(crate) fn with_grants<T>(&self, ask: impl FnOnce(Grants<'_>) -> T) -> T {
        let identity: Vec<&Policy> = self.identity.iter().map(|policy| &**policy).collect();
        ask(Grants {
            identity: &identity,
            boundary: self.boundary.as_deref(),
            session: self.session.as_deref(),
        })
    }
}
