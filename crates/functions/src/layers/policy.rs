//! Which other accounts may use a layer version: statements by their names (Lambda API: AddLayerVersionPermission).
//!
//! There are no organizations here: a statement for one is kept and shown, and lets nobody in.

use base::{AccountId, LayerArn};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::model::LayerPermission;
use crate::{Error, limits};

/// Everybody.
const ANYBODY: &str = "*";

/// The statements of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    statements: Vec<Statement>,
    /// Changes with every change; empty before the first.
    revision: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    sid: String,
    action: String,
    /// An account's number or `*`.
    principal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    organization: Option<String>,
}

/// A policy as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyView {
    /// JSON: of the policy, or of the one statement that was added.
    pub text: String,
    /// Its revision.
    pub revision_id: String,
}

impl Policy {
    /// Whether there is no statement.
    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Whether it lets an account use the version.
    pub(super) fn allows(&self, account: &AccountId) -> bool {
        self.statements.iter().any(|statement| {
            statement.organization.is_none()
                && (statement.principal == ANYBODY || statement.principal == account.as_str())
        })
    }

    /// Adds a statement, under a new revision.
    pub(super) fn add(
        &mut self,
        arn: &LayerArn,
        args: LayerPermission,
        revision: String,
    ) -> Result<PolicyView, Error> {
        self.check_revision(args.revision_id.as_deref())?;
        if self.statements.iter().any(|statement| statement.sid == args.statement) {
            return Err(Error::Conflict(format!(
                "The statement id ({}) provided already exists. Please provide a new statement id, or remove the \
                 existing statement.",
                args.statement
            )));
        }
        let principal = account_of(&args.principal).unwrap_or(args.principal);
        if args.organization.is_some() && principal != ANYBODY {
            return Err(Error::Invalid(
                "OrganizationId can be given only where the principal is * (everybody of it).".into(),
            ));
        }
        let organization = args.organization;
        let statement = Statement { sid: args.statement, action: args.action, principal, organization };
        let text = statement.shape(arn).to_string();
        self.statements.push(statement);
        let length = self.shape(arn).to_string().len();
        if length > limits::POLICY_BYTES {
            self.statements.pop();
            return Err(Error::PolicyTooLong(format!(
                "The final policy size ({length}) is bigger than the limit ({}).",
                limits::POLICY_BYTES
            )));
        }
        self.revision.clone_from(&revision);
        Ok(PolicyView { text, revision_id: revision })
    }

    /// Takes a statement away, under a new revision.
    pub(super) fn remove(&mut self, sid: &str, given: Option<&str>, revision: String) -> Result<(), Error> {
        self.check_revision(given)?;
        let Some(place) = self.statements.iter().position(|statement| statement.sid == sid) else {
            return Err(Error::NotFound(format!("Statement {sid} is not found in resource policy.")));
        };
        self.statements.remove(place);
        self.revision = revision;
        Ok(())
    }

    /// The whole, if there is any statement.
    pub(super) fn view(&self, arn: &LayerArn) -> Option<PolicyView> {
        let view = || PolicyView { text: self.shape(arn).to_string(), revision_id: self.revision.clone() };
        (!self.is_empty()).then(view)
    }

    fn shape(&self, arn: &LayerArn) -> Value {
        let statements: Vec<Value> = self.statements.iter().map(|statement| statement.shape(arn)).collect();
        json!({ "Version": "2012-10-17", "Id": "default", "Statement": statements })
    }

    fn check_revision(&self, given: Option<&str>) -> Result<(), Error> {
        match given {
            Some(given) if given != self.revision => Err(Error::PreconditionFailed(
                "The Revision Id provided does not match the latest Revision Id. Call the GetLayerVersionPolicy API \
                 to retrieve the latest Revision Id"
                    .into(),
            )),
            _ => Ok(()),
        }
    }
}

