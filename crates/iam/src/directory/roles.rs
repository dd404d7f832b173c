//! Roles: what a function, a service or another identity can take on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

use super::names;
use super::state::{Change, Memory};
use super::{Directory, Document, Error, limits};
use crate::policy::Context;
use crate::{Caller, Iam};

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Whose.
    pub account: AccountId,
    /// Its name, unique in the account.
    pub name: String,
    /// `/` or a path that begins and ends with one.
    pub path: String,
    /// `AROA…`: another role of the same name has another.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// Who may take it on.
    pub trust: Document,
    /// Free text.
    pub description: Option<String>,
    /// The longest session, seconds.
    pub max_session_s: u32,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Its own policies by name.
    pub inline: BTreeMap<String, Document>,
    /// ARNs of the policies attached to it.
    pub attached: BTreeSet<String>,
    /// The ARN of its permissions boundary.
    pub boundary: Option<String>,
}

impl Role {
    /// `arn:aws:iam::…:role/…`
    pub fn arn(&self) -> String {
        arn(&self.account, &self.path, &self.name)
    }

    /// One of its own policies.
    pub fn policy(&self, name: &str) -> Result<&Document, Error> {
        self.inline.get(name).ok_or_else(|| no_inline(name))
    }
}

fn arn(account: &AccountId, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:role{path}{name}")
}

/// IAM API: CreateRole.
#[derive(Debug, Clone)]
pub struct NewRole {
    /// Its name.
    pub name: String,
    /// `/` where absent.
    pub path: Option<String>,
    /// The trust policy's text.
    pub trust: String,
    /// Free text.
    pub description: Option<String>,
    /// Seconds; an hour where absent.
    pub max_session_s: Option<i64>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The ARN of a permissions boundary.
    pub boundary: Option<String>,
}

/// A change of one role, by the operation that makes it.
#[derive(Debug, Clone)]
pub enum RoleChange {
    /// UpdateRole: what is `None` stays.
    Update {
        /// Free text.
        description: Option<String>,
        /// Seconds.
        max_session_s: Option<i64>,
    },
    /// UpdateAssumeRolePolicy.
    Trust(String),
    /// PutRolePolicy: name and text.
    PutPolicy(String, String),
    /// DeleteRolePolicy.
    DeletePolicy(String),
    /// AttachRolePolicy.
    Attach(String),
    /// DetachRolePolicy.
    Detach(String),
    /// TagRole.
    Tag(BTreeMap<String, String>),
    /// UntagRole.
    Untag(Vec<String>),
    /// PutRolePermissionsBoundary.
    PutBoundary(String),
    /// DeleteRolePermissionsBoundary.
    DeleteBoundary,
}

impl RoleChange {
    /// The operation, as permissions name it.
    fn action(&self) -> &'static str {
        match self {
            Self::Update { .. } => "iam:UpdateRole",
            Self::Trust(_) => "iam:UpdateAssumeRolePolicy",
            Self::PutPolicy(..) => "iam:PutRolePolicy",
            Self::DeletePolicy(_) => "iam:DeleteRolePolicy",
            Self::Attach(_) => "iam:AttachRolePolicy",
            Self::Detach(_) => "iam:DetachRolePolicy",
            Self::Tag(_) => "iam:TagRole",
            Self::Untag(_) => "iam:UntagRole",
            Self::PutBoundary(_) => "iam:PutRolePermissionsBoundary",
            Self::DeleteBoundary => "iam:DeleteRolePermissionsBoundary",
        }
    }

    fn apply(self, role: &mut Role, memory: &Memory) -> Result<(), Error> {
        match self {
            Self::Update { description, max_session_s } => {
                role.description = description.map_or(role.description.take(), Some);
                if let Some(seconds) = max_session_s {
                    role.max_session_s = session_length(seconds)?;
                }
            }
            Self::Trust(text) => role.trust = trust(text)?,
            Self::PutPolicy(name, text) => put_policy(role, name, text)?,
            Self::DeletePolicy(name) => {
                role.inline.remove(&name).ok_or_else(|| no_inline(&name))?;
            }
            Self::Attach(arn) => attach(role, arn, memory)?,
            Self::Detach(arn) => {
                if !role.attached.remove(&arn) {
                    return Err(Error::NoSuchEntity(format!("Policy {arn} was not found.")));
                }
            }
            Self::Tag(tags) => {
                role.tags.extend(tags);
                check_tags(&role.tags)?;
            }
            Self::Untag(keys) => role.tags.retain(|key, _| !keys.contains(key)),
            Self::PutBoundary(arn) => {
                memory.policy(&role.account, &arn).ok_or_else(|| Error::no_policy(&arn))?;
                role.boundary = Some(arn);
            }
            Self::DeleteBoundary => role.boundary = None,
        }
        Ok(())
    }
}

