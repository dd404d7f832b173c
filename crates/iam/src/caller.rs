//! Who is calling.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use base::{AccountId, FunctionArn};

use crate::RoleSession;
use crate::directory::user_id;
use crate::policy::{self, Context, Decision, Grants, Policies, Policy, Question, Source, Who};

/// The first account's first user.
pub(crate) const ADMIN: &str = "admin";

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose resources the call is about.
    pub account: AccountId,
    /// Who exactly.
    pub principal: Principal,
    /// Where the request came from, where it came by a network.
    pub address: Option<IpAddr>,
}

/// An identity that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A user of the account.
    User {
        /// Its name: `admin` for the first.
        name: String,
    },
    /// A function's own session, or one of whoever took a role on.
    Session(Arc<RoleSession>),
}

impl Caller {
    /// Somebody whose request came by no network.
    pub fn new(account: AccountId, principal: Principal) -> Self {
        Self { account, principal, address: None }
    }

    /// The same with a request from there.
    #[must_use]
    pub fn at(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// The identity's ARN, as errors and GetCallerIdentity show it.
    pub fn arn(&self) -> String {
        match &self.principal {
            Principal::User { name } => format!("arn:aws:iam::{}:user/{name}", self.account),
            Principal::Session(session) => {
                format!("arn:aws:sts::{}:assumed-role/{}/{}", self.account, session.role, session.name)
            }
        }
    }

    /// The identity's unique id, as GetCallerIdentity and events show it.
    pub fn id(&self) -> String {
        match &self.principal {
            Principal::User { name } => user_id(&self.account, name),
            Principal::Session(session) => format!("{}:{}", session.role_id, session.name),
        }
    }

    /// Whether the caller's own policies let it do `action` (`lambda:InvokeFunction`) on `resource` (an ARN, or `*`).
    pub fn may(&self, action: &str, resource: &str) -> bool {
        self.check(action, resource, None, &Context::default()).is_ok()
    }

    /// Whether the caller may do `action` on `resource`, which may have a policy of its own. `more` is what the
    /// service knows of the request beside what is known of the caller. The error says why not, in AWS's words.
    pub fn check(
        &self,
        action: &str,
        resource: &str,
        policy: Option<policy::Resource<'_>>,
        more: &Context,
    ) -> Result<(), String> {
        self.check_with(action, resource, policy, || Cow::Borrowed(more))
    }

    /// The same, where finding out what the service knows of the request is left until a policy could ask.
    pub fn check_with<'a>(
        &self,
        action: &str,
        resource: &str,
        policy: Option<policy::Resource<'_>>,
        more: impl FnOnce() -> Cow<'a, Context>,
    ) -> Result<(), String> {
        // What nearly every request is: an administrator's, of something without a policy.
        let owner = self.owner(resource);
        if self.is_admin() && policy.is_none() && owner.as_deref() == Some(&self.account) {
            return Ok(());
        }
        let decision = match owner {
            Some(owner) => self.decide(action, resource, &owner, policy, &more()),
            // Not an account's that could let anybody in.
            None => Decision::NotAllowed(Source::Resource),
        };
        if decision.is_allowed() { Ok(()) } else { Err(self.refusal(action, resource, decision)) }
    }

    fn decide(
        &self,
        action: &str,
        resource: &str,
        owner: &AccountId,
        policy: Option<policy::Resource<'_>>,
        more: &Context,
    ) -> Decision {
        let context = self.context().with(more);
        let who = self.who();
        let question = Question { who: &who, action, resource, owner, context: &context };
        let decide = |grants: Grants<'_>| policy::decide(&question, &Policies { grants, resource: policy });
        match &self.principal {
            Principal::Session(session) => session.with_grants(decide),
            Principal::User { name } if name == ADMIN => {
                decide(Grants { identity: &[&Policy::everything()], ..Grants::default() })
            }
            Principal::User { .. } => decide(Grants::default()),
        }
    }

    /// Who this is, as policies name them.
    pub fn who(&self) -> Who {
        match &self.principal {
            Principal::User { .. } => Who::User { account: self.account.clone(), arn: self.arn() },
            Principal::Session(session) => Who::Session {
                account: self.account.clone(),
                role: session.role_arn.clone(),
                arn: self.arn(),
            },
        }
    }

