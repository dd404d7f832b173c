//! Managed policies of an account, and AWS's own, which nobody changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

use super::roles::{check_tags, permit};
use super::state::Change;
use super::{Document, Error, aws_managed, limits, names};
use crate::{Caller, Iam};

/// A managed policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedPolicy {
    /// `arn:aws:iam::…:policy/…`
    pub arn: String,
    /// Its name.
    pub name: String,
    /// `/` or a path that begins and ends with one.
    pub path: String,
    /// `ANPA…`
    pub id: String,
    /// Free text.
    pub description: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When its versions changed last.
    pub updated: Timestamp,
    /// What it says and said.
    pub versions: BTreeMap<u32, PolicyVersion>,
    /// The version in force.
    pub default_version: u32,
    /// What the next version is called.
    pub next_version: u32,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// One version of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// What it says.
    pub document: Document,
    /// When it was made.
    pub created: Timestamp,
}

/// IAM API: CreatePolicy.
#[derive(Debug, Clone)]
pub struct NewPolicy {
    /// Its name.
    pub name: String,
    /// `/` where absent.
    pub path: Option<String>,
    /// The document.
    pub text: String,
    /// Free text.
    pub description: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl ManagedPolicy {
    /// What is in force.
    pub fn document(&self) -> &Document {
        // The version in force can be changed, never removed.
        &self.versions.get(&self.default_version).expect("the version in force is there").document
    }
}

impl Iam {
    /// IAM API: CreatePolicy.
    pub async fn create_policy(
        &self,
        caller: &Caller,
        NewPolicy { name, path, text, description, tags }: NewPolicy,
    ) -> Result<ManagedPolicy, Error> {
        names::check("policyName", &name, 128)?;
        let path = path.unwrap_or_else(|| "/".into());
        names::check_path(&path)?;
        let arn = format!("arn:aws:iam::{}:policy{path}{name}", caller.account);
        permit(caller, "iam:CreatePolicy", &arn)?;
        check_tags(&tags)?;
        let (document, created) = (managed(text)?, self.directory().now());
        let policy = ManagedPolicy {
            arn,
            name,
            path,
            id: names::policy_id(),
            description,
            created,
            updated: created,
            versions: [(1, PolicyVersion { document, created })].into(),
            default_version: 1,
            next_version: 2,
            tags,
        };
        let account = caller.account.clone();
        self.directory()
            .change(move |memory| {
                let mut own = memory.policies.iter().filter(|((owner, _), _)| *owner == account);
                if own.clone().any(|(_, other)| other.name.eq_ignore_ascii_case(&policy.name)) {
                    return Err(Error::AlreadyExists(format!(
                        "A policy called {} already exists. Duplicate names are not allowed.",
                        policy.name
                    )));
                }
                if own.nth(limits::POLICIES - 1).is_some() {
                    let text = format!("Cannot exceed quota for PoliciesPerAccount: {}", limits::POLICIES);
                    return Err(Error::LimitExceeded(text));
                }
                let key = (account.clone(), policy.arn.clone());
                Ok((Change::Policy(key, Some(Box::new(policy.clone()))), policy))
            })
            .await
    }

    /// IAM API: GetPolicy, with how many roles have it attached and how many as their boundary.
    pub fn policy(
        &self,
        caller: &Caller,
        action: &str,
        arn: &str,
    ) -> Result<(ManagedPolicy, usize, usize), Error> {
        check_arn(arn)?;
        permit(caller, action, &own(caller, arn))?;
        self.directory().look(|memory| {
            let policy = memory.policy(&caller.account, arn).cloned();
            let policy = policy.ok_or_else(|| not_found(arn))?;
            let (attached, bounding) = memory.uses(&caller.account, arn);
            Ok((policy, attached, bounding))
        })
    }

    /// IAM API: ListPolicies, AWS's first, each with its uses.
    pub fn list_policies(
        &self,
        caller: &Caller,
        aws: bool,
        local: bool,
    ) -> Result<Vec<(ManagedPolicy, usize, usize)>, Error> {
        permit(caller, "iam:ListPolicies", &format!("arn:aws:iam::{}:policy/", caller.account))?;
        Ok(self.directory().look(|memory| {
            let of_aws = aws_managed::all().iter().filter(|_| aws);
            let own = memory.policies.iter().filter(|((owner, _), _)| local && *owner == caller.account);
            let all = of_aws.chain(own.map(|(_, policy)| &**policy));
            // Counted once: asked of each policy, everybody's calls would wait meanwhile.
            let uses = memory.all_uses(&caller.account);
            let with_uses = |policy: &ManagedPolicy| {
                let (attached, bounding) = uses.get(policy.arn.as_str()).copied().unwrap_or_default();
                (policy.clone(), attached, bounding)
            };
            all.map(with_uses).collect()
        }))
    }

    /// IAM API: ListEntitiesForPolicy, roles that have it attached.
    pub fn roles_with(&self, caller: &Caller, arn: &str) -> Result<Vec<Arc<super::Role>>, Error> {
        self.policy(caller, "iam:ListEntitiesForPolicy", arn)?;
        Ok(self.directory().look(|memory| {
            let own = memory.roles.values().filter(|role| role.account == caller.account);
            own.filter(|role| role.attached.contains(arn)).cloned().collect()
        }))
    }