impl Iam {
    /// IAM API: CreateRole.
    pub async fn create_role(&self, caller: &Caller, new: NewRole) -> Result<Arc<Role>, Error> {
        names::check("roleName", &new.name, 64)?;
        let path = new.path.unwrap_or_else(|| "/".into());
        names::check_path(&path)?;
        permit(caller, "iam:CreateRole", &arn(&caller.account, &path, &new.name))?;
        check_tags(&new.tags)?;
        let role = Role {
            account: caller.account.clone(),
            name: new.name,
            path,
            id: names::role_id(),
            created: self.directory().now(),
            trust: trust(new.trust)?,
            description: new.description,
            max_session_s: new.max_session_s.map_or(Ok(3600), session_length)?,
            tags: new.tags,
            inline: BTreeMap::new(),
            attached: BTreeSet::new(),
            boundary: new.boundary,
        };
        self.directory().change(move |memory| create(memory, role)).await
    }

    /// IAM API: GetRole.
    pub fn get_role(&self, caller: &Caller, name: &str) -> Result<Arc<Role>, Error> {
        self.permitted_role(caller, "iam:GetRole", name)
    }

    /// A role for an operation that reads it.
    pub fn permitted_role(&self, caller: &Caller, action: &str, name: &str) -> Result<Arc<Role>, Error> {
        let found = self.directory().role(&caller.account, name);
        permit(caller, action, &named(caller, found.as_deref(), name))?;
        found.ok_or_else(|| Error::no_role(name))
    }

    /// IAM API: ListRoles, those below a path.
    pub fn list_roles(&self, caller: &Caller, prefix: &str) -> Result<Vec<Arc<Role>>, Error> {
        permit(caller, "iam:ListRoles", &format!("arn:aws:iam::{}:role/", caller.account))?;
        Ok(self.directory().look(|memory| {
            let own = memory.roles.values().filter(|role| role.account == caller.account);
            own.filter(|role| role.path.starts_with(prefix)).cloned().collect()
        }))
    }

    /// IAM API: DeleteRole, once nothing is attached to it any more.
    pub async fn delete_role(&self, caller: &Caller, name: &str) -> Result<(), Error> {
        self.permitted_role(caller, "iam:DeleteRole", name)?;
        let key = (caller.account.clone(), name.to_owned());
        self.directory()
            .change(move |memory| {
                let role = memory.roles.get(&key).ok_or_else(|| Error::no_role(&key.1))?;
                if !role.attached.is_empty() {
                    return Err(Error::DeleteConflict(
                        "Cannot delete entity, must detach all policies first.".into(),
                    ));
                }
                if !role.inline.is_empty() {
                    return Err(Error::DeleteConflict(
                        "Cannot delete entity, must delete policies first.".into(),
                    ));
                }
                Ok((Change::Role(key, None), ()))
            })
            .await
    }

    /// Changes a role by one of the operations for that.
    pub async fn change_role(
        &self,
        caller: &Caller,
        name: &str,
        change: RoleChange,
    ) -> Result<Arc<Role>, Error> {
        self.permitted_role(caller, change.action(), name)?;
        let key = (caller.account.clone(), name.to_owned());
        self.directory()
            .change(move |memory| {
                let role = memory.roles.get(&key).ok_or_else(|| Error::no_role(&key.1))?;
                let mut role = (**role).clone();
                change.apply(&mut role, memory)?;
                let answer = Arc::new(role.clone());
                Ok((Change::Role(key, Some(Box::new(role))), answer))
            })
            .await
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.verifier.directory
    }
}