    /// What conditions may ask about the caller (IAM User Guide: AWS global condition context keys).
    fn context(&self) -> Context {
        let mut context =
            Context::new([("aws:PrincipalAccount", self.account.as_str()), ("aws:userid", &self.id())]);
        if let Some(address) = self.address {
            context.set("aws:SourceIp", address.to_canonical().to_string());
        }
        match &self.principal {
            Principal::User { name } => {
                context.set("aws:PrincipalType", "User");
                context.set("aws:PrincipalArn", self.arn());
                context.set("aws:username", name);
            }
            Principal::Session(session) => {
                context.set("aws:PrincipalType", "AssumedRole");
                // Of a session it is the role's.
                context.set("aws:PrincipalArn", &session.role_arn);
                if let Some(function) = &session.function {
                    context.set(
                        "lambda:SourceFunctionArn",
                        FunctionArn { qualifier: None, ..function.clone() }.to_string(),
                    );
                }
                if let Some(at) = session.at {
                    context.set("aws:CurrentTime", at.to_rfc3339());
                    context.set("aws:EpochTime", (at.as_millis() / 1000).to_string());
                }
            }
        }
        context
    }

    fn is_admin(&self) -> bool {
        matches!(&self.principal, Principal::User { name } if name == ADMIN)
    }

    /// Whose a resource is. Some ARNs name no account (`arn:aws:s3:::bucket`), and `*` is all of the caller's own.
    fn owner(&self, resource: &str) -> Option<Cow<'_, AccountId>> {
        let account = resource.split(':').nth(4).unwrap_or_default();
        if account.is_empty() || account == self.account.as_str() {
            return Some(Cow::Borrowed(&self.account));
        }
        AccountId::parse(account).map(Cow::Owned)
    }

    fn refusal(&self, action: &str, resource: &str, decision: Decision) -> String {
        let why = match decision {
            Decision::Denied(source) => format!("with an explicit deny in {}", named(source, true)),
            Decision::NotAllowed(source) => {
                format!("because no {} allows the {action} action", named(source, false))
            }
            Decision::Allowed => String::new(),
        };
        let who = self.arn();
        format!("User: {who} is not authorized to perform: {action} on resource: {resource} {why}")
    }
}

/// A kind of policy, in the words of AWS's refusals.
fn named(source: Source, article: bool) -> &'static str {
    match (source, article) {
        (Source::Identity, true) => "an identity-based policy",
        (Source::Identity, false) => "identity-based policy",
        (Source::Resource, true) => "a resource-based policy",
        (Source::Resource, false) => "resource-based policy",
        (Source::Boundary, true) => "a permissions boundary",
        (Source::Boundary, false) => "permissions boundary",
        (Source::Session, true) => "a session policy",
        (Source::Session, false) => "session policy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(principal: Principal) -> Caller {
        Caller::new(AccountId::parse("123456789012").unwrap(), principal)
    }

    fn function() -> Principal {
        let arn = FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:hello:7").unwrap();
        Principal::Session(Arc::new(RoleSession::of_function(arn, "virga-function")))
    }

    #[test]
    fn identities_have_arns() {
        assert_eq!(
            caller(Principal::User { name: "admin".into() }).arn(),
            "arn:aws:iam::123456789012:user/admin"
        );
        assert_eq!(caller(function()).arn(), "arn:aws:sts::123456789012:assumed-role/virga-function/hello");
    }

    #[test]
    fn admin_rules_its_own_account_and_functions_nothing() {
        let own = "arn:aws:lambda:us-east-1:123456789012:function:hello";
        let foreign = "arn:aws:lambda:us-east-1:210987654321:function:hello";
        let admin = caller(Principal::User { name: "admin".into() });
        assert!(admin.may("lambda:InvokeFunction", own));
        assert!(admin.may("lambda:ListFunctions", "*"));
        assert!(admin.may("s3:GetObject", "arn:aws:s3:::bucket/key"));
        assert!(!admin.may("lambda:InvokeFunction", foreign));
        assert!(!caller(Principal::User { name: "guest".into() }).may("lambda:InvokeFunction", own));
        assert!(!caller(function()).may("lambda:InvokeFunction", own));
    }
}