impl Statement {
    fn shape(&self, arn: &LayerArn) -> Value {
        let principal = match self.principal.as_str() {
            ANYBODY => json!(ANYBODY),
            account => json!({ "AWS": format!("arn:aws:iam::{account}:root") }),
        };
        let mut out = json!({
            "Sid": self.sid,
            "Effect": "Allow",
            "Principal": principal,
            "Action": self.action,
            "Resource": arn.to_string(),
        });
        if let Some(organization) = &self.organization {
            out["Condition"] = json!({ "StringEquals": { "aws:PrincipalOrgID": organization } });
        }
        out
    }
}

/// The account that the ARN of a root names.
fn account_of(principal: &str) -> Option<String> {
    let account = principal.strip_prefix("arn:aws:iam::")?.strip_suffix(":root")?;
    AccountId::parse(account).map(|account| account.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arn() -> LayerArn {
        LayerArn::parse("arn:aws:lambda:us-east-1:123456789012:layer:tools:1").unwrap()
    }

    fn permission(sid: &str, principal: &str, organization: Option<&str>) -> LayerPermission {
        LayerPermission {
            statement: sid.into(),
            action: "lambda:GetLayerVersion".into(),
            principal: principal.into(),
            organization: organization.map(str::to_owned),
            revision_id: None,
        }
    }

    #[test]
    fn accounts_are_let_in_by_number_by_root_and_all_at_once() {
        let other = AccountId::parse("210987654321").unwrap();
        for (principal, organization, allowed) in [
            ("210987654321", None, true),
            ("arn:aws:iam::210987654321:root", None, true),
            ("*", None, true),
            ("*", Some("o-0123456789"), false),
            ("111111111111", None, false),
        ] {
            let mut policy = Policy::default();
            assert!(!policy.allows(&other));
            policy.add(&arn(), permission("s", principal, organization), "r".into()).unwrap();
            assert_eq!(policy.allows(&other), allowed, "{principal} {organization:?}");
        }
        let refused = Policy::default().add(&arn(), permission("s", "111111111111", Some("o-1")), "r".into());
        assert!(matches!(refused, Err(Error::Invalid(_))));
    }

    #[test]
    fn statements_have_lambdas_shape() {
        let mut policy = Policy::default();
        let added = policy.add(&arn(), permission("x", "210987654321", None), "r1".into()).unwrap();
        let statement: Value = serde_json::from_str(&added.text).unwrap();
        assert_eq!(statement["Principal"]["AWS"], "arn:aws:iam::210987654321:root");
        assert_eq!(statement["Resource"], arn().to_string());
        policy.add(&arn(), permission("y", "*", Some("o-abc")), "r2".into()).unwrap();
        let view = policy.view(&arn()).unwrap();
        let whole: Value = serde_json::from_str(&view.text).unwrap();
        assert_eq!(view.revision_id, "r2");
        assert_eq!(whole["Statement"][1]["Principal"], "*");
        assert_eq!(whole["Statement"][1]["Condition"]["StringEquals"]["aws:PrincipalOrgID"], "o-abc");
    }

    #[test]
    fn names_and_revisions_are_checked() {
        let mut policy = Policy::default();
        policy.add(&arn(), permission("x", "*", None), "r1".into()).unwrap();
        let again = policy.add(&arn(), permission("x", "*", None), "r2".into());
        assert!(matches!(again, Err(Error::Conflict(_))));
        let stale = LayerPermission { revision_id: Some("r0".into()), ..permission("y", "*", None) };
        assert!(matches!(policy.add(&arn(), stale, "r2".into()), Err(Error::PreconditionFailed(_))));
        assert!(matches!(policy.remove("z", None, "r2".into()), Err(Error::NotFound(_))));
        assert!(policy.remove("x", Some("r0"), "r2".into()).is_err());
        policy.remove("x", Some("r1"), "r2".into()).unwrap();
        assert!(policy.view(&arn()).is_none());
    }

    #[test]
    fn a_policy_does_not_grow_without_end() {
        let mut policy = Policy::default();
        let full = (0..1000)
            .find_map(|n| policy.add(&arn(), permission(&format!("{n:0100}"), "*", None), "r".into()).err());
        assert!(matches!(full, Some(Error::PolicyTooLong(_))), "{full:?}");
        assert!(policy.view(&arn()).unwrap().text.len() <= limits::POLICY_BYTES);
    }
}