fn create(memory: &Memory, role: Role) -> Result<(Change, Arc<Role>), Error> {
    let own = || memory.roles.values().filter(|other| other.account == role.account);
    // Names differ by more than case.
    if own().any(|other| other.name.eq_ignore_ascii_case(&role.name)) {
        return Err(Error::AlreadyExists(format!("Role with name {} already exists.", role.name)));
    }
    if own().count() >= limits::ROLES {
        return Err(Error::LimitExceeded(format!(
            "Cannot exceed quota for RolesPerAccount: {}",
            limits::ROLES
        )));
    }
    if let Some(arn) = &role.boundary {
        memory.policy(&role.account, arn).ok_or_else(|| Error::no_policy(arn))?;
    }
    let answer = Arc::new(role.clone());
    Ok((Change::Role((role.account.clone(), role.name.clone()), Some(Box::new(role))), answer))
}

/// The role that functions have whose owners did not think of one (`virga deploy`): it may write logs.
pub(crate) fn default_role(account: &AccountId, created: Timestamp) -> Result<Role, Error> {
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    Ok(Role {
        account: account.clone(),
        name: crate::DEFAULT_ROLE.to_owned(),
        path: "/".into(),
        id: names::role_id(),
        created,
        trust: Document::trust(trust)?,
        description: Some("Functions that were given no other role".into()),
        max_session_s: 3600,
        tags: BTreeMap::new(),
        inline: BTreeMap::new(),
        attached: ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole".to_owned()].into(),
        boundary: None,
    })
}

pub(super) fn permit(caller: &Caller, action: &str, resource: &str) -> Result<(), Error> {
    caller.check(action, resource, None, &Context::default()).map_err(Error::Denied)
}

/// The ARN of a role that may not be there: who may not see it must not learn that from the refusal.
fn named(caller: &Caller, found: Option<&Role>, name: &str) -> String {
    found.map_or_else(|| arn(&caller.account, "/", name), Role::arn)
}

fn trust(text: String) -> Result<Document, Error> {
    if text.chars().count() > limits::TRUST_CHARS {
        return Err(Error::LimitExceeded(format!(
            "Cannot exceed quota for ACLSizePerRole: {}",
            limits::TRUST_CHARS
        )));
    }
    Document::trust(text)
}

fn session_length(seconds: i64) -> Result<u32, Error> {
    u32::try_from(seconds).ok().filter(|seconds| (3600..=43_200).contains(seconds)).ok_or_else(|| {
        let rule =
            if seconds < 3600 { "greater than or equal to 3600" } else { "less than or equal to 43200" };
        names::violation(
            "maxSessionDuration",
            &seconds.to_string(),
            &format!("Member must have value {rule}"),
        )
    })
}

fn put_policy(role: &mut Role, name: String, text: String) -> Result<(), Error> {
    names::check("policyName", &name, 128)?;
    role.inline.insert(name, Document::identity(text)?);
    let length: usize = role.inline.values().map(Document::length).sum();
    if length > limits::INLINE_CHARS {
        return Err(Error::LimitExceeded(format!(
            "Maximum policy size of {} bytes exceeded for role {}",
            limits::INLINE_CHARS,
            role.name
        )));
    }
    Ok(())
}

fn attach(role: &mut Role, arn: String, memory: &Memory) -> Result<(), Error> {
    memory.policy(&role.account, &arn).ok_or_else(|| Error::no_policy(&arn))?;
    role.attached.insert(arn);
    if role.attached.len() > limits::ATTACHED {
        return Err(Error::LimitExceeded(format!(
            "Cannot exceed quota for PoliciesPerRole: {}",
            limits::ATTACHED
        )));
    }
    Ok(())
}

/// A role has no inline policy of this name.
fn no_inline(name: &str) -> Error {
    Error::NoSuchEntity(format!("The role policy with name {name} cannot be found."))
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > limits::TAGS {
        return Err(Error::LimitExceeded(format!("Cannot exceed quota for TagsPerRole: {}", limits::TAGS)));
    }
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > 128 {
            return Err(names::violation(
                "tags.1.member.key",
                key,
                "Member must have length between 1 and 128",
            ));
        }
        if value.chars().count() > 256 {
            return Err(names::violation(
                "tags.1.member.value",
                value,
                "Member must have length at most 256",
            ));
        }
    }
    Ok(())
}