    /// IAM API: DeletePolicy, once nothing uses it and it has one version.
    pub async fn delete_policy(&self, caller: &Caller, arn: &str) -> Result<(), Error> {
        self.own_policy(caller, "iam:DeletePolicy", arn)?;
        let key = (caller.account.clone(), arn.to_owned());
        self.directory()
            .change(move |memory| {
                let policy = memory.policies.get(&key).ok_or_else(|| not_found(&key.1))?;
                if memory.uses(&key.0, &key.1) != (0, 0) {
                    return Err(Error::DeleteConflict("Cannot delete a policy attached to entities.".into()));
                }
                if policy.versions.len() > 1 {
                    return Err(Error::DeleteConflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.".into()));
                }
                Ok((Change::Policy(key, None), ()))
            })
            .await
    }

    /// IAM API: CreatePolicyVersion; answers the new version's number.
    pub async fn create_policy_version(
        &self,
        caller: &Caller,
        arn: &str,
        text: String,
        set_default: bool,
    ) -> Result<(u32, ManagedPolicy), Error> {
        self.own_policy(caller, "iam:CreatePolicyVersion", arn)?;
        let (document, now) = (managed(text)?, self.directory().now());
        self.change_policy(&caller.account, arn, move |policy| {
            if policy.versions.len() >= limits::POLICY_VERSIONS {
                return Err(Error::LimitExceeded("A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing version.".into()));
            }
            let number = policy.next_version;
            policy.versions.insert(number, PolicyVersion { document, created: now });
            policy.next_version += 1;
            policy.updated = now;
            if set_default {
                policy.default_version = number;
            }
            Ok((number, policy.clone()))
        })
        .await
    }

    /// IAM API: SetDefaultPolicyVersion.
    pub async fn set_default_policy_version(
        &self,
        caller: &Caller,
        arn: &str,
        version: &str,
    ) -> Result<(), Error> {
        self.own_policy(caller, "iam:SetDefaultPolicyVersion", arn)?;
        let (version, now) = (version.to_owned(), self.directory().now());
        self.change_policy(&caller.account, arn, move |policy| {
            policy.default_version = number(policy, &version)?;
            policy.updated = now;
            Ok(())
        })
        .await
    }

    /// IAM API: DeletePolicyVersion, not of the one in force.
    pub async fn delete_policy_version(
        &self,
        caller: &Caller,
        arn: &str,
        version: &str,
    ) -> Result<(), Error> {
        self.own_policy(caller, "iam:DeletePolicyVersion", arn)?;
        let version = version.to_owned();
        self.change_policy(&caller.account, arn, move |policy| {
            let number = number(policy, &version)?;
            if number == policy.default_version {
                return Err(Error::DeleteConflict("Cannot delete the default version of a policy.".into()));
            }
            policy.versions.remove(&number);
            Ok(())
        })
        .await
    }

    /// Permission for a change, and that the policy is the account's.
    fn own_policy(&self, caller: &Caller, action: &str, arn: &str) -> Result<(), Error> {
        self.policy(caller, action, arn)?;
        match aws_managed::find(arn) {
            Some(_) => Err(Error::Denied(format!("Policy {arn} is managed by AWS and cannot be changed."))),
            None => Ok(()),
        }
    }

    async fn change_policy<T: Send + 'static>(
        &self,
        account: &AccountId,
        arn: &str,
        change: impl FnOnce(&mut ManagedPolicy) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let key = (account.clone(), arn.to_owned());
        self.directory()
            .change(move |memory| {
                let policy = memory.policies.get(&key).ok_or_else(|| not_found(&key.1))?;
                let mut policy = (**policy).clone();
                let answer = change(&mut policy)?;
                Ok((Change::Policy(key, Some(Box::new(policy))), answer))
            })
            .await
    }
}

/// The number of a version that is there, by its name: `v3`.
pub(super) fn number(policy: &ManagedPolicy, version: &str) -> Result<u32, Error> {
    let number = version.strip_prefix('v').and_then(|digits| digits.parse().ok());
    number.filter(|number| policy.versions.contains_key(number)).ok_or_else(|| {
        Error::NoSuchEntity(format!(
            "Policy {} version {version} does not exist or is not attachable.",
            policy.arn
        ))
    })
}

impl ManagedPolicy {
    /// A version by its name.
    pub fn version(&self, name: &str) -> Result<(u32, &PolicyVersion), Error> {
        let number = number(self, name)?;
        // It is there: its number was looked up.
        self.versions.get(&number).map(|version| (number, version)).ok_or_else(|| not_found(&self.arn))
    }
}

fn managed(text: String) -> Result<Document, Error> {
    let document = Document::identity(text)?;
    if document.length() > limits::POLICY_CHARS {
        return Err(Error::LimitExceeded(format!(
            "Cannot exceed quota for PolicySize: {}",
            limits::POLICY_CHARS
        )));
    }
    Ok(document)
}

fn check_arn(arn: &str) -> Result<(), Error> {
    let legal = arn.starts_with("arn:aws:iam::") && arn.contains(":policy/");
    if legal { Ok(()) } else { Err(Error::Invalid(format!("ARN {arn} is not valid."))) }
}

/// The ARN that a permission is about: AWS's own policies are everybody's to read.
fn own(caller: &Caller, arn: &str) -> String {
    arn.replacen("arn:aws:iam::aws:", &format!("arn:aws:iam::{}:", caller.account), 1)
}

fn not_found(arn: &str) -> Error {
    Error::NoSuchEntity(format!("Policy {arn} was not found."))
}
